//! What a policy governs: one reading of `targetRefs` for every kind of policy, so that two policies
//! with the same references are always attached to the same services.

use proto::{Kind, Name};

use crate::{
    fields::{Fields, Problems},
    mesh::name::Key,
};

/// What a policy governs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A Service of the policy's namespace.
    Service(Key),
    /// A ServiceEntry of the policy's namespace, with all of its hosts.
    Entry(Key),
    /// A Gateway of the policy's namespace, with every service behind it.
    Gateway(Key),
    /// Every waypoint of a class, as the policy's namespace sees it; only the root namespace's counts.
    Class(Key),
    /// Every waypoint of a class, whichever namespace says so. No policy names it: all that name a
    /// class are found by it.
    ClassFromAnywhere(Name),
}

/// What a policy with these targets is found by: a class from its own namespace, and from anywhere.
pub(crate) fn buckets(targets: &[Target]) -> impl Iterator<Item = Target> {
    let anywhere = targets.iter().filter_map(|target| match target {
        Target::Class(class) => Some(Target::ClassFromAnywhere(class.name.clone())),
        Target::Service(_) | Target::Entry(_) | Target::Gateway(_) | Target::ClassFromAnywhere(_) => None,
    });
    anywhere.chain(targets.iter().cloned())
}

/// Reads `targetRefs`, or the `targetRef` of older policies. A reference that cannot be read governs
/// nothing, and is a problem.
pub(crate) fn lower(spec: &Fields<'_>, namespace: &Name, problems: &mut Problems) -> Vec<Target> {
    let mut refs = spec.list("targetRefs", problems).unwrap_or_default();
    if refs.is_empty() {
        refs.extend(spec.get("targetRef").map(|target| (target, spec.at.field("targetRef"))));
    }
    if !refs.is_empty() && spec.get("selector").is_some() {
        problems.invalid(
            &spec.at.field("selector"),
            "a policy has a selector or targetRefs, not both; the selector is ignored",
        );
    }
    let mut targets = Vec::new();
    for (value, at) in refs {
        let target = Fields::read(Some(value), at, problems);
        target.only(&["group", "kind", "name", "namespace"], problems);
        targets.extend(lower_target(&target, namespace, problems));
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Whether a policy names any targets at all, known or not. An empty list names none, and such a policy
/// is ztunnel's.
pub(crate) fn names_any(spec: &Fields<'_>) -> bool {
    let nothing = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    ["targetRefs", "targetRef"].iter().any(|field| spec.get(field).is_some_and(|value| !nothing(value)))
}

fn lower_target(target: &Fields<'_>, namespace: &Name, problems: &mut Problems) -> Option<Target> {
    let group = target.string("group", problems).unwrap_or_default();
    let kind = target.string("kind", problems).unwrap_or_default();
    let name = target.string("name", problems).unwrap_or_default();
    if target.string("namespace", problems).is_some_and(|other| other != &**namespace) {
        problems.invalid(
            &target.at.field("namespace"),
            "a policy governs its own namespace only; leave the field out",
        );
        return None;
    }
    if name.is_empty() {
        problems.invalid(&target.at.field("name"), "the name of the target is missing");
        return None;
    }
    let key = Key::new(namespace, name);
    match (group, kind) {
        ("" | "core", "Service") => Some(Target::Service(key)),
        (group, "ServiceEntry") if group == Kind::ServiceEntry.group() => Some(Target::Entry(key)),
        (group, "Gateway") if group == Kind::Gateway.group() => Some(Target::Gateway(key)),
        (group, "GatewayClass") if group == Kind::Gateway.group() => Some(Target::Class(key)),
        (group, kind) => {
            problems.unsupported(
                &target.at.field("kind"),
                format!(
                    "{kind:?} of group {group:?} cannot be a target; use Service, ServiceEntry, Gateway or GatewayClass"
                ),
            );
            None
        }
    }
}
