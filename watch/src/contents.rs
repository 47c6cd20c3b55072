//! The objects that one manifest file holds, and what is wrong with it.

use std::{num::NonZeroUsize, path::Path};

use proto::{DecodeError, Decoded, Object, ObjectRef};
use serde_json::Value;

use crate::{
    complaint::{Complaint, Severity, Spot},
    manifest::{Document, SyntaxError},
    trim::trim,
    wanted::Wanted,
};

/// An object and the document that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) document: NonZeroUsize,
    pub(crate) reference: ObjectRef,
    pub(crate) object: Object,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Objects, in the order in which they stand there.
    pub(crate) objects: Vec<Placed>,
    /// What is wrong, apart from kinds that we do not read.
    pub(crate) complaints: Vec<Complaint>,
    /// One for each object of a kind that we do not read. A directory of ordinary manifests is full
    /// of them, so whoever puts files together keeps one for each kind.
    pub(crate) unread: Vec<Complaint>,
    /// Which objects are meant by documents that cannot be read.
    pub(crate) broken: Broken,
}

/// Objects of which a file may still speak, although what it says of them cannot be read.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Broken {
    /// None: what the file does not hold is gone.
    #[default]
    Nothing,
    /// These.
    Objects(Vec<ObjectRef>),
    /// It could be any: a document is so damaged that it does not even tell its name.
    Anything,
}

impl Broken {
    /// Whether the file may still mean `reference`.
    pub(crate) fn may_mean(&self, reference: &ObjectRef) -> bool {
        match self {
            Self::Nothing => false,
            Self::Objects(objects) => objects.contains(reference),
            Self::Anything => true,
        }
    }

    fn add(&mut self, object: Option<ObjectRef>) {
        match (&mut *self, object) {
            (Self::Anything, _) => {}
            (_, None) => *self = Self::Anything,
            (Self::Nothing, Some(object)) => *self = Self::Objects(vec![object]),
            (Self::Objects(objects), Some(object)) => objects.push(object),
        }
    }
}

impl Contents {
    /// Reads the objects of `documents`, which come from `file`, as far as they are `wanted`.
    pub(crate) fn read(file: &Path, documents: Vec<Document>, wanted: &Wanted) -> Self {
        let mut contents = Self::default();
        for Document { number, content } in documents {
            let mut place = Place { contents: &mut contents, file, document: number, wanted };
            match content {
                Ok(value) => place.read(value, ""),
                Err(error) => place.refuse_syntax(error),
            }
        }
        contents
    }
}

/// The document that is being read.
struct Place<'a> {
    contents: &'a mut Contents,
    file: &'a Path,
    document: NonZeroUsize,
    wanted: &'a Wanted,
}

impl Place<'_> {
    /// Reads the object `value`, or each item of it if it is a list. `path` is where `value` stands in
    /// the document; empty if it is all of it.
    fn read(&mut self, mut value: Value, path: &str) {
        if let Some(items) = take_items(&mut value) {
            for (index, item) in items.into_iter().enumerate() {
                self.read(item, &join(path, &format!("items[{index}]")));
            }
            return;
        }
        // Taken before the value is consumed, so that a document that cannot be read still has a name.
        let claimed = ObjectRef::of_manifest(&value);
        // What is nobody's to read is nobody's to complain of either.
        if claimed.as_ref().is_some_and(|object| !self.wanted.wants_manifest(object, &value)) {
            return;
        }
        match Object::decode(value) {
            Ok(decoded) => self.accept(decoded, path),
            Err(error) => self.refuse(error, claimed, path),
        }
    }

    fn accept(&mut self, Decoded { object, ignored }: Decoded, path: &str) {
        let reference = object.reference();
        // Of a ConfigMap that nobody named nobody knows whose it is, nor what else it may hold.
        let ignored = if self.wanted.wants(&reference) { ignored } else { Vec::new() };
        for field in ignored {
            let at = Some(Spot::Field(join(path, &field)));
            let message = "no such field, it is ignored; check its spelling and its indentation".to_owned();
            let complaint = self.complaint(Severity::Warning, Some(reference.clone()), at, message);
            self.contents.complaints.push(complaint);
        }
        let object = trim(object);
        self.contents.objects.push(Placed { document: self.document, reference, object });
    }

    fn refuse(&mut self, error: DecodeError, claimed: Option<ObjectRef>, path: &str) {
        let whole = (!path.is_empty()).then(|| Spot::Field(path.to_owned()));
        match error {
            DecodeError::UnknownKind { .. } => {
                let complaint = self.complaint(Severity::Warning, None, whole, error.to_string());
                self.contents.unread.push(complaint);
            }
            DecodeError::Field { path: field, message } => {
                // The path tracker calls the root `.`.
                let at = if field == "." { whole } else { Some(Spot::Field(join(path, &field))) };
                self.refuse_object(claimed, at, message);
            }
            DecodeError::Missing(_) | DecodeError::UnknownVersion { .. } => {
                self.refuse_object(claimed, whole, error.to_string());
            }
        }
    }

    fn refuse_syntax(&mut self, SyntaxError { line, column, message }: SyntaxError) {
        self.refuse_object(None, Some(Spot::Line { line, column }), message);
    }

    fn refuse_object(&mut self, claimed: Option<ObjectRef>, at: Option<Spot>, message: String) {
        self.contents.broken.add(claimed.clone());
        let complaint = self.complaint(Severity::Error, claimed, at, message);
        self.contents.complaints.push(complaint);
    }

    fn complaint(
        &self,
        severity: Severity,
        object: Option<ObjectRef>,
        at: Option<Spot>,
        message: String,
    ) -> Complaint {
        let file = Some(self.file.to_owned());
        Complaint { file, document: Some(self.document), at, object, severity, message }
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The items of a `List`, or of a typed one such as `ServiceList`, whose items do not repeat their kind.
fn take_items(value: &mut Value) -> Option<Vec<Value>> {
    let item_kind = value["kind"].as_str()?.strip_suffix("List")?.to_owned();
    let api_version = value["apiVersion"].clone();
    let Value::Array(mut items) = value.get_mut("items")?.take() else {
        return None;
    };
    if !item_kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.entry("kind").or_insert_with(|| item_kind.as_str().into());
            item.entry("apiVersion").or_insert_with(|| api_version.clone());
        }
    }
    Some(items)
}
