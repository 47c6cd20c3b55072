//! One part of an API server, followed for ever: a list, then a watch from there, again after every loss.
//!
//! ```text
//!   which version? ──none──► nothing there, asked again every few seconds
//!        │
//!        ▼
//!   a list, or a watch that begins with one ─► a watch ─► a watch from where it ended ─► ...
//!        ▲                                       │
//!        └── 410: from a new list; 404: from a new version; else: from where it was, after a rest
//! ```

use std::{sync::Arc, time::Duration};

use kube::api::WatchEvent;

use serde_json::Value;
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, sleep},
};
use translate::Change;

use super::{
    api::{Api, Events, From},
    live::Onlooker,
    part::Part,
    shelf::Shelf,
    trouble::Trouble,
};
use crate::complaint::Complaint;

/// How often a kind that the server does not have is asked for.
const ABSENT: Duration = Duration::from_secs(5);

/// How long a kind has to be missing before nothing of it is there, and how long if there was something. A
/// server that restarts may be ready a moment before its custom resources are, and policies that are taken
/// for gone let everybody in. Who removes a kind is not kept waiting: its objects are deleted first.
const DOUBT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// The rests after failures in a row: the first, and the longest. Short, as it is one small request.
const RESTS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(8));

/// How often a kind may be there and not there before that is said: when one comes or goes, it is both.
const PUZZLED: u32 = 8;

/// What ends a row of failures.
const LASTING: Duration = Duration::from_secs(5);

/// What is heard of a part.
#[derive(Debug)]
pub(super) enum News {
    /// Objects moved.
    Changes(Vec<Change>),
    /// Everything that is wrong with its objects.
    Wrong(Vec<Complaint>),
    /// The part is followed, up to date.
    Followed,
    /// Everything that it holds has been told.
    Complete,
    /// It is not followed at the moment, and this is why.
    Lost(Trouble),
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct NobodyListens;

/// Follows a part of `api`, and tells `news` of it under the number `index`.
pub(super) struct Follower {
    api: Arc<Api>,
    part: Part,
    shelf: Shelf,
    index: usize,
    news: Sender<(usize, News)>,
    /// The version it is read in, once that is known.
    version: Option<&'static str>,
    /// The resource version after which a watch goes on.
    resume: Option<String>,
    missing_since: Option<Instant>,
    complete: bool,
    failures: u32,
}

/// Why a step did not go on by itself.
enum Stop {
    Trouble(Trouble),
    NobodyListens,
}

impl std::convert::From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl std::convert::From<NobodyListens> for Stop {
    fn from(NobodyListens: NobodyListens) -> Self {
        Self::NobodyListens
    }
}

impl Follower {
    pub(super) fn new(api: Arc<Api>, part: Part, index: usize, news: Sender<(usize, News)>) -> Self {
        let shelf = Shelf::new(&part);
        Self {
            api,
            part,
            shelf,
            index,
            news,
            version: None,
            resume: None,
            missing_since: None,
            complete: false,
            failures: 0,
        }
    }

    /// Shows the statuses of its objects to somebody.
    pub(super) fn shown_to(mut self, onlooker: Option<&Onlooker>) -> Self {
        self.shelf = self.shelf.shown_to(onlooker.cloned());
        self
    }

