//! The four things that an API server is asked: which versions it has, whether it is ready, a page of a
//! list, and a watch.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    client::Body,
    core::{ObjectList, Request as Ask, Status},
};
use proto::Kind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    part::{Part, group_path},
    trouble::Trouble,
};

/// How long an answer may take to begin, and a page to come. A list of a busy cluster takes seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a watch may be silent: the server ends each after 290 seconds, so that one which is silent for
/// longer goes nowhere any more.
const SILENCE: Duration = Duration::from_mins(5);

/// How many objects a page holds, as client-go asks for.
const PAGE: u32 = 500;

/// An API server, as all parts ask it.
pub(super) struct Api {
    client: Client,
    /// Whether it may have streaming lists: until it says that it has not.
    pub(super) streams_lists: AtomicBool,
}

/// Where a watch begins.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// With everything there is, and a bookmark after it.
    Everything,
    /// After this resource version.
    Version(String),
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client, streams_lists: AtomicBool::new(true) }
    }

    /// Notes that it has no streaming lists.
    pub(super) fn forget_streaming(&self, why: &str) {
        if self.streams_lists.swap(false, Ordering::Relaxed) {
            tracing::debug!(why, "the API server has no streaming lists, its objects are listed in pages");
        }
    }

    /// The first of the kind's versions that the server has.
    pub(super) async fn version(&self, kind: Kind) -> Result<Option<&'static str>, Trouble> {
        for version in kind.versions() {
            let list = self.get::<APIResourceList>(&group_path(kind, version)).await;
            match list {
                Ok(list) if list.resources.iter().any(|resource| resource.name == kind.plural()) => {
                    return Ok(Some(version));
                }
                Ok(_) | Err(Trouble::Unserved) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(None)
    }

    /// Whether the server has found all that it has. One that just started may not know of its custom
    /// resources yet, and then says so here only.
    pub(super) async fn ready(&self) -> Result<(), Trouble> {
        let request = Request::get("/readyz").body(Vec::new()).map_err(|error| Trouble::other(&error))?;
        match self.send(request).await {
            // Whoever may not ask takes its word for the rest.
            Ok(_) | Err(Trouble::Refused(_) | Trouble::Unserved) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// A page of the part's list; `next` is what the page before it said.
    pub(super) async fn page(
        &self,
        part: &Part,
        version: &str,
        next: Option<String>,
    ) -> Result<ObjectList<Value>, Trouble> {
        let parameters = ListParams {
            field_selector: part.field_selector(),
            label_selector: part.label_selector(),
            limit: Some(PAGE),
            continue_token: next,
            ..ListParams::default()
        };
        let request = Ask::new(part.path(version)).list(&parameters);
        self.read(request.map_err(|error| Trouble::other(&error))?).await
    }

    /// A watch of the part. When this returns, the server has taken it.
    pub(super) async fn watch(&self, part: &Part, version: &str, from: From) -> Result<Events, Trouble> {
        let parameters = WatchParams {
            field_selector: part.field_selector(),
            label_selector: part.label_selector(),
            send_initial_events: matches!(from, From::Everything),
            ..WatchParams::default()
        };
        let start = match from {
            // The newest there is. With "0" a server may begin with what it had some time ago.
            From::Everything => String::new(),
            From::Version(version) => version,
        };
        let request = Ask::new(part.path(version)).watch(&parameters, &start);
        let answer = self.send(request.map_err(|error| Trouble::other(&error))?).await?;
        Ok(Events { body: answer.into_body(), buffer: BytesMut::new() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.read(Request::get(path).body(Vec::new()).map_err(|error| Trouble::other(&error))?).await
    }

    async fn read<T: DeserializeOwned>(&self, request: Request<Vec<u8>>) -> Result<T, Trouble> {
        let answer = self.send(request).await?;
        let body = collect(answer).await?;
        serde_json::from_slice(&body).map_err(|error| Trouble::other(&error))
    }

    /// An answer of the server that is not an error. `kube` looks at the status of whole answers only, and
    /// of a watch we have to know that it was taken.
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, Trouble> {
        let answer = timeout(PATIENCE, self.client.send(request.map(Body::from)));
        let answer = answer.await.map_err(|_| silent())??;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        let body = collect(answer).await?;
        let mut status = serde_json::from_slice::<Status>(&body).unwrap_or_default();
        // What stands between may answer with anything.
        status.code = code.as_u16();
        Err(Trouble::of_status(&status))
    }
}

async fn collect(answer: Response<Body>) -> Result<bytes::Bytes, Trouble> {
    let body = timeout(PATIENCE, answer.into_body().collect()).await.map_err(|_| silent())?;
    Ok(body.map_err(Trouble::from)?.to_bytes())
}

fn silent() -> Trouble {
    Trouble::Away(format!("no answer within {} s", PATIENCE.as_secs()))
}

/// What a watch says.
#[derive(Debug)]
pub(super) struct Events {
    body: Body,
    /// What came of the line that is not yet whole.
    buffer: BytesMut,
}

impl Events {
    /// The next event; `None` when the server ends the watch or nothing was heard for too long. A half line
    /// at the end is nothing.
    pub(super) async fn next(&mut self) -> Option<Result<WatchEvent<Value>, Trouble>> {
        let mut looked_at = 0;
        loop {
            let end = self.buffer[looked_at..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line = self.buffer.split_to(looked_at + end + 1);
                return Some(serde_json::from_slice(&line).map_err(|error| Trouble::other(&error)));
            }
            looked_at = self.buffer.len();
            // How a watch ends says nothing: asking for the next one tells whether anybody is there.
            let Ok(Some(Ok(frame))) = timeout(SILENCE, self.body.frame()).await else { return None };
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
