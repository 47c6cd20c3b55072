//! What Istio's authorization API means, evaluated on policies and requests: no Envoy in it.
//!
//! It is written from the API's documentation and independently of the compiler in `translate`, so that
//! the two can be compared: the property test of the target `judgement` gives both the same policies
//! and requests by the million, and the end-to-end tests show some of them to a real Envoy.

pub mod random;

mod alphabet;
mod authentication;
mod evaluator;
mod field;
mod path;
mod pattern;
mod peer;
mod policy;
mod principal;
mod request;

pub use authentication::{JwtRule, Token};
pub use evaluator::{Because, Decision, Verdict, judge};
pub use field::Kind;
pub use path::{Normalization, normalized};
pub use policy::{Action, Chain, Policy, ServiceKind};
pub use request::{Answer, Body, Http, Request};
