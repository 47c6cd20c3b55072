//! Which lists of the objects of a waypoint are merged item by item, and by which field: the
//! `patchMergeKey` of Kubernetes' types. Every other list is replaced as a whole.

use super::Part;

/// Lists that are merged, where they stand in the object, and the field that says which item is meant.
const MERGED: [(Part, &str, &str); 18] = [
    (Part::ServiceAccount, "secrets", "name"),
    (Part::Service, "spec.ports", "port"),
    (Part::Deployment, "spec.template.spec.volumes", "name"),
    (Part::Deployment, "spec.template.spec.containers", "name"),
    (Part::Deployment, "spec.template.spec.initContainers", "name"),
    (Part::Deployment, "spec.template.spec.imagePullSecrets", "name"),
    (Part::Deployment, "spec.template.spec.hostAliases", "ip"),
    (Part::Deployment, "spec.template.spec.topologySpreadConstraints", "topologyKey"),
    (Part::Deployment, "spec.template.spec.schedulingGates", "name"),
    (Part::Deployment, "spec.template.spec.resourceClaims", "name"),
    (Part::Deployment, "spec.template.spec.containers.ports", "containerPort"),
    (Part::Deployment, "spec.template.spec.containers.env", "name"),
    (Part::Deployment, "spec.template.spec.containers.volumeMounts", "mountPath"),
    (Part::Deployment, "spec.template.spec.containers.volumeDevices", "devicePath"),
    (Part::Deployment, "spec.template.spec.initContainers.ports", "containerPort"),
    (Part::Deployment, "spec.template.spec.initContainers.env", "name"),
    (Part::Deployment, "spec.template.spec.initContainers.volumeMounts", "mountPath"),
    (Part::Deployment, "spec.template.spec.initContainers.volumeDevices", "devicePath"),
];

/// What makes an object one of ours, or binds it to the others: a patch of it would take the waypoint apart.
const FIXED: [(Part, &str); 2] =
    [(Part::Deployment, "spec.selector"), (Part::PodDisruptionBudget, "spec.selector")];

/// Of every object.
const FIXED_METADATA: [&str; 7] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.generateName",
    "metadata.ownerReferences",
    "metadata.finalizers",
    "metadata.uid",
    "metadata.resourceVersion",
];

/// Labels by which the objects, and the pods, are found.
const FIXED_LABELS: [&str; 2] = [crate::mesh::labels::GATEWAY_NAME, crate::mesh::labels::MANAGED];

/// The field by which the items of the list at `path` are told apart; `None` for a list that is one value.
/// A path has no indices: `spec.template.spec.containers.env`.
pub(super) fn merge_key(part: Part, path: &str) -> Option<&'static str> {
    MERGED.iter().find(|(of, list, _)| *of == part && *list == path).map(|(_, _, key)| *key)
}

/// Whether no patch may change what stands at `path`.
pub(super) fn is_fixed(part: Part, path: &str) -> bool {
    let is_label = |label: &&str| {
        ["metadata.labels", "spec.template.metadata.labels"].iter().any(|at| path == format!("{at}.{label}"))
    };
    FIXED.contains(&(part, path)) || FIXED_METADATA.contains(&path) || FIXED_LABELS.iter().any(is_label)
}
