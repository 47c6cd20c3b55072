//! Authorities as others write them. The keys in the folder are for this alone; openssl has written them.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::identity::SpiffeId;

const HOUR: Duration = Duration::from_hours(1);
const KEYS: [&str; 4] = [
    include_str!("rsa-pkcs1.pem"),
    include_str!("rsa-pkcs8.pem"),
    include_str!("p256-sec1.pem"),
    include_str!("p384-sec1.pem"),
];

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 500_000 * HOUR
}

fn domain() -> Name {
    "cluster.local".into()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now() - HOUR).into();
    params.not_after = (now() + 100 * HOUR).into();
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn entries(content: &[(&str, &str)]) -> Entries {
    content.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn read(content: &[(&str, &str)]) -> Result<Authority, String> {
    Authority::from_entries(&entries(content), &domain(), now())
}

fn signs(authority: &Authority) -> String {
    let id = SpiffeId::new(&domain(), &"ns".into(), &"sa".into()).unwrap();
    let leaf = authority.issue(&id, HOUR, now()).unwrap();
    assert!(authority.recognizes(&leaf, now()));
    leaf.chain_pem().to_owned()
}

fn count(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_self_signed_authority_of_istiod_signs_with_any_kind_of_key_that_it_writes() {
    for pem in KEYS {
        let root = params("root").self_signed(&private_key::read(pem.as_bytes()).unwrap()).unwrap().pem();
        for shape in [
            vec![
                ("ca-cert.pem", &*root),
                ("ca-key.pem", pem),
                ("cert-chain.pem", ""),
                ("root-cert.pem", &root),
            ],
            vec![("ca-cert.pem", &*root), ("ca-key.pem", pem)],
            vec![("tls.crt", &*root), ("tls.key", pem)],
        ] {
            let authority = read(&shape).unwrap();
            assert_eq!(count(&signs(&authority)), 1);
            assert_eq!(count(authority.root_pem()), 1);
        }
    }
}

#[test]
fn an_authority_between_sends_what_leads_to_the_root_and_trusts_every_root() {
    let (root_key, first_key, last_key) = (key(), key(), key());
    let root = params("root").self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(params("root"), root_key);
    let first = params("first").signed_by(&first_key, &root_issuer).unwrap();
    let last = params("last").signed_by(&last_key, &Issuer::new(params("first"), first_key)).unwrap();
    let other = params("other").self_signed(&key()).unwrap().pem();
    let (root, first, last) = (root.pem(), first.pem(), last.pem());
    let key = last_key.serialize_pem();
    let roots = format!("{root}{other}");
    let chain = format!("{last}{first}{root}");
    for shape in [
        vec![
            ("ca-cert.pem", &*last),
            ("ca-key.pem", &key),
            ("cert-chain.pem", &chain),
            ("root-cert.pem", &roots),
        ],
        vec![("tls.crt", &*chain), ("tls.key", &key), ("ca.crt", &roots)],
    ] {
        let authority = read(&shape).unwrap();
        let sent = signs(&authority);
        assert_eq!(count(&sent), 3, "the leaf, the last and the first");
        assert_eq!(count(authority.root_pem()), 2);
    }
}

#[test]
fn what_was_generated_is_read_and_is_of_its_trust_domain_alone() {
    let entries = Authority::generate(&domain(), now()).unwrap();
    let authority = Authority::from_entries(&entries, &domain(), now()).unwrap();
    signs(&authority);
    let error = Authority::from_entries(&entries, &"other".into(), now()).unwrap_err();
    assert!(error.contains("\"spiffe://cluster.local\" and not of the trust domain \"other\""), "{error}");
}

#[test]
fn whatever_is_wrong_is_named_with_its_entry() {
    let (root_key, ca_key) = (key(), key());
    let root = params("root").self_signed(&root_key).unwrap().pem();
    let mut no_authority = params("leaf");
    no_authority.is_ca = IsCa::NoCa;
    let no_authority = no_authority.self_signed(&ca_key).unwrap().pem();
    let mut expired = params("old");
    expired.not_after = (now() - Duration::from_mins(1)).into();
    let expired = expired.self_signed(&ca_key).unwrap().pem();
    let between = params("between").signed_by(&ca_key, &Issuer::new(params("root"), root_key)).unwrap().pem();
    let stranger = params("stranger").self_signed(&key()).unwrap().pem();
    let key = ca_key.serialize_pem();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("password", "x")], "needs tls.crt and tls.key, or ca-cert.pem and ca-key.pem"),
        (&[("tls.crt", &root)], "lacks tls.key"),
        (&[("ca-key.pem", &key)], "lacks ca-cert.pem"),
        (&[("tls.crt", "x"), ("tls.key", &key)], "tls.crt holds no certificate"),
        (&[("tls.crt", &root), ("tls.key", "x")], "tls.key holds no private key"),
        (&[("tls.crt", &root), ("tls.key", &key)], "tls.crt does not belong to the key beside it"),
        (&[("tls.crt", &no_authority), ("tls.key", &key)], "may not sign others"),
        (&[("tls.crt", &expired), ("tls.key", &key)], "tls.crt has expired"),
        (&[("tls.crt", &between), ("tls.key", &key)], "holds no root: ca.crt is missing"),
        (&[("tls.crt", &between), ("tls.key", &key), ("ca.crt", &stranger)], "own roots do not vouch for"),
        (&[("tls.crt", &between), ("tls.key", &key), ("ca.crt", "x")], "ca.crt holds no certificate"),
    ];
    for (content, why) in cases {
        let error = read(content).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}
