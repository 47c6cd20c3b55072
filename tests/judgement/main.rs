//! The compiler of policies, held against what the API says: the evaluator of `tests::judgement`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this target is a test")]

mod cases;
mod comparison;
mod filters;
mod matchers;
mod mutations;
mod sample;
mod shrunk;
mod waypoint;
mod why;
