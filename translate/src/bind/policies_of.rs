//! Which policies judge the requests to a service, behind its waypoint, and by which rules tokens prove
//! who asks.

use std::{borrow::Cow, sync::Arc};

use proto::Name;

use super::{
    asked_of::{self, Asked},
    waypoint_of::WaypointOf,
};
use crate::{
    derive::{Derived, Reads, Row},
    inputs::Inputs,
    mesh::{
        mesh_config::{RootNamespace, Standing},
        name::{Key, Origin, PortKey, ServiceKey},
        waypoint::EVERY_WAYPOINT,
    },
    policy::{
        authentication::{self, Check, KeySet, Keys},
        authorization::{Action, Judgement, Layer, custom},
        target::Target,
    },
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PoliciesOf {
    /// The judgements, each under the name of its policy, in the order of the names.
    pub(crate) judgements: Vec<(Key, Arc<Judgement>)>,
    /// Who is asked before, in the order of their names.
    pub(crate) asked: Vec<Asked>,
    /// The rules about tokens, with the keys that there are, in the order of their issuers.
    pub(crate) checks: Vec<(Arc<Check>, KeySet)>,
}

impl PoliciesOf {
    /// Whether some policy decides otherwise about a TCP connection than about an HTTP request.
    pub(crate) fn needs_http(&self) -> bool {
        !self.asked.is_empty() || self.judgements.iter().any(|(_, judgement)| judgement.needs_http())
    }
}

impl PoliciesOf {
    /// What judges there besides those who are asked. Who cannot be asked there cannot allow anything.
    pub(crate) fn judging(&self, layer: Layer) -> Cow<'_, [(Key, Arc<Judgement>)]> {
        let mut silent = self.silent(layer).peekable();
        if silent.peek().is_none() {
            return Cow::Borrowed(&self.judgements);
        }
        let denying = silent.flat_map(|asked| asked.policies.iter().cloned());
        Cow::Owned(self.judgements.iter().cloned().chain(denying).collect())
    }

    /// Who is asked there, in their order.
    pub(crate) fn asked_at(&self, layer: Layer) -> Vec<&Asked> {
        custom::at_layer(&self.asked, layer)
    }

    /// Those who would be asked, and cannot be asked there.
    pub(crate) fn silent(&self, layer: Layer) -> impl Iterator<Item = &Asked> {
        let heard: Vec<_> = self.asked_at(layer).into_iter().map(|asked| &asked.name).collect();
        self.asked.iter().filter(move |asked| !heard.contains(&&asked.name))
    }

    /// Whether some policy asks for a port by its name.
    pub(crate) fn names_ports(&self) -> bool {
        self.all().any(Judgement::names_ports)
    }

    /// Whether some policy asks which name a connection is for.
    pub(crate) fn asks_names(&self) -> bool {
        self.all().any(Judgement::asks_name)
    }

    fn all(&self) -> impl Iterator<Item = &Judgement> {
        let asked = self.asked.iter().flat_map(|asked| &asked.policies);
        self.judgements.iter().chain(asked).map(|(_, judgement)| &**judgement)
    }
}

impl Row for PoliciesOf {
    const TABLE: &'static str = "policies of";
    /// The waypoint and the service behind it.
    type Key = (Key, ServiceKey);
    /// A service port whose answers somebody waits for, behind that waypoint.
    type Bucket = PortKey;

    fn buckets((waypoint, _): &Self::Key, row: &Self) -> Vec<PortKey> {
        row.asked.iter().map(|asked| asked.port(waypoint)).collect()
    }
}

/// Policies of all kinds of target are one union: there is no order between them.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    (waypoint, service): &(Key, ServiceKey),
) -> Option<PoliciesOf> {
    if !waypoint_of.get(reads, service)?.is_served_by(waypoint) {
        return None;
    }
    let class = inputs.waypoints.get(reads, waypoint)?.class.clone();
    let own = match service.origin {
        Origin::Kubernetes => Some(Target::Service(service.object())),
        // What governs a workload by its labels is ztunnel's.
        Origin::Pod | Origin::Machine => None,
        // A policy names the entry, not its hosts.
        Origin::Entry => Some(Target::Entry(Key::of(&inputs.services.get(reads, service)?.declared_by))),
    };
    let root = inputs.root.get(reads, &())?;
    let of_class = |class: Name| match &**root {
        RootNamespace::Named(root) => Target::Class(Key { namespace: root.clone(), name: class }),
        RootNamespace::Unreadable => Target::ClassFromAnywhere(class),
    };
    let mut targets: Vec<_> = own.into_iter().chain([Target::Gateway(waypoint.clone())]).collect();
    // Istio: that class stands for every waypoint there is.
    targets.extend((&*class != EVERY_WAYPOINT).then(|| of_class(EVERY_WAYPOINT.into())));
    targets.push(of_class(class));
    let mut judgements = judgements(reads, inputs, &targets, root)?;
    let asked = asked_of::bind(reads, inputs, &mut judgements);
    Some(PoliciesOf { judgements, asked, checks: checks(reads, inputs, &targets, root) })
}

