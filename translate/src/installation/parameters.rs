//! ConfigMap of strategic merge patches: what users want changed of the objects that run their waypoints.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    DecodeError, Name,
    kubernetes::{Deployment, HorizontalPodAutoscaler, PodDisruptionBudget, Service, ServiceAccount},
    mesh_api::{ConfigData, ConfigMap, parse_document},
};
use serde_json::Value;

use super::{Part, Patch, patch};
use crate::{
    derive::Row,
    fields::kind,
    mesh::{labels, name::Key},
    problem::FieldPath,
    settings::Settings,
};

/// The labels by which a ConfigMap of the root namespace holds the defaults of the class that they name.
/// Istio's comes first, so that ours can say what differs from it.
pub(crate) const DEFAULTS_LABELS: [&str; 2] =
    ["gateway.istio.io/defaults-for-class", "portolan.dev/defaults-for-class"];

/// A ConfigMap of patches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    /// The classes whose defaults it holds, each with the place of the label that says so.
    pub(crate) classes: BTreeSet<(Name, usize)>,
    pub(crate) patches: BTreeMap<Part, Patch>,
    /// What is wrong with it. Then none of it may be applied.
    pub(crate) problems: Vec<String>,
}

/// The defaults of one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bucket(pub(crate) Name);

impl Row for Parameters {
    const TABLE: &'static str = "parameters";
    type Key = Key;
    type Bucket = Bucket;

    fn buckets(_key: &Key, row: &Self) -> Vec<Bucket> {
        let classes: BTreeSet<_> = row.classes.iter().map(|(class, _)| Bucket(class.clone())).collect();
        classes.into_iter().collect()
    }
}

pub(crate) fn lower(key: &Key, object: &ConfigMap, settings: &Settings) -> Parameters {
    let ConfigMap { metadata, data } = object;
    let labels = DEFAULTS_LABELS.iter().enumerate();
    let classes = labels.filter_map(|(place, label)| Some((labels::label(metadata, label)?.into(), place)));
    let classes = if key.namespace == settings.root_namespace { classes.collect() } else { BTreeSet::new() };
    let ConfigData {
        mesh: _,
        mesh_networks: _,
        deployment,
        service,
        service_account,
        horizontal_pod_autoscaler,
        pod_disruption_budget,
    } = data;
    let texts = [
        (Part::Deployment, "deployment", deployment),
        (Part::Service, "service", service),
        (Part::ServiceAccount, "serviceAccount", service_account),
        (Part::HorizontalPodAutoscaler, "horizontalPodAutoscaler", horizontal_pod_autoscaler),
        (Part::PodDisruptionBudget, "podDisruptionBudget", pod_disruption_budget),
    ];
    let mut patches = BTreeMap::new();
    let mut problems = Vec::new();
    for (part, name, text) in texts {
        let Some(text) = text.as_deref().filter(|text| !text.trim().is_empty()) else { continue };
        match lower_text(part, text) {
            Ok(patch) => drop(patches.insert(part, patch)),
            Err(wrong) => problems.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}"))),
        }
    }
    Parameters { classes, patches, problems }
}

fn lower_text(part: Part, text: &str) -> Result<Patch, Vec<String>> {
    let mut value = parse_document(text).map_err(|error| vec![error])?;
    let Value::Object(map) = &mut value else {
        return Err(vec![format!(
            "expected the fields of a {} to change, not {}",
            part.kind(),
            kind(&value)
        )]);
    };
    for (field, expected) in [("apiVersion", part.api_version()), ("kind", part.kind())] {
        if let Some(other) = map.remove(field).filter(|value| value != expected) {
            return Err(vec![format!("{field}: expected {expected:?}, not {other}; leave it out")]);
        }
    }
    quantities(&mut value, "");
    let mut problems = Vec::new();
    let patch = patch::lower(part, &value, &FieldPath::default(), &mut problems);
    if !problems.is_empty() {
        return Err(problems.iter().map(ToString::to_string).collect());
    }
    if matches!(patch, Patch::Set(_)) {
        return Err(vec![format!("a {} can be patched and taken away, and not replaced", part.kind())]);
    }
    match check(part, &patch) {
        Ok(unknown) if unknown.is_empty() => Ok(patch),
        Ok(unknown) => {
            Err(unknown.iter().map(|path| format!("{path}: a {} has no such field", part.kind())).collect())
        }
        Err(DecodeError::Field { path, message }) => Err(vec![format!("{path}: {message}")]),
        Err(error) => Err(vec![error.to_string()]),
    }
}

/// Whether what the patch sets has the shape of the kind: nothing that is set is ignored in silence.
fn check(part: Part, patch: &Patch) -> Result<Vec<String>, DecodeError> {
    let Some(set) = patch.apply(None) else { return Ok(Vec::new()) };
    match part {
        Part::ServiceAccount => proto::check::<ServiceAccount>(set),
        Part::Deployment => proto::check::<Deployment>(set),
        Part::Service => proto::check::<Service>(set),
        Part::HorizontalPodAutoscaler => proto::check::<HorizontalPodAutoscaler>(set),
        Part::PodDisruptionBudget => proto::check::<PodDisruptionBudget>(set),
    }
}

/// A quantity may be written as a number, and is a text.
fn quantities(value: &mut Value, parent: &str) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                let is_quantity = ["limits", "requests"].contains(&parent)
                    || ["sizeLimit", "averageValue", "divisor"].contains(&name.as_str())
                    || (parent == "target" && name == "value");
                if let Some(number) = value.as_number().filter(|_| is_quantity) {
                    *value = Value::String(number.to_string());
                } else {
                    quantities(value, name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| quantities(item, parent)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
