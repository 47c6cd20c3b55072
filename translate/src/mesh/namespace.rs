//! Namespace: what its services inherit, and the labels that selectors look at.

use std::collections::BTreeMap;

use proto::{Name, kubernetes};

use super::labels::Asked;
use crate::derive::Row;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Namespace {
    pub(crate) asked: Asked,
    pub(crate) labels: BTreeMap<String, String>,
}

pub(crate) fn lower(object: &kubernetes::Namespace) -> Namespace {
    Namespace {
        asked: Asked::lower(&object.metadata),
        labels: object.metadata.labels.clone().unwrap_or_default(),
    }
}

impl Row for Namespace {
    const TABLE: &'static str = "namespace";
    type Key = Name;
    type Bucket = ();

    fn buckets(_key: &Name, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}
