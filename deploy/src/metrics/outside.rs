//! What is counted of what is read outside: the source of objects, and the keys of issuers.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use watch::{Complaint, Severity, Told};

use super::{Label, counters, shown};

/// What is known of the world outside.
pub(crate) struct Outside {
    complete: Gauge,
    complaints: Family<Label, Gauge>,
    fetches: Family<Label, Counter>,
}

impl Outside {
    pub(super) fn new(page: &mut Registry) -> Self {
        let this = Self {
            complete: shown(
                page,
                "source_complete",
                "Whether everything that exists was read, before which nothing is served",
                Gauge::default(),
            ),
            complaints: shown(
                page,
                "source_complaints",
                "What is wrong with reading objects, by severity",
                Family::default(),
            ),
            fetches: counters(
                page,
                "key_fetches",
                "Attempts to fetch the keys of an issuer, by outcome",
                [true, false].map(outcome),
            ),
        };
        this.complain(&[]);
        this
    }

    /// Everything that exists was read.
    pub(crate) fn complete(&self) {
        self.complete.set(1);
    }

    /// Counts what is wrong now.
    pub(crate) fn complain(&self, complaints: &[Complaint]) {
        for (severity, name) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            let count = complaints.iter().filter(|complaint| complaint.severity == severity).count();
            self.complaints
                .get_or_create(&[("severity", name)])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts what came of fetching keys.
    pub(crate) fn told(&self, told: &Told) {
        match told {
            Told::Fetched(_, fetched) => {
                self.fetches.get_or_create(&outcome(fetched.is_ok())).inc();
            }
            Told::Forgotten(_) => {}
        }
    }
}

fn outcome(succeeded: bool) -> Label {
    [("outcome", if succeeded { "success" } else { "failure" })]
}
