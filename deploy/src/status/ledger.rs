//! What is to be said of every object, what is live, and whose status is to be looked at when. Nothing here
//! waits or asks anybody.
//!
//! ```text
//!   say ──┐                 nothing to write: settled
//!         ├─► due ─► ripen ─┤
//!   see ──┘    ▲            └─► a line ─► take ─► a write ─► done
//!              └───── after a failure, a while later ─────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tokio::time::Instant;
use translate::{Classes, status::Status};
use watch::Live;

use super::{
    Applied, Urgency, Write,
    kept::Kept,
    lines::{Line, Lines},
    own,
    page::{Page, Rests, UnderWay},
    server::{self, Outcome},
};
use crate::{
    backoff::rest,
    events::{self, News},
};

/// How many objects are looked at before others have their turn to be heard.
const AT_ONCE: usize = 100;

/// The rests after failures in a row: the first, and the longest.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// The same after the object has changed in the moment of the write: news of that are on their way.
const MOVED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What is waited for before a write.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What is said of one object within this time is one write.
    pub window: Duration,
    /// How long something has to be unconfirmed before it is written that it is.
    pub lasting: Duration,
    /// Between two writes of one object.
    pub spacing: Duration,
}

/// A write that is to be done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) object: ObjectRef,
    /// The version of its API.
    pub(super) api: Box<str>,
    /// The manifest to apply.
    pub(super) body: Value,
    /// The uid of the object, for those who are told of it.
    pub(super) uid: Box<str>,
    /// What is worth telling when it is done.
    pub(super) news: Vec<News>,
}

/// All of it.
pub(super) struct Ledger {
    classes: Classes,
    timing: Timing,
    rests: Rests,
    live: BTreeMap<ObjectRef, Kept>,
    pages: BTreeMap<ObjectRef, Page>,
    due: BTreeSet<(Instant, ObjectRef)>,
    lines: Lines,
    /// Whether it is ours to write, and known what is to be said.
    open: bool,
}

impl Ledger {
    pub(super) fn new(classes: Classes, timing: Timing) -> Self {
        let rests = Rests {
            spacing: timing.spacing,
            repair: timing.spacing.saturating_mul(2),
            repair_at_most: Duration::from_mins(10),
        };
        let (live, pages) = (BTreeMap::new(), BTreeMap::new());
        Self {
            classes,
            timing,
            rests,
            live,
            pages,
            due: BTreeSet::new(),
            lines: Lines::default(),
            open: false,
        }
    }

    /// From now on it is ours to write or not. At the beginning all that is said is compared with what is live.
    pub(super) fn open(&mut self, open: bool, now: Instant) {
        if self.open == open {
            return;
        }
        self.open = open;
        self.due.clear();
        self.lines = Lines::default();
        for page in self.pages.values_mut() {
            (page.due, page.waits, page.doubted) = (None, None, None);
            (page.under_way, page.failures, page.refused) = (None, 0, false);
        }
        if open {
            let left = self.live.iter().filter(|(_, live)| live.applied).map(|(object, _)| object.clone());
            for object in left.collect::<Vec<_>>() {
                self.pages.entry(object).or_default();
            }
            for object in self.pages.keys().cloned().collect::<Vec<_>>() {
                self.schedule(&object, now);
            }
        }
    }

    /// Takes in what is to be said of an object; `None` for nothing more.
    pub(super) fn say(&mut self, object: &ObjectRef, status: Option<Status>, now: Instant) {
        if own(object.kind, self.classes).is_none() {
            return;
        }
        if status.is_none() && !(self.live.contains_key(object) && self.pages.contains_key(object)) {
            self.forget(object);
            return;
        }
        if self.pages.entry(object.clone()).or_default().say(status) {
            self.schedule(object, now + self.timing.window);
        }
    }

