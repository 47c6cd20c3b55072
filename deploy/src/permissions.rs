//! All that the account of `portolan serve` must be allowed to do: what is watched, and what each writer writes.
//!
//! The chart says the same, by hand and with reasons; a test compares the two, both ways.

use k8s_openapi::api::rbac::v1::PolicyRule;
use proto::Name;
use translate::Settings;
use watch::Permissions;

use crate::{
    authn, ca_secret,
    deployer::{self, Permission},
    events, lease, objects, replicas, status,
};

/// The permissions of an account whose pod is in `namespace`, with `ca_secret` if others make the Secret of the
/// authority. What is allowed in the whole cluster is not said again of a namespace.
pub fn permissions(namespace: &Name, settings: &Settings, ca_secret: Option<&Name>) -> Permissions {
    let watched = watch::permissions(&objects::wanted(settings));
    let election = lease::permissions(namespace, &lease::lease_name(settings.revision.as_deref()));
    let replicas = replicas::permissions(namespace);
    let authority = ca_secret::permissions(namespace, ca_secret);
    let written =
        [deployer::permissions(), authn::permissions(), status::permissions(), events::permissions()];

    let mut all = Permissions::default();
    all.cluster.extend(written.iter().flatten().map(rule));
    for part in [watched, election, replicas, authority] {
        all.cluster.extend(part.cluster);
        all.referred.extend(part.referred);
        for (namespace, rules) in part.namespaces {
            all.namespaces.entry(namespace).or_default().extend(rules);
        }
    }
    let Permissions { cluster, namespaces, referred } = &mut all;
    referred.retain(|rule| !is_allowed(rule, cluster));
    namespaces.retain(|_, rules| {
        rules.retain(|rule| !is_allowed(rule, cluster));
        !rules.is_empty()
    });
    all
}

fn rule(permission: &Permission) -> PolicyRule {
    let Permission { group, resource, verbs } = permission;
    PolicyRule {
        api_groups: Some(vec![(*group).to_owned()]),
        resources: Some(vec![(*resource).to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// Whether other rules allow all of it. None of ours lists what it means by `*`.
fn is_allowed(rule: &PolicyRule, others: &[PolicyRule]) -> bool {
    let has = |list: &Option<Vec<String>>, one: &String| list.iter().flatten().any(|it| it == one);
    let one = |group: &String, resource: &String, verb: &String| {
        others.iter().any(|other| {
            other.resource_names.is_none()
                && has(&other.api_groups, group)
                && has(&other.resources, resource)
                && other.verbs.contains(verb)
        })
    };
    rule.api_groups.iter().flatten().all(|group| {
        rule.resources
            .iter()
            .flatten()
            .all(|resource| rule.verbs.iter().all(|verb| one(group, resource, verb)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_whole_cluster_allows_is_not_said_of_a_namespace() {
        let all = permissions(&"mesh".into(), &Settings::default(), None);
        let named = |namespace: &str, resource: &str| {
            let rules = all.namespaces.get(namespace).into_iter().flatten();
            rules.flat_map(|rule| rule.resources.iter().flatten()).any(|it| it == resource)
        };
        assert!(named("mesh", "leases") && named("mesh", "secrets"));
        // The deployer reads those of every namespace, so what is read of them needs no rule of its own.
        assert!(!named("istio-system", "configmaps"));
        let configmaps = |rule: &PolicyRule| rule.resources.iter().flatten().any(|it| it == "configmaps");
        assert!(all.cluster.iter().any(configmaps) && all.referred.is_empty());
    }
}
