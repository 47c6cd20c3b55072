//! Where the connections to a port lead by the name that they ask for: every TLSRoute has its own.

use std::{collections::BTreeMap, sync::Arc};

use proto::ObjectRef;

use super::{
    applied_route::{names, order},
    resolved_route::{Forward, ResolvedRoute},
};
use crate::route::hostname::Hostname;

/// By hostname, and under `None` what asks for none of them. Empty if no route looks at names: to
/// look at them takes waiting for the first bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ByName(pub(crate) BTreeMap<Option<Hostname>, Named>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// As access logs show it: namespace, route and rule.
    pub(crate) name: String,
    pub(crate) forward: Arc<Forward>,
}

/// Of routes that all take connections of one port: for each name the first of them that has it.
/// If none of them has names, there is only one place for connections to go.
pub(crate) fn merge(mut routes: Vec<(&ObjectRef, &Arc<ResolvedRoute>)>) -> (Arc<Forward>, ByName) {
    routes.sort_by_cached_key(|(name, route)| order(name, route));
    let mut by_name = BTreeMap::new();
    for (key, route) in routes {
        // What a refused route would have had to decide is refused.
        let rule = route.rules.first().filter(|_| route.refused.is_none());
        let named = Named {
            name: rule.map_or_else(
                || format!("{}/{}", key.namespace, key.name),
                |rule| format!("{}/{}/{}", key.namespace, key.name, rule.name),
            ),
            forward: rule.map(|rule| Arc::clone(&rule.forward)).unwrap_or_default(),
        };
        for name in names(route) {
            by_name.entry(name.cloned()).or_insert_with(|| named.clone());
        }
    }
    if by_name.keys().any(Option::is_some) {
        return (Arc::default(), ByName(by_name));
    }
    (by_name.remove(&None).map(|all| all.forward).unwrap_or_default(), ByName::default())
}
