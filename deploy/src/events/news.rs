//! From the status that was live and the one that is written: what is worth an Event.

use std::collections::BTreeMap;

use proto::Kind;
use serde_json::Value;

/// Whether it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Something is right again.
    Normal,
    /// Something is wrong.
    Warning,
}

impl Grade {
    /// As an Event's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is good.
    pub grade: Grade,
    /// The reason of the condition.
    pub reason: String,
    /// What we were doing.
    pub action: &'static str,
    /// The condition's message, and what it is about where that is a part of the object.
    pub note: String,
}

/// What the proxies made of an object, as its status has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Programming {
    /// One of them rejected it.
    Rejected,
    /// They have not answered yet, or nobody knows.
    Waiting,
    /// They have it, or there is nothing to have.
    Fine,
}

/// What is worth telling when `after` is written where `before` was, and whether a rejection is then still to
/// be called over; `rejected` says so of before.
pub(crate) fn of(kind: Kind, before: &Value, after: &Value, rejected: bool) -> (Vec<News>, bool) {
    let (old, new) = (conditions(before), conditions(after));
    let mut news = Vec::new();
    for (place, condition) in &new {
        let same = |other: &&Value| {
            ["status", "reason", "message"].iter().all(|field| other[*field] == condition[*field])
        };
        if !is_bad(kind, place, condition) || old.get(place).is_some_and(same) {
            continue;
        }
        news.push(warning(place, condition));
    }
    let rejected = rejected || programming(kind, &old) == Programming::Rejected;
    match programming(kind, &new) {
        Programming::Rejected => (news, true),
        Programming::Waiting => (news, rejected),
        Programming::Fine => {
            if rejected {
                news.push(over(&new));
            }
            (news, false)
        }
    }
}

fn warning(place: &Place<'_>, condition: &Value) -> News {
    let message = condition["message"].as_str().unwrap_or_default();
    let note = if place.part.is_empty() { message.to_owned() } else { format!("{}: {message}", place.part) };
    let action = if is_programmed(place.condition) { "Programming" } else { "Reading" };
    let reason = condition["reason"].as_str().unwrap_or_default().to_owned();
    News { grade: Grade::Warning, reason, action, note }
}

fn over(conditions: &BTreeMap<Place<'_>, &Value>) -> News {
    let programmed = conditions.iter().find(|(place, _)| is_programmed(place.condition));
    let message = programmed.and_then(|(_, condition)| condition["message"].as_str());
    let note = message.unwrap_or("nothing that was made of it is rejected any more").to_owned();
    News { grade: Grade::Normal, reason: "Programmed".to_owned(), action: "Programming", note }
}

/// Which condition, and of which part of the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'s> {
    /// As in `parent Service web`; empty for the object itself.
    part: String,
    condition: &'s str,
}

/// Those of the object and of the parents of a route. What is said of listeners is said of their Gateway.
fn conditions(status: &Value) -> BTreeMap<Place<'_>, &Value> {
    let parents = status["parents"].as_array().into_iter().flatten();
    let parents = parents.filter(|parent| parent["controllerName"] == translate::CONTROLLER);
    let parts = parents.map(|parent| (named(&parent["parentRef"]), &parent["conditions"]));
    let parts = parts.chain([(String::new(), &status["conditions"])]);
    let each = parts.flat_map(|(part, list)| {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(move |one| {
            Some((Place { part: part.clone(), condition: one["type"].as_str()? }, one))
        })
    });
    each.collect()
}

fn named(parent: &Value) -> String {
    let text = |field: &str| parent[field].as_str();
    let namespace = text("namespace").map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let port = parent["port"].as_i64().map(|port| format!(" port {port}")).unwrap_or_default();
    let section = text("sectionName").map(|name| format!(" section {name}")).unwrap_or_default();
    format!(
        "parent {} {namespace}{}{port}{section}",
        text("kind").unwrap_or("Gateway"),
        text("name").unwrap_or_default()
    )
}

fn is_programmed(condition: &str) -> bool {
    matches!(condition, "Programmed" | "portolan.dev/Programmed")
}

