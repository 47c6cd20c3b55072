//! Why an identity could not be had, and what the operator can do about it.

use std::{io, path::PathBuf};

/// Why an identity could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret is in a file that others may read, so it may be known to them.
    #[error(
        "{path:?} holds a secret and has mode {mode:04o}, so that others can read it; run `chmod 600 {}` if nobody did, else remove it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path:?} {problem}; {remedy}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A name cannot be part of an identity or of a file's name.
    #[error("{what} {name:?} cannot be part of an identity; use letters, digits, '-', '_' and '.' only")]
    Name {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes; check /dev/urandom")]
    Random,
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}: {source}")]
    Certificate {
        /// For whom.
        subject: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A certificate that we made is not usable for TLS.
    #[error("the certificate for {subject} cannot be used: {problem}")]
    Unusable {
        /// For whom.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
}
