//! The write itself, and what an API server makes of it.

use std::{error::Error, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use proto::{Kind, Name, ObjectRef};
use serde_json::{Value, json};
use tokio::time::timeout;
use watch::Live;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server that is written to, and as whom.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) client: Client,
    /// The field manager.
    pub(super) manager: Name,
}

/// What became of a write.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is written; what the server shows now.
    Written(Live),
    /// The object has changed since it was read.
    Moved,
    /// It is not there: the object, or its whole kind.
    Gone,
    /// Our account may not.
    Forbidden(String),
    /// The server does not take it, and would not the next time.
    Refused(String),
    /// It did not work, for once.
    Failed(String),
    /// Nobody answers, or somebody who has too much to do; how long to wait, if that was said.
    Away(String, Option<Duration>),
}

/// Applies `body`, a manifest with the status only, to the status of `object`.
pub(super) async fn apply(server: &Server, object: &ObjectRef, api_version: &str, body: &Value) -> Outcome {
    let mut outcome = patch(server, object, api_version, body, Form::Apply).await;
    if let Outcome::Refused(why) = &outcome
        && why.contains("null")
        && body.get("status").is_none()
    {
        outcome = empty(server, object, api_version, body, why).await;
    } else if let Outcome::Refused(_) = outcome
        && body["status"]["supportedFeatures"].is_array()
    {
        // Gateway API had them as a list of names, and before that not at all.
        let mut less = body.clone();
        if let Some(status) = less["status"].as_object_mut() {
            status.remove("supportedFeatures");
        }
        outcome = patch(server, object, api_version, &less, Form::Apply).await;
    }
    outcome
}

/// Takes away all that was ours where the server would make nulls of what has nothing else, and then refuses
/// them: lists first, by their names, and in the end the whole status.
async fn empty(server: &Server, object: &ObjectRef, api_version: &str, body: &Value, why: &str) -> Outcome {
    const LISTS: [&str; 4] = ["conditions", "listeners", "addresses", "supportedFeatures"];
    let (mut body, mut why) = (body.clone(), why.to_owned());
    loop {
        let named: Vec<_> =
            LISTS.into_iter().filter(|list| why.contains(&format!("status.{list}"))).collect();
        let all = named.is_empty();
        let lists = if all { LISTS.to_vec() } else { named };
        let mut merged = body.clone();
        merged["status"] = lists.into_iter().map(|list| (list.to_owned(), Value::Null)).collect();
        let merged = patch(server, object, api_version, &merged, Form::Merge).await;
        let Outcome::Written(written) = &merged else { return merged };
        if all {
            return merged;
        }
        body["metadata"]["resourceVersion"] = json!(&*written.version);
        let applied = patch(server, object, api_version, &body, Form::Apply).await;
        let Outcome::Refused(next) = &applied else { return applied };
        if *next == why {
            return applied;
        }
        why.clone_from(next);
    }
}

/// How a patch is meant.
#[derive(Clone, Copy)]
enum Form {
    /// As all that we say.
    Apply,
    /// As what changes.
    Merge,
}

async fn patch(server: &Server, object: &ObjectRef, api_version: &str, body: &Value, form: Form) -> Outcome {
    let Server { client, manager } = server;
    let api = api(client, object, api_version);
    let (parameters, patch) = match form {
        // Ours by force: whoever else writes an entry of our name writes what we say better.
        Form::Apply => (PatchParams::apply(manager).force(), Patch::Apply(body)),
        Form::Merge => (PatchParams::apply(manager), Patch::Merge(body)),
    };
    let answer = api.patch_status(&object.name, &parameters, &patch);
    match timeout(PATIENCE, answer).await {
        Ok(Ok(written)) => match serde_json::to_value(&written) {
            Ok(written) => Outcome::Written(Live::of(&written, manager)),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Ok(Err(error)) => failed(&error),
        Err(_) => Outcome::Away(format!("no answer within {} s", PATIENCE.as_secs()), None),
    }
}

/// Makes a GatewayClass of ours, if there is none of its name.
pub(super) async fn make_class(server: &Server, name: &str, controller: &str) -> Outcome {
    let Server { client, manager } = server;
    let object = ObjectRef { kind: Kind::GatewayClass, namespace: "".into(), name: name.into() };
    let mut outcome = Outcome::Gone;
    for version in Kind::GatewayClass.versions() {
        let resource = resource(Kind::GatewayClass, version);
        let class = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name},
            "spec": {"controllerName": controller, "description": "waypoints of Portolan"},
        });
        let class = match serde_json::from_value::<DynamicObject>(class) {
            Ok(class) => class,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let api = api(client, &object, version);
        let parameters = PostParams { field_manager: Some(manager.to_string()), ..<_>::default() };
        outcome = match timeout(PATIENCE, api.create(&parameters, &class)).await {
            Ok(Ok(made)) => {
                Outcome::Written(Live::of(&serde_json::to_value(&made).unwrap_or_default(), manager))
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => Outcome::Away(format!("no answer within {} s", PATIENCE.as_secs()), None),
        };
        if outcome != Outcome::Gone {
            break;
        }
    }
    outcome
}

fn api(client: &Client, object: &ObjectRef, version: &str) -> Api<DynamicObject> {
    let resource = resource(object.kind, version);
    if object.kind.namespaced() {
        Api::namespaced_with(client.clone(), &object.namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

/// How the API server calls the kind in that version.
pub(super) fn resource(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

fn failed(error: &kube::Error) -> Outcome {
    let kube::Error::Api(status) = error else { return Outcome::Away(chain(error), None) };
    let message = match status.message.as_str() {
        "" => format!("it answers {}", status.code),
        message => message.to_owned(),
    };
    let wait = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
    let wait = wait.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    match status.code {
        409 => Outcome::Moved,
        404 | 410 => Outcome::Gone,
        // Not the words of an admission webhook, which may forbid one object and no other.
        401 => Outcome::Forbidden(message),
        403 if message.contains("cannot patch resource") || message.contains("cannot create resource") => {
            Outcome::Forbidden(message)
        }
        400 | 403 | 413 | 415 | 422 => Outcome::Refused(message),
        // What does not fit the schema of a custom resource is said so.
        500 if message.contains("create typed patch object")
            || message.contains("not declared in schema") =>
        {
            Outcome::Refused(message)
        }
        429 | 502..=504 => Outcome::Away(message, wait),
        _ => Outcome::Failed(message),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