    /// Takes in what the server shows; `None` where the object is gone.
    pub(super) fn see(&mut self, object: &ObjectRef, live: Option<Live>, now: Instant) {
        let Some(live) = live else {
            self.live.remove(object);
            if self.pages.get(object).is_some_and(|page| page.said.is_none()) {
                self.forget(object);
            }
            return;
        };
        if self.pages.get(object).is_some_and(|page| page.is_late(&live.version, now)) {
            return;
        }
        let kept = Kept::of(object.kind, self.classes, live);
        let changed = self.live.get(object).is_none_or(|before| !before.says_the_same(&kept));
        let applied = kept.applied;
        self.live.insert(object.clone(), kept);
        match self.pages.get_mut(object) {
            Some(page) => {
                // Whatever it waited for may have come.
                let waited = page.failures > 0;
                page.refused &= !changed;
                if changed || waited {
                    self.schedule(object, now + self.timing.window);
                }
            }
            // Whoever wrote it in our name may have known more than we know yet.
            None if applied && self.open => {
                self.pages.entry(object.clone()).or_default();
                self.schedule(object, now + self.timing.lasting);
            }
            None => {}
        }
    }

    /// When the next object is to be looked at.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether something waits to be written.
    pub(super) fn has_work(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether there is an object of that name.
    pub(super) fn is_there(&self, object: &ObjectRef) -> bool {
        self.live.contains_key(object)
    }

    /// Looks at whom it is time to look at, some at once, and puts who has something to write in a line.
    pub(super) fn ripen(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some((at, _)) = self.due.first() else { return };
            if *at > now {
                return;
            }
            let Some((_, object)) = self.due.pop_first() else { return };
            let Some(page) = self.pages.get_mut(&object) else { continue };
            page.due = None;
            if let Some(under_way) = &mut page.under_way {
                under_way.again = true;
                continue;
            }
            let Some((before, write)) = self.decide(&object) else {
                self.settle(&object);
                continue;
            };
            let Some(page) = self.pages.get_mut(&object) else { continue };
            if page.refused {
                continue;
            }
            let earliest = page.earliest(&self.rests).into_iter();
            let lasts = match write.urgency {
                Urgency::Now => None,
                Urgency::IfItLasts => Some(*page.doubted.get_or_insert(now) + self.timing.lasting),
            };
            if let Some(later) = earliest.chain(lasts).max().filter(|later| *later > now) {
                self.schedule(&object, later);
                continue;
            }
            let after = write.status.unwrap_or_default();
            let news = events::of(object.kind, &before, &after, page.rejected).0;
            let line = if news.is_empty() { Line::Second } else { Line::First };
            if page.waits != Some(line) {
                page.waits = Some(line);
                self.lines.push(line, object);
            }
        }
    }

    /// The next write, if there is one. It is on its way until it is [done](Self::done).
    pub(super) fn take(&mut self, held: &BTreeMap<Kind, Instant>, now: Instant) -> Option<Work> {
        while let Some((line, object)) = self.lines.pop() {
            let Some(page) = self.pages.get_mut(&object) else { continue };
            if page.waits != Some(line) {
                continue;
            }
            page.waits = None;
            if let Some(until) = held.get(&object.kind) {
                self.schedule(&object, *until);
                continue;
            }
            let (Some((before, write)), Some(live)) = (self.decide(&object), self.live.get(&object)) else {
                self.settle(&object);
                continue;
            };
            let Some(page) = self.pages.get_mut(&object) else { continue };
            if write.urgency == Urgency::IfItLasts && page.doubted.is_none() {
                self.schedule(&object, now);
                continue;
            }
            page.doubted = None;
            let after = write.status.clone().unwrap_or_default();
            let (news, rejected) = events::of(object.kind, &before, &after, page.rejected);
            page.under_way = Some(UnderWay { mark: page.mark, again: false, rejected });
            let body = body(&object, live, write);
            return Some(Work { api: live.api.clone(), uid: live.uid.clone(), body, news, object });
        }
        None
    }

