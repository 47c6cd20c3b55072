//! Custom resource definitions of the kinds that we read, made from the list of kinds: nothing is downloaded.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use proto::Kind;
use serde_json::{Value, json};

use crate::until;

/// How long a definition may take to be in force.
const PATIENCE: Duration = Duration::from_mins(1);

/// Defines `kind` and waits until it is served in all of its versions.
pub(super) async fn install(client: &Client, kind: Kind) -> Result<()> {
    definitions(client).create(&PostParams::default(), &serde_json::from_value(definition(kind))?).await?;
    settled(client, kind, true).await
}

/// Removes the definition of `kind`, and with it every object of it.
pub(super) async fn uninstall(client: &Client, kind: Kind) -> Result<()> {
    definitions(client).delete(&name(kind), &DeleteParams::default()).await?;
    settled(client, kind, false).await
}

/// Whether the server has `kind` in `version`.
pub(super) async fn serves(client: &Client, kind: Kind, version: &str) -> Result<bool> {
    let resources = if kind.group().is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(&format!("{}/{version}", kind.group())).await
    };
    match resources {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == kind.plural())),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn settled(client: &Client, kind: Kind, served: bool) -> Result<()> {
    let what = format!("the server to {} {}", if served { "have" } else { "forget" }, name(kind));
    until(&what, PATIENCE, async || {
        for version in kind.versions() {
            if serves(client, kind, version).await? != served {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

fn definitions(client: &Client) -> Api<CustomResourceDefinition> {
    Api::all(client.clone())
}

fn name(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

/// Any field is taken, as the types that read the objects are what is tested. What every real definition
/// of these kinds has is there: all versions, and a status that is written apart, with the lists that are
/// maps to a server-side apply.
fn definition(kind: Kind) -> Value {
    let version = |(index, version): (usize, &&str)| {
        let mut version = json!({
            "name": version, "served": true, "storage": index == 0, "schema": {"openAPIV3Schema": schema(kind)},
        });
        if kind != Kind::EndpointSlice {
            version["subresources"] = json!({"status": {}});
        }
        version
    };
    let singular = kind.name().to_lowercase();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name(kind),
            // Without it, groups under k8s.io are refused.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": kind.group(),
            "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.name(), "listKind": format!("{}List", kind.name()),
                "plural": kind.plural(), "singular": singular,
            },
            "versions": kind.versions().iter().enumerate().map(version).collect::<Vec<_>>(),
        },
    })
}

fn schema(kind: Kind) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let Some(lists) = lists(kind) else { return anything };
    let mut status = anything.clone();
    status["properties"] = lists;
    json!({"type": "object", "properties": {"spec": anything, "status": status}})
}

/// The lists in a status, as Gateway API and Istio define them; `None` for kinds without a status of theirs.
fn lists(kind: Kind) -> Option<Value> {
    // What is not said to be a map is one value.
    let atomic = json!({
        "type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    });
    let map = |key: &str, more: Value| {
        let mut item = json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": [key],
            "properties": {key: {"type": "string"}},
        });
        if let (Some(fields), Value::Object(more)) = (item["properties"].as_object_mut(), more) {
            fields.extend(more);
        }
        json!({
            "type": "array", "items": item,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key],
        })
    };
    let conditions = map("type", json!({}));
    Some(match kind {
        Kind::Gateway => {
            let listeners = map("name", json!({"conditions": conditions}));
            json!({"conditions": conditions, "listeners": listeners, "addresses": atomic})
        }
        Kind::GatewayClass => {
            json!({"conditions": conditions, "supportedFeatures": map("name", json!({}))})
        }
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => json!({"parents": atomic}),
        Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => json!({"conditions": atomic}),
        Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::ConfigMap
        | Kind::ReferenceGrant => return None,
    })
}
