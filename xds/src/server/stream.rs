//! One stream: feeds a session with requests and snapshots, and pulls responses from it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt, stream};
use proto::envoy::{
    core,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use tokio::time::{self, Sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{
    Cache, Client, Follower, Group, Limits, Node, Observation, Observer, Open, Revocation, Session, StreamId,
    Streams, Violation,
    authn::{check_version, claimed_group},
    limits::Admission,
};

/// A client that may have a stream.
pub(super) struct Introduced {
    /// Who it is.
    pub(super) client: Client,
    /// Where it connects from.
    pub(super) address: Option<SocketAddr>,
    /// The number of its stream.
    pub(super) number: u64,
}

/// A client's stream, and all that it needs.
pub(super) struct Conversation {
    introduced: Introduced,
    /// From the first request on, which says whose resources it is about.
    talk: Option<Talk>,
    cache: Arc<Cache>,
    requests: Streaming<DeltaDiscoveryRequest>,
    observer: Observer,
    names: usize,
    /// How long the first request may take.
    introduction: Pin<Box<Sleep>>,
    expiry: Option<Pin<Box<Sleep>>>,
    revocation: Revocation,
    stop: CancellationToken,
    /// Why it ended, once it has.
    end: String,
    /// Whether it was we who ended it.
    turned_away: bool,
    _admission: Admission,
}

/// What is said to a client that has said who it is.
struct Talk {
    stream: Arc<StreamId>,
    /// The session, which others may look at.
    open: Arc<Open>,
    streams: Arc<Streams>,
    follower: Follower,
}

impl Conversation {
    pub(super) fn new(
        introduced: Introduced,
        requests: Streaming<DeltaDiscoveryRequest>,
        cache: Arc<Cache>,
        admission: Admission,
        observer: Observer,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Self {
        let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
        let Client { expires, revocation, .. } = introduced.client.clone();
        Self {
            introduced,
            talk: None,
            cache,
            requests,
            observer,
            names: limits.names,
            introduction: Box::pin(time::sleep(limits.introduction)),
            expiry: expires.map(|expires| Box::pin(time::sleep(left(expires)))),
            revocation,
            stop,
            end: "the connection was lost".to_owned(),
            turned_away: false,
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
                    conversation.turned_away = true;
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
            if let Some(Talk { open, .. }) = &self.talk {
                let (response, seen) =
                    open.with(|session| (session.next_response(), session.take_observations()));
                for observation in &seen {
                    open.note(observation);
                    (self.observer)(observation);
                }
                if response.is_some() {
                    return Ok(response);
                }
            }
            let silent = self.talk.is_none();
            tokio::select! {
                () = self.stop.cancelled() => return Err(stopping()),
                () = elapsed(&mut self.expiry) => return Err(expired()),
                () = self.revocation.revoked() => return Err(revoked()),
                () = &mut self.introduction, if silent => {
                    return Err(Status::deadline_exceeded("the stream's first request did not come in time"));
                }
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.on_request(request)?,
                    Some(Err(status)) => return Err(unreadable(status)),
                    None => return Ok(None),
                },
                () = news(&mut self.talk) => {}
            }
        }
    }

    fn on_request(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let node = request.node.take();
        let talk = if let Some(talk) = &mut self.talk {
            let groups = [talk.stream.group.clone()].into();
            if node.is_some() && claimed_group(node.as_ref(), &groups).is_err() {
                return Err(Status::invalid_argument("node has changed; a stream belongs to one client"));
            }
            talk
        } else {
            let group = claimed_group(node.as_ref(), &self.introduced.client.groups)?;
            check_version(node.as_ref())?;
            let node = node.as_ref();
            let talk = self.talk.insert(Talk::begin(group, node, &self.introduced, &self.cache, self.names));
            let (stream, address) = (Arc::clone(&talk.stream), self.introduced.address);
            (self.observer)(&Observation::Connected { stream, address });
            talk
        };
        talk.open.with(|session| session.on_request(request)).map_err(|violation| match violation {
            Violation::TypeMissing | Violation::Locators => Status::invalid_argument(violation.to_string()),
            Violation::TooManyNames { .. } => Status::resource_exhausted(violation.to_string()),
        })
    }
}

impl Talk {
    fn begin(
        group: Group,
        node: Option<&core::Node>,
        introduced: &Introduced,
        cache: &Cache,
        names: usize,
    ) -> Self {
        let follower = cache.follow(&group);
        let client = introduced.client.name.as_str().into();
        let stream = Arc::new(StreamId { group, client, number: introduced.number });
        let mut session = Session::new(Arc::clone(&stream), follower.quarantine(), names);
        let node = Node::of(node);
        session.stand_at(node.place.clone());
        let streams = Arc::clone(cache.streams());
        let open = streams.open(Arc::clone(&stream), introduced.address, node, session);
        Self { stream, open, streams, follower }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.streams.close(&self.stream);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let reason = std::mem::take(&mut self.end);
        if let Some(Talk { stream, .. }) = &self.talk {
            (self.observer)(&Observation::Gone { stream: Arc::clone(stream), reason });
        } else if self.turned_away {
            (self.observer)(&Observation::Refused { address: self.introduced.address, message: reason });
        }
    }
}

/// Waits for the next snapshot, and gives it to the session. Safe to cancel.
async fn news(talk: &mut Option<Talk>) {
    match talk {
        Some(Talk { open, follower, .. }) => {
            let snapshot = follower.changed().await;
            open.with(|session| session.on_snapshot(snapshot));
            open.move_on();
        }
        None => std::future::pending().await,
    }
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

fn revoked() -> Status {
    Status::unauthenticated("the credential is not good any more; reconnect with a new one")
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
