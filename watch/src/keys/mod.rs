//! The public keys of issuers, fetched and fetched again: what `translate` is told of them.
//!
//! ```text
//!   Commit::keys ─► Wish ─► schedule ─► client ─► guard ─► the address
//!                              │          redirects, size, time
//!                              └─► Told: the keys, or why there are none
//! ```
//!
//! A fetch is never part of a change: policies come and go at any rate, and each source is asked
//! when its own time has come.

mod client;
mod guard;
mod schedule;

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use translate::{KeySet, KeySource};

use self::{client::Client, schedule::Schedule};

pub use self::guard::{Block, Guard};

/// How many sources are asked at the same time: a mesh with many issuers must not look like an attack.
const AT_ONCE: usize = 8;

/// Which keys are wanted, and how long one attempt may take; `None` for those no longer wanted.
pub type Wish = BTreeMap<KeySource, Option<Duration>>;

/// What is told of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its keys, or why there are none.
    Fetched(KeySource, Result<KeySet, String>),
    /// Nobody has wanted it for long enough that what was told of it can go.
    Forgotten(KeySource),
}

/// When to fetch, and from whom not.
#[derive(Clone, Debug)]
pub struct KeyOptions {
    /// How long keys are good for before they are fetched again.
    pub refresh: Duration,
    /// How soon a failed fetch is tried again at first; each failure doubles it.
    pub retry: Duration,
    /// And at most.
    pub retry_at_most: Duration,
    /// Which addresses are refused.
    pub guard: Guard,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_mins(20),
            retry: Duration::from_mins(1),
            retry_at_most: Duration::from_hours(1),
            guard: Guard::default(),
        }
    }
}

/// Fetches what is wished for, for ever: ends when nobody wishes or nobody listens any more.
pub async fn follow_keys(options: KeyOptions, mut wishes: UnboundedReceiver<Wish>, told: Sender<Told>) {
    let client = Client::new(options.guard.clone());
    let mut schedule = Schedule::new(options);
    let mut fetches = JoinSet::new();
    loop {
        while fetches.len() < AT_ONCE
            && let Some((source, timeout)) = schedule.take_due(Instant::now())
        {
            let client = client.clone();
            fetches.spawn(async move {
                let outcome = client.fetch(&source, timeout).await;
                (source, outcome)
            });
        }
        // While as many as may be are asked, the end of one of them is what to wait for.
        let next = schedule.next().filter(|_| fetches.len() < AT_ONCE);
        let due = async {
            match next {
                Some(instant) => sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        let answers = tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) => schedule.wish(wish, Instant::now()),
                None => return,
            },
            Some(ended) = fetches.join_next() => match ended {
                Ok((source, outcome)) => schedule.fetched(&source, outcome, Instant::now()).into_iter().collect(),
                // Cancelled with the runtime, or a bug that has been reported as a panic.
                Err(_) => Vec::new(),
            },
            () = due => schedule.forget(Instant::now()),
        };
        for answer in answers {
            if told.send(answer).await.is_err() {
                return;
            }
        }
    }
}
