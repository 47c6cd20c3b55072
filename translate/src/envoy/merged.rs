//! The backends of a rule as one cluster, so that a session is kept across them.
//!
//! Envoy chooses among weighted clusters before it looks at a request's session, so it would ask the
//! wrong cluster. Here it chooses an endpoint of all of them: the session's, or one by the shares of
//! the backends, each of which is a locality of its own with its share for a weight.

use proto::{
    Place, TypeUrl,
    envoy::{Cluster, ClusterLoadAssignment, UInt32Value, cluster, core, endpoint},
};

use super::{
    assignment::{Assignment, steadfast},
    cluster::for_http,
};
use crate::{
    bind::{
        endpoints_of::EndpointsOf,
        routes_of::{Bucket, RoutesOf},
    },
    derive::{Derived, Reads, Row},
    emit::Emit,
    inputs::Inputs,
    mesh::{
        name::{Key, PortKey, RuleKey, ServiceKey},
        nearness::Nearness,
    },
    settings::Settings,
};

/// The cluster of a rule. Backends and weights come and go without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MergedCluster;

impl Row for MergedCluster {
    const TABLE: &'static str = "merged cluster";
    type Key = RuleKey;
    type Bucket = ();

    fn buckets(_key: &RuleKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for MergedCluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;
    type Message = Cluster;

    fn waypoint(key: &RuleKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &RuleKey, _settings: &Settings) -> String {
        key.cluster_name()
    }

    fn emit(&self, key: &RuleKey, _settings: &Settings) -> Cluster {
        use cluster::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
        let mut cluster = for_http(key.cluster_name());
        if let Some(config) = &mut cluster.common_lb_config {
            let by_weight = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
            config.locality_config_specifier = Some(by_weight);
        }
        cluster
    }
}

/// The endpoints of all backends of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MergedAssignment(Vec<Part>);

/// A backend, its share, and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    backend: (ServiceKey, u16),
    weight: u32,
    assignment: Assignment,
}

impl MergedAssignment {
    /// `None` if no rule leads there.
    pub(crate) fn of(
        reads: &Reads,
        inputs: &Inputs,
        routes_of: &Derived<RoutesOf>,
        endpoints_of: &Derived<EndpointsOf>,
        key: &RuleKey,
    ) -> Option<Self> {
        // The rule is the same on every port that it is for.
        let (_, routes) = routes_of.bucket(reads, &Bucket::Merges(key.clone())).next()?;
        let shares = routes.forward_of(&key.rule)?.merged_shares();
        let parts = shares.into_iter().filter_map(|(backend, weight)| {
            let endpoints = endpoints_of.get(reads, backend)?;
            let aliases = if endpoints.verified() { inputs.aliases(reads) } else { &[] };
            let assignment = Assignment::of(endpoints, true, aliases);
            Some(Part { backend: backend.clone(), weight, assignment })
        });
        Some(Self(parts.collect()))
    }
}

impl Row for MergedAssignment {
    const TABLE: &'static str = "merged assignment";
    type Key = RuleKey;
    type Bucket = ();

    fn buckets(_key: &RuleKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for MergedAssignment {
    const TYPE: TypeUrl = TypeUrl::Endpoint;
    type Message = ClusterLoadAssignment;

    fn waypoint(key: &RuleKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &RuleKey, _settings: &Settings) -> String {
        key.cluster_name()
    }

    fn emit(&self, key: &RuleKey, settings: &Settings) -> ClusterLoadAssignment {
        self.emit_at(key, settings, &Place::default())
    }

    /// What is only preferred gives way to shares and sessions; what is insisted on does not.
    fn is_placed(&self) -> bool {
        self.0.iter().any(|part| part.assignment.nearness == Nearness::OnlyNode)
    }

    fn emit_at(&self, key: &RuleKey, settings: &Settings, place: &Place) -> ClusterLoadAssignment {
        let localities = self.0.iter().map(|Part { backend: (service, port), weight, assignment }| {
            let backend = PortKey::new(&key.waypoint, service, *port).cluster_name(&settings.cluster_domain);
            let endpoints = assignment.chosen(settings, place).into_iter();
            let endpoints = endpoints.map(|(_, _, weight, one)| endpoint::LbEndpoint {
                load_balancing_weight: (weight != 1).then_some(UInt32Value { value: weight }),
                ..one
            });
            endpoint::LocalityLbEndpoints {
                locality: Some(core::Locality { sub_zone: backend, ..core::Locality::default() }),
                lb_endpoints: endpoints.collect(),
                load_balancing_weight: Some(UInt32Value { value: *weight }),
                ..endpoint::LocalityLbEndpoints::default()
            }
        });
        let assignment = ClusterLoadAssignment {
            cluster_name: key.cluster_name(),
            endpoints: localities.filter(|locality| !locality.lb_endpoints.is_empty()).collect(),
            ..ClusterLoadAssignment::default()
        };
        // A backend's share is its own as long as one of its endpoints stays.
        ClusterLoadAssignment { policy: Some(steadfast(&assignment)), ..assignment }
    }
}
