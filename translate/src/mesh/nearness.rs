//! Which endpoints a service prefers or insists on, by where its reader stands: `trafficDistribution`
//! and `internalTrafficPolicy`.

use proto::{Name, Place, kubernetes::ObjectMeta};

use super::{
    endpoint::Locality,
    labels::{self, DISTRIBUTION},
};
use crate::problem::{FieldPath, Problem, Reason};

/// How the endpoints of a service are chosen by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Nearness {
    /// All alike.
    #[default]
    Alike,
    /// Those of the reader's zone while there are any, then those of its region.
    PreferZone,
    /// Those of the reader's node first, then as `PreferZone`.
    PreferNode,
    /// Those of the reader's node and no others.
    OnlyNode,
}

impl Nearness {
    /// Reads the two fields of a Service.
    pub(crate) fn lower(
        policy: Option<&str>,
        distribution: Option<&str>,
        metadata: &ObjectMeta,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let at = FieldPath::new("spec").field("trafficDistribution");
        let preferred = match distribution {
            Some(asked) => read(asked, &at, problems),
            None => Self::of_annotation(metadata, problems),
        };
        // Kubernetes: what a policy leaves out, a preference does not bring back.
        if policy == Some("Local") { Self::OnlyNode } else { preferred }
    }

    /// Reads the annotation, which came before the field and is for ServiceEntries too.
    pub(crate) fn of_annotation(metadata: &ObjectMeta, problems: &mut Vec<Problem>) -> Self {
        let at = FieldPath::new("metadata").field(&format!("annotations[{DISTRIBUTION}]"));
        labels::annotation(metadata, DISTRIBUTION).map_or(Self::Alike, |asked| read(asked, &at, problems))
    }

    /// How near an endpoint is to that place: the lower, the sooner it is used. `None` for never.
    ///
    /// Who does not say where it stands is as near to one as to another.
    pub(crate) fn rank(self, place: &Place, locality: &Locality, node: &Name) -> Option<u32> {
        let known = |one: &Name, other: &Name| !one.is_empty() && one == other;
        let on_node = known(&place.sub_zone, node);
        // Kubernetes names the zones of a cluster without their region.
        let contradicts =
            !place.region.is_empty() && !locality.region.is_empty() && place.region != locality.region;
        let in_zone = known(&place.zone, &locality.zone) && !contradicts;
        let in_region = known(&place.region, &locality.region);
        let by_zone = || match (in_zone, in_region) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        match self {
            Self::Alike => Some(0),
            Self::PreferZone => Some(by_zone()),
            Self::PreferNode if on_node => Some(0),
            Self::PreferNode => Some(1 + by_zone()),
            Self::OnlyNode => (on_node || place.sub_zone.is_empty()).then_some(0),
        }
    }
}

fn read(asked: &str, at: &FieldPath, problems: &mut Vec<Problem>) -> Nearness {
    // The annotation was never case-sensitive.
    match asked.to_ascii_lowercase().as_str() {
        "preferclose" | "prefersamezone" => Nearness::PreferZone,
        "prefersamenode" => Nearness::PreferNode,
        "any" => Nearness::Alike,
        _ => {
            problems.push(Problem {
                at: at.clone(),
                reason: Reason::UnsupportedValue,
                message: format!(
                    "{asked:?} is not PreferSameZone, PreferSameNode or PreferClose; all endpoints are used alike"
                ),
            });
            Nearness::Alike
        }
    }
}
