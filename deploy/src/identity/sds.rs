//! A waypoint's certificate and the root as Envoy's secrets.

use proto::{
    Resource, TypeUrl, Version,
    envoy::{core, tls},
};
use rapidhash::v3::rapidhash_v3;

use super::Leaf;

/// The secrets of a proxy: `default`, its own certificate and key, and `ROOTCA`, what it trusts.
///
/// The version follows from the certificates alone. A hash of the key would tell something about it
/// to whoever may read versions.
pub fn secrets(leaf: &Leaf, root_pem: &str) -> Vec<Resource> {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(inline(leaf.chain_pem())),
        private_key: Some(inline(leaf.key_pem())),
        ..tls::TlsCertificate::default()
    };
    let trust = tls::CertificateValidationContext {
        trusted_ca: Some(inline(root_pem)),
        ..tls::CertificateValidationContext::default()
    };
    vec![
        secret("default", leaf.chain_pem(), tls::secret::Type::TlsCertificate(certificate)),
        secret("ROOTCA", root_pem, tls::secret::Type::ValidationContext(trust)),
    ]
}

fn secret(name: &str, certificates: &str, content: tls::secret::Type) -> Resource {
    let version = Version(rapidhash_v3(certificates.as_bytes()));
    let secret = tls::Secret { name: name.to_owned(), r#type: Some(content) };
    Resource::new(TypeUrl::Secret, name, version, &secret)
}

fn inline(pem: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::InlineString(pem.to_owned());
    core::DataSource { specifier: Some(specifier), ..core::DataSource::default() }
}
