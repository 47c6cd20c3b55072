//! Which keys are to be fetched: those that some policy refers to, wherever it applies.

use std::time::Duration;

use crate::{
    derive::{Derived, Reads, Row, Touched},
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

/// Finds the sources that policies refer to, and what is asked of each.
pub(crate) fn update(table: &mut Derived<Wanted>, touched: &mut Touched, inputs: &Inputs) {
    table.update(
        touched,
        inputs.authentications.changed().iter().flat_map(|policy| {
            let policy = inputs.authentications.untracked().get(policy);
            policy.into_iter().flat_map(|policy| policy.sources()).map(|(source, _)| source.clone())
        }),
        |source| inputs.authentications.count(&Reads::default(), &Bucket::Needs(source.clone())) > 0,
        |reads, source| bind(reads, inputs, source),
    );
}

/// `None` when no policy refers to the source.
fn bind(reads: &Reads, inputs: &Inputs, source: &KeySource) -> Option<Wanted> {
    let policies = inputs.authentications.bucket(reads, &Bucket::Needs(source.clone()));
    let asked = policies.flat_map(|(_, policy)| policy.sources());
    let timeouts = asked.filter(|(wanted, _)| *wanted == source).map(|(_, timeout)| timeout.get());
    timeouts.max().map(|milliseconds| Wanted(Duration::from_millis(milliseconds.unsigned_abs())))
}
