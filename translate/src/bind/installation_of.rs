//! What the objects that run a Gateway must be like: what it asks for itself, the defaults of its class,
//! and the ConfigMap that it refers to.

use proto::{Kind, Name};

use crate::{
    derive::{Derived, Reads, Touched},
    inputs::Inputs,
    installation::{
        Asks, Bucket, DEFAULTS_LABELS, Installation, InstallationOf, Installing, Missing, Parameters,
    },
    mesh::name::Key,
    problem::{FieldPath, Problem, Reason},
    settings::{References, Settings},
};

/// Computes anew what the commit may have changed of them.
pub(crate) fn update(
    table: &mut Derived<InstallationOf>,
    touched: &mut Touched,
    inputs: &Inputs,
    settings: &Settings,
) {
    table.update(
        touched,
        inputs.waypoints.changed().iter().cloned(),
        |key| inputs.waypoints.untracked().contains_key(key),
        |reads, key| bind(reads, inputs, settings, key),
    );
}

fn bind(reads: &Reads, inputs: &Inputs, settings: &Settings, key: &Key) -> Option<InstallationOf> {
    let waypoint = inputs.waypoints.get(reads, key)?;
    let Asks {
        uid,
        name,
        service_account: _,
        makes_service_account,
        labels,
        annotations,
        service_type,
        port,
        parameters,
        revision: _,
        has_addresses,
        problems,
    } = &waypoint.asks;
    let own: Name = settings.own_revision();
    if *has_addresses || waypoint.asks.is_of_another(&own) {
        return Some(InstallationOf {
            installing: Installing::Others,
            problems: Vec::new(),
            refers: None,
            awaits: false,
        });
    }
    let mut problems = problems.clone();
    let mut patches = Vec::new();
    let mut take = |row: &Parameters, from: &Key, at: FieldPath| {
        let Key { namespace, name } = from;
        if !row.problems.is_empty() {
            let message = format!("ConfigMap {namespace}/{name}: {}", row.problems.join("; "));
            problems.push(Problem { at, reason: Reason::InvalidParameters, message });
        }
        patches.push(row.patches.clone());
    };
    let defaults: Vec<_> = inputs.parameters.bucket(reads, &Bucket(waypoint.class.clone())).collect();
    for label in 0..DEFAULTS_LABELS.len() {
        let labelled = |row: &Parameters| row.classes.contains(&(waypoint.class.clone(), label));
        for (from, row) in defaults.iter().filter(|(_, row)| labelled(row)) {
            take(row, from, FieldPath::new("spec").field("gatewayClassName"));
        }
    }
    let refers = parameters.as_ref().map(|name| Key { namespace: key.namespace.clone(), name: name.clone() });
    let mut awaits = false;
    if let Some(from) = &refers {
        match referred(reads, inputs, settings, from) {
            Referred::There(row) => take(row, from, parameters_at()),
            Referred::Awaited => awaits = true,
            Referred::Missing(message) => {
                problems.push(Problem { at: parameters_at(), reason: Reason::InvalidParameters, message });
            }
        }
    }
    let installing = if problems.is_empty() && !awaits {
        Installing::Ours(Box::new(Installation {
            uid: uid.clone(),
            name: name.clone(),
            class: waypoint.class.clone(),
            revision: own,
            makes_service_account: *makes_service_account,
            labels: labels.clone(),
            annotations: annotations.clone(),
            service_type: service_type.clone(),
            port: port.clone(),
            patches,
        }))
    } else {
        Installing::Held
    };
    // The mesh configuration is followed in any case.
    let refers = refers.filter(|from| from.reference(Kind::ConfigMap) != settings.mesh_config());
    Some(InstallationOf { installing, problems, refers, awaits })
}

fn parameters_at() -> FieldPath {
    FieldPath::new("spec").field("infrastructure").field("parametersRef")
}

/// What is known of a ConfigMap that a Gateway refers to.
enum Referred<'i> {
    There(&'i Parameters),
    Awaited,
    Missing(String),
}

fn referred<'i>(reads: &Reads, inputs: &'i Inputs, settings: &Settings, from: &Key) -> Referred<'i> {
    if let Some(row) = inputs.parameters.get(reads, from) {
        return Referred::There(row);
    }
    let Key { namespace, name } = from;
    let is_ours = from.reference(Kind::ConfigMap) == settings.mesh_config();
    match inputs.missing.get(reads, from).map(|missing| &**missing) {
        Some(Missing::Unreadable(why)) => {
            Referred::Missing(format!("ConfigMap {namespace}/{name} cannot be read: {why}"))
        }
        None if settings.references == References::Followed && !is_ours => Referred::Awaited,
        None | Some(Missing::Absent) => {
            Referred::Missing(format!("there is no ConfigMap {namespace}/{name} with patches"))
        }
    }
}
