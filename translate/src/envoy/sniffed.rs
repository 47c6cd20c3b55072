//! The listener `main_internal_sniffed`: tunnels to ports that do not say what they speak.
//!
//! It is a listener of its own because looking at the first bytes takes waiting for them: behind a
//! port that is declared as HTTP, a client may open a connection long before it sends a request.

use proto::envoy::{
    HttpInspector, Listener, NetworkSetFilterState, TcpProxy, filter_state::FilterStateValue, listener,
    network_inputs, pack, seconds, tcp_proxy, xds_core, xds_matcher,
};

use super::{
    access_log,
    extension::{listener_filter, network_filter},
    filter_state::{DISPATCHED, LOCAL_ADDRESS, TCP_PROXY_CLUSTER, local, shared},
    main_internal,
};
use crate::mesh::mesh_config::Normalization;

/// The listener and the cluster that leads to it.
pub(crate) const NAME: &str = "main_internal_sniffed";
const TCP: &str = "tcp-auto";

/// The cluster for connections of tunnels dispatched by that key that turn out not to be HTTP.
pub(crate) fn tcp_cluster_name(dispatched: &str) -> String {
    format!("auto|{dispatched}")
}

pub(crate) fn emit(normalization: Normalization) -> Listener {
    let mut listener = main_internal::internal(NAME);
    listener
        .listener_filters
        .push(listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default()));
    Listener {
        // A client that waits for the server to speak first gets through after this, as TCP.
        listener_filters_timeout: Some(seconds(1)),
        continue_on_listener_filters_timeout: true,
        filter_chain_matcher: Some(by_protocol(main_internal::http_chain(normalization))),
        filter_chains: main_internal::http_chains()
            .into_iter()
            .map(knowing_what_was_dialled)
            .chain([tcp()])
            .collect(),
        ..listener
    }
}

fn knowing_what_was_dialled(mut chain: listener::FilterChain) -> listener::FilterChain {
    let filter = network_filter("envoy.filters.network.set_filter_state", &set([what_was_dialled()]));
    chain.filters.insert(0, filter);
    chain
}

fn tcp() -> listener::FilterChain {
    listener::FilterChain {
        name: TCP.to_owned(),
        filters: vec![
            network_filter("envoy.filters.network.set_filter_state", &set([what_was_dialled(), cluster()])),
            network_filter("envoy.filters.network.tcp_proxy", &proxy()),
        ],
        ..listener::FilterChain::default()
    }
}

fn by_protocol(http: &str) -> xds_matcher::Matcher {
    use xds_matcher::matcher::{MatcherTree, MatcherType, matcher_tree};
    let http = ["http/1.0", "http/1.1", "h2c"]
        .map(|protocol| (format!("'{protocol}'"), main_internal::choose(http)));
    xds_matcher::Matcher {
        matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
            input: Some(xds_core::TypedExtensionConfig {
                name: "application-protocol".to_owned(),
                typed_config: Some(pack(&network_inputs::ApplicationProtocolInput {})),
            }),
            tree_type: Some(matcher_tree::TreeType::ExactMatchMap(matcher_tree::MatchMap {
                map: http.into(),
            })),
        })),
        on_no_match: Some(Box::new(main_internal::choose(TCP))),
    }
}

fn set<const N: usize>(values: [FilterStateValue; N]) -> NetworkSetFilterState {
    NetworkSetFilterState { on_new_connection: values.into(), ..NetworkSetFilterState::default() }
}

/// A captured pod that is dialled at any port gets a tunnel to that port. Endpoints that know their
/// port say so themselves, and are asked first.
fn what_was_dialled() -> FilterStateValue {
    shared(LOCAL_ADDRESS, "%DOWNSTREAM_LOCAL_ADDRESS%")
}

fn cluster() -> FilterStateValue {
    local(TCP_PROXY_CLUSTER, &tcp_cluster_name(&format!("%FILTER_STATE({DISPATCHED}:PLAIN)%")))
}

fn proxy() -> TcpProxy {
    TcpProxy {
        stat_prefix: "auto".to_owned(),
        // Never reached: the cluster is chosen by filter state, and there is none of this name.
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster("none".to_owned())),
        access_log: vec![access_log::all()],
        ..TcpProxy::default()
    }
}
