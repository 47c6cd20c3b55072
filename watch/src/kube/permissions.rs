//! What an account has to be permitted for following a cluster, from the list of kinds and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use proto::{Kind, Name};

use crate::wanted::Wanted;

/// What we ask of each list.
const VERBS: [&str; 2] = ["list", "watch"];

/// Rules of roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    /// For the whole cluster: a rule for each API group, in the order of their names.
    pub cluster: Vec<PolicyRule>,
    /// For these namespaces only: objects that are named one by one, or have labels, by which no role can
    /// tell them from others.
    pub namespaces: BTreeMap<Name, Vec<PolicyRule>>,
    /// For wherever users may refer to objects by name, which nobody knows beforehand: the whole cluster, or
    /// some namespaces, or, with names, some objects. Without it all else is read, and what cannot be read is
    /// said where it is referred to.
    pub referred: Vec<PolicyRule>,
}

/// What [`ClusterSource`](crate::ClusterSource) needs for reading what is `wanted`: to list and watch every
/// kind that we read, and of the kinds that are read by reference the objects that are named or labelled.
/// That a kind exists, every account may ask.
pub fn permissions(wanted: &Wanted) -> Permissions {
    let mut groups = BTreeMap::<&str, BTreeSet<&str>>::new();
    for kind in Kind::ALL.iter().filter(|kind| !Wanted::is_by_reference(**kind)) {
        groups.entry(kind.group()).or_default().insert(kind.plural());
    }
    let cluster = groups.into_iter().map(|(group, plurals)| rule(group, plurals, None)).collect();
    let labelled: BTreeSet<(Name, Kind)> =
        wanted.labelled().map(|of| (of.namespace.clone(), of.kind)).collect();
    let mut namespaces = BTreeMap::<Name, Vec<PolicyRule>>::new();
    for object in wanted.referenced() {
        if labelled.contains(&(object.namespace.clone(), object.kind)) {
            continue;
        }
        let rule = rule(object.kind.group(), [object.kind.plural()], Some(&object.name));
        namespaces.entry(object.namespace.clone()).or_default().push(rule);
    }
    for (namespace, kind) in labelled {
        namespaces.entry(namespace).or_default().push(rule(kind.group(), [kind.plural()], None));
    }
    let referred = Kind::ALL.iter().filter(|kind| Wanted::is_by_reference(**kind));
    let referred = referred.map(|kind| rule(kind.group(), [kind.plural()], None)).collect();
    Permissions { cluster, namespaces, referred }
}

fn rule<'a>(group: &str, plurals: impl IntoIterator<Item = &'a str>, name: Option<&Name>) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(plurals.into_iter().map(str::to_owned).collect()),
        resource_names: name.map(|name| vec![name.to_string()]),
        verbs: VERBS.map(str::to_owned).to_vec(),
        non_resource_urls: None,
    }
}
