//! What the authority promises: certificates that only it can give, that last over restarts, and that
//! are renewed in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Name;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tempfile::{TempDir, tempdir};
use translate::{Anchors, Audience};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// Any time will do: nothing here reads a clock.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 500_000 * HOUR
}

fn domain() -> Name {
    "cluster.local".into()
}

fn open(state: &TempDir) -> Authority {
    Authority::open(state.path(), &domain(), now()).unwrap()
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::new(&domain(), &"webapp".into(), &account.into()).unwrap()
}

fn gateway() -> Audience {
    Audience { namespace: "webapp".into(), name: "waypoint".into() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn expose(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// The error of opening the authority in `state`.
fn refusal(state: &TempDir) -> String {
    Authority::open(state.path(), &domain(), now()).unwrap_err().to_string()
}

#[test]
fn a_restart_keeps_the_root_and_another_state_has_another() {
    let (state, other) = (tempdir().unwrap(), tempdir().unwrap());
    let first = open(&state);
    assert_eq!(first.root_pem(), open(&state).root_pem());
    assert_ne!(first.root_pem(), open(&other).root_pem());
    let leaf = open(&state).issue(&id("web"), HOUR, now()).unwrap();
    assert!(first.recognizes(&leaf, now()));
    assert!(!open(&other).recognizes(&leaf, now()));
}

#[test]
fn many_that_start_at_once_have_one_root() {
    let state = tempdir().unwrap();
    let roots: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&state).root_pem().to_owned())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn secrets_are_for_the_owner_alone() {
    let state = tempdir().unwrap();
    let base = state.path().join("new");
    let authority = Authority::open(&base, &domain(), now()).unwrap();
    Leaves::open(&base, HOUR).current(&authority, &gateway(), &id("web"), now()).unwrap();
    for directory in ["", "ca", "leaves", "leaves/webapp"] {
        assert_eq!(mode(&base.join(directory)), 0o700, "{directory}");
    }
    for file in ["ca/root-key.pem", "leaves/webapp/waypoint.pem", "lock"] {
        assert_eq!(mode(&base.join(file)), 0o600, "{file}");
    }
    assert!(!format!("{authority:?}").contains("PRIVATE"));
}

#[test]
fn an_exposed_root_key_stops_the_start_and_says_chmod() {
    let state = tempdir().unwrap();
    open(&state);
    expose(&state.path().join("ca/root-key.pem"));
    let error = refusal(&state);
    assert!(error.contains("root-key.pem") && error.contains("mode 0644"), "{error}");
    assert!(error.contains("run `chmod 600 "), "{error}");
}

#[test]
fn a_damaged_root_is_named_and_never_overwritten() {
    let state = tempdir().unwrap();
    open(&state);
    let (certificate, key) = (state.path().join("ca/root.pem"), state.path().join("ca/root-key.pem"));
    let (good_certificate, good_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());

    fs::write(&certificate, "-----BEGIN CERT").unwrap();
    let error = refusal(&state);
    assert!(error.contains("root.pem\" holds no certificate") && error.contains("restore it"), "{error}");
    assert_eq!(fs::read(&certificate).unwrap(), b"-----BEGIN CERT");

    fs::write(&certificate, &good_certificate).unwrap();
    fs::write(&key, "nothing").unwrap();
    let error = refusal(&state);
    assert!(error.contains("root-key.pem\" holds no private key"), "{error}");

    fs::remove_file(&key).unwrap();
    let error = refusal(&state);
    assert!(error.contains("root-key.pem\" is missing"), "{error}");

    let other = tempdir().unwrap();
    open(&other);
    fs::copy(other.path().join("ca/root-key.pem"), &key).unwrap();
    let error = refusal(&state);
    assert!(error.contains("does not belong to the root certificate"), "{error}");

    fs::write(&key, &good_key).unwrap();
    open(&state);
}

#[test]
fn a_first_start_that_was_cut_short_is_completed() {
    let state = tempdir().unwrap();
    open(&state);
    let key = fs::read(state.path().join("ca/root-key.pem")).unwrap();
    fs::remove_file(state.path().join("ca/root.pem")).unwrap();
    let authority = open(&state);
    assert_eq!(fs::read(state.path().join("ca/root-key.pem")).unwrap(), key);
    let leaf = authority.issue(&id("web"), HOUR, now()).unwrap();
    assert!(authority.recognizes(&leaf, now()));
}

#[test]
fn a_root_is_of_one_trust_domain_and_of_ten_years() {
    let state = tempdir().unwrap();
    let authority = open(&state);
    let error = Authority::open(state.path(), &"other.domain".into(), now()).unwrap_err().to_string();
    assert!(error.contains("cluster.local") && error.contains("other.domain"), "{error}");
    let year = 365 * 24 * HOUR;
    let late = now() + 10 * year - HOUR;
    let last = authority.issue(&id("web"), 24 * HOUR, late).unwrap();
    assert_eq!(last.expires(), now() + 10 * year, "no leaf outlives its root");
    let error = Authority::open(state.path(), &domain(), now() + 10 * year).unwrap_err().to_string();
    assert!(error.contains("has expired"), "{error}");
}

#[test]
fn a_leaf_carries_exactly_one_spiffe_uri_and_serves_both_sides() {
    let state = tempdir().unwrap();
    let authority = open(&state);
    let leaf = authority.issue(&id("web"), HOUR, now()).unwrap();
    let der = CertificateDer::from_pem_slice(leaf.chain_pem().as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI("spiffe://cluster.local/ns/webapp/sa/web")]);
    assert_eq!(leaf.uris(), ["spiffe://cluster.local/ns/webapp/sa/web"]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.raw_serial().len(), 16);
    assert_ne!(certificate.subject(), certificate.issuer());
    let other = authority.issue(&id("web"), HOUR, now()).unwrap();
    assert_ne!(leaf.chain_pem(), other.chain_pem());
    assert_ne!(leaf.key_pem(), other.key_pem());
}

#[test]
fn a_leaf_is_valid_from_a_minute_back_until_it_expires() {
    let state = tempdir().unwrap();
    let authority = open(&state);
    let leaf = authority.issue(&id("web"), 24 * HOUR, now()).unwrap();
    let second = Duration::from_secs(1);
    assert!(!authority.recognizes(&leaf, now() - 61 * second));
    assert!(authority.recognizes(&leaf, now() - 59 * second));
    assert_eq!(leaf.renew_at(), now() + 16 * HOUR);
    assert_eq!(leaf.expires(), now() + 24 * HOUR);
    assert!(authority.recognizes(&leaf, leaf.expires() - second));
    assert!(!authority.recognizes(&leaf, leaf.expires() + second));
}

#[test]
fn a_restart_serves_the_same_leaf_until_it_is_due() {
    let state = tempdir().unwrap();
    let at = |time| {
        let leaves = Leaves::open(state.path(), 24 * HOUR);
        leaves.current(&open(&state), &gateway(), &id("web"), time).unwrap()
    };
    let first = at(now());
    assert_eq!(first, at(now() + 15 * HOUR));
    let second = at(first.renew_at());
    assert_ne!(first, second);
    assert_eq!(second, at(second.renew_at() - Duration::from_secs(1)));
}

#[test]
fn a_leaf_that_does_not_fit_any_more_is_replaced() {
    let state = tempdir().unwrap();
    let leaves = Leaves::open(state.path(), 24 * HOUR);
    let path = state.path().join("leaves/webapp/waypoint.pem");
    let current = |account: &str| leaves.current(&open(&state), &gateway(), &id(account), now()).unwrap();

    let web = current("web");
    let moved = current("moved");
    assert_eq!(moved.uris(), [id("moved").to_string()]);
    assert_ne!(web, moved);

    fs::write(&path, &moved.chain_pem()[..100]).unwrap();
    let repaired = current("moved");
    assert_ne!(moved, repaired);

    expose(&path);
    let fresh = current("moved");
    assert_ne!(repaired, fresh, "its key may be known");
    assert_eq!(mode(&path), 0o600);

    fs::remove_dir_all(state.path().join("ca")).unwrap();
    let of_new_root = current("moved");
    assert!(open(&state).recognizes(&of_new_root, now()));

    leaves.forget(&gateway()).unwrap();
    assert!(!path.exists());
    leaves.forget(&gateway()).unwrap();
}

#[test]
fn no_gateway_name_leads_out_of_the_directory() {
    let state = tempdir().unwrap();
    let leaves = Leaves::open(state.path(), HOUR);
    for (namespace, name) in [("..", "ca"), ("webapp", "../../x"), ("/tmp", "x"), ("", "x")] {
        let gateway = Audience { namespace: namespace.into(), name: name.into() };
        leaves.current(&open(&state), &gateway, &id("web"), now()).unwrap_err();
        leaves.forget(&gateway).unwrap_err();
    }
}

#[test]
fn the_secrets_keep_their_versions_over_a_restart() {
    let state = tempdir().unwrap();
    let leaves = Leaves::open(state.path(), 24 * HOUR);
    let served = |time| {
        let authority = open(&state);
        let leaf = leaves.current(&authority, &gateway(), &id("web"), time).unwrap();
        secrets(&leaf, trusting(&authority, &[], &Anchors::default()))
    };
    let first = served(now());
    let names: Vec<&str> = first.iter().map(|resource| &*resource.name).collect();
    assert_eq!(names, ["default", "CALLERS", "ROOTCA"]);
    assert!(first == served(now() + HOUR), "equal resources, so nothing is sent");
    let renewed = served(now() + 20 * HOUR);
    assert_ne!(first[0].version, renewed[0].version);
    assert!(first[1..] == renewed[1..], "the root did not move");
    let printed = proto::render_any(&first[0].to_any(&proto::Place::default())).unwrap();
    let chain = printed["tls_certificate"]["certificate_chain"]["inline_string"].as_str().unwrap();
    assert!(chain.starts_with("-----BEGIN CERTIFICATE") && !chain.contains("PRIVATE KEY"), "{chain}");
    let key = printed["tls_certificate"]["private_key"]["inline_string"].as_str().unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY"));
    let printed = proto::render_any(&first[2].to_any(&proto::Place::default())).unwrap();
    let root = printed["validation_context"]["trusted_ca"]["inline_string"].as_str();
    assert_eq!(root, Some(open(&state).root_pem()));
}

fn trusting<'t>(authority: &'t Authority, aliases: &'t [Name], anchors: &'t Anchors) -> Trusts<'t> {
    let (own, root_pem) = (authority.trust_domain(), authority.root_pem());
    Trusts { own, root_pem, aliases, anchors }
}

