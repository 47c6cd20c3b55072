//! Which ConfigMaps are to be followed: those that some Gateway refers to.

use crate::{
    derive::{Derived, Reads, Row, Touched},
    installation::{InstallationOf, RefersTo},
    mesh::name::Key,
};

/// A ConfigMap that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedConfigMap;

impl Row for WantedConfigMap {
    const TABLE: &'static str = "wanted ConfigMaps";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// Finds them.
pub(crate) fn update(
    table: &mut Derived<WantedConfigMap>,
    touched: &mut Touched,
    installations: &Derived<InstallationOf>,
) {
    table.update(
        touched,
        installations.changed().iter().filter_map(|gateway| {
            let installation = installations.untracked().get(gateway)?;
            installation.refers.clone()
        }),
        |key| installations.count(&Reads::default(), &RefersTo(key.clone())) > 0,
        |reads, key| (installations.count(reads, &RefersTo(key.clone())) > 0).then_some(WantedConfigMap),
    );
}
