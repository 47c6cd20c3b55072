//! What all parts together come to: whether everything is known, and what is wrong, each thing once.

use super::{follow::News, part::Part, trouble::Trouble};
use crate::complaint::Complaint;
use translate::Change;

/// The state of every part.
#[derive(Debug)]
pub(super) struct Board {
    lines: Vec<Line>,
    /// Why the server is away, as it was first said: while it is, it is said in many ways.
    away: Option<String>,
}

#[derive(Debug)]
struct Line {
    part: Part,
    complete: bool,
    lost: Option<Trouble>,
    wrong: Vec<Complaint>,
}

impl Board {
    pub(super) fn new(parts: &[Part]) -> Self {
        let line = |part: &Part| Line { part: part.clone(), complete: false, lost: None, wrong: Vec::new() };
        Self { lines: parts.iter().map(line).collect(), away: None }
    }

    /// Takes in what was heard of the part with the number `index`, and gives what it changes.
    pub(super) fn hear(&mut self, index: usize, news: News) -> Vec<Change> {
        let Some(line) = self.lines.get_mut(index) else { return Vec::new() };
        match news {
            News::Changes(changes) => return changes,
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
        if !self.lines.iter().any(|line| matches!(line.lost, Some(Trouble::Away(_)))) {
            self.away = None;
        }
        Vec::new()
    }

    /// Whether everything that existed at the start has been told.
    pub(super) fn is_complete(&self) -> bool {
        self.lines.iter().all(|line| line.complete)
    }

    /// What is not told of yet, as a role would call it.
    pub(super) fn missing(&self) -> Vec<String> {
        self.lines.iter().filter(|line| !line.complete).map(|line| line.part.to_string()).collect()
    }

    /// Everything that is wrong, in a stable order.
    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let complete = self.is_complete();
        let mut complaints: Vec<_> = self.lines.iter().flat_map(|line| line.wrong.iter().cloned()).collect();
        complaints.extend(self.away.iter().map(|why| {
            let so =
                if complete { "what is served stays as it is" } else { "nothing is served before it does" };
            Complaint::about_cluster(format!("the API server does not answer, {so}: {why}"))
        }));
        complaints.extend(self.lines.iter().filter_map(Line::complaint));
        complaints.sort();
        complaints
    }
}

impl Line {
    fn complaint(&self) -> Option<Complaint> {
        let part = &self.part;
        let so = if self.complete {
            "what was read of them last stays in force"
        } else {
            "nothing is served before they can be"
        };
        let why = match self.lost.as_ref()? {
            Trouble::Refused(why) => {
                format!("{part} cannot be read, {so}: {why}; let our account list and watch them")
            }
            Trouble::Unsupported(why) | Trouble::Other(why) => format!("{part} cannot be read, {so}: {why}"),
            // Of the first the server as a whole is said; the others are no news.
            Trouble::Away(_) | Trouble::Unserved | Trouble::Expired => return None,
        };
        Some(Complaint::about_cluster(why))
    }
}