    /// Takes in what became of a write.
    pub(super) fn done(&mut self, object: &ObjectRef, outcome: &Outcome, now: Instant) {
        let rests = self.rests;
        let Some(page) = self.pages.get_mut(object) else { return };
        let Some(UnderWay { mark, again, rejected }) = page.under_way.take() else { return };
        // Something else is to be said by now, or was seen: nothing can be told of that.
        let overtaken = again || page.mark != mark || page.due.is_some();
        let rest = match outcome {
            Outcome::Written(live) => {
                page.wrote(live.version.clone(), mark, &rests, now);
                page.rejected = rejected;
                self.live.insert(object.clone(), Kept::of(object.kind, self.classes, live.clone()));
                if overtaken {
                    self.schedule(object, now);
                } else if self.decide(object).is_some_and(|(_, write)| write.urgency == Urgency::Now) {
                    // It keeps something else than it was told, and would every time.
                    tracing::debug!(%object, "the API server keeps not all of what is said of it");
                    if let Some(page) = self.pages.get_mut(object) {
                        page.refused = true;
                    }
                } else {
                    self.settle(object);
                }
                return;
            }
            Outcome::Refused(_) => {
                page.refused = !overtaken;
                if overtaken {
                    self.schedule(object, now);
                }
                return;
            }
            Outcome::Moved => rest(MOVED, page.failures),
            Outcome::Gone | Outcome::Failed(_) => rest(FAILED, page.failures),
            // Waited for by all.
            Outcome::Forbidden(_) | Outcome::Away(..) => Duration::ZERO,
        };
        page.failures = page.failures.saturating_add(1);
        self.schedule(object, now + rest);
    }

    /// What the object's status is, and what is to be written there.
    fn decide(&self, object: &ObjectRef) -> Option<(Value, Write)> {
        let (page, live) = (self.pages.get(object)?, self.live.get(object)?);
        if page.said.is_none() && !live.applied {
            return None;
        }
        let before = live.status();
        let applied = Applied::new(object, page.said.as_ref(), self.classes)?;
        let write = applied.write(&before, &now_text())?;
        Some((before, write))
    }

    /// There is nothing to write.
    fn settle(&mut self, object: &ObjectRef) {
        if let Some(page) = self.pages.get_mut(object) {
            (page.doubted, page.failures) = (None, 0);
            if page.said.is_none() {
                self.forget(object);
            }
        }
    }

    fn forget(&mut self, object: &ObjectRef) {
        if let Some(due) = self.pages.remove(object).and_then(|page| page.due) {
            self.due.remove(&(due, object.clone()));
        }
    }

    /// Looks at the object at `at`, or before that if it is due before.
    fn schedule(&mut self, object: &ObjectRef, at: Instant) {
        let Some(page) = self.pages.get_mut(object).filter(|_| self.open) else { return };
        if page.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = page.due.replace(at) {
            self.due.remove(&(due, object.clone()));
        }
        self.due.insert((at, object.clone()));
    }
}

/// The manifest of an apply: of this object and no other of its name, and where others would lose something,
/// of this version of it.
fn body(object: &ObjectRef, live: &Kept, write: Write) -> Value {
    let Write { status, urgency: _, exclusive } = write;
    let resource = server::resource(object.kind, &live.api);
    let mut body = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": &*object.name, "uid": &*live.uid},
    });
    if object.kind.namespaced() {
        body["metadata"]["namespace"] = json!(&*object.namespace);
    }
    if exclusive {
        body["metadata"]["resourceVersion"] = json!(&*live.version);
    }
    if let Some(status) = status {
        body["status"] = status;
    }
    body
}

/// The time as a condition has it, to the second.
fn now_text() -> String {
    let second = Timestamp::now().as_second();
    Timestamp::from_second(second).map_or_else(|_| String::new(), |now| now.to_string())
}

#[cfg(test)]
mod tests;
