//! `caCertificates` of the mesh configuration: whose word counts besides our own root's, and for which
//! trust domains.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use proto::Name;
use serde_json::Value;
use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer, x509::X509Version};

use super::mesh_config::{Trust, is_trust_domain};
use crate::{
    derive::Row,
    fields::{Fields, Problems, kind},
};

/// The certificates, each as PEM of its own, that vouch for the identities of a trust domain, by its name.
/// For those of the mesh itself its own root vouches as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(pub BTreeMap<Name, BTreeSet<Arc<str>>>);

impl Row for Anchors {
    const TABLE: &'static str = "anchors";
    type Key = ();
    type Bucket = ();

    fn buckets((): &(), _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// Reads the field. An entry that says something that we do not know vouches for nobody: what it says
/// may be for whom it does not.
pub(super) fn lower(mesh: &Fields<'_>, trust: &Trust, problems: &mut Problems) -> Anchors {
    let mut anchors = Anchors::default();
    for (value, at) in mesh.list("caCertificates", problems).unwrap_or_default() {
        let before = problems.0.len();
        let entry = Fields::read(Some(value), at, problems);
        entry.only(&["pem", "spiffeBundleUrl", "certSigners", "trustDomains"], problems);
        if entry.get("spiffeBundleUrl").is_some() {
            let at = entry.at.field("spiffeBundleUrl");
            problems.unsupported(&at, "bundles are not fetched; write their certificates into pem");
        }
        if entry.list("certSigners", problems).is_some_and(|signers| !signers.is_empty()) {
            let at = entry.at.field("certSigners");
            problems.unsupported(&at, "a certificate does not say who had it signed; leave the field out");
        }
        let certificates = certificates(&entry, problems);
        let understood = problems.0.len() == before;
        // By value: each that can be read is one that the certificates are for.
        let domains = domains(&entry, trust, problems);
        for domain in domains.iter().filter(|_| understood) {
            anchors.0.entry(domain.clone()).or_default().extend(certificates.iter().cloned());
        }
    }
    anchors
}

/// MeshConfig: without any, the certificates are for the mesh's own trust domain and its aliases.
fn domains(entry: &Fields<'_>, trust: &Trust, problems: &mut Problems) -> Vec<Name> {
    let before = problems.0.len();
    let asked = entry.list("trustDomains", problems).unwrap_or_default();
    if asked.is_empty() && problems.0.len() == before {
        return trust.domains().cloned().collect();
    }
    let mut domains = Vec::new();
    for (value, at) in asked {
        match value.as_str() {
            Some(domain) if is_trust_domain(domain) => domains.push(domain.into()),
            Some(other) => problems.invalid(&at, format!("{other:?} is not a trust domain; leave out stars")),
            None => problems.invalid(&at, format!("expected a string, not {}", kind(value))),
        }
    }
    domains
}

fn certificates(entry: &Fields<'_>, problems: &mut Problems) -> BTreeSet<Arc<str>> {
    let at = entry.at.field("pem");
    let read = match entry.get("pem") {
        Some(Value::String(text)) => roots(text),
        Some(other) => Err(format!("expected a string, not {}", kind(other))),
        None if entry.get("spiffeBundleUrl").is_some() => return BTreeSet::new(),
        None => Err("the certificates are missing".to_owned()),
    };
    read.unwrap_or_else(|message| {
        problems.invalid(&at, format!("{message}; it vouches for nobody"));
        BTreeSet::new()
    })
}

/// The certificates of a text, written anew: Envoy refuses all of a secret for one that it cannot read,
/// and what else stands between them goes no further.
fn roots(text: &str) -> Result<BTreeSet<Arc<str>>, String> {
    let mut roots = BTreeSet::new();
    let mut anchored = false;
    let mut blocks = 0;
    for (index, pem) in Pem::iter_from_buffer(text.as_bytes()).enumerate() {
        let nth = index + 1;
        let pem = pem.map_err(|error| format!("block {nth} is not PEM ({error})"))?;
        if pem.label != "CERTIFICATE" {
            return Err(format!("block {nth} is {:?}, and only certificates can be here", pem.label));
        }
        anchored |= check(&pem.contents).map_err(|message| format!("certificate {nth} {message}"))?;
        roots.insert(encode(&pem.contents).into());
        blocks += 1;
    }
    if blocks == 0 || blocks != text.matches("-----BEGIN").count() {
        return Err("not certificates in PEM, each BEGIN at the beginning of a line".to_owned());
    }
    if !anchored {
        return Err(
            "none of the certificates is self-signed, and Envoy takes no others for a root".to_owned()
        );
    }
    Ok(roots)
}

/// Whether the certificate is the end of a chain. An error for one that cannot sign others.
fn check(der: &[u8]) -> Result<bool, String> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("cannot be read ({error})"))?;
    if !rest.is_empty() || certificate.version() != X509Version::V3 {
        return Err("is not an X.509 certificate of version 3".to_owned());
    }
    let authority = certificate.basic_constraints().is_ok_and(|found| found.is_some_and(|it| it.value.ca));
    let signs = certificate.key_usage().is_ok_and(|found| found.is_none_or(|it| it.value.key_cert_sign()));
    if !authority || !signs {
        return Err("is not one of an authority: it may sign no others".to_owned());
    }
    Ok(certificate.subject().as_raw() == certificate.issuer().as_raw())
}