fn standing(target: &Target, root: &RootNamespace, policy: &Key) -> Standing {
    match target {
        Target::Class(_) | Target::ClassFromAnywhere(_) => root.standing(policy),
        Target::Service(_) | Target::Entry(_) | Target::Gateway(_) => Standing::Whole,
    }
}

fn judgements(
    reads: &Reads,
    inputs: &Inputs,
    targets: &[Target],
    root: &RootNamespace,
) -> Option<Vec<(Key, Arc<Judgement>)>> {
    let mut policies = Vec::new();
    for target in targets {
        let attached = inputs.authorizations.bucket(reads, target);
        policies.extend(attached.filter_map(|(key, policy)| {
            Some((key.clone(), counting(&policy.judgement, standing(target, root, key))?))
        }));
    }
    // A policy that names the service and its Gateway is one policy.
    policies.sort_by(|one, other| one.0.cmp(&other.0));
    policies.dedup_by(|one, other| one.0 == other.0);
    if policies.iter().any(|(_, judgement)| judgement.asks_for_trust()) {
        let trust = inputs.trust.get(reads, &())?;
        for (_, judgement) in &mut policies {
            *judgement = judgement.trusting(trust);
        }
    }
    Some(policies)
}

fn checks(
    reads: &Reads,
    inputs: &Inputs,
    targets: &[Target],
    root: &RootNamespace,
) -> Vec<(Arc<Check>, KeySet)> {
    let mut policies = Vec::new();
    for target in targets {
        let attached = inputs.authentications.bucket(reads, &authentication::Bucket::Governs(target.clone()));
        policies.extend(attached.map(|(key, policy)| (key, policy, standing(target, root, key))));
    }
    policies.retain(|(_, _, standing)| *standing != Standing::None);
    policies.sort_by_key(|(key, policy, _)| (policy.created, &key.name, &key.namespace));
    policies.dedup_by(|one, other| one.0 == other.0);
    let rules = policies
        .into_iter()
        .flat_map(|(_, policy, standing)| policy.rules.iter().map(move |rule| (rule, standing)));
    let mut checks = rules
        .map(|(rule, standing)| {
            let keys = match (&rule.keys, standing) {
                // It may reject a token, and must not make anybody somebody.
                (_, Standing::DenyingOnly | Standing::None) => None,
                (Keys::Inline(keys), Standing::Whole) => Some(keys.clone()),
                (Keys::Fetched { source, .. }, Standing::Whole) => {
                    inputs.keys.get(reads, source).and_then(|fetched| fetched.keys.clone())
                }
            };
            (Arc::clone(&rule.check), keys.unwrap_or_else(KeySet::nobody))
        })
        .collect::<Vec<_>>();
    // Stable: rules for one issuer stay in the order of their policies.
    checks.sort_by(|one, other| one.0.issuer.cmp(&other.0.issuer));
    checks.dedup();
    checks
}

/// What of a judgement counts.
fn counting(judgement: &Arc<Judgement>, standing: Standing) -> Option<Arc<Judgement>> {
    match (standing, judgement.action) {
        (Standing::None, _) => None,
        // Somebody allows, and nobody is allowed: the rest is refused.
        (Standing::DenyingOnly, Action::Allow) => {
            Some(Arc::new(Judgement { rules: Vec::new(), ..Judgement::clone(judgement) }))
        }
        (Standing::Whole, _) | (Standing::DenyingOnly, Action::Deny | Action::Audit) => {
            Some(Arc::clone(judgement))
        }
    }
}

impl Derived<PoliciesOf> {
    /// The service ports that the policies of a service ask now, for finding keys only.
    pub(crate) fn asked(&self, key: &(Key, ServiceKey)) -> Vec<PortKey> {
        let asked = self.untracked().get(key).map(|row| row.asked.as_slice()).unwrap_or_default();
        asked.iter().map(|asked| asked.port(&key.0)).collect()
    }
}
