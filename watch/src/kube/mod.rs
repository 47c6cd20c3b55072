//! Objects from an API server: a list and a watch of each kind, for ever.
//!
//! ```text
//!   part ─► follow ─► shelf ─► News ─► board ─► Update
//!   a kind   lists     what      of     are all
//!            and       moved     each   complete?
//!            watches             part
//! ```
//!
//! This is a loop of our own over kube's client, and not kube-runtime's watcher. That one does not tell when
//! a watch was taken, so that a kind which may be listed and not watched would look complete; and where a
//! streaming list begins anew it says nothing, so that an object which is deleted in between stays for ever.

mod api;
mod board;
mod follow;
mod live;
mod once;
mod part;
mod permissions;
mod shelf;
mod trouble;

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc};

use proto::ObjectRef;
use tokio::{
    sync::mpsc::{self, Sender, UnboundedReceiver},
    task::{AbortHandle, JoinError, JoinSet},
};

use self::{
    api::Api,
    board::Board,
    follow::{Follower, NobodyListens},
    live::Onlooker,
    part::Part,
};
use crate::{Complaint, Source, Update, Wanted};

pub use live::Live;
pub use once::{Unread, read_asked, read_cluster, read_referenced};
pub use permissions::{Permissions, permissions};

/// How much news waits for whoever takes it, and is then one update.
const NEWS: usize = 256;

/// Whom to tell what is wrong.
type Observer = Arc<dyn Fn(&[Complaint]) + Send + Sync>;
/// Whom to tell what is missing.
type Missing = Arc<dyn Fn(Vec<String>) + Send + Sync>;

/// The objects that an API server has.
///
/// Whatever cannot be read stays as it was, and is complained of: an object, a kind, or all of it while the
/// server is away. A kind that the server does not have is empty until it has it.
pub struct ClusterSource {
    client: kube::Client,
    wanted: Wanted,
    asked: Option<UnboundedReceiver<BTreeMap<ObjectRef, bool>>>,
    observer: Observer,
    missing: Missing,
    onlooker: Option<Onlooker>,
}

/// Why an API server can no longer be followed. That it is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody wants the updates any more.
    #[error("the receiver of updates is gone")]
    NobodyListens,
    /// A task of ours broke off, which is a mistake of ours.
    #[error("following a kind was interrupted: {0}")]
    Interrupted(#[from] JoinError),
}

impl ClusterSource {
    /// A source of what `client` may read.
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            wanted: Wanted::default(),
            asked: None,
            observer: Arc::new(|_| {}),
            missing: Arc::new(|_| {}),
            onlooker: None,
        }
    }

    /// Reads these too of the kinds that are read by reference only.
    #[must_use]
    pub fn wanting(mut self, wanted: Wanted) -> Self {
        self.wanted = wanted;
        self
    }

    /// Follows objects by their names as `asked` says whether they are wanted. They are told of like all
    /// others, or it is told why they are not ([`translate::Change::Missing`]), and nothing waits for them.
    #[must_use]
    pub fn following(mut self, asked: UnboundedReceiver<BTreeMap<ObjectRef, bool>>) -> Self {
        self.asked = Some(asked);
        self
    }

    /// Calls `observer` with everything that is wrong, each time that this changes, before the
    /// objects that were read with it are sent. It is not called while nothing has ever been wrong.
    #[must_use]
    pub fn on_complaints(mut self, observer: impl Fn(&[Complaint]) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Calls `observer` with what is not complete yet, as in `pods` or `httproutes.gateway.networking.k8s.io`:
    /// at the start, and each time that there is less of it, until there is none.
    #[must_use]
    pub fn on_missing(mut self, observer: impl Fn(Vec<String>) + Send + Sync + 'static) -> Self {
        self.missing = Arc::new(observer);
        self
    }

    /// Calls `look` with the status of every object of the kinds that have one, each time that the server
    /// shows the object, and with `None` when it is gone: before what became of the object is sent, and for
    /// objects that are sent only. `manager` is the field manager of whoever asks. It is called by several
    /// tasks, of one object always by the same.
    #[must_use]
    pub fn on_status(
        mut self,
        manager: &str,
        look: impl Fn(ObjectRef, Option<Live>) + Send + Sync + 'static,
    ) -> Self {
        self.onlooker = Some(Onlooker { manager: manager.into(), look: Arc::new(look) });
        self
    }
}

impl fmt::Debug for ClusterSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClusterSource").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Source for ClusterSource {
    type Error = ClusterError;

    async fn run(self, updates: Sender<Update>) -> Result<Infallible, ClusterError> {
        let Self { client, wanted, mut asked, observer, missing, onlooker } = self;
        let api = Arc::new(Api::new(client));
        let parts = Part::all(&wanted);
        let mut board = Board::new(&parts);
        let (tell, mut heard) = mpsc::channel(NEWS);
        // Dropped with this, and every part with it.
        let mut followers = JoinSet::new();
        for (index, part) in parts.into_iter().enumerate() {
            let follower = Follower::new(Arc::clone(&api), part, index, tell.clone());
            followers.spawn(follower.shown_to(onlooker.as_ref()).run());
        }
        let mut named = BTreeMap::<ObjectRef, (usize, AbortHandle)>::new();
        let (mut complaints, mut ready) = (Vec::new(), false);
        let mut lacks = board.missing();
        missing(lacks.clone());
        let mut news = Vec::new();
        loop {
            let mut changes = Vec::new();
            tokio::select! {
                _ = heard.recv_many(&mut news, NEWS) => {}
                moved = next(&mut asked) => for (object, wanted) in moved {
                    if let Some((index, follower)) = named.remove(&object) {
                        follower.abort();
                        changes.extend(board.forget(index));
                    }
                    if wanted {
                        let index = board.ask(object.clone());
                        let part = Part::named(object.clone());
                        let follower = Follower::new(Arc::clone(&api), part, index, tell.clone());
                        named.insert(object, (index, followers.spawn(follower.run())));
                    }
                },
                Some(ended) = followers.join_next() => match ended {
                    Err(error) if !error.is_cancelled() => return Err(error.into()),
                    Ok(NobodyListens) | Err(_) => {}
                },
                () = updates.closed() => return Err(ClusterError::NobodyListens),
            }
            // What came together is one step of the mesh.
            changes.extend(news.drain(..).flat_map(|(index, news)| board.hear(index, news)));
            if !lacks.is_empty() {
                let now_lacks = board.missing();
                if now_lacks.len() != lacks.len() {
                    missing(now_lacks.clone());
                    lacks = now_lacks;
                }
            }
            let now_wrong = board.complaints();
            if now_wrong != complaints {
                observer(&now_wrong);
                complaints = now_wrong;
            }
            if !changes.is_empty() {
                send(&updates, Update::Changes(changes)).await?;
            }
            if !ready && board.is_complete() {
                send(&updates, Update::Ready).await?;
                ready = true;
            }
        }
    }
}

/// What is asked for next; never, where nobody asks or nobody does any more.
async fn next(asked: &mut Option<UnboundedReceiver<BTreeMap<ObjectRef, bool>>>) -> BTreeMap<ObjectRef, bool> {
    if let Some(receiver) = asked {
        if let Some(moved) = receiver.recv().await {
            return moved;
        }
        *asked = None;
    }
    std::future::pending().await
}

async fn send(updates: &Sender<Update>, update: Update) -> Result<(), ClusterError> {
    updates.send(update).await.map_err(|_| ClusterError::NobodyListens)
}
