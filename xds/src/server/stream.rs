//! One stream: feeds a session with requests and snapshots, and pulls responses from it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt, stream};
use proto::{
    Place,
    envoy::{
        core,
        discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
};
use tokio::time::{self, Sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{
    Follower, Limits, Observation, Observer, Session, StreamId, Violation,
    authn::{check_claim, check_version},
    limits::Admission,
};

/// An authenticated stream, and all that it needs.
pub(super) struct Conversation {
    stream: Arc<StreamId>,
    session: Session,
    requests: Streaming<DeltaDiscoveryRequest>,
    follower: Follower,
    observer: Observer,
    /// Until the first request has come: how long it may take.
    awaiting: Option<Pin<Box<Sleep>>>,
    expiry: Option<Pin<Box<Sleep>>>,
    stop: CancellationToken,
    /// Why it ended, once it has.
    end: String,
    _admission: Admission,
}

impl Conversation {
    #[allow(clippy::too_many_arguments, reason = "called once, with everything a stream needs")]
    pub(super) fn new(
        stream: Arc<StreamId>,
        address: Option<SocketAddr>,
        expires: Option<SystemTime>,
        requests: Streaming<DeltaDiscoveryRequest>,
        follower: Follower,
        admission: Admission,
        observer: Observer,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Self {
        observer(&Observation::Connected { stream: Arc::clone(&stream), address });
        let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
        Self {
            session: Session::new(Arc::clone(&stream), follower.quarantine(), limits.names),
            stream,
            requests,
            follower,
            observer,
            awaiting: Some(Box::pin(time::sleep(limits.introduction))),
            expiry: expires.map(|expires| Box::pin(time::sleep(left(expires)))),
            stop,
            end: "the connection was lost".to_owned(),
            _admission: admission,
        }
    }

    /// The responses. They are made when the connection has room for them, and requests are read
    /// while there is nothing to send: a client that does not read costs one response of memory.
    pub(super) fn responses(self) -> impl Stream<Item = Result<DeltaDiscoveryResponse, Status>> {
        stream::unfold(Some(self), |conversation| async {
            let mut conversation = conversation?;
            match conversation.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(conversation))),
                Ok(None) => {
                    "the client closed it".clone_into(&mut conversation.end);
                    None
                }
                Err(status) => {
                    status.message().clone_into(&mut conversation.end);
                    Some((Err(status), None))
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            // A session with much to say must not outlast its credential, nor the server.
            if self.stop.is_cancelled() {
                return Err(stopping());
            }
            if self
                .expiry
                .as_ref()
                .is_some_and(|expiry| expiry.is_elapsed() || expiry.deadline() <= time::Instant::now())
            {
                return Err(expired());
            }
            let response = self.session.next_response();
            self.session.take_observations().iter().for_each(|observation| (self.observer)(observation));
            if response.is_some() {
                return Ok(response);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(stopping()),
                () = elapsed(&mut self.expiry) => return Err(expired()),
                () = elapsed(&mut self.awaiting) => {
                    return Err(Status::deadline_exceeded("the stream's first request did not come in time"));
                }
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.on_request(request)?,
                    Some(Err(status)) => return Err(unreadable(status)),
                    None => return Ok(None),
                },
                snapshot = self.follower.changed() => self.session.on_snapshot(snapshot),
            }
        }
    }

    fn on_request(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let node = request.node.take();
        if self.awaiting.is_some() {
            check_claim(node.as_ref(), &self.stream.group)?;
            check_version(node.as_ref())?;
            self.session.stand_at(place(node.as_ref()));
            self.awaiting = None;
        } else if node.is_some() && check_claim(node.as_ref(), &self.stream.group).is_err() {
            return Err(Status::invalid_argument("node has changed; a stream belongs to one client"));
        }
        self.session.on_request(request).map_err(|violation| match violation {
            Violation::TypeMissing | Violation::Locators => Status::invalid_argument(violation.to_string()),
            Violation::TooManyNames { .. } => Status::resource_exhausted(violation.to_string()),
        })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let reason = std::mem::take(&mut self.end);
        (self.observer)(&Observation::Gone { stream: Arc::clone(&self.stream), reason });
    }
}

/// Where a client says that it stands. A wrong word costs only itself: see [`Place`].
fn place(node: Option<&core::Node>) -> Place {
    let locality = node.and_then(|node| node.locality.as_ref());
    locality.map_or_else(Place::default, |locality| Place {
        region: locality.region.as_str().into(),
        zone: locality.zone.as_str().into(),
        sub_zone: locality.sub_zone.as_str().into(),
    })
}

async fn elapsed(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn stopping() -> Status {
    Status::unavailable("this control plane is stopping; reconnect")
}

fn expired() -> Status {
    Status::unauthenticated("the credential has expired; reconnect with a new one")
}

/// A request that could not be read. tonic calls one that is too large out of range, and garbage
/// an internal error; both are the client's.
fn unreadable(status: Status) -> Status {
    if status.code() == Code::OutOfRange {
        Status::resource_exhausted(status.message())
    } else if status.code() == Code::Internal {
        Status::invalid_argument(status.message())
    } else {
        status
    }
}
