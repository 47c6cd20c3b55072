//! Against a real API server. Each test is named for its claim.

mod deployed;
mod harness;