    /// Follows until nobody listens.
    pub(super) async fn run(mut self) -> NobodyListens {
        loop {
            let start = Instant::now();
            let ended = match self.step().await {
                Ok(()) => Ok(()),
                Err(Stop::NobodyListens) => return NobodyListens,
                Err(Stop::Trouble(trouble)) => self.lose(trouble).await,
            };
            if ended.is_err() {
                return NobodyListens;
            }
            if start.elapsed() >= LASTING {
                self.failures = 0;
            }
            sleep(rest(self.failures)).await;
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Goes on from where we are, as far as it goes.
    async fn step(&mut self) -> Result<(), Stop> {
        let version = match self.version {
            Some(version) => version,
            None => match self.api.version(self.part.kind).await? {
                Some(version) => version,
                None => return self.absent().await,
            },
        };
        (self.version, self.missing_since) = (Some(version), None);
        let mut events = match self.resume.clone() {
            Some(resume) => self.api.watch(&self.part, version, From::Version(resume)).await?,
            None => self.begin(version).await?,
        };
        self.tell(News::Followed).await?;
        self.complete().await?;
        while let Some(event) = events.next().await {
            if self.hear(event?, version)? == Heard::Object {
                self.flush().await?;
                self.complete().await?;
            }
        }
        Ok(())
    }

    /// Takes everything there is, and watches from there.
    async fn begin(&mut self, version: &str) -> Result<Events, Stop> {
        if self.api.streams_lists.load(std::sync::atomic::Ordering::Relaxed) {
            match self.stream(version).await {
                Err(Stop::Trouble(Trouble::Unsupported(why))) => self.api.forget_streaming(&why),
                outcome => return outcome,
            }
        }
        self.shelf.begin();
        let mut next = None;
        loop {
            let page = self.api.page(&self.part, version, next).await?;
            for object in page.items {
                self.shelf.put(object, version);
            }
            next = page.metadata.continue_.filter(|next| !next.is_empty());
            if next.is_none() {
                let resume = page.metadata.resource_version.unwrap_or_default();
                self.listed(resume.clone()).await?;
                return Ok(self.api.watch(&self.part, version, From::Version(resume)).await?);
            }
        }
    }

    /// The same with one request, which costs the server far less.
    async fn stream(&mut self, version: &str) -> Result<Events, Stop> {
        self.shelf.begin();
        let mut events = self.api.watch(&self.part, version, From::Everything).await?;
        let everything = self.everything(&mut events, version).await;
        // Unless it is whole it has to begin anew: what is deleted in between is told by nobody.
        let resume = self.resume.take();
        everything?;
        self.listed(resume.unwrap_or_default()).await?;
        Ok(events)
    }

    /// Takes in what a watch begins with.
    async fn everything(&mut self, events: &mut Events, version: &str) -> Result<(), Trouble> {
        while let Some(event) = events.next().await {
            if self.hear(event?, version)? == Heard::EverythingSent {
                return Ok(());
            }
        }
        Err(Trouble::Away("a list ended before it was whole".to_owned()))
    }

    async fn listed(&mut self, resume: String) -> Result<(), NobodyListens> {
        self.shelf.end();
        self.resume = Some(resume).filter(|resume| !resume.is_empty());
        self.flush().await
    }

    /// Takes in an event of a watch.
    fn hear(&mut self, event: WatchEvent<Value>, version: &str) -> Result<Heard, Trouble> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.resume = resource_version(&object);
                self.shelf.put(object, version);
                Ok(Heard::Object)
            }
            WatchEvent::Deleted(object) => {
                self.resume = resource_version(&object);
                self.shelf.remove(object, version);
                Ok(Heard::Object)
            }
            WatchEvent::Bookmark(mark) => {
                let last = mark.metadata.annotations.contains_key("k8s.io/initial-events-end");
                self.resume = Some(mark.metadata.resource_version);
                Ok(if last { Heard::EverythingSent } else { Heard::Bookmark })
            }
            WatchEvent::Error(status) => Err(Trouble::of_status(&status)),
        }
    }

    /// The server does not have the kind. That is no mistake, if it is so.
    async fn absent(&mut self) -> Result<(), Stop> {
        self.api.ready().await?;
        self.resume = None;
        let missing = self.missing_since.get_or_insert_with(Instant::now).elapsed();
        let doubt = if self.shelf.is_empty() { DOUBT.0 } else { DOUBT.1 };
        if missing < doubt {
            sleep(doubt.saturating_sub(missing).min(DOUBT.0)).await;
            return Ok(());
        }
        self.shelf.begin();
        self.listed(String::new()).await?;
        self.tell(News::Followed).await?;
        self.complete().await?;
        sleep(ABSENT).await;
        Ok(())
    }

    /// Notes why a step ended, and from where the next one goes on.
    async fn lose(&mut self, trouble: Trouble) -> Result<(), NobodyListens> {
        // What a list named before it broke off is there.
        self.flush().await?;
        match trouble {
            Trouble::Expired => {
                tracing::debug!(part = %self.part, "what is known is too old to go on from, it is listed again");
                self.resume = None;
                Ok(())
            }
            Trouble::Unserved => {
                (self.version, self.resume) = (None, None);
                if self.failures < PUZZLED {
                    return Ok(());
                }
                let why = "the server says that it has the kind, and answers 404 to who asks for it";
                self.tell(News::Lost(Trouble::Other(why.to_owned()))).await
            }
            Trouble::Away(_) | Trouble::Refused(_) | Trouble::Unsupported(_) | Trouble::Other(_) => {
                self.tell(News::Lost(trouble)).await
            }
        }
    }

    async fn flush(&mut self) -> Result<(), NobodyListens> {
        let changes = self.shelf.take_changes();
        if let Some(wrong) = self.shelf.take_wrong() {
            self.tell(News::Wrong(wrong)).await?;
        }
        if changes.is_empty() { Ok(()) } else { self.tell(News::Changes(changes)).await }
    }

    async fn complete(&mut self) -> Result<(), NobodyListens> {
        if self.complete || !self.shelf.is_known() {
            return Ok(());
        }
        self.complete = true;
        self.tell(News::Complete).await
    }

    async fn tell(&self, news: News) -> Result<(), NobodyListens> {
        self.news.send((self.index, news)).await.map_err(|_| NobodyListens)
    }
}

/// What an event was about.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Object,
    Bookmark,
    /// The bookmark after everything that there was at the beginning.
    EverythingSent,
}

fn resource_version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

fn rest(failures: u32) -> Duration {
    let (first, longest) = RESTS;
    first.saturating_mul(1 << failures.min(16)).min(longest)
}
