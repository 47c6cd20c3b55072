//! What clients did, as values: the room's only way of saying anything about them.

use std::{net::SocketAddr, sync::Arc};

use proto::{Name, TypeUrl, Version};

use crate::Group;

/// Receives every observation, on the stream's own task: it must be quick and must not block.
pub type Observer = Arc<dyn Fn(&Observation) + Send + Sync>;

/// Which conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The group that it follows.
    pub group: Group,
    /// The authenticated client, as [`Authenticate`](crate::Authenticate) named it.
    pub client: Name,
    /// Tells two streams of one client apart: while it reconnects, the old one may outlive the new
    /// one's beginning. Unique in the process.
    pub number: u64,
}

/// One thing that a client did, or that was done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A stream was opened by an authenticated client.
    Connected {
        /// Which.
        stream: Arc<StreamId>,
        /// Where it connects from.
        address: Option<SocketAddr>,
    },
    /// A stream was turned away before it got anything.
    Refused {
        /// Where it came from.
        address: Option<SocketAddr>,
        /// Why, in the words that it was told.
        message: String,
    },
    /// A response was handed to the connection.
    Sent {
        /// To whom.
        stream: Arc<StreamId>,
        /// Of which type.
        type_url: TypeUrl,
        /// How many resources it sets.
        resources: usize,
        /// How many it removes.
        removed: usize,
        /// Its encoded length.
        bytes: usize,
    },
    /// The client took a response.
    Acked {
        /// Who.
        stream: Arc<StreamId>,
        /// Of which type.
        type_url: TypeUrl,
        /// What the response set.
        resources: Vec<(Name, Version)>,
        /// What it removed.
        removed: Vec<Name>,
    },
    /// The client rejected a response.
    Rejected {
        /// Who.
        stream: Arc<StreamId>,
        /// Of which type.
        type_url: TypeUrl,
        /// What the response set; one of them is bad.
        resources: Vec<(Name, Version)>,
        /// Whether the bad one is found: it was alone, and is not sent again until it changes.
        /// Otherwise its neighbours are sent again one by one.
        quarantined: bool,
        /// What the client said: one line, shortened, without anything that looks secret.
        message: String,
    },
    /// The client has taken all it asked for, and asked for all types there are.
    UpToDate {
        /// Who.
        stream: Arc<StreamId>,
        /// At which revision of its group.
        revision: u64,
        /// What it does not have at that revision, because it was rejected.
        quarantined: Vec<(TypeUrl, Name)>,
    },
    /// The client asked for a type that is not served. It was told that nothing of it exists.
    Unserved {
        /// Who.
        stream: Arc<StreamId>,
        /// For what it asked.
        type_url: String,
    },
    /// The stream ended.
    Gone {
        /// Which.
        stream: Arc<StreamId>,
        /// Why.
        reason: String,
    },
}
