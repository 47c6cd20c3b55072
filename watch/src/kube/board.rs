//! What all parts together come to: whether everything is known, and what is wrong, each thing once.

use std::collections::{BTreeMap, BTreeSet};

use proto::ObjectRef;
use translate::{Change, Missing};

use super::{follow::News, part::Part, trouble::Trouble};
use crate::{complaint::Complaint, wanted::Wanted};

/// The state of every part, by its number.
#[derive(Debug, Default)]
pub(super) struct Board {
    lines: BTreeMap<usize, Line>,
    next: usize,
    /// Of objects that several parts may be about: which of them say that it is there.
    holders: BTreeMap<ObjectRef, BTreeSet<usize>>,
    /// Why the server is away, as it was first said: while it is, it is said in many ways.
    away: Option<String>,
}

#[derive(Debug)]
struct Line {
    part: Part,
    /// The object, where somebody asked for it while we run: nobody waits for it, and somebody wants to
    /// know why it does not come.
    asked: Option<ObjectRef>,
    /// Why it does not, as it was told.
    told: Option<Missing>,
    complete: bool,
    lost: Option<Trouble>,
    wrong: Vec<Complaint>,
}

impl Board {
    /// A board with a line for each part.
    pub(super) fn new(parts: &[Part]) -> Self {
        let mut board = Self::default();
        for part in parts {
            board.add(part.clone(), None);
        }
        board
    }

    /// Adds a line for an object that somebody asks for; gives its number.
    pub(super) fn ask(&mut self, object: ObjectRef) -> usize {
        self.add(Part::named(object.clone()), Some(object))
    }

    fn add(&mut self, part: Part, asked: Option<ObjectRef>) -> usize {
        let number = self.next;
        self.next += 1;
        let line = Line { part, asked, told: None, complete: false, lost: None, wrong: Vec::new() };
        self.lines.insert(number, line);
        number
    }

    /// Takes away a line that nobody asks for any more, and gives what that changes.
    pub(super) fn forget(&mut self, number: usize) -> Vec<Change> {
        let Some(Line { asked: Some(object), told, .. }) = self.lines.remove(&number) else {
            return Vec::new();
        };
        let mut changes = self.shared(number, vec![Change::Remove(object.clone())]);
        changes.extend(told.map(|_| Change::Missing(object, None)));
        changes
    }

    /// Takes in what was heard of the part with that number, and gives what it changes.
    pub(super) fn hear(&mut self, number: usize, news: News) -> Vec<Change> {
        // Of one that was forgotten something may be on its way.
        let Some(line) = self.lines.get_mut(&number) else { return Vec::new() };
        let mut changes = Vec::new();
        match news {
            News::Changes(moved) if Wanted::is_by_reference(line.part.kind) => {
                changes = self.shared(number, moved);
            }
            News::Changes(moved) => return moved,
            News::Wrong(wrong) => line.wrong = wrong,
            News::Followed => line.lost = None,
            News::Complete => line.complete = true,
            News::Lost(trouble) => {
                if let Trouble::Away(why) = &trouble {
                    self.away.get_or_insert_with(|| why.clone());
                }
                line.lost = Some(trouble);
            }
        }
        if !self.lines.values().any(|line| matches!(line.lost, Some(Trouble::Away(_)))) {
            self.away = None;
        }
        changes.extend(self.answer(number));
        changes
    }

    /// What of these changes of objects that others may be about too is one.
    fn shared(&mut self, number: usize, changes: Vec<Change>) -> Vec<Change> {
        let mut is_one = |change: &Change| match change {
            Change::Set(object) => {
                self.holders.entry(object.reference()).or_default().insert(number);
                true
            }
            Change::Remove(object) => {
                let Some(holders) = self.holders.get_mut(object) else { return false };
                let last = holders.remove(&number) && holders.is_empty();
                if last {
                    self.holders.remove(object);
                }
                last
            }
            Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => true,
        };
        changes.into_iter().filter(|change| is_one(change)).collect()
    }

    /// Why an object that somebody asked for does not come, if there is something new to say of that.
    fn answer(&mut self, number: usize) -> Option<Change> {
        let line = self.lines.get_mut(&number)?;
        let object = line.asked.clone()?;
        let holders = self.holders.get(&object);
        let answer =
            if holders.is_some_and(|holders| holders.contains(&number)) { None } else { line.missing() };
        if answer == line.told {
            return None;
        }
        line.told.clone_from(&answer);
        Some(Change::Missing(object, answer))
    }

    /// Whether everything that existed at the start has been told.
    pub(super) fn is_complete(&self) -> bool {
        self.lines.values().all(|line| line.complete || line.asked.is_some())
    }

    /// What is not told of yet, as a role would call it.
    pub(super) fn missing(&self) -> Vec<String> {
        let waited = self.lines.values().filter(|line| !line.complete && line.asked.is_none());
        waited.map(|line| line.part.to_string()).collect()
    }

    /// Everything that is wrong, in a stable order.
    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let complete = self.is_complete();
        let mut complaints: Vec<_> =
            self.lines.values().flat_map(|line| line.wrong.iter().cloned()).collect();
        complaints.extend(self.away.iter().map(|why| {
            let so =
                if complete { "what is served stays as it is" } else { "nothing is served before it does" };
            Complaint::about_cluster(format!("the API server does not answer, {so}: {why}"))
        }));
        complaints.extend(self.lines.values().filter_map(Line::complaint));
        complaints.sort();
        complaints.dedup();
        complaints
    }
}

impl Line {
    fn complaint(&self) -> Option<Complaint> {
        let part = &self.part;
        let so = match (self.complete, &self.asked) {
            (true, _) => "what was read of them last stays in force",
            (false, None) => "nothing is served before they can be",
            (false, Some(_)) => "what refers to it stays as it is",
        };
        Some(Complaint::about_cluster(format!("{part} cannot be read, {so}: {}", self.why()?)))
    }

    /// Why it cannot be read, and what to do.
    fn why(&self) -> Option<String> {
        match self.lost.as_ref()? {
            Trouble::Refused(why) => Some(format!("{why}; let our account list and watch them")),
            Trouble::Unsupported(why) | Trouble::Other(why) => Some(why.clone()),
            // Of the first the server as a whole is said; the others are no news.
            Trouble::Away(_) | Trouble::Unserved | Trouble::Expired => None,
        }
    }

    /// Why an object that is not there is not, as far as that is known.
    fn missing(&self) -> Option<Missing> {
        if let Some(wrong) = self.wrong.first() {
            return Some(Missing::Unreadable(wrong.message.clone()));
        }
        if self.complete {
            return Some(Missing::Absent);
        }
        self.why().map(Missing::Unreadable)
    }
}
