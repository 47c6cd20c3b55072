//! What we say about a Service that asks for a waypoint.

use super::{Condition, Status, Truth};
use crate::{
    bind::waypoint_of::{Refusal, Refused, WaypointOf},
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::name::ServiceKey,
};

/// `None` for a service that asks for no waypoint.
pub(super) fn of(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    key: &ServiceKey,
) -> Option<Status> {
    let service = inputs.services.get(reads, key)?;
    let binding = waypoint_of.get(reads, key)?;
    let (truth, reason, mut message) = match &**binding {
        WaypointOf::Bound { waypoint, canary } => {
            let attached = format!("Successfully attached to waypoint {waypoint}");
            let canary = match canary {
                None => String::new(),
                Some(Ok(canary)) => format!(". Canary waypoint {canary} attached"),
                Some(Err(Refused { waypoint, why })) => {
                    format!(". Canary waypoint not attached: {waypoint}: {}: {}", why.reason(), why.message())
                }
            };
            (Truth::True, "WaypointAccepted", attached + &canary)
        }
        WaypointOf::Refused(Refused { waypoint, why }) => {
            (Truth::False, why.reason(), format!("waypoint {waypoint}: {}", why.message()))
        }
    };
    if !service.problems.is_empty() {
        message = format!("{message}; {}", super::list(&service.problems));
    }
    Some(Status {
        observed_generation: service.generation,
        conditions: vec![Condition { kind: "istio.io/WaypointBound", truth, reason, message }],
        ..Status::default()
    })
}

impl Refusal {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::NotReady => "WaypointIsNotReady",
            Self::AttachmentDenied => "AttachmentDenied",
            Self::UnsupportedTrafficType => "UnsupportedTrafficType",
            Self::CanarySameAsPrimary => "CanarySameAsPrimary",
        }
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::NotReady => "there is no such waypoint; create the Gateway or change istio.io/use-waypoint",
            Self::AttachmentDenied => {
                "it does not admit this namespace; is allowedRoutes missing on the Gateway's listener?"
            }
            Self::UnsupportedTrafficType => {
                "it is not for services; set istio.io/waypoint-for to service or all on the Gateway"
            }
            Self::CanarySameAsPrimary => {
                "it is the waypoint itself; name another in istio.io/use-waypoint-canary"
            }
        }
    }
}