#[test]
fn no_root_vouches_for_a_trust_domain_that_it_is_not_for() {
    let state = tempdir().unwrap();
    let authority = open(&state);
    let leaves = Leaves::open(state.path(), HOUR);
    let leaf = leaves.current(&authority, &gateway(), &id("web"), now()).unwrap();
    let anchors: BTreeMap<Name, BTreeSet<Arc<str>>> = [
        (domain(), ["EVERYWHERE".into(), "OWN".into()].into()),
        ("old".into(), ["EVERYWHERE".into(), "OLD".into()].into()),
        ("partner".into(), ["PARTNER".into()].into()),
    ]
    .into();
    let (aliases, anchors) = (["old".into()], Anchors(anchors));
    let secrets = secrets(&leaf, trusting(&authority, &aliases, &anchors));
    let printed = |nth: usize| proto::render_any(&secrets[nth].to_any(&proto::Place::default())).unwrap();

    let callers = printed(1);
    let config = &callers["validation_context"]["custom_validator_config"]["typed_config"];
    let bundle = |index: usize| {
        let of = &config["trust_domains"][index];
        let roots = of["trust_bundle"]["inline_string"].as_str().unwrap();
        let roots = roots.replace(authority.root_pem(), "MESH\n").replace("\n\n", " ").replace('\n', " ");
        format!("{}: {roots}", of["name"].as_str().unwrap())
    };
    let bundles = [0, 1, 2].map(bundle);
    assert_eq!(
        bundles,
        ["cluster.local: MESH EVERYWHERE OWN", "old: MESH EVERYWHERE OLD", "partner: PARTNER"]
    );

    // Those whom we call are of the mesh, and one list is for all of them.
    let called = printed(2);
    let roots = called["validation_context"]["trusted_ca"]["inline_string"].as_str().unwrap();
    assert!(roots.contains("EVERYWHERE") && !["OWN", "OLD", "PARTNER"].iter().any(|it| roots.contains(it)));
}

