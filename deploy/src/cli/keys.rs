//! How keys are fetched, on the command line.

use std::time::Duration;

use clap::Args;
use watch::{Block, Guard, KeyOptions};

use super::lifetime;

/// How the keys of issuers are fetched that policies refer to by address.
#[derive(Clone, Debug, Args)]
pub(super) struct KeyArguments {
    /// How long keys are good for before they are fetched again
    #[arg(long = "jwks-refresh", value_name = "TIME", default_value = "20m", value_parser = lifetime::parse)]
    refresh: Duration,
    /// How soon a failed fetch is tried again; each failure doubles it
    #[arg(long = "jwks-retry", value_name = "TIME", default_value = "1m", value_parser = lifetime::parse)]
    retry: Duration,
    /// And at most
    #[arg(long = "jwks-retry-at-most", value_name = "TIME", default_value = "1h", value_parser = lifetime::parse)]
    retry_at_most: Duration,
    /// Addresses that keys are never fetched from, beside those of the link and of clouds' metadata; may be repeated
    #[arg(long = "jwks-blocked", value_name = "CIDR")]
    blocked: Vec<Block>,
    /// Fetch keys from this machine as well, for trying things out
    #[arg(long = "jwks-allow-loopback")]
    allow_loopback: bool,
}

impl KeyArguments {
    /// The options that were asked for.
    pub(super) fn options(&self) -> KeyOptions {
        let Self { refresh, retry, retry_at_most, blocked, allow_loopback } = self;
        KeyOptions {
            refresh: *refresh,
            retry: *retry,
            retry_at_most: *retry_at_most,
            guard: Guard { loopback: *allow_loopback, blocked: blocked.clone() },
        }
    }
}
