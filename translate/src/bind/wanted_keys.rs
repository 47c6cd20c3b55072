//! Which keys are to be fetched: those that some policy refers to, wherever it applies.

use std::time::Duration;

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    policy::authentication::{Bucket, KeySource},
};

/// How long one attempt may take: as long as the most patient policy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted(pub(crate) Duration);

impl Row for Wanted {
    const TABLE: &'static str = "wanted keys";
    type Key = KeySource;
    type Bucket = ();

    fn buckets(_key: &KeySource, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// `None` when no policy refers to the source.
pub(crate) fn bind(reads: &Reads, inputs: &Inputs, source: &KeySource) -> Option<Wanted> {
    let policies = inputs.authentications.bucket(reads, &Bucket::Needs(source.clone()));
    let asked = policies.flat_map(|(_, policy)| policy.sources());
    let timeouts = asked.filter(|(wanted, _)| *wanted == source).map(|(_, timeout)| timeout.get());
    timeouts.max().map(|milliseconds| Wanted(Duration::from_millis(milliseconds.unsigned_abs())))
}
