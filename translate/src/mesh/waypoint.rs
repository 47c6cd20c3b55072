//! Gateway, as the waypoint that it is if its class is ours: whom it serves, who may use it, and where it
//! listens.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    Kind, Name,
    gateway::{
        Gateway,
        gateways::{
            GatewayListeners, GatewayListenersAllowedRoutesKinds, GatewayListenersAllowedRoutesNamespaces,
            GatewayListenersAllowedRoutesNamespacesFrom,
        },
    },
    kubernetes::ObjectMeta,
};

use super::{
    class::{Class, Classes},
    labels,
    name::Key,
    selector::Selector,
};
use crate::{
    derive::Row,
    installation::{self, Asks},
    problem::{FieldPath, Problem, Reason},
};

/// The class that, as the target of a policy, means the waypoints of every class.
pub(crate) const EVERY_WAYPOINT: &str = "istio-waypoint";
/// The only port on which ztunnel looks for a waypoint.
pub(crate) const HBONE_PORT: u16 = 15008;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waypoint {
    pub(crate) generation: Option<i64>,
    pub(crate) class: Name,
    pub(crate) serves: Serves,
    pub(crate) allows: Allows,
    /// The first IP address that it asks for in `spec.addresses`.
    pub(crate) address: Option<IpAddr>,
    pub(crate) listeners: Vec<WaypointListener>,
    /// What it asks of the objects that run it.
    pub(crate) asks: Asks,
    pub(crate) problems: Vec<Problem>,
}

/// A listener of the Gateway, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaypointListener {
    pub(crate) name: Name,
    /// Why it does not work.
    pub(crate) problem: Option<Problem>,
    /// Another listener has its port.
    pub(crate) conflicted: bool,
    /// The kinds of routes that attach to it (`allowedRoutes.kinds`).
    pub(crate) kinds: Vec<Kind>,
    /// What of `allowedRoutes.kinds` cannot attach to a waypoint.
    pub(crate) unknown_kinds: Vec<Problem>,
}

/// The kinds of routes that a waypoint can apply.
const ROUTES: [Kind; 4] = [Kind::GRPCRoute, Kind::HTTPRoute, Kind::TLSRoute, Kind::TCPRoute];

/// Which traffic a waypoint takes (`istio.io/waypoint-for`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    Services,
    Workloads,
    Both,
    Nothing,
}

impl Serves {
    pub(crate) const fn workloads(self) -> bool {
        match self {
            Self::Workloads | Self::Both => true,
            Self::Services | Self::Nothing => false,
        }
    }

    pub(crate) const fn services(self) -> bool {
        match self {
            Self::Services | Self::Both => true,
            Self::Workloads | Self::Nothing => false,
        }
    }
}

/// From which namespaces things may bind to it (`allowedRoutes.namespaces`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Allows {
    Same,
    All,
    /// Namespaces with these labels. A selector we cannot read allows none.
    Selector(Option<Selector>),
}

impl Allows {
    /// Whether something in `namespace`, with these labels, may bind to a Gateway in `own`.
    pub(crate) fn admits(&self, own: &Name, namespace: &Name, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Same => own == namespace,
            Self::All => true,
            Self::Selector(None) => false,
            Self::Selector(Some(selector)) => selector.matches(labels),
        }
    }
}

impl Row for Waypoint {
    const TABLE: &'static str = "waypoint";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// Any Gateway, before its class was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    waypoint: Waypoint,
    /// Whether it says itself what it serves.
    says: bool,
}

impl Row for Candidate {
    const TABLE: &'static str = "gateway";
    type Key = Key;
    /// The name of its class.
    type Bucket = Name;

    fn buckets(_key: &Key, row: &Self) -> Vec<Name> {
        vec![row.waypoint.class.clone()]
    }
}

impl Candidate {
    pub(crate) fn class(&self) -> &Name {
        &self.waypoint.class
    }

    /// `None` if its class is not ours.
    pub(crate) fn admitted(&self, class: Option<&Class>, classes: Classes) -> Option<Waypoint> {
        if !classes.admit(self.class(), class) {
            return None;
        }
        let mut waypoint = self.waypoint.clone();
        if let Some(class) = class.filter(|_| !self.says) {
            waypoint.serves = class.serves.unwrap_or(waypoint.serves);
            // They name the field of the class; that it is the class's is told by the class.
            let of_class = |problem: &Problem| Problem {
                message: format!("of the GatewayClass: {}", problem.message),
                ..problem.clone()
            };
            waypoint.problems.extend(class.problems.iter().map(of_class));
        }
        Some(waypoint)
    }
}

