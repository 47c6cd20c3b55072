//! Against a real API server. Each test is named for its claim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this target is a test")]

mod authority;
mod chart;
mod commands;
mod deployed;
mod end_to_end;
mod equality;
mod events;
mod followed;
mod harness;
mod kinds;
mod leading;
mod manifests;
mod outages;
mod permissions;
mod proxies;
mod referred;
mod replicas;
mod scribe;
mod serving;
mod statuses;
mod tokens;
mod two;
mod unreadable;
mod writes;
