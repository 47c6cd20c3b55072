//! What the log says: what was published, what proxies made of it, and what is said of the objects.

use proto::{Delta, Kind, ObjectRef};
use tracing::{debug, field::display, info, warn};
use translate::{
    Audience, Revision,
    status::{Condition, Status, Truth},
};
use xds::Observation;

use crate::acknowledgements::Acknowledged;

/// One line for what a waypoint was given.
pub(crate) fn published(revision: Revision, gateway: &Audience, delta: &Delta) {
    let bytes: usize = delta.set.iter().map(|resource| resource.body.plain().len()).sum();
    info!(
        revision = revision.0,
        group = %gateway,
        set = delta.set.len(),
        removed = delta.removed.len(),
        bytes,
        "published"
    );
}

/// One line for a waypoint that is no more.
pub(crate) fn removed(revision: Revision, gateway: &Audience) {
    info!(revision = revision.0, group = %gateway, "the waypoint is gone");
}

/// One line for a publish that every connected proxy has.
pub(crate) fn acknowledged(acknowledged: &Acknowledged) {
    let Acknowledged { group, revision, after, rejected } = acknowledged;
    // To the microsecond: more digits are noise.
    let after_ms = (after.as_secs_f64() * 1e6).round() / 1e3;
    if rejected.is_empty() {
        info!(revision = revision.0, %group, after_ms, "acknowledged");
    } else {
        let rejected: Vec<_> = rejected.iter().map(|(type_url, name)| format!("{type_url} {name}")).collect();
        let rejected = rejected.join(", ");
        warn!(revision = revision.0, %group, after_ms, rejected, "acknowledged, but for what was rejected");
    }
}

/// What a proxy did, as far as an operator would ask.
pub(crate) fn observed(observation: &Observation) {
    match observation {
        Observation::Connected { stream, address } => {
            let address = address.map(display);
            info!(group = %stream.group, client = %stream.client, stream = stream.number, address, "connected");
        }
        Observation::Refused { address, message } => {
            warn!(address = address.map(display), "refused: {message}");
        }
        Observation::Sent { stream, type_url, resources, removed, bytes } => {
            debug!(stream = stream.number, %type_url, resources, removed, bytes, "sent");
        }
        Observation::Acked { stream, type_url, resources, removed } => {
            let (resources, removed) = (resources.len(), removed.len());
            debug!(stream = stream.number, %type_url, resources, removed, "taken");
        }
        Observation::Rejected { stream, type_url, resources, quarantined, message } => {
            let names: Vec<&str> = resources.iter().map(|(name, _)| &**name).collect();
            let (group, client, resources) = (&stream.group, &stream.client, names.join(", "));
            warn!(%group, %client, %type_url, resources, quarantined, "rejected: {message}");
        }
        Observation::UpToDate { stream, revision, quarantined } => {
            let quarantined = quarantined.len();
            debug!(stream = stream.number, snapshot = revision, quarantined, "up to date");
        }
        Observation::Unserved { stream, type_url } => {
            warn!(group = %stream.group, client = %stream.client, type_url, "asked for a type that is not served");
        }
        Observation::Gone { stream, reason } => {
            info!(group = %stream.group, client = %stream.client, stream = stream.number, reason, "gone");
        }
    }
}

/// One line for what moved in an object's status: a warning for each thing that is wrong with it. That
/// proxies are about to have it is told when they have.
pub(crate) fn status(object: &ObjectRef, status: Option<&Status>) {
    let Some(status) = status else {
        info!(%object, "nothing more to say");
        return;
    };
    let mut is_well = true;
    for (place, condition) in problems(status) {
        is_well = false;
        let Condition { kind, reason, message, .. } = condition;
        warn!(%object, place, condition = kind, reason, "{message}");
    }
    if is_well {
        let generation = status.observed_generation;
        match conditions(status).map(|(_, condition)| condition).find(|it| it.kind == "Programmed") {
            // Of a Gateway it is told at once: everything else behind it waits for the same proxies.
            Some(programmed) if is_pending(programmed) && object.kind == Kind::Gateway => {
                info!(%object, generation, programmed = programmed.message, "accepted");
            }
            Some(programmed) if is_pending(programmed) => {
                debug!(%object, generation, "accepted: {}", programmed.message);
            }
            Some(Condition { truth: Truth::True, message, .. }) => {
                info!(%object, generation, programmed = message, "accepted");
            }
            Some(_) | None => info!(%object, generation, "accepted"),
        }
    }
}

/// What is wrong with an object, and with which part of it.
pub(crate) fn problems(status: &Status) -> impl Iterator<Item = (&str, &Condition)> {
    conditions(status).filter(|(_, condition)| is_problem(condition))
}

/// Whether proxies have just not answered yet.
fn is_pending(condition: &Condition) -> bool {
    (condition.kind, condition.truth, condition.reason) == ("Programmed", Truth::False, "Pending")
}

/// Every condition, and which part of the object it is about; empty for the object itself.
fn conditions(status: &Status) -> impl Iterator<Item = (&str, &Condition)> {
    let own = status.conditions.iter().map(|condition| ("", condition));
    let parents = status.parents.iter();
    let parents = parents.flat_map(|parent| parent.conditions.iter().map(|it| (&*parent.parent_ref, it)));
    let listeners = status.listeners.iter();
    let listeners = listeners.flat_map(|listener| listener.conditions.iter().map(|it| (&*listener.name, it)));
    own.chain(parents).chain(listeners)
}

/// Gateway API has conditions that are good news when they hold, and these, which are bad news. An
/// object that holds only in part is one too, whatever the condition is called: part of it failed closed.
fn is_problem(condition: &Condition) -> bool {
    if matches!(condition.reason, "PartiallyInvalid" | "ListenersNotValid") {
        return true;
    }
    match condition.kind {
        "Conflicted" | "OverlappingTLSConfig" | "PartiallyInvalid" => condition.truth == Truth::True,
        _ => condition.truth == Truth::False && !is_pending(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &'static str, truth: Truth) -> Condition {
        Condition { kind, truth, reason: "Because", message: String::new() }
    }

    #[test]
    fn good_news_that_fails_and_bad_news_that_holds_are_problems() {
        assert!(is_problem(&condition("Accepted", Truth::False)));
        assert!(is_problem(&condition("PartiallyInvalid", Truth::True)));
        assert!(!is_problem(&condition("Accepted", Truth::True)));
        let partly = Condition { reason: "PartiallyInvalid", ..condition("WaypointAccepted", Truth::True) };
        assert!(is_problem(&partly));
        assert!(!is_problem(&condition("Programmed", Truth::Unknown)));
        assert!(!is_problem(&condition("Conflicted", Truth::False)));
    }
}
