//! The bootstrap of a waypoint's Envoy: who it is and how it reaches us. Everything else it is told over ADS.

use std::net::SocketAddr;

use proto::{
    Place,
    envoy::{self, core},
};
use translate::Audience;

use super::{Endpoint, ProxyFiles, stats, xds_cluster};

/// One Envoy that is to be a proxy of a waypoint.
#[derive(Clone, Copy, Debug)]
pub struct Proxy<'a> {
    /// The waypoint it belongs to.
    pub gateway: &'a Audience,
    /// Its own name among the proxies of that waypoint.
    pub name: &'a str,
    /// Where it stands.
    pub place: &'a Place,
    /// Where it reaches us.
    pub xds: &'a Endpoint,
    /// Where its admin interface listens; `None` for no admin interface.
    pub admin: Option<SocketAddr>,
    /// The files that say who it is.
    pub files: &'a ProxyFiles,
}

/// RE2 refuses a program of more than 100 instructions unless told otherwise, and a principal of a
/// policy with names of ordinary length needs more. Istio's bootstrap has the same limit.
const RE2_MAX_PROGRAM_SIZE: f64 = 32768.0;

/// Builds the bootstrap.
pub fn bootstrap(proxy: &Proxy<'_>) -> envoy::Bootstrap {
    let (deferred_stat_options, stats_config) = stats::config();
    envoy::Bootstrap {
        node: Some(node(proxy)),
        admin: proxy.admin.map(admin),
        bootstrap_extensions: vec![internal_listeners()],
        layered_runtime: Some(runtime()),
        dynamic_resources: Some(envoy::bootstrap::bootstrap::DynamicResources {
            ads_config: Some(ads()),
            cds_config: Some(over_ads()),
            lds_config: Some(over_ads()),
            ..Default::default()
        }),
        static_resources: Some(envoy::bootstrap::bootstrap::StaticResources {
            clusters: vec![xds_cluster::cluster(proxy.xds, proxy.files)],
            ..Default::default()
        }),
        deferred_stat_options: Some(deferred_stat_options),
        stats_config: Some(stats_config),
        ..Default::default()
    }
}

/// What the proxy says of itself. It is for logs and dashboards: which configuration it gets
/// follows from its token alone. Where it stands decides which endpoints are near, and no more.
fn node(proxy: &Proxy<'_>) -> core::Node {
    let Audience { namespace, name } = proxy.gateway;
    let metadata = [("GATEWAY", proxy.gateway.to_string()), ("NAMESPACE", namespace.to_string())];
    core::Node {
        id: format!("waypoint~{namespace}/{name}~{}", proxy.name),
        cluster: format!("{name}.{namespace}"),
        metadata: Some(envoy::string_struct(metadata)),
        locality: (*proxy.place != Place::default()).then(|| core::Locality {
            region: proxy.place.region.to_string(),
            zone: proxy.place.zone.to_string(),
            sub_zone: proxy.place.sub_zone.to_string(),
        }),
        ..core::Node::default()
    }
}

fn admin(address: SocketAddr) -> envoy::bootstrap::Admin {
    envoy::bootstrap::Admin {
        address: Some(socket_address(&address.ip().to_string(), address.port())),
        ..Default::default()
    }
}

/// Without this extension Envoy refuses every internal listener.
fn internal_listeners() -> core::TypedExtensionConfig {
    core::TypedExtensionConfig {
        name: "envoy.bootstrap.internal_listener".to_owned(),
        typed_config: Some(envoy::pack(&envoy::InternalListener::default())),
    }
}

fn runtime() -> envoy::bootstrap::LayeredRuntime {
    use envoy::bootstrap::{LayeredRuntime, RuntimeLayer, runtime_layer::LayerSpecifier};

    let limit = |level: &str| {
        let value = envoy::Value { kind: Some(envoy::value::Kind::NumberValue(RE2_MAX_PROGRAM_SIZE)) };
        (format!("re2.max_program_size.{level}"), value)
    };
    let fields = ["error_level", "warn_level"].into_iter().map(limit).collect();
    let layer = LayerSpecifier::StaticLayer(envoy::Struct { fields });
    let layer = RuntimeLayer { name: "portolan".to_owned(), layer_specifier: Some(layer) };
    LayeredRuntime { layers: vec![layer] }
}

fn ads() -> core::ApiConfigSource {
    let reach = core::grpc_service::EnvoyGrpc {
        cluster_name: xds_cluster::NAME.to_owned(),
        // Envoy would wait up to 30 s. A policy made while we were away should not wait that long.
        retry_policy: Some(core::RetryPolicy {
            retry_back_off: Some(core::BackoffStrategy {
                base_interval: Some(envoy::milliseconds(200)),
                max_interval: Some(envoy::seconds(5)),
            }),
            ..core::RetryPolicy::default()
        }),
        ..Default::default()
    };
    core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::DeltaGrpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        grpc_services: vec![core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(reach)),
            ..core::GrpcService::default()
        }],
        // The node is some 60 kB: it lists every extension that Envoy was built with.
        set_node_on_first_message_only: true,
        ..core::ApiConfigSource::default()
    }
}

/// Clusters and listeners come over the one stream, and the proxy is not ready before it has them:
/// a proxy that gives up waiting would report itself live with nothing to serve.
fn over_ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        initial_fetch_timeout: Some(envoy::seconds(0)),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

