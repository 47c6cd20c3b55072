//! What a commit moved, as a person reads it.

use std::fmt::Write;

use proto::{Place, Resource, TypeUrl, render_any};
use serde_json::Value;
use translate::{
    Commit,
    status::{Condition, Status, Truth},
};

/// Resources by waypoint, then statuses. What every waypoint has is shown `whole` in one case only.
///
/// How the listeners of a waypoint choose among their chains is shown where it `chooses` the claim.
pub(crate) fn commit(commit: &Commit, whole: bool, chooses: bool) -> String {
    let mut out = String::new();
    for (audience, delta) in &commit.resources {
        let _ = writeln!(out, "waypoint {audience}");
        for resource in &delta.set {
            let _ = writeln!(out, "  + {} {} ({})", resource.type_url, resource.name, size(resource));
            if whole || !is_infrastructure(resource) {
                indented(&mut out, &yaml(resource, &Place::default()), 6);
                for place in readers().iter().filter(|_| resource.body.is_placed()) {
                    let Place { region, zone, sub_zone } = place;
                    let _ = writeln!(out, "    read at {region}/{zone}/{sub_zone}");
                    indented(&mut out, &yaml(resource, place), 6);
                }
            } else if let Some(matcher) = matcher(resource).filter(|_| chooses) {
                indented(&mut out, &matcher, 6);
            }
        }
        for (type_url, name) in &delta.removed {
            let _ = writeln!(out, "  - {type_url} {name}");
        }
    }
    for (object, said) in &commit.statuses {
        match said {
            Some(said) => status(&mut out, &object.to_string(), said),
            None => {
                let _ = writeln!(out, "status {object}: gone");
            }
        }
    }
    if out.is_empty() {
        out.push_str("nothing moved\n");
    }
    out
}

/// Who reads the resources that are not the same for everyone: two of one region, on nodes of two zones.
fn readers() -> [Place; 2] {
    [("a", "node-1"), ("b", "node-2")].map(|(zone, node)| Place {
        region: "eu".into(),
        zone: zone.into(),
        sub_zone: node.into(),
    })
}

fn is_infrastructure(resource: &Resource) -> bool {
    resource.type_url == TypeUrl::Listener
        || (resource.type_url == TypeUrl::Cluster && !resource.name.contains('|'))
}

/// In steps of 50 bytes, so that a snapshot shows a resource growing and not a letter changing.
fn size(resource: &Resource) -> String {
    format!("under {} bytes", (resource.body.plain().len() / 50 + 1) * 50)
}

/// The resource as Envoy's YAML, without what every resource of its type repeats.
fn yaml(resource: &Resource, place: &Place) -> String {
    let json: Value =
        render_any(&resource.to_any(place)).unwrap_or_else(|error| panic!("{resource:?}: {error}"));
    serde_saphyr::to_string(&json).unwrap()
}

/// How a listener chooses among its chains, which is all of it that the mesh changes.
fn matcher(resource: &Resource) -> Option<String> {
    let mut json: Value = render_any(&resource.to_any(&Place::default())).ok()?;
    let matcher = json.get_mut("filter_chain_matcher")?.take();
    Some(serde_saphyr::to_string(&serde_json::json!({ "filter_chain_matcher": matcher })).unwrap())
}

fn indented(out: &mut String, text: &str, by: usize) {
    for line in text.lines() {
        let _ = writeln!(out, "{:by$}{line}", "");
    }
}

fn status(out: &mut String, object: &str, said: &Status) {
    let _ = writeln!(out, "status {object}");
    for one in &said.conditions {
        condition(out, one, "  ");
    }
    for parent in &said.parents {
        let _ = writeln!(out, "  parent {}", parent.parent_ref);
        for one in &parent.conditions {
            condition(out, one, "    ");
        }
    }
    for listener in &said.listeners {
        let kinds: Vec<_> = listener.supported_kinds.iter().map(|kind| kind.name()).collect();
        let (name, attached) = (&listener.name, listener.attached_routes);
        let _ =
            writeln!(out, "  listener {name} attachedRoutes={attached} supportedKinds={}", kinds.join(","));
        for one in &listener.conditions {
            condition(out, one, "    ");
        }
    }
    if !said.features.is_empty() {
        let _ = writeln!(out, "  features {}", said.features.join(","));
    }
    for address in &said.addresses {
        let _ = writeln!(out, "  address {} {}", address.kind, address.value);
    }
}

/// That nobody has looked at proxies is so in most cases, and no claim of theirs.
fn condition(out: &mut String, one: &Condition, indent: &str) {
    let Condition { kind, truth, reason, message } = one;
    if (*kind, *truth) == ("Programmed", Truth::Unknown) {
        return;
    }
    let _ = writeln!(out, "{indent}{kind}={} {reason}: {message}", truth.as_str());
}
