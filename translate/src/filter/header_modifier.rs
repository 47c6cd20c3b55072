//! RequestHeaderModifier and ResponseHeaderModifier: headers that are set, added and removed.

use std::collections::BTreeSet;

use proto::{
    envoy::{core, route},
    gateway::httproutes::{
        HttpRouteRulesFiltersRequestHeaderModifier, HttpRouteRulesFiltersResponseHeaderModifier,
    },
};

use super::{Place, Reading, RuleFilter};
use crate::route::header::{is_name, is_value};

/// What happens to the headers of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestHeaderModifier(pub(crate) HeaderChanges);

/// What happens to the headers of a response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ResponseHeaderModifier(HeaderChanges);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HeaderChanges {
    /// What becomes of the Host, which Envoy has apart from the headers.
    pub(crate) host: Option<String>,
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

/// As many as the API allows in each list; Envoy takes more.
const MOST: usize = 16;

impl HeaderChanges {
    fn lower<'s>(
        set: impl Iterator<Item = (&'s str, &'s str)>,
        add: impl Iterator<Item = (&'s str, &'s str)>,
        remove: &[String],
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let before = reading.problems.len();
        let set = Self::lower_values("set", set, reading);
        let add = Self::lower_values("add", add, reading);
        let mut names = BTreeSet::new();
        for (index, name) in remove.iter().enumerate() {
            if !is_name(name) {
                reading.invalid(&format!("remove[{index}]"), format!("{name:?} is not a header name"));
            }
            names.insert(name.to_ascii_lowercase());
        }
        let lists = [("set", set.len()), ("add", add.len()), ("remove", names.len())];
        for (field, _) in lists.into_iter().filter(|(_, length)| *length > MOST) {
            reading.invalid(field, format!("there are more than {MOST} headers"));
        }
        let changes = Self { host: None, set, add, remove: names.into_iter().collect() };
        (reading.problems.len() == before).then_some(changes)
    }

    fn lower_values<'s>(
        field: &str,
        values: impl Iterator<Item = (&'s str, &'s str)>,
        reading: &mut Reading<'_>,
    ) -> Vec<(String, String)> {
        let mut names = BTreeSet::new();
        let mut lowered = Vec::new();
        for (index, (name, value)) in values.enumerate() {
            if !is_name(name) {
                reading.invalid(&format!("{field}[{index}].name"), format!("{name:?} is not a header name"));
            }
            if !is_value(value) {
                reading
                    .invalid(&format!("{field}[{index}].value"), format!("{value:?} is not a header value"));
            }
            // Gateway API: of entries with equal names the first counts.
            if names.insert(name.to_ascii_lowercase()) {
                lowered.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        lowered
    }

    /// These changes, and then those.
    pub(crate) fn then(&self, later: &Self) -> Self {
        let Self { host, set, add, remove } = later;
        let stays = |(name, _): &&(String, String)| {
            !remove.contains(name) && !set.iter().any(|(other, _)| other == name)
        };
        let join = |own: &[(String, String)], others: &[(String, String)]| {
            own.iter().filter(stays).chain(others).cloned().collect()
        };
        let removed: BTreeSet<_> = self.remove.iter().chain(remove).cloned().collect();
        Self {
            host: host.clone().or_else(|| self.host.clone()),
            set: join(&self.set, set),
            add: join(&self.add, add),
            remove: removed.into_iter().collect(),
        }
    }

    fn names_host(&self) -> bool {
        let named = self.set.iter().chain(&self.add).map(|(name, _)| name).chain(&self.remove);
        named.into_iter().any(|name| name == "host")
    }

    fn added(&self) -> Vec<core::HeaderValueOption> {
        use core::header_value_option::HeaderAppendAction::{AppendIfExistsOrAdd, OverwriteIfExistsOrAdd};
        let set = self.set.iter().map(|one| (one, OverwriteIfExistsOrAdd));
        let add = self.add.iter().map(|one| (one, AppendIfExistsOrAdd));
        let options = set.chain(add).map(|((name, value), action)| core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: name.clone(),
                // Envoy would take `%...%` for a command of its own.
                value: value.replace('%', "%%"),
                ..core::HeaderValue::default()
            }),
            append_action: action.into(),
            ..core::HeaderValueOption::default()
        });
        options.collect()
    }
}

impl RuleFilter for RequestHeaderModifier {
    type Spec = HttpRouteRulesFiltersRequestHeaderModifier;
    const ON_BACKENDS: bool = true;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersRequestHeaderModifier { add, remove, set } = spec;
        let set = set.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()));
        let add = add.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()));
        let mut changes = HeaderChanges::lower(set, add, remove.as_deref().unwrap_or_default(), reading)?;
        let host = changes.set.iter().position(|(name, _)| name == "host");
        changes.host = host.map(|index| changes.set.remove(index).1);
        if changes.names_host() {
            reading.unsupported("", "the Host can only be set, not added or removed");
            return None;
        }
        Some(Self(changes))
    }

    fn emit(&self, route: &mut route::Route, _place: &Place<'_>) {
        route.request_headers_to_add = self.0.added();
        route.request_headers_to_remove.clone_from(&self.0.remove);
        if let (Some(host), Some(route::route::Action::Route(action))) = (&self.0.host, &mut route.action) {
            action.host_rewrite_specifier =
                Some(route::route_action::HostRewriteSpecifier::HostRewriteLiteral(host.clone()));
        }
    }

    fn emit_share(&self, share: &mut route::weighted_cluster::ClusterWeight) {
        use route::weighted_cluster::cluster_weight::HostRewriteSpecifier;
        share.request_headers_to_add = self.0.added();
        share.request_headers_to_remove.clone_from(&self.0.remove);
        share.host_rewrite_specifier = self.0.host.clone().map(HostRewriteSpecifier::HostRewriteLiteral);
    }
}

impl RuleFilter for ResponseHeaderModifier {
    type Spec = HttpRouteRulesFiltersResponseHeaderModifier;
    const ON_BACKENDS: bool = true;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersResponseHeaderModifier { add, remove, set } = spec;
        let set = set.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()));
        let add = add.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str()));
        let changes = HeaderChanges::lower(set, add, remove.as_deref().unwrap_or_default(), reading)?;
        if changes.names_host() {
            reading.unsupported("", "a response has no Host");
            return None;
        }
        Some(Self(changes))
    }

    fn emit(&self, route: &mut route::Route, _place: &Place<'_>) {
        route.response_headers_to_add = self.0.added();
        route.response_headers_to_remove.clone_from(&self.0.remove);
    }

    fn emit_share(&self, share: &mut route::weighted_cluster::ClusterWeight) {
        share.response_headers_to_add = self.0.added();
        share.response_headers_to_remove.clone_from(&self.0.remove);
    }
}
