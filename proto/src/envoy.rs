//! The Envoy API under short names. Replacing `envoy-types` means changing this file.
//!
//! A message that exists once keeps its own name (`envoy::Listener`); families that would collide
//! keep the module they come from (`envoy::rbac::Policy`, `envoy::route::Route`).

use envoy_types::pb::{envoy as api, google};
use prost::{Message, Name};

pub use api::{
    config::{
        accesslog::v3 as accesslog,
        bootstrap::v3::{self as bootstrap, Bootstrap},
        cluster::v3::{self as cluster, Cluster},
        common::mutation_rules::v3 as mutation_rules,
        core::v3 as core,
        endpoint::v3::{self as endpoint, ClusterLoadAssignment, cluster_load_assignment},
        listener::v3::{self as listener, Listener},
        metrics::v3 as metrics,
        rbac::v3 as rbac,
        route::v3::{self as route, RouteConfiguration, ScopedRouteConfiguration},
    },
    extensions::{
        access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat as FileAccessLogFormat},
        bootstrap::internal_listener::v3::InternalListener,
        clusters::{
            common::dns::v3::DnsLookupFamily,
            dns::v3::{DnsCluster, dns_cluster},
            dynamic_forward_proxy::v3::{
                ClusterConfig as DynamicForwardProxyCluster, cluster_config as dynamic_forward_proxy_cluster,
            },
        },
        common::{dynamic_forward_proxy::v3 as dns_cache, matching::v3::ExtensionWithMatcher},
        filters::{
            common::{matcher::action::v3::SkipFilter, set_filter_state::v3 as filter_state},
            http::{
                composite::v3 as composite,
                cors::v3 as http_cors,
                credential_injector::v3::CredentialInjector,
                dynamic_forward_proxy::v3::{
                    FilterConfig as DynamicForwardProxy, filter_config as dynamic_forward_proxy,
                },
                ext_authz::v3::{self as ext_authz, ExtAuthz as HttpExtAuthz},
                filter_chain::v3 as http_filter_chain,
                grpc_stats::v3 as http_grpc_stats,
                header_mutation::v3::{self as http_header_mutation, HeaderMutation as HttpHeaderMutation},
                jwt_authn::v3 as jwt,
                rbac::v3 as http_rbac,
                router::v3::Router,
                set_filter_state::v3::Config as HttpSetFilterState,
                stateful_session::v3::{
                    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route,
                },
                upstream_codec::v3::UpstreamCodec,
            },
            listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                tls_inspector::v3::TlsInspector,
            },
            network::{
                http_connection_manager::v3::{self as http_connection_manager, HttpConnectionManager},
                set_filter_state::v3::Config as NetworkSetFilterState,
                tcp_proxy::v3::{self as tcp_proxy, TcpProxy},
            },
        },
        http::{
            early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation,
            injected_credentials::generic::v3::Generic as GenericCredential,
            stateful_session::{
                cookie::v3::CookieBasedSessionState as CookieSession,
                header::v3::HeaderBasedSessionState as HeaderSession,
            },
        },
        matching::common_inputs::network::v3 as network_inputs,
        retry::host::previous_hosts::v3::PreviousHostsPredicate as PreviousHosts,
        transport_sockets::{
            internal_upstream::v3::{self as internal_upstream, InternalUpstreamTransport},
            raw_buffer::v3::RawBuffer,
            tls::v3::{self as tls, Secret},
        },
        upstreams::http::v3::{self as http_protocol, HttpProtocolOptions},
    },
    r#type::{
        http::v3 as session_cookie,
        matcher::v3::{self as matcher, HttpRequestHeaderMatchInput},
        metadata::v3 as metadata,
        v3 as percent, v3 as http_status,
        v3::SemanticVersion,
    },
};
pub use envoy_types::pb::xds::{core::v3 as xds_core, r#type::matcher::v3 as xds_matcher};
pub use google::protobuf::{
    Any, BoolValue, Duration, Empty, ListValue, StringValue, Struct, UInt32Value, Value, value,
};

/// The discovery service: requests, responses, the server trait and a client for tests.
pub use api::service::discovery::v3 as discovery;

/// What an extension provider is asked, and answers.
pub mod permission {
    pub use super::{
        api::service::auth::v3::{
            CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response,
        },
        google::rpc::Status,
    };
}

/// The oldest Envoy that knows all of what it is sent, without its known faults: major, minor, patch.
///
/// What an older one does not know of a message it leaves out: of a policy, a condition.
pub const OLDEST: (u32, u32, u32) = (1, 40, 0);

/// Packs a message into an `Any` under its own type URL.
pub fn pack<T: Message + Name>(message: &T) -> Any {
    Any { type_url: T::type_url(), value: message.encode_to_vec() }
}

/// A duration of whole seconds.
pub const fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

/// A duration of milliseconds.
pub const fn milliseconds(milliseconds: i64) -> Duration {
    #[allow(clippy::cast_possible_truncation, reason = "below 10^9 by the remainder")]
    Duration { seconds: milliseconds / 1000, nanos: (milliseconds % 1000 * 1_000_000) as i32 }
}

/// A struct of string values, as metadata holds them.
pub fn string_struct<K: Into<String>, V: Into<String>>(fields: impl IntoIterator<Item = (K, V)>) -> Struct {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.into(), Value { kind: Some(value::Kind::StringValue(value.into())) }));
    Struct { fields: fields.collect() }
}
