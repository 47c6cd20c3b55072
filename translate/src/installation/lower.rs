//! What a Gateway itself says of the objects that run it.

use std::collections::BTreeMap;

use proto::{
    Name,
    gateway::{
        Gateway,
        gateways::{GatewayInfrastructure, GatewayListeners},
    },
};

use crate::{
    mesh::{labels, waypoint::is_hbone},
    problem::{FieldPath, Problem, Reason},
};

/// The name of the Deployment and the Service, if it is not the Gateway's.
const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// A service account of somebody's own.
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// The type of the Service.
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// Which control plane of the mesh it is for.
const REVISION: &str = "istio.io/rev";

/// What the Service calls the port of the readiness probe.
const STATUS_PORT: &str = "status-port";

/// Labels and annotations of the Gateway by which tools keep its history, or know it for theirs: copied
/// to what we make, they would take that for theirs too.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "fluxcd.io/",
    "gateway.istio.io/",
    "config.k8s.io/",
];

/// What the Gateway asks for, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asks {
    pub(crate) uid: Option<String>,
    pub(crate) name: Name,
    pub(crate) service_account: Name,
    pub(crate) makes_service_account: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) service_type: String,
    pub(crate) port: Name,
    /// The ConfigMap of its own patches, in its namespace.
    pub(crate) parameters: Option<Name>,
    pub(crate) revision: Option<Name>,
    /// It says itself where it is found, so somebody runs it there.
    pub(crate) has_addresses: bool,
    /// Why none of it can be done.
    pub(crate) problems: Vec<Problem>,
}

impl Asks {
    /// Whether another revision of the mesh than `own` runs it and writes its status, as its label says.
    pub(crate) fn is_of_another(&self, own: &Name) -> bool {
        self.revision.as_ref().is_some_and(|revision| revision != own)
    }
}

pub(crate) fn lower(object: &Gateway) -> Asks {
    let metadata = &object.metadata;
    let mut problems = Vec::new();
    let own: Name = metadata.name.as_deref().unwrap_or_default().into();
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).map(String::as_str);
    let mut named = |annotated: &str, is_name: fn(&str) -> bool, shape: &str| {
        let at = FieldPath::new("metadata").field("annotations").field(annotated);
        let (name, at) = match annotation(annotated) {
            Some(name) => (name.into(), at),
            None => (own.clone(), FieldPath::new("metadata").field("name")),
        };
        if !is_name(&name) {
            let message =
                format!("{name:?} is not a name for {shape}; choose another by the annotation {annotated}");
            problems.push(Problem { at, reason: Reason::Invalid, message });
        }
        name
    };
    let name = named(
        NAME_OVERRIDE,
        is_service_name,
        "a Service: up to 63 lower-case letters, digits and \"-\", a letter first",
    );
    let service_account = named(
        SERVICE_ACCOUNT,
        is_object_name,
        "a ServiceAccount: lower-case letters, digits, \"-\" and \".\"",
    );
    if own.len() > 63 {
        problems.push(Problem {
            at: FieldPath::new("metadata").field("name"),
            reason: Reason::Invalid,
            message: "longer than the 63 letters of a label, by which its pods would be found".to_owned(),
        });
    }
    let infrastructure = object.spec.infrastructure.as_ref();
    let parameters =
        infrastructure.and_then(|infrastructure| lower_parameters(infrastructure, &mut problems));
    let service_type = lower_service_type(annotation(SERVICE_TYPE), &mut problems);
    Asks {
        uid: metadata.uid.clone(),
        name,
        service_account,
        makes_service_account: annotation(SERVICE_ACCOUNT).is_none(),
        labels: copied(infrastructure.and_then(|asked| asked.labels.as_ref()), metadata.labels.as_ref()),
        annotations: copied(
            infrastructure.and_then(|asked| asked.annotations.as_ref()),
            metadata.annotations.as_ref(),
        ),
        service_type,
        port: lower_port(&object.spec.listeners),
        parameters,
        revision: labels::label(metadata, REVISION).map(Into::into),
        has_addresses: object.spec.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()),
        problems,
    }
}

/// The Service names its port as the Gateway does, if a Service can.
fn lower_port(listeners: &[GatewayListeners]) -> Name {
    let mut names = listeners.iter().filter(|one| is_hbone(one)).map(|one| one.name.as_str());
    names.find(|name| is_label(name) && name.len() <= 63 && *name != STATUS_PORT).unwrap_or("mesh").into()
}

/// What `spec.infrastructure` says; where it is silent, what the Gateway itself has.
fn copied(
    asked: Option<&BTreeMap<String, String>>,
    own: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let copies = |name: &str| !NOT_COPIED.iter().any(|prefix| name.contains(prefix));
    match asked {
        Some(asked) => asked.clone(),
        None => own
            .into_iter()
            .flatten()
            .filter(|(name, _)| copies(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    }
}

fn lower_parameters(infrastructure: &GatewayInfrastructure, problems: &mut Vec<Problem>) -> Option<Name> {
    let reference = infrastructure.parameters_ref.as_ref()?;
    if reference.group.is_empty() && reference.kind == "ConfigMap" {
        return Some(reference.name.as_str().into());
    }
    problems.push(Problem {
        at: FieldPath::new("spec").field("infrastructure").field("parametersRef"),
        reason: Reason::InvalidParameters,
        message: format!(
            "{:?} of group {:?} cannot be read; refer to a ConfigMap of group \"\" with patches",
            reference.kind, reference.group
        ),
    });
    None
}

fn lower_service_type(asked: Option<&str>, problems: &mut Vec<Problem>) -> String {
    let asked = asked.unwrap_or("ClusterIP");
    if !["ClusterIP", "NodePort", "LoadBalancer"].contains(&asked) {
        problems.push(Problem {
            at: FieldPath::new("metadata").field("annotations").field(SERVICE_TYPE),
            reason: Reason::Invalid,
            message: format!("{asked:?} is not ClusterIP, NodePort or LoadBalancer"),
        });
    }
    asked.to_owned()
}

/// RFC 1035 label: what a Service may be called.
fn is_service_name(name: &str) -> bool {
    is_label(name) && name.len() <= 63 && name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// RFC 1123 subdomain.
fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