/// Connects by TLS and returns the certificate that the server showed.
fn shake_hands(
    certificates: &Arc<ServerCertificates>,
    authority: &Authority,
    name: &str,
) -> Result<CertificateDer<'static>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    let mut server = ServerConnection::new(certificates.server_config()?)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert_eq!(server.alpn_protocol(), Some(b"h2".as_slice()));
    Ok(client.peer_certificates().unwrap()[0].clone())
}

#[test]
fn our_endpoint_is_known_by_each_of_its_names_and_no_other() {
    let state = tempdir().unwrap();
    // The client below reads the clock, as every TLS client does.
    let now = SystemTime::now();
    let authority = Authority::open(state.path(), &domain(), now).unwrap();
    let names = ServerNames {
        dns: vec!["portolan.mesh.svc".to_owned()],
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
    };
    let certificates = ServerCertificates::issue(&authority, names, HOUR, now).unwrap();
    for name in ["portolan", "portolan.mesh.svc", "127.0.0.1"] {
        shake_hands(&certificates, &authority, name).unwrap();
    }
    shake_hands(&certificates, &authority, "elsewhere").unwrap_err();
    let other = tempdir().unwrap();
    let stranger = Authority::open(other.path(), &domain(), now).unwrap();
    shake_hands(&certificates, &stranger, "portolan").unwrap_err();
}

#[test]
fn a_renewed_certificate_is_shown_to_the_next_connection() {
    let state = tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::open(state.path(), &domain(), now).unwrap();
    let certificates = ServerCertificates::issue(&authority, ServerNames::default(), HOUR, now).unwrap();
    let first = shake_hands(&certificates, &authority, "portolan").unwrap();
    assert_eq!(first, shake_hands(&certificates, &authority, "portolan").unwrap());
    let due = certificates.renew_at();
    assert!(due > now && due < now + HOUR);
    certificates.renew(&authority, now + Duration::from_secs(30)).unwrap();
    assert!(certificates.renew_at() > due);
    assert_ne!(first, shake_hands(&certificates, &authority, "portolan").unwrap());
}
