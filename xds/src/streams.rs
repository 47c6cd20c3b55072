//! Who is connected, and what each of them has: the open conversations, seen from outside.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use proto::{Name, Place, TypeUrl, Version, envoy::core};

use crate::{Observation, Session, StreamId, authn::build_version};

/// The streams that are open, by their numbers.
#[derive(Debug, Default)]
pub struct Streams(Mutex<BTreeMap<u64, Arc<Open>>>);

/// A stream that is open.
#[derive(Debug)]
pub struct Open {
    stream: Arc<StreamId>,
    address: Option<SocketAddr>,
    since: SystemTime,
    node: Node,
    session: Mutex<Session>,
    notes: Mutex<Notes>,
}

/// What a session does not keep: it has no clock, and no use for words.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Since when it does not have all that is meant for it; `None` if it has.
    pub behind: Option<SystemTime>,
    /// When it last had all that is meant for it, but for what was rejected.
    pub up_to_date: Option<SystemTime>,
    /// What it rejected, until it takes another version.
    pub rejections: BTreeMap<(TypeUrl, Name), Rejection>,
}

/// What a client says of itself. Nobody checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Which program it is, and which version, as in `envoy 1.40.0`.
    pub agent: String,
    /// Where it stands. A wrong word costs only itself: see [`Place`].
    pub place: Place,
}

/// What a client said of a resource that it did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The version that it was about.
    pub version: Version,
    /// One line, shortened, without anything that looks secret.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

impl Streams {
    /// Every open stream, by the name of its group and then by age.
    pub fn all(&self) -> Vec<Arc<Open>> {
        let mut all: Vec<_> = self.0.lock().values().cloned().collect();
        all.sort_by(|a, b| (&a.stream.group, a.stream.number).cmp(&(&b.stream.group, b.stream.number)));
        all
    }

    pub(crate) fn open(
        &self,
        stream: Arc<StreamId>,
        address: Option<SocketAddr>,
        node: Node,
        session: Session,
    ) -> Arc<Open> {
        let (number, now) = (stream.number, SystemTime::now());
        let notes = Mutex::new(Notes { behind: Some(now), ..Notes::default() });
        let open = Arc::new(Open { stream, address, since: now, node, session: Mutex::new(session), notes });
        self.0.lock().insert(number, Arc::clone(&open));
        open
    }

    pub(crate) fn close(&self, stream: &StreamId) {
        self.0.lock().remove(&stream.number);
    }
}

impl Node {
    pub(crate) fn of(node: Option<&core::Node>) -> Self {
        let Some(node) = node else { return Self::default() };
        let version = build_version(node).map(|(major, minor, patch)| format!(" {major}.{minor}.{patch}"));
        let locality = node.locality.clone().unwrap_or_default();
        Self {
            id: node.id.clone(),
            agent: format!("{}{}", node.user_agent_name, version.unwrap_or_default()),
            place: Place {
                region: locality.region.into(),
                zone: locality.zone.into(),
                sub_zone: locality.sub_zone.into(),
            },
        }
    }
}

impl Open {
    /// Which stream it is.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Where the client connects from.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Since when it is open.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// What the client says of itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What is known of the client besides what it has.
    pub fn notes(&self) -> Notes {
        self.notes.lock().clone()
    }

    /// Looks at the session as it is now. Its stream waits meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&Session) -> T) -> T {
        at(&self.session.lock())
    }

    /// Lends the session to the stream's own task, which is the only one that changes it.
    pub(crate) fn with<T>(&self, step: impl FnOnce(&mut Session) -> T) -> T {
        step(&mut self.session.lock())
    }

    /// Something else is meant for the client from now on.
    pub(crate) fn move_on(&self) {
        self.notes.lock().behind.get_or_insert_with(SystemTime::now);
    }

    pub(crate) fn note(&self, observation: &Observation) {
        match observation {
            Observation::Acked { type_url, resources, removed, .. } => {
                let mut notes = self.notes.lock();
                if notes.rejections.is_empty() {
                    return;
                }
                for name in resources.iter().map(|(name, _)| name).chain(removed) {
                    notes.rejections.remove(&(*type_url, Name::clone(name)));
                }
            }
            Observation::Rejected { type_url, resources, quarantined: true, message, .. } => {
                let mut notes = self.notes.lock();
                for (name, version) in resources {
                    let key = (*type_url, Name::clone(name));
                    let (version, message) = (*version, message.clone());
                    notes.rejections.insert(key, Rejection { version, message, at: SystemTime::now() });
                }
            }
            Observation::UpToDate { .. } => {
                let mut notes = self.notes.lock();
                notes.behind = None;
                notes.up_to_date = Some(SystemTime::now());
            }
            Observation::Rejected { quarantined: false, .. }
            | Observation::Connected { .. }
            | Observation::Refused { .. }
            | Observation::Sent { .. }
            | Observation::Unserved { .. }
            | Observation::Gone { .. } => {}
        }
    }
}
