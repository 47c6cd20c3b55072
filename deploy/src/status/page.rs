//! What is known of the writing of one object's status: what is to be said, what was written, what failed.

use std::time::Duration;

use rapidhash::v3::rapidhash_v3;
use tokio::time::Instant;
use translate::status::Status;

use super::lines::Line;
use crate::backoff::rest;

/// How long after a write events of a watch that are older than it may still come.
const LATE: Duration = Duration::from_secs(30);

/// The page of an object that we say something of, or said something of.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// `None`: nothing, and what was said is to go.
    pub(super) said: Option<Status>,
    /// Stands for what is said.
    pub(super) mark: u64,
    /// When to look at it, as it stands in the ledger.
    pub(super) due: Option<Instant>,
    /// In which line it waits to be written.
    pub(super) waits: Option<Line>,
    /// Since when something is not confirmed that may be true again in a moment.
    pub(super) doubted: Option<Instant>,
    /// A write of it that is on its way.
    pub(super) under_way: Option<UnderWay>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Whether the server did not take what is said.
    pub(super) refused: bool,
    pub(super) written: Option<Written>,
    /// Whether a proxy has rejected what was made of it, and it was not yet said that this is over.
    pub(super) rejected: bool,
}

/// A write that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    /// What is being said.
    pub(super) mark: u64,
    /// Whether the object is to be looked at again when it has ended.
    pub(super) again: bool,
    /// What [`Page::rejected`] is when it went well.
    pub(super) rejected: bool,
}

/// The last write that went well.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) at: Instant,
    pub(super) version: Box<str>,
    /// What was said.
    mark: u64,
    /// How often in a row the same had to be said again, because somebody else had changed it.
    repairs: u32,
}

/// What the rests between writes of one object are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rests {
    /// Between any two.
    pub(super) spacing: Duration,
    /// After the first repair; each further one doubles it.
    pub(super) repair: Duration,
    /// At most, between two repairs.
    pub(super) repair_at_most: Duration,
}

impl Rests {
    fn after(&self, repairs: u32) -> Duration {
        match repairs.checked_sub(1) {
            None => Duration::ZERO,
            Some(more) => rest((self.repair, self.repair_at_most), more),
        }
    }
}

impl Page {
    /// Takes in what is to be said. Whether that is something else than before.
    pub(super) fn say(&mut self, status: Option<Status>) -> bool {
        if self.said == status {
            return false;
        }
        self.mark = status.as_ref().map_or(0, mark);
        self.said = status;
        (self.refused, self.failures) = (false, 0);
        true
    }

    /// The earliest time for the next write, given that there is something to write.
    pub(super) fn earliest(&self, rests: &Rests) -> Option<Instant> {
        let written = self.written.as_ref()?;
        // What is said again although nothing new is said repairs what somebody else did. Whoever does it
        // again and again has a reason, and must not make us write as fast as they do.
        let repair = if written.mark == self.mark { rests.after(written.repairs) } else { Duration::ZERO };
        Some(written.at + repair.max(rests.spacing))
    }

    /// Notes a write that went well.
    pub(super) fn wrote(&mut self, version: Box<str>, mark: u64, rests: &Rests, now: Instant) {
        let before = self.written.as_ref().filter(|before| before.mark == mark);
        let repairs = before.map_or(0, |before| {
            let peace =
                rests.after(before.repairs + 1).saturating_mul(4).max(rests.spacing.saturating_mul(4));
            if before.at + peace < now { 0 } else { before.repairs + 1 }
        });
        self.written = Some(Written { at: now, version, mark, repairs });
        self.failures = 0;
    }

    /// Whether what a watch shows is older than what we wrote. Resource versions are numbers of one row for
    /// the whole cluster; where they are something else, everything counts as newer.
    pub(super) fn is_late(&self, version: &str, now: Instant) -> bool {
        let Some(written) = self.written.as_ref().filter(|written| written.at + LATE > now) else {
            return false;
        };
        match (version.parse::<u64>(), written.version.parse::<u64>()) {
            (Ok(shown), Ok(written)) => shown < written,
            _ => false,
        }
    }
}

fn mark(status: &Status) -> u64 {
    // Only compared with marks of this process.
    rapidhash_v3(format!("{status:?}").as_bytes())
}
