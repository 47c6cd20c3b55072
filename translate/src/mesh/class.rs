//! GatewayClass: whose Gateways are waypoints of ours, and what they serve if they do not say.

use proto::{Name, gateway::GatewayClass};

use super::{
    labels,
    waypoint::{Serves, lower_serves},
};
use crate::{derive::Row, problem::Problem};

/// The controller that a GatewayClass of ours names (`spec.controllerName`), and so do our entries in the
/// status of routes.
pub const CONTROLLER: &str = "portolan.dev/waypoint-controller";
/// The controller that istiod names where it makes the class `istio-waypoint`. It makes it whether or not
/// it runs waypoints.
const ISTIOD: &str = "istio.io/mesh-controller";
const ISTIO_WAYPOINT: &str = "istio-waypoint";
const PORTOLAN_WAYPOINT: &str = "portolan-waypoint";

/// Which classes of waypoints are ours, besides those whose GatewayClass names our controller and the class
/// `portolan-waypoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classes {
    /// Nobody else runs waypoints: `istio-waypoint` is ours too, even if istiod made its GatewayClass.
    #[default]
    Replace,
    /// istiod runs waypoints as well: `istio-waypoint` is its own.
    Beside,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) generation: Option<i64>,
    pub(crate) controller: String,
    /// What its Gateways serve that do not say (`istio.io/waypoint-for` on the class).
    pub(crate) serves: Option<Serves>,
    pub(crate) problems: Vec<Problem>,
}

impl Row for Class {
    const TABLE: &'static str = "class";
    type Key = Name;
    type Bucket = ();

    fn buckets(_key: &Name, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

pub(crate) fn lower(object: &GatewayClass) -> Class {
    let mut problems = Vec::new();
    let says = labels::label(&object.metadata, labels::WAYPOINT_FOR).is_some();
    Class {
        generation: object.metadata.generation,
        controller: object.spec.controller_name.clone(),
        serves: says.then(|| lower_serves(&object.metadata, &mut problems)),
        problems,
    }
}

impl Classes {
    /// Whether Gateways of the class of that name are ours, where `class` is what its GatewayClass says. A
    /// directory of manifests needs none for the classes that everybody knows.
    pub(crate) fn admit(self, name: &str, class: Option<&Class>) -> bool {
        let istio = match self {
            Self::Replace => name == ISTIO_WAYPOINT,
            Self::Beside => false,
        };
        match class.map(|class| class.controller.as_str()) {
            Some(CONTROLLER) => true,
            Some(ISTIOD) => istio,
            Some(_) => false,
            None => istio || name == PORTOLAN_WAYPOINT,
        }
    }

    /// The names of the classes that are there without anybody doing anything.
    pub const fn own(self) -> &'static [&'static str] {
        match self {
            Self::Replace => &[ISTIO_WAYPOINT, PORTOLAN_WAYPOINT],
            Self::Beside => &[PORTOLAN_WAYPOINT],
        }
    }

    /// The same for messages.
    pub(crate) const fn known(self) -> &'static str {
        match self {
            Self::Replace => "istio-waypoint or portolan-waypoint",
            Self::Beside => "portolan-waypoint",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(controller: &str) -> Class {
        Class { generation: None, controller: controller.to_owned(), serves: None, problems: Vec::new() }
    }

    #[test]
    fn a_class_belongs_to_the_controller_that_it_names() {
        for classes in [Classes::Replace, Classes::Beside] {
            for name in [ISTIO_WAYPOINT, PORTOLAN_WAYPOINT, "egress"] {
                assert!(classes.admit(name, Some(&class(CONTROLLER))), "{name}");
                assert!(!classes.admit(name, Some(&class("example.com/other"))), "{name}");
            }
            assert!(classes.admit(PORTOLAN_WAYPOINT, None));
            assert!(!classes.admit("egress", None));
        }
    }

    #[test]
    fn the_class_of_istio_is_ours_where_istiod_runs_no_waypoints() {
        for made in [None, Some(&class(ISTIOD))] {
            assert!(Classes::Replace.admit(ISTIO_WAYPOINT, made));
            assert!(!Classes::Beside.admit(ISTIO_WAYPOINT, made));
        }
        // A class that istiod's users made for it is its own in any case.
        assert!(!Classes::Replace.admit("egress", Some(&class(ISTIOD))));
    }
}
