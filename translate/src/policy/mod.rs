//! The policies, one folder or file each. To add one: its file, its line here, its line in `proto::Kind`.

pub(crate) mod authentication;
pub(crate) mod authorization;
pub(crate) mod extension_provider;
pub(crate) mod target;
