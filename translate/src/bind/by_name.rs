//! Where the connections to a port lead by the name that they ask for: every TLSRoute has its own.

use std::{collections::BTreeMap, sync::Arc};

use proto::ObjectRef;

use super::{
    applied_route::{names, order},
    resolved_route::{Forward, ResolvedRoute},
};
use crate::route::hostname::Hostname;

/// Where the connections of everybody lead, or those of the callers of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Connections {
    /// Whatever they carry, if no route looks at names.
    pub(crate) all: Arc<Forward>,
    pub(crate) by_name: ByName,
}

impl Connections {
    pub(crate) fn to(all: Arc<Forward>) -> Self {
        Self { all, by_name: ByName::default() }
    }

    pub(crate) fn forwards(&self) -> impl Iterator<Item = &Forward> {
        [&self.all]
            .into_iter()
            .chain(self.by_name.0.values().map(|named| &named.forward))
            .map(|forward| &**forward)
    }
}

/// By hostname, and under `None` what asks for none of them. Empty if no route looks at names: to
/// look at them takes waiting for the first bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ByName(BTreeMap<Option<Hostname>, Named>);

impl ByName {
    /// All the same, whatever they ask for.
    pub(crate) fn whatever(forward: &Arc<Forward>) -> Self {
        let named = Named { name: "default".to_owned(), forward: Arc::clone(forward) };
        Self([(None, named)].into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = Option<&Hostname>> {
        self.0.keys().map(Option::as_ref)
    }

    /// Where a connection leads that asks for that name, or below it, or for another than all that
    /// there are: the very name, else the longest wildcard that it is below, else what is left.
    pub(crate) fn of(&self, name: Option<&Hostname>) -> Option<&Named> {
        let covering = name.and_then(|name| {
            let covering = self.0.iter().filter_map(|(wide, named)| Some((wide.as_ref()?, named)));
            covering.filter(|(wide, _)| wide.covers(name)).max_by_key(|(wide, _)| wide.specificity())
        });
        covering.map(|(_, named)| named).or_else(|| self.0.get(&None))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// As access logs show it: namespace, route and rule.
    pub(crate) name: String,
    pub(crate) forward: Arc<Forward>,
}

/// Of routes that all take connections of one port: for each name the first of them that has it.
/// If none of them has names, there is only one place for connections to go.
pub(crate) fn merge(mut routes: Vec<(&ObjectRef, &Arc<ResolvedRoute>)>) -> Connections {
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
        return Connections { all: Arc::default(), by_name: ByName(by_name) };
    }
    Connections::to(by_name.remove(&None).map(|all| all.forward).unwrap_or_default())
}
