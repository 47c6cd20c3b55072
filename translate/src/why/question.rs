//! A question: who, to what, with what.

use std::net::IpAddr;

use proto::Name;
use serde_json::{Map, Value};

/// Whether a caller may do something.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The SPIFFE id that the caller's certificate proves.
    pub peer: Option<String>,
    /// The address that its tunnel comes from. What asks for it where nobody says it has no answer.
    pub source: Option<IpAddr>,
    /// What it dials.
    pub to: Destination,
    /// The port there.
    pub port: Port,
    /// What it sends.
    pub sends: Sends,
    /// The time, in seconds since 1970, for tokens that end.
    pub now: i64,
}

impl Question {
    /// The host of a request that names no other one. Clients leave the port out that is HTTP's own.
    pub(super) fn host(&self, port: u16) -> String {
        let dialled = match &self.to {
            Destination::Host(host) => host.clone(),
            Destination::Address(IpAddr::V4(ip)) => ip.to_string(),
            Destination::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if port == 80 { dialled } else { format!("{dialled}:{port}") }
    }
}

/// What somebody dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A name, as the caller's DNS would look it up: `reviews`, `reviews.bookinfo`, a host of an entry.
    Host(String),
    /// An address.
    Address(IpAddr),
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By its number.
    Number(u16),
    /// By the name that the service has for it.
    Named(Name),
}

/// What goes through a tunnel.
#[derive(Clone, Debug, PartialEq)]
pub enum Sends {
    /// Anything that the port takes: the answer is one for all of it, or there is none.
    Anything,
    /// A request.
    Request(Request),
    /// Bytes that are not HTTP.
    Bytes {
        /// The name that a TLS client asks for.
        server_name: Option<String>,
    },
}

/// An HTTP request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// In capitals, as clients send it.
    pub method: String,
    /// `:authority`, with its port if it names one; else what is dialled, as clients have it.
    pub host: Option<String>,
    /// As sent, with its query.
    pub path: String,
    /// One entry a line, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What the token says that it carries wherever a policy looks for one, signed by its issuer.
    /// Tokens in the headers count without it.
    pub claims: Option<Map<String, Value>>,
}
