//! The one static cluster of a waypoint's Envoy: us, over TLS, with a bearer token on every stream.

use proto::envoy::{self, cluster, core, http_connection_manager::HttpFilter, http_protocol, tls};

use super::{Endpoint, ProxyFiles, bootstrap::socket_address, files};

/// The cluster's name.
pub(super) const NAME: &str = "xds";

/// The name in our certificate. It is not where we are reached: that may be any address.
pub(super) const SERVER_NAME: &str = "portolan";

const MIB: u32 = 1024 * 1024;

/// Builds the cluster.
pub(super) fn cluster(xds: &Endpoint, files: &ProxyFiles) -> envoy::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};

    let discovery = if xds.address().is_some() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let options = envoy::pack(&protocol(files));
    envoy::Cluster {
        name: NAME.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: Some(envoy::seconds(5)),
        load_assignment: Some(assignment(xds)),
        transport_socket: Some(transport_socket(files)),
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            options,
        )]
        .into(),
        // A peer that vanished without a word, seen by the kernel even while the worker is busy.
        upstream_connection_options: Some(cluster::UpstreamConnectionOptions {
            tcp_keepalive: Some(core::TcpKeepalive {
                keepalive_time: number(30),
                keepalive_interval: number(10),
                keepalive_probes: number(3),
            }),
            ..Default::default()
        }),
        ..envoy::Cluster::default()
    }
}

fn assignment(xds: &Endpoint) -> envoy::ClusterLoadAssignment {
    use envoy::endpoint::{Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier};

    let endpoint =
        Endpoint { address: Some(socket_address(&xds.host, xds.port.get())), ..Endpoint::default() };
    let endpoint =
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    envoy::ClusterLoadAssignment {
        cluster_name: NAME.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..envoy::ClusterLoadAssignment::default()
    }
}

fn protocol(files: &ProxyFiles) -> envoy::HttpProtocolOptions {
    use http_protocol::http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    };

    let http2 = core::Http2ProtocolOptions {
        // A large mesh is many small messages: with Envoy's default it takes its own window updates
        // for an attack of ours and cuts the stream.
        max_inbound_window_update_frames_per_data_frame_sent: number(100_000),
        initial_stream_window_size: number(16 * MIB),
        initial_connection_window_size: number(32 * MIB),
        connection_keepalive: Some(core::KeepaliveSettings {
            interval: Some(envoy::seconds(30)),
            timeout: Some(envoy::seconds(10)),
            ..core::KeepaliveSettings::default()
        }),
        ..core::Http2ProtocolOptions::default()
    };
    let explicit = ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)) };
    envoy::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        http_filters: vec![
            filter("envoy.filters.http.credential_injector", envoy::pack(&bearer_token(files))),
            filter("envoy.filters.http.upstream_codec", envoy::pack(&envoy::UpstreamCodec {})),
        ],
        ..envoy::HttpProtocolOptions::default()
    }
}

fn bearer_token(files: &ProxyFiles) -> envoy::CredentialInjector {
    let credential = envoy::GenericCredential {
        credential: Some(files.secret_config(files::TOKEN_SECRET)),
        header: "authorization".to_owned(),
        header_value_prefix: "Bearer ".to_owned(),
    };
    envoy::CredentialInjector {
        overwrite: true,
        // A stream without a token is refused here instead of at our door, where it would be logged as an intruder.
        allow_request_without_credential: false,
        credential: Some(core::TypedExtensionConfig {
            name: "envoy.http.injected_credentials.generic".to_owned(),
            typed_config: Some(envoy::pack(&credential)),
        }),
    }
}

fn transport_socket(files: &ProxyFiles) -> core::TransportSocket {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};

    let name = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Dns.into(),
        matcher: Some(envoy::matcher::StringMatcher {
            match_pattern: Some(envoy::matcher::string_matcher::MatchPattern::Exact(SERVER_NAME.to_owned())),
            ..Default::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    };
    // Envoy reads a file of a static validation context once. Only as a secret is the root read again
    // when it changes.
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![name],
            ..tls::CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(files.secret_config(files::ROOT_SECRET)),
        ..Default::default()
    };
    let common = tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
            ..tls::TlsParameters::default()
        }),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..tls::CommonTlsContext::default()
    };
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: SERVER_NAME.to_owned(),
        ..tls::UpstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(envoy::pack(&context))),
    }
}

fn filter(name: &str, config: envoy::Any) -> HttpFilter {
    use envoy::http_connection_manager::http_filter::ConfigType;

    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the fields are optional, and every one of them is set")]
fn number(value: u32) -> Option<envoy::UInt32Value> {
    Some(envoy::UInt32Value { value })
}
