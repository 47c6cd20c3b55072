//! `portolan proxy-status` and `portolan proxy-config`: what the control planes say of their proxies.

mod config;
mod question;
mod replicas;
mod status;
#[cfg(test)]
mod tests;

pub(super) use self::{config::ProxyConfig, status::ProxyStatus};