pub(crate) fn lower(object: &Gateway) -> Candidate {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let at = FieldPath::new("spec").field("listeners");
    let says = labels::label(&object.metadata, labels::WAYPOINT_FOR).is_some();
    let serves = lower_serves(&object.metadata, &mut problems);
    let hbone = spec.listeners.iter().position(is_hbone);
    let allows = hbone.and_then(|index| {
        let namespaces = spec.listeners.get(index)?.allowed_routes.as_ref()?.namespaces.as_ref()?;
        let at = at.index(index).field("allowedRoutes").field("namespaces");
        Some(lower_allows(namespaces, &at, &mut problems))
    });
    let addresses = spec.addresses.iter().flatten();
    let mut ips =
        addresses.filter(|address| address.r#type.as_deref().is_none_or(|kind| kind == "IPAddress"));
    let waypoint = Waypoint {
        generation: object.metadata.generation,
        class: spec.gateway_class_name.as_str().into(),
        serves,
        allows: allows.unwrap_or(Allows::Same),
        address: ips.find_map(|address| address.value.as_deref()?.parse().ok()),
        listeners: lower_listeners(&spec.listeners, &at),
        asks: installation::lower(object),
        problems,
    };
    Candidate { waypoint, says }
}

pub(crate) fn is_hbone(listener: &GatewayListeners) -> bool {
    listener.protocol == "HBONE" && listener.port == i32::from(HBONE_PORT)
}

/// What the label says; services if it is not there.
pub(crate) fn lower_serves(metadata: &ObjectMeta, problems: &mut Vec<Problem>) -> Serves {
    match labels::label(metadata, labels::WAYPOINT_FOR) {
        None | Some("service") => Serves::Services,
        Some("workload") => Serves::Workloads,
        Some("all") => Serves::Both,
        Some("none") => Serves::Nothing,
        Some(other) => {
            problems.push(Problem {
                at: FieldPath::new("metadata").field("labels").field(labels::WAYPOINT_FOR),
                reason: Reason::Invalid,
                message: format!(
                    "{other:?} is not service, workload, all or none; the waypoint serves nothing"
                ),
            });
            Serves::Nothing
        }
    }
}

fn lower_allows(
    namespaces: &GatewayListenersAllowedRoutesNamespaces,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Allows {
    match namespaces.from {
        None | Some(GatewayListenersAllowedRoutesNamespacesFrom::Same) => Allows::Same,
        Some(GatewayListenersAllowedRoutesNamespacesFrom::All) => Allows::All,
        Some(GatewayListenersAllowedRoutesNamespacesFrom::Selector) => {
            let at = at.field("selector");
            let Some(selector) = &namespaces.selector else {
                problems.push(Problem {
                    at,
                    reason: Reason::Invalid,
                    message: "from: Selector needs a selector; no other namespace is admitted".to_owned(),
                });
                return Allows::Selector(None);
            };
            let expressions = selector.match_expressions.iter().flatten();
            let expressions = expressions.map(|expression| {
                (
                    expression.key.as_str(),
                    expression.operator.as_str(),
                    expression.values.as_deref().unwrap_or_default(),
                )
            });
            Allows::Selector(Selector::lower(selector.match_labels.as_ref(), expressions, &at, problems))
        }
    }
}

fn lower_listeners(listeners: &[GatewayListeners], at: &FieldPath) -> Vec<WaypointListener> {
    let first = listeners.iter().position(is_hbone);
    let lowered = listeners.iter().enumerate().map(|(index, listener)| {
        let at = at.index(index);
        let conflicted = is_hbone(listener) && first != Some(index);
        let message = if conflicted {
            Some(format!("the listener before has port {HBONE_PORT}; a waypoint has one"))
        } else {
            (!is_hbone(listener)).then(|| {
                format!(
                    "expected a single listener on port {HBONE_PORT} with protocol \"HBONE\", not port {} with {:?}",
                    listener.port, listener.protocol
                )
            })
        };
        let problem = message.map(|message| Problem {
            at: at.clone(),
            reason: Reason::UnsupportedValue,
            message,
        });
        let (kinds, unknown_kinds) = lower_kinds(listener, &at.field("allowedRoutes").field("kinds"));
        WaypointListener { name: listener.name.as_str().into(), problem, conflicted, kinds, unknown_kinds }
    });
    lowered.collect()
}

fn lower_kinds(listener: &GatewayListeners, at: &FieldPath) -> (Vec<Kind>, Vec<Problem>) {
    let asked = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_deref());
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return (ROUTES.to_vec(), Vec::new());
    };
    let mut kinds = Vec::new();
    let mut problems = Vec::new();
    for (index, GatewayListenersAllowedRoutesKinds { group, kind }) in asked.iter().enumerate() {
        let group = group.as_deref().unwrap_or("gateway.networking.k8s.io");
        match ROUTES.iter().find(|route| route.group() == group && route.name() == kind) {
            Some(route) => kinds.push(*route),
            None => problems.push(Problem {
                at: at.index(index),
                reason: Reason::InvalidKind,
                message: format!("{kind:?} of group {group:?} cannot attach to a waypoint"),
            }),
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    (kinds, problems)
}
