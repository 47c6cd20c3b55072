//! How much clients may ask of us, and who is within it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::Status;

use crate::Client;

/// The bounds of the server. Beyond one of them a client is told `RESOURCE_EXHAUSTED` and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Beyond it, new ones wait unaccepted.
    pub connections: usize,
    /// TLS handshakes at a time. Beyond it, new connections wait unaccepted.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a connection may stay without an authenticated stream, authentication may take, and
    /// a stream may stay without its first request.
    pub introduction: Duration,
    /// Open streams.
    pub streams: usize,
    /// Open streams of one client.
    pub streams_per_client: usize,
    /// Names that a stream may subscribe to or claim to hold.
    pub names: usize,
    /// Size of a request in bytes. A reconnect that claims 100,000 resources is 8 MB.
    pub request_bytes: usize,
    /// How long streams have to end when the server stops, before their connections are cut.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshakes: 64,
            handshake: Duration::from_secs(10),
            introduction: Duration::from_secs(15),
            streams: 20_000,
            streams_per_client: 64,
            names: 400_000,
            request_bytes: 64 << 20,
            farewell: Duration::from_secs(3),
        }
    }
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Admissions {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_client: BTreeMap<String, usize>,
}

/// A place among the open streams, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    admissions: Arc<Admissions>,
    key: String,
}

impl Admissions {
    /// A place for a stream of `client`.
    pub(crate) fn admit(self: &Arc<Self>, client: &Client, limits: &Limits) -> Result<Admission, Status> {
        let mut open = self.open.lock();
        if open.total >= limits.streams {
            return Err(Status::resource_exhausted(format!(
                "all {} streams are in use; try another replica, or raise the limit",
                limits.streams
            )));
        }
        let key = client.name.clone();
        let own = open.by_client.get(&key).copied().unwrap_or_default();
        if own >= limits.streams_per_client {
            return Err(Status::resource_exhausted(format!(
                "{:?} has {own} streams open; close some, or raise the limit",
                client.name
            )));
        }
        open.by_client.insert(key.clone(), own + 1);
        open.total += 1;
        Ok(Admission { admissions: Arc::clone(self), key })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.admissions.open.lock();
        open.total -= 1;
        if let Some(own) = open.by_client.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                open.by_client.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Client {
        let (groups, revocation) = ([crate::Group("ns/gateway".into())].into(), crate::Revocation::default());
        Client { groups, name: name.to_owned(), expires: None, revocation }
    }

    #[test]
    fn a_place_is_given_back() {
        let admissions = Arc::new(Admissions::default());
        let limits = Limits { streams: 3, streams_per_client: 2, ..Limits::default() };
        let admit = |name| admissions.admit(&client(name), &limits);

        let first = admit("a").unwrap();
        let _second = admit("a").unwrap();
        assert_eq!(admit("a").unwrap_err().code(), tonic::Code::ResourceExhausted);
        let _other = admit("b").unwrap();
        assert!(admit("c").unwrap_err().message().contains("all 3 streams"));
        drop(first);
        assert!(admit("a").is_ok());
    }
}
