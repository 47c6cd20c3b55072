//! A waypoint's certificate and the root as Envoy's secrets.

use proto::{
    Name, Resource, TypeUrl, Version,
    envoy::{core, matcher, tls},
};
use rapidhash::v3::rapidhash_v3;

use super::Leaf;

/// The secrets of a proxy: `default`, its own certificate and key, and `ROOTCA`, what it trusts. The
/// identities of our own trust domain are accepted by its listeners, and those of `aliases` by this
/// secret: they come and go while we run, and a secret that changes drains no connection.
///
/// The version follows from the certificates alone. A hash of the key would tell something about it
/// to whoever may read versions.
pub fn secrets(leaf: &Leaf, root_pem: &str, aliases: &[Name]) -> Vec<Resource> {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(inline(leaf.chain_pem())),
        private_key: Some(inline(leaf.key_pem())),
        ..tls::TlsCertificate::default()
    };
    let trust = tls::CertificateValidationContext {
        trusted_ca: Some(inline(root_pem)),
        match_typed_subject_alt_names: aliases.iter().map(|alias| of_trust_domain(alias)).collect(),
        ..tls::CertificateValidationContext::default()
    };
    let trusted: Vec<&str> = [root_pem].into_iter().chain(aliases.iter().map(AsRef::as_ref)).collect();
    vec![
        secret("default", leaf.chain_pem(), tls::secret::Type::TlsCertificate(certificate)),
        secret("ROOTCA", &trusted.join("\n"), tls::secret::Type::ValidationContext(trust)),
    ]
}

fn of_trust_domain(trust_domain: &str) -> tls::SubjectAltNameMatcher {
    let prefix = matcher::string_matcher::MatchPattern::Prefix(format!("spiffe://{trust_domain}/"));
    tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(prefix),
            ..matcher::StringMatcher::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    }
}

/// `says` is all that is in the secret and no secret itself.
fn secret(name: &str, says: &str, content: tls::secret::Type) -> Resource {
    let version = Version(rapidhash_v3(says.as_bytes()));
    let secret = tls::Secret { name: name.to_owned(), r#type: Some(content) };
    Resource::new(TypeUrl::Secret, name, version, &secret)
}

fn inline(pem: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::InlineString(pem.to_owned());
    core::DataSource { specifier: Some(specifier), ..core::DataSource::default() }
}
