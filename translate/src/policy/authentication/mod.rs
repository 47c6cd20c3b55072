//! RequestAuthentication: which tokens prove who asks, by whose keys, and what requests carry of them.
//!
//! `lower` reads the policy; a rule with a mistake rejects every token it would have read. `emit`
//! makes Envoy's filter of all rules that govern a service. The keys are checked here before anyone
//! is sent them: Envoy refuses a whole resource for one set without a usable key.

mod curve;
mod emit;
pub(crate) mod judge;
mod keys;
mod lower;

use std::{collections::BTreeSet, sync::Arc};

pub(crate) use emit::{METADATA, PAYLOAD, emit};
pub use keys::{KeySet, KeySource, Origin};
pub(crate) use lower::lower;

use crate::{
    derive::Row,
    mesh::name::Key,
    policy::target::{self, Target},
    problem::Problem,
    route::timeout::Millis,
};

/// A policy, lowered: what cannot be expressed has already failed closed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authentication {
    pub(crate) generation: Option<i64>,
    /// When the policy was made: of rules for one issuer the oldest is asked first.
    pub(crate) created: i64,
    pub(crate) targets: Vec<Target>,
    /// Whether it names any targets at all, known or not.
    pub(crate) targeted: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) problems: Vec<Problem>,
}

/// One rule, and where its keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) check: Arc<Check>,
    pub(crate) keys: Keys,
}

/// The keys of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// As they stand in the policy; [`KeySet::nobody`] for a rule with a mistake.
    Inline(KeySet),
    /// Somewhere else, fetched by somebody else.
    Fetched { source: KeySource, timeout: Millis },
}

/// What came of fetching the keys of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The last good ones.
    pub keys: Option<KeySet>,
    /// Why there are none, or no newer ones.
    pub failure: Option<String>,
}

impl Row for Fetched {
    const TABLE: &'static str = "fetched keys";
    type Key = KeySource;
    type Bucket = ();

    fn buckets(_key: &KeySource, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// What a rule asks of a token and does with it, apart from its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    /// Empty: any.
    pub(crate) issuer: String,
    /// Empty: any.
    pub(crate) audiences: Vec<String>,
    /// Where tokens are looked for. All three empty: where tokens usually are.
    pub(crate) from_headers: Vec<Location>,
    pub(crate) from_params: Vec<String>,
    pub(crate) from_cookies: Vec<String>,
    /// Whether the backend gets the token.
    pub(crate) forward: bool,
    /// The header that carries the claims to the backend; empty for none.
    pub(crate) payload_header: String,
    pub(crate) claim_headers: Vec<ClaimHeader>,
    /// Claims whose text is a list, with spaces between.
    pub(crate) space_delimited: BTreeSet<String>,
}

/// A header that holds a token behind some text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) name: String,
    pub(crate) prefix: String,
}

/// A header that carries one claim to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClaimHeader {
    pub(crate) name: String,
    /// Dots lead into nested claims.
    pub(crate) claim: String,
}

/// Where policies are found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// By what they govern.
    Governs(Target),
    /// By the keys they need fetched.
    Needs(KeySource),
}

impl Row for Authentication {
    const TABLE: &'static str = "authentication";
    type Key = Key;
    type Bucket = Bucket;

    fn buckets(_key: &Key, row: &Self) -> Vec<Bucket> {
        let governs = target::buckets(&row.targets).map(Bucket::Governs);
        let needs = row.sources().map(|(source, _)| Bucket::Needs(source.clone()));
        governs.chain(needs).collect()
    }
}

impl Authentication {
    /// The keys that it needs fetched, and how long that may take.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&KeySource, Millis)> {
        self.rules.iter().filter_map(|rule| match &rule.keys {
            Keys::Inline(_) => None,
            Keys::Fetched { source, timeout } => Some((source, *timeout)),
        })
    }
}