fn encode(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (index, letter) in text.chars().enumerate() {
        pem.push_str(if index > 0 && index % 64 == 0 { "\n" } else { "" });
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::problem::FieldPath;

    /// A root, one that it signed and that may sign others, and one that may not.
    fn chain() -> [String; 3] {
        let params = |name: &str, is_ca: bool| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            let constraints = IsCa::Ca(BasicConstraints::Unconstrained);
            params.is_ca = if is_ca { constraints } else { IsCa::ExplicitNoCa };
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("root", true), key()).unwrap();
        let between = params("between", true).signed_by(&key(), &root).unwrap();
        let leaf = params("leaf", false).signed_by(&key(), &root).unwrap();
        [root.pem(), between.pem(), leaf.pem()]
    }

    fn lowered(entries: &Value) -> (Anchors, Vec<String>) {
        let trust = Trust { own: "own".into(), aliases: vec!["old".into()] };
        let mut problems = Problems::default();
        let mesh = json!({ "caCertificates": entries });
        let fields = Fields::read(Some(&mesh), FieldPath::new("mesh"), &mut problems);
        let anchors = lower(&fields, &trust, &mut problems);
        (anchors, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn certificates_are_for_the_trust_domains_that_are_named_else_for_those_of_the_mesh() {
        let [root, between, _] = chain();
        let (anchors, problems) = lowered(&json!([
            {"pem": format!("# comment\n{between}\n{root}"), "trustDomains": ["a.example", "own"]},
            {"pem": root, "trustDomains": []},
        ]));
        assert_eq!(problems, Vec::<String>::new());
        let counts: Vec<_> = anchors.0.iter().map(|(domain, pems)| (&**domain, pems.len())).collect();
        assert_eq!(counts, [("a.example", 2), ("old", 1), ("own", 2)]);
        let written = anchors.0["old"].first().map(|pem| pem.replace('\n', ""));
        assert_eq!(written, Some(root.replace(['\r', '\n'], "")));
    }

    #[test]
    fn what_is_not_understood_vouches_for_nobody() {
        let [root, between, leaf] = chain();
        let broken = root.replacen("MII", "MIJ", 1);
        for (entry, said) in [
            (json!({"pem": "x", "trustDomains": ["a"]}), "[0].pem: not certificates"),
            (json!({"pem": 5, "trustDomains": ["a"]}), "[0].pem: expected a string"),
            (json!({"trustDomains": ["a"]}), "[0].pem: the certificates are missing"),
            (json!({"pem": leaf, "trustDomains": ["a"]}), "[0].pem: certificate 1 is not one of an auth"),
            (json!({"pem": between, "trustDomains": ["a"]}), "[0].pem: none of the certificates is self"),
            (json!({"pem": broken, "trustDomains": ["a"]}), "[0].pem: certificate 1 "),
            (json!({"pem": format!("{root} {root}"), "trustDomains": ["a"]}), "[0].pem: not certificates"),
            (json!({"pem": root.replace("CERTIFICATE", "X509 CRL")}), "[0].pem: block 1 is \"X509 CRL\""),
            (json!({"pem": root, "certSigners": ["a/b"]}), "[0].certSigners: "),
            (json!({"spiffeBundleUrl": "https://a"}), "[0].spiffeBundleUrl: bundles are not fetched"),
            (json!({"pem": root, "trustDomain": "a"}), "[0].trustDomain: no such field"),
            (json!({"pem": root, "trustDomains": "a"}), "[0].trustDomains: expected a list"),
            (json!({"pem": root, "trustDomains": ["*"]}), "[0].trustDomains[0]: \"*\" is not a trust domain"),
            (json!(root), "[0]: expected an object"),
        ] {
            let (anchors, problems) = lowered(&json!([entry]));
            assert_eq!(anchors, Anchors::default(), "{said}");
            assert!(problems.iter().any(|problem| problem.contains(said)), "{said}: {problems:?}");
        }
    }

    #[test]
    fn one_wrong_entry_takes_nothing_from_the_others() {
        let [root, ..] = chain();
        let (anchors, problems) = lowered(&json!([
            {"pem": root, "trustDomains": ["a", "b/c"]},
            {"pem": "", "trustDomains": ["a", "d"]},
        ]));
        assert_eq!(anchors.0.keys().map(|domain| &**domain).collect::<Vec<_>>(), ["a"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
