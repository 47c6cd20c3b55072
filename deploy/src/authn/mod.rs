//! Who a client is, and which waypoints it may be a proxy of.
//!
//! ```text
//!   a directory   token of ours ─► the gateway that it names                      bearer.rs
//!   a cluster     token of a service account
//!                   ─► what it says of itself: refuses what cannot be good        claims.rs
//!                   ─► what the API server says of it (TokenReview)               review.rs
//!                        asked once, and again every few minutes while in use     reviewed.rs
//!                   ─► the gateways that this account runs                        accounts.rs
//! ```

mod accounts;
mod bearer;
mod claims;
mod review;
mod reviewed;

use std::{sync::Arc, time::SystemTime};

use xds::{Authenticate, Client, Denied, Peer};

pub use accounts::Accounts;
pub use bearer::BearerTokens;
pub use review::{ApiServer, permissions};
pub use reviewed::{ReviewedTokens, Terms};

use crate::tasks::Tasks;

/// How proxies prove who they are.
#[derive(Debug)]
pub enum Proof {
    /// By tokens of ours.
    Own(BearerTokens),
    /// By tokens of their service accounts.
    Reviewed(Arc<ReviewedTokens<ApiServer>>),
}

impl Proof {
    /// Starts what ends the streams of those who should not have them any more.
    pub(crate) fn oversee(&self, tasks: &mut Tasks) {
        match self {
            Self::Own(_) => {}
            Self::Reviewed(tokens) => {
                let tokens = Arc::clone(tokens);
                tasks.spawn_forever("review of tokens", async move {
                    tokens.watch_over().await;
                    Ok(())
                });
            }
        }
    }
}

impl Authenticate for Proof {
    async fn authenticate(&self, peer: &Peer) -> Result<Client, Denied> {
        let now = SystemTime::now();
        match self {
            Self::Own(tokens) => tokens.decide(peer, now),
            Self::Reviewed(tokens) => tokens.decide(peer, now).await,
        }
    }
}
