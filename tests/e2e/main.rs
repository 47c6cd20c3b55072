//! End to end: a real Envoy, configured by the real binary, asked by real tunnels. Each test is named for its claim.
//!
//! Every lab also asserts at its end that no Envoy rejected a resource.

mod acknowledged;
mod addresses;
mod admin;
mod admission;
mod advisories;
mod asked_tunnels;
mod callers;
mod canary;
mod changes;
mod corpus;
mod custom;
mod demo;
mod ending;
mod entries;
mod flips;
mod keys;
mod mesh_config;
mod names;
mod places;
mod providers;
mod proxies;
mod reports;
mod rotation;
mod routing;
mod services;
mod shop;
mod sources;
mod survival;
mod tls;
mod tokens;
mod trust;
mod tunnels;
mod upstream;
