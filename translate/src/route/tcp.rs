//! TCPRoute: shares of connections, for the ports of its parents that do not speak HTTP.

use std::collections::BTreeSet;

use proto::{
    Name,
    gateway::{
        TcpRoute as Object,
        tcproutes::{TcpRouteParentRefs, TcpRouteRules, TcpRouteSpec},
    },
    kubernetes::ObjectMeta,
};

use super::{
    backend,
    matches::HttpMatch,
    parent,
    precedence::Rank,
    rule::{Delivery, Route, Rule},
};
use crate::{
    mesh::name::created,
    problem::{FieldPath, Problem, Reason},
};

pub(crate) fn lower(object: &Object) -> Route {
    let TcpRouteSpec { parent_refs, rules, use_default_gateways: _ } = &object.spec;
    lower_connections(&object.metadata, parent_refs.as_ref(), rules)
}

/// Of a route whose rules have backends and nothing else.
pub(super) fn lower_connections(
    metadata: &ObjectMeta,
    parent_refs: Option<&Vec<TcpRouteParentRefs>>,
    rules: &[TcpRouteRules],
) -> Route {
    let namespace: Name = metadata.namespace.as_deref().unwrap_or_default().into();
    let at = FieldPath::new("spec").field("rules");
    // A rule has nothing to match by, so the first takes every connection.
    let problems = (1..rules.len()).map(|index| Problem {
        at: at.index(index),
        reason: Reason::UnsupportedValue,
        message: "the first rule takes every connection; put all backends in it".to_owned(),
    });
    let rules = rules.iter().take(1).enumerate().map(|(index, TcpRouteRules { backend_refs, name })| Rule {
        name: name.as_deref().map_or_else(|| index.to_string().into(), Into::into),
        matches: vec![(Rank::of_http(&HttpMatch::everything()), HttpMatch::everything())],
        backends: Some(backend::lower(backend_refs, &namespace, &at.index(index).field("backendRefs"))),
        filters: Vec::new(),
        delivery: Delivery::default(),
    });
    Route {
        generation: metadata.generation,
        created: created(metadata),
        parents: parent::lower(parent_refs, &namespace),
        rules: rules.collect(),
        problems: problems.collect(),
        hostnames: BTreeSet::new(),
        refused: None,
    }
}
