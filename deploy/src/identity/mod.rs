//! Who is who: the embedded certificate authority, the certificates and tokens it gives out, and the
//! files they are kept in.
//!
//! ```text
//!   <state>/lock               held while a secret is made, so that two processes make one
//!           ca/root.pem        what proxies trust
//!           ca/root-key.pem    what signs; owner only
//!           leaves/NS/NAME.pem certificate and key of a waypoint; owner only
//!           token-key          what proves a token; owner only
//! ```
//!
//! Nothing here reads a clock: whoever calls says what time it is.

mod ca;
mod error;
mod file;
mod kept;
mod leaf;
mod leaves;
mod private_key;
mod sds;
mod server;
mod spiffe;
mod succession;
pub mod token;

pub use ca::Authority;
pub use error::IdentityError;
pub use kept::Entries;
pub use leaf::Leaf;
pub(crate) use leaf::{time, uris_of};
pub use leaves::{LIFETIME, Leaves};
pub use sds::{Trusts, secrets};
pub use server::{ServerCertificates, ServerNames};
pub use spiffe::SpiffeId;
pub use succession::{Moved, Succession};

#[cfg(test)]
mod tests;