/// Whether something that was asked for fails closed, or is not in force because a proxy would not have it.
/// That nothing asks for an object is no news: its author sees that in its status.
fn is_bad(kind: Kind, place: &Place<'_>, condition: &Value) -> bool {
    let reason = condition["reason"].as_str().unwrap_or_default();
    let (holds, fails) = (condition["status"] == "True", condition["status"] == "False");
    match place.condition {
        one if is_programmed(one) => fails && (is_rejection(kind, reason) || reason == "NoResources"),
        // A part of it is wrong although the whole holds.
        "WaypointAccepted" | "portolan.dev/Accepted" | "Accepted"
            if matches!(reason, "PartiallyInvalid" | "ListenersNotValid") =>
        {
            true
        }
        "WaypointAccepted" | "portolan.dev/Accepted" | "Accepted" | "ResolvedRefs" => {
            let nowhere = [
                "AncestorNotBound",
                "TargetNotFound",
                "NoMatchingParent",
                "NotAllowedByListeners",
                "Conflicted",
                "Pending",
            ];
            fails && !nowhere.contains(&reason)
        }
        "FullyEnforced" => fails,
        "PartiallyInvalid" => holds,
        _ => false,
    }
}

/// A Gateway calls its own configuration that was rejected invalid, as Gateway API has it.
fn is_rejection(kind: Kind, reason: &str) -> bool {
    reason == "RejectedByProxy" || kind == Kind::Gateway && reason == "Invalid"
}

fn programming(kind: Kind, conditions: &BTreeMap<Place<'_>, &Value>) -> Programming {
    let mut programming = Programming::Fine;
    for (place, condition) in conditions {
        if !is_programmed(place.condition) {
            continue;
        }
        let reason = condition["reason"].as_str().unwrap_or_default();
        if condition["status"] == "False" && is_rejection(kind, reason) {
            return Programming::Rejected;
        }
        if condition["status"] != "True" {
            programming = Programming::Waiting;
        }
    }
    programming
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    }

    fn policy(status: &str, reason: &str) -> Value {
        json!({"conditions": [condition("Programmed", status, reason, "words")]})
    }

    fn told(news: &[News]) -> Vec<(Grade, &str)> {
        news.iter().map(|one| (one.grade, one.reason.as_str())).collect()
    }

    #[test]
    fn a_rejection_is_told_once_and_that_it_is_over_when_proxies_have_the_next() {
        let kind = Kind::AuthorizationPolicy;
        let (had, rejected) = (policy("True", "Programmed"), policy("False", "RejectedByProxy"));
        let (news, outstanding) = of(kind, &had, &rejected, false);
        assert_eq!(
            (told(&news).as_slice(), outstanding),
            ([(Grade::Warning, "RejectedByProxy")].as_slice(), true)
        );
        assert_eq!(of(kind, &rejected, &rejected, true), (Vec::new(), true));
        let pending = policy("False", "Pending");
        assert_eq!(of(kind, &rejected, &pending, true), (Vec::new(), true), "nobody has taken it yet");
        let (news, outstanding) = of(kind, &pending, &had, true);
        assert_eq!(
            (told(&news).as_slice(), outstanding),
            ([(Grade::Normal, "Programmed")].as_slice(), false)
        );
        assert_eq!(of(kind, &pending, &had, false), (Vec::new(), false), "it was never rejected");
    }

    #[test]
    fn a_service_that_says_nothing_more_is_right_again() {
        let rejected = json!({"conditions": [
            condition("portolan.dev/Programmed", "False", "RejectedByProxy", "words"),
        ]});
        let (news, _) = of(Kind::Service, &rejected, &Value::Null, false);
        assert_eq!(told(&news), [(Grade::Normal, "Programmed")]);
    }

    #[test]
    fn what_fails_closed_is_told_and_what_nobody_asks_for_is_not() {
        let status =
            |reason| json!({"conditions": [condition("WaypointAccepted", "False", reason, "words")]});
        let of = |after| of(Kind::AuthorizationPolicy, &Value::Null, &after, false).0;
        assert_eq!(told(&of(status("Invalid"))), [(Grade::Warning, "Invalid")]);
        assert_eq!(told(&of(status("AncestorNotBound"))), []);
        let partly =
            json!({"conditions": [condition("WaypointAccepted", "True", "PartiallyInvalid", "words")]});
        assert_eq!(told(&of(partly)), [(Grade::Warning, "PartiallyInvalid")]);
    }

    #[test]
    fn of_a_route_the_parent_is_named_and_those_of_others_are_theirs() {
        let parent = |controller: &str| {
            let bad = condition("ResolvedRefs", "False", "BackendNotFound", "no such Service");
            json!({"parentRef": {"kind": "Service", "name": "web", "port": 80}, "controllerName": controller, "conditions": [bad]})
        };
        let status = json!({"parents": [parent("example.com/other"), parent(translate::CONTROLLER)]});
        let (news, _) = of(Kind::HTTPRoute, &Value::Null, &status, false);
        assert_eq!(news.len(), 1);
        assert_eq!(news[0].note, "parent Service web port 80: no such Service");
    }
}
