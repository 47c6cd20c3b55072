//! What is wrong with what was read and where, as a value: a bad file is the user's to fix, never ours to fail by.

use std::{fmt, num::NonZeroUsize, path::PathBuf};

use proto::ObjectRef;

/// One thing that is wrong with a manifest, with an object of a cluster, or with reading them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The file or directory; `None` if it is about a cluster.
    pub file: Option<PathBuf>,
    /// The document in it, counted from 1; `None` if it is about the file as a whole, or no file.
    pub document: Option<NonZeroUsize>,
    /// Where in the document or object, as far as it is known.
    pub at: Option<Spot>,
    /// The object, or the one that the document claims to be, if it says so.
    pub object: Option<ObjectRef>,
    /// What it costs.
    pub severity: Severity,
    /// What is wrong and what to do: lower case, no full stop.
    pub message: String,
}

/// A place in a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// A field, as in `spec.ports[0].port`.
    Field(String),
    /// A line and a column of the file, both counted from 1.
    Line {
        /// The line.
        line: u64,
        /// The column.
        column: u64,
    },
}

/// What a complaint costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What was written is not in force. The last good state of it is, if there was one.
    Error,
    /// The manifest is in force; a part of it that we do not know is not.
    Warning,
}

impl Complaint {
    /// A complaint about a whole file or directory.
    pub(crate) fn about_file(file: PathBuf, message: String) -> Self {
        Self { file: Some(file), document: None, at: None, object: None, severity: Severity::Error, message }
    }

    /// A complaint about an object of a cluster.
    pub(crate) fn about_object(
        object: ObjectRef,
        at: Option<Spot>,
        severity: Severity,
        message: String,
    ) -> Self {
        Self { file: None, document: None, at, object: Some(object), severity, message }
    }

    /// A complaint about reading a cluster.
    pub(crate) fn about_cluster(message: String) -> Self {
        Self { file: None, document: None, at: None, object: None, severity: Severity::Error, message }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.object) {
            (Some(file), object) => {
                write!(out, "{}", file.display())?;
                if let Some(document) = self.document {
                    write!(out, " document {document}")?;
                }
                if let Some(object) = object {
                    write!(out, " ({object})")?;
                }
                write!(out, ": ")?;
            }
            (None, Some(object)) => write!(out, "{object}: ")?,
            (None, None) => {}
        }
        if let Some(at) = &self.at {
            write!(out, "{at}: ")?;
        }
        out.write_str(&self.message)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(path) => out.write_str(path),
            Self::Line { line, column } => write!(out, "line {line}, column {column}"),
        }
    }
}
