//! What we know of a part: which objects it holds, and what is wrong with them. Nothing here asks anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use proto::{DecodeError, Decoded, Kind, Object, ObjectRef};
use serde_json::Value;
use translate::Change;

use super::{
    live::{Live, Onlooker, has_status},
    part::{Part, Scope},
};
use crate::{
    complaint::{Complaint, Severity, Spot},
    diff::Marks,
    trim::{keeps_status, trim},
};

/// What is known of the objects of a part.
#[derive(Debug)]
pub(super) struct Shelf {
    kind: Kind,
    /// Whether it is about one object that is named.
    named: bool,
    marks: Marks,
    wrong: BTreeMap<ObjectRef, Vec<Complaint>>,
    /// Whom the list that is being read has named so far.
    listed: BTreeSet<ObjectRef>,
    /// What moved and was not yet told.
    changes: Vec<Change>,
    /// Whether what is wrong has changed and was not yet told.
    worse_or_better: bool,
    /// Whom to show statuses.
    onlooker: Option<Onlooker>,
}

impl Shelf {
    pub(super) fn new(part: &Part) -> Self {
        Self {
            kind: part.kind,
            named: matches!(part.scope, Scope::Named(_)),
            marks: Marks::default(),
            wrong: BTreeMap::new(),
            listed: BTreeSet::new(),
            changes: Vec::new(),
            worse_or_better: false,
            onlooker: None,
        }
    }

    /// Shows the statuses of its objects to somebody, if they have any.
    pub(super) fn shown_to(mut self, onlooker: Option<Onlooker>) -> Self {
        self.onlooker = onlooker.filter(|_| has_status(self.kind));
        self
    }

    /// A list begins. Whatever an earlier one that did not come to its end named is asked for again.
    pub(super) fn begin(&mut self) {
        self.listed.clear();
    }

    /// The list is whole: what it did not name is gone.
    pub(super) fn end(&mut self) {
        let listed = mem::take(&mut self.listed);
        for gone in self.marks.retain(&listed) {
            self.gone(gone);
        }
        let before = self.wrong.len();
        self.wrong.retain(|object, _| listed.contains(object));
        self.worse_or_better |= self.wrong.len() != before;
    }

    /// Takes an object as the server gives it in `version`. One that cannot be read stays as it was.
    pub(super) fn put(&mut self, mut value: Value, version: &str) {
        name(&mut value, self.kind, version);
        let live = self.onlooker.as_ref().map(|onlooker| Live::of(&value, &onlooker.manager));
        prepare(&mut value, self.kind);
        let Some(claimed) = ObjectRef::of_manifest(&value) else { return };
        self.listed.insert(claimed.clone());
        let wrong = match Object::decode(value) {
            Ok(Decoded { object, ignored }) => {
                self.changes.extend(self.marks.set(trim(object)));
                self.unknown(&claimed, ignored)
            }
            Err(error) => vec![unreadable(&claimed, error)],
        };
        if let (Some(onlooker), Some(_), true) = (&self.onlooker, &live, self.marks.contains(&claimed)) {
            onlooker.tell(&claimed, live);
        }
        if self.wrong.get(&claimed).map_or(&[][..], Vec::as_slice) != wrong {
            self.worse_or_better = true;
            self.wrong.insert(claimed.clone(), wrong);
            self.wrong.retain(|_, wrong| !wrong.is_empty());
        }
    }

    /// Takes away an object that the server gave in `version` and that is gone.
    pub(super) fn remove(&mut self, mut value: Value, version: &str) {
        name(&mut value, self.kind, version);
        let Some(object) = ObjectRef::of_manifest(&value) else { return };
        if let Some(gone) = self.marks.remove(&object) {
            self.gone(gone);
        }
        self.worse_or_better |= self.wrong.remove(&object).is_some();
    }

    fn gone(&mut self, change: Change) {
        if let (Some(onlooker), Change::Remove(object)) = (&self.onlooker, &change) {
            onlooker.tell(object, None);
        }
        self.changes.push(change);
    }

    /// What moved since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    /// Everything that is wrong, if that changed since the last time.
    pub(super) fn take_wrong(&mut self) -> Option<Vec<Complaint>> {
        mem::take(&mut self.worse_or_better).then(|| self.wrong.values().flatten().cloned().collect())
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether all that is listed is known. Of the objects that are named one by one a whole mesh follows,
    /// so none of them may be missing; another that cannot be read is its owner's concern, and must not
    /// stop everybody else.
    pub(super) fn is_known(&self) -> bool {
        let known = |object: &ObjectRef| self.marks.contains(object);
        !self.named || self.wrong.keys().all(known)
    }

    /// Fields of the Gateway API that its type does not know: the cluster has a newer one. In the cluster's
    /// own kinds, what is newer than us is nobody's mistake, and their objects are many.
    fn unknown(&self, object: &ObjectRef, ignored: Vec<String>) -> Vec<Complaint> {
        if self.kind.group() != "gateway.networking.k8s.io" {
            return Vec::new();
        }
        let message = "this version of Portolan does not know the field, it is ignored";
        let ignored = ignored.into_iter().filter(|field| field.starts_with("spec"));
        let complain = |field| {
            Complaint::about_object(
                object.clone(),
                Some(Spot::Field(field)),
                Severity::Warning,
                message.to_owned(),
            )
        };
        ignored.map(complain).collect()
    }
}

/// Items of a list do not say what they are.
fn name(value: &mut Value, kind: Kind, version: &str) {
    let api_version = match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.name().into());
    }
}

/// Who wrote which field is the bulk of an object, and nothing that we read; a status mostly is not either.
fn prepare(value: &mut Value, kind: Kind) {
    if let Some(object) = value.as_object_mut()
        && !keeps_status(kind)
    {
        object.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

fn unreadable(object: &ObjectRef, error: DecodeError) -> Complaint {
    let (at, message) = match error {
        DecodeError::Field { path, message } => {
            // The path tracker calls the root `.`.
            (Some(path).filter(|path| path != ".").map(Spot::Field), message)
        }
        DecodeError::Missing(_) | DecodeError::UnknownKind { .. } | DecodeError::UnknownVersion { .. } => {
            (None, error.to_string())
        }
    };
    Complaint::about_object(object.clone(), at, Severity::Error, message)
}
