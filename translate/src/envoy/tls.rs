//! TLS of the tunnels: 1.3 only, both ends prove a SPIFFE identity of the mesh.

use proto::envoy::{matcher, tls};

use super::extension::ads;

/// The secret that holds our own certificate and key.
const CERTIFICATE: &str = "default";
/// The secret that says who may call: a root for each trust domain, which vouches for no other.
const CALLERS: &str = "CALLERS";
/// The secret that holds the mesh's roots, for those whom we call.
const ROOTS: &str = "ROOTCA";

/// Envoy's validator of SPIFFE identities chooses the root by the caller's trust domain.
pub(crate) fn downstream() -> tls::DownstreamTlsContext {
    use tls::common_tls_context::ValidationContextType;
    tls::DownstreamTlsContext {
        require_client_certificate: Some(proto::envoy::BoolValue { value: true }),
        common_tls_context: Some(common(ValidationContextType::ValidationContextSdsSecretConfig(secret(
            CALLERS,
        )))),
        ..tls::DownstreamTlsContext::default()
    }
}

/// Envoy's own validator: the one of SPIFFE identities does not look at which pod an endpoint has to be.
pub(crate) fn upstream(trust_domain: &str) -> tls::UpstreamTlsContext {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let roots = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![of_trust_domain(trust_domain)],
            ..tls::CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(secret(ROOTS)),
        ..CombinedCertificateValidationContext::default()
    };
    tls::UpstreamTlsContext {
        common_tls_context: Some(common(ValidationContextType::CombinedValidationContext(roots))),
        ..tls::UpstreamTlsContext::default()
    }
}

fn common(validation: tls::common_tls_context::ValidationContextType) -> tls::CommonTlsContext {
    let version = tls::tls_parameters::TlsProtocol::TlSv13.into();
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: version,
            tls_maximum_protocol_version: version,
            ..tls::TlsParameters::default()
        }),
        alpn_protocols: vec!["h2".to_owned()],
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        validation_context_type: Some(validation),
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
