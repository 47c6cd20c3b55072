//! Events: what somebody who looks at an object should hear of, once and in the words of its status.
//!
//! What is worth an Event is decided from the status that was there and the one that is written, so one
//! replica tells it, a restart tells nothing again, and what was over before it was written is not told.
//!
//! ```text
//!   status::ledger ─ before, after ─► news ─► Recorder ─► what is the same again is counted ─► API server
//! ```

mod news;
mod recent;
mod recorder;

pub use news::{Grade, News};
pub use recorder::{Recorder, Teller, permissions};

pub(crate) use news::of;