pub(super) fn socket_address(host: &str, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
            ..core::SocketAddress::default()
        })),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn rendered(xds: &str, admin: Option<&str>) -> Value {
        let files = ProxyFiles::new(Path::new("/state/proxies/bookinfo/waypoint")).unwrap();
        let proxy = Proxy {
            gateway: &Audience { namespace: "bookinfo".into(), name: "waypoint".into() },
            name: "one",
            place: &Place { zone: "a".into(), sub_zone: "node-1".into(), ..Place::default() },
            xds: &xds.parse().unwrap(),
            admin: admin.map(|address| address.parse().unwrap()),
            files: &files,
        };
        proto::render_any(&envoy::pack(&bootstrap(&proxy))).unwrap()
    }

    /// The cluster through which the proxy reaches us.
    fn xds_cluster() -> Value {
        rendered("127.0.0.1:15010", None)["static_resources"]["clusters"][0].clone()
    }

    #[test]
    fn the_node_names_the_gateway() {
        let node = &rendered("127.0.0.1:15010", None)["node"];
        let expected = json!({
            "id": "waypoint~bookinfo/waypoint~one", "cluster": "waypoint.bookinfo",
            "metadata": {"GATEWAY": "bookinfo/waypoint", "NAMESPACE": "bookinfo"},
            "locality": {"zone": "a", "sub_zone": "node-1"},
        });
        assert_eq!(*node, expected);
    }

    #[test]
    fn there_is_an_admin_interface_only_where_one_is_asked_for() {
        assert_eq!(rendered("h:1", None).get("admin"), None);
        let address = &rendered("h:1", Some("[::1]:15000"))["admin"]["address"]["socket_address"];
        assert_eq!(*address, json!({"address": "::1", "port_value": 15000}));
    }

    #[test]
    fn policies_may_hold_regular_expressions_of_ordinary_length() {
        let layers = rendered("h:1", None)["layered_runtime"]["layers"].clone();
        let limits =
            json!({"re2.max_program_size.error_level": 32768.0, "re2.max_program_size.warn_level": 32768.0});
        assert_eq!(layers, json!([{"name": "portolan", "static_layer": limits}]));
    }

    #[test]
    fn clusters_and_listeners_come_over_delta_ads_and_are_waited_for() {
        let resources = &rendered("h:1", None)["dynamic_resources"];
        assert_eq!(resources["ads_config"]["api_type"], "DELTA_GRPC");
        assert_eq!(resources["ads_config"]["set_node_on_first_message_only"], true);
        assert_eq!(resources["ads_config"]["grpc_services"][0]["envoy_grpc"]["cluster_name"], "xds");
        let over_ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
        assert_eq!(resources["cds_config"], over_ads);
        assert_eq!(resources["lds_config"], over_ads);
    }

    #[test]
    fn every_stream_carries_the_token_from_its_file() {
        let options = xds_cluster()["typed_extension_protocol_options"]
            ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
            .clone();
        let filters = options["http_filters"].as_array().unwrap();
        let names: Vec<_> = filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["envoy.filters.http.credential_injector", "envoy.filters.http.upstream_codec"]);
        let injector = &filters[0]["typed_config"];
        assert_eq!(injector["overwrite"], true);
        assert_eq!(injector.get("allow_request_without_credential"), None);
        let credential = &injector["credential"]["typed_config"];
        assert_eq!(credential["header"], "authorization");
        assert_eq!(credential["header_value_prefix"], "Bearer ");
        let source = json!({
            "path": "/state/proxies/bookinfo/waypoint/sds-token.yaml",
            "watched_directory": {"path": "/state/proxies/bookinfo/waypoint"},
        });
        assert_eq!(credential["credential"]["sds_config"]["path_config_source"], source);
    }

    #[test]
    fn we_are_known_by_our_root_and_our_name_over_tls_1_3_only() {
        let tls = xds_cluster()["transport_socket"]["typed_config"].clone();
        let common = &tls["common_tls_context"];
        assert_eq!(tls["sni"], "portolan");
        assert_eq!(
            common["tls_params"],
            json!({"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"})
        );
        let validation = &common["combined_validation_context"];
        assert_eq!(
            validation["default_validation_context"],
            json!({"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "portolan"}}]})
        );
        let root = &validation["validation_context_sds_secret_config"]["sds_config"]["path_config_source"];
        assert_eq!(root["path"], "/state/proxies/bookinfo/waypoint/sds-root.yaml");
    }

    #[test]
    fn a_large_mesh_does_not_look_like_a_flood() {
        let options = xds_cluster()["typed_extension_protocol_options"]
            ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
            .clone();
        let http2 = &options["explicit_http_config"]["http2_protocol_options"];
        assert_eq!(http2["max_inbound_window_update_frames_per_data_frame_sent"], 100_000);
        assert_eq!(http2["initial_stream_window_size"], 16_777_216);
    }

    #[test]
    fn a_host_name_is_resolved_and_an_address_is_not() {
        let cluster = |xds| rendered(xds, None)["static_resources"]["clusters"][0].clone();
        assert_eq!(cluster("portolan.mesh-system.svc:15010")["type"], "STRICT_DNS");
        assert_eq!(cluster("[::1]:15010")["type"], "STATIC");
    }
}
