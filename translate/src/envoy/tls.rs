//! TLS of the tunnels: 1.3 only, both ends prove a SPIFFE identity of the mesh.

use proto::envoy::{matcher, tls};

use super::extension::ads;

/// The secret that holds our own certificate and key.
const CERTIFICATE: &str = "default";
/// The secret that holds the mesh's roots.
const ROOTS: &str = "ROOTCA";

pub(crate) fn downstream(trust_domain: &str) -> tls::DownstreamTlsContext {
    tls::DownstreamTlsContext {
        require_client_certificate: Some(proto::envoy::BoolValue { value: true }),
        common_tls_context: Some(common(trust_domain)),
        ..tls::DownstreamTlsContext::default()
    }
}

pub(crate) fn upstream(trust_domain: &str) -> tls::UpstreamTlsContext {
    tls::UpstreamTlsContext {
        common_tls_context: Some(common(trust_domain)),
        ..tls::UpstreamTlsContext::default()
    }
}

fn common(trust_domain: &str) -> tls::CommonTlsContext {
    let version = tls::tls_parameters::TlsProtocol::TlSv13.into();
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: version,
            tls_maximum_protocol_version: version,
            ..tls::TlsParameters::default()
        }),
        alpn_protocols: vec!["h2".to_owned()],
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        validation_context_type: Some(
            tls::common_tls_context::ValidationContextType::CombinedValidationContext(
                tls::common_tls_context::CombinedCertificateValidationContext {
                    default_validation_context: Some(tls::CertificateValidationContext {
                        match_typed_subject_alt_names: vec![of_trust_domain(trust_domain)],
                        ..tls::CertificateValidationContext::default()
                    }),
                    validation_context_sds_secret_config: Some(secret(ROOTS)),
                    ..tls::common_tls_context::CombinedCertificateValidationContext::default()
                },
            ),
        ),
        ..tls::CommonTlsContext::default()
    }
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

fn of_trust_domain(trust_domain: &str) -> tls::SubjectAltNameMatcher {
    tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Prefix(format!(
                "spiffe://{trust_domain}/"
            ))),
            ..matcher::StringMatcher::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    }
}
