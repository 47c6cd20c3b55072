//! The rules of the house, as tests: each names the file and line that breaks it, and why the rule is there.

#![allow(clippy::expect_used, clippy::panic, reason = "a rule that cannot look has to fail")]

mod layout;
mod manifests;
mod repository;
mod scripts;
mod sources;
