//! All files put together: one object of each name, the last good state of what cannot be read now, and
//! the whole list of complaints.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proto::{Object, ObjectRef};

use crate::{
    complaint::{Complaint, Severity},
    contents::{Contents, Placed},
};

/// What is in force of every file.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    files: BTreeMap<PathBuf, Shelf>,
}

/// What is in force of one file.
#[derive(Debug, Default)]
struct Shelf {
    /// What it holds, and what it held before and may still mean, in the order of its documents.
    objects: Vec<Placed>,
    complaints: Vec<Complaint>,
    unread: Vec<Complaint>,
}

impl Catalog {
    /// Takes `contents` as what `file` holds now. An object that it held before stays if a document
    /// that cannot be read may be meant to be that object.
    pub(crate) fn put(&mut self, file: &Path, contents: Contents) {
        let Contents { mut objects, complaints, unread, broken } = contents;
        let kept = self.files.entry(file.to_owned()).or_default();
        let read: BTreeSet<ObjectRef> = objects.iter().map(|placed| placed.reference.clone()).collect();
        let before = std::mem::take(&mut kept.objects).into_iter();
        objects
            .extend(before.filter(|old| !read.contains(&old.reference) && broken.may_mean(&old.reference)));
        objects.sort_by_key(|placed| placed.document);
        *kept = Shelf { objects, complaints, unread };
    }

    /// Notes that `file` cannot be read. Everything that it held stays.
    pub(crate) fn keep(&mut self, file: &Path, why: String) {
        let kept = self.files.entry(file.to_owned()).or_default();
        kept.complaints = vec![Complaint::about_file(file.to_owned(), why)];
        kept.unread.clear();
    }

    /// Forgets every file that is not `present`.
    pub(crate) fn retain(&mut self, present: &BTreeSet<PathBuf>) {
        self.files.retain(|file, _| present.contains(file));
    }

    /// What is in force, and everything that is wrong, each in a stable order.
    ///
    /// Of two objects with one name, the one in the first file by path is in force, and in one file
    /// the first document: the result depends on what is there, never on the order of arrival.
    pub(crate) fn survey(&self) -> (BTreeMap<ObjectRef, Object>, Vec<Complaint>) {
        let mut winners: BTreeMap<&ObjectRef, (&Path, &Placed)> = BTreeMap::new();
        let mut complaints: Vec<Complaint> = Vec::new();
        let mut kinds_told = BTreeSet::new();
        for (file, shelf) in &self.files {
            for placed in &shelf.objects {
                match winners.get(&placed.reference) {
                    None => {
                        winners.insert(&placed.reference, (file.as_path(), placed));
                    }
                    Some(&(first_file, first)) => complaints.push(duplicate(file, placed, first_file, first)),
                }
            }
            complaints.extend(shelf.complaints.iter().cloned());
            let unread =
                shelf.unread.iter().filter(|complaint| kinds_told.insert(complaint.message.as_str()));
            complaints.extend(unread.cloned());
        }
        complaints.sort();
        complaints.dedup();
        let objects = winners.into_iter().map(|(name, (_, placed))| (name.clone(), placed.object.clone()));
        (objects.collect(), complaints)
    }
}

fn duplicate(file: &Path, placed: &Placed, first_file: &Path, first: &Placed) -> Complaint {
    let first_file = first_file.display();
    Complaint {
        file: Some(file.to_owned()),
        document: Some(placed.document),
        at: None,
        object: Some(placed.reference.clone()),
        severity: Severity::Error,
        message: format!(
            "the object is also in {first_file} document {}, which is in force; remove one of the two",
            first.document
        ),
    }
}
