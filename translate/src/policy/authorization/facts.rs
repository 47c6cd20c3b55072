//! What is known of a request when its policies are asked why: no fact is made up for the answer.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::IpBlock;
use crate::{mesh::block::Block, problem::FieldPath};

/// Whether something holds. What holds for one of several is the greatest, for all of them the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    No,
    Unknown,
    Yes,
}

/// What is known of a request, or of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'q> {
    /// The SPIFFE id that the caller proves.
    pub(crate) peer: Option<&'q str>,
    /// Where the tunnel comes from, if somebody said it.
    pub(crate) source: Option<IpAddr>,
    /// What it dialled, if that is one address.
    pub(crate) address: Option<IpAddr>,
    /// The port that it dialled.
    pub(crate) port: u16,
    pub(crate) inside: Inside<'q>,
}

/// What is inside a tunnel.
#[derive(Clone, Debug)]
pub(crate) enum Inside<'q> {
    Request(Seen<'q>),
    /// A request of which nothing is known.
    AnyRequest,
    /// Bytes, with the name that a TLS client asks for.
    Bytes {
        server_name: Option<&'q str>,
    },
}

/// A request as the filters of a service see it.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'q> {
    pub(crate) method: &'q str,
    /// `:authority`
    pub(crate) host: &'q str,
    /// Normalized, with its query.
    pub(crate) path: String,
    pub(crate) headers: &'q [(String, Vec<u8>)],
    /// Those of the token that was accepted.
    pub(crate) claims: Option<Map<String, Value>>,
}

/// A fact that somebody would have to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The address that the caller comes from.
    Source,
    /// Which of the addresses of the service was dialled.
    Address,
    /// The request.
    Request,
    /// The name that a TLS client asks for, or that it asks for none.
    ServerName,
    /// What a filter, or who it asks, says of the request. It cannot be given.
    Metadata,
}

/// A field of a rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field, as in `spec.rules[0].to[0].operation.paths`; its very value, if one decided.
    pub at: FieldPath,
    /// Whether it asks for none of its values.
    pub negated: bool,
    /// Its values, as the policy has them; only the very one, if one decided.
    pub wanted: Vec<String>,
    /// What was there instead, or because of which it holds.
    pub found: String,
    /// What has to be known to tell whether it holds.
    pub needs: Option<Fact>,
}

impl Truth {
    pub(crate) const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Seen<'_> {
    /// Without its query and fragment.
    pub(crate) fn bare_path(&self) -> &str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// The values of a header, pseudo headers too, one for each line. The name is in lower case.
    pub(crate) fn lines(&self, name: &str) -> Vec<&[u8]> {
        match name {
            ":method" => vec![self.method.as_bytes()],
            ":authority" | "host" => vec![self.host.as_bytes()],
            ":path" => vec![self.path.as_bytes()],
            ":scheme" => vec![b"http"],
            name => {
                let lines = self.headers.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
                lines.map(|(_, value)| value.as_slice()).collect()
            }
        }
    }

    /// The lines of a header as one.
    pub(crate) fn line(&self, name: &str) -> Option<Vec<u8>> {
        let lines = self.lines(name);
        (!lines.is_empty()).then(|| lines.join(&b','))
    }

    /// The last of those that forwarded it.
    pub(super) fn forwarded_for(&self) -> Option<IpAddr> {
        let line = self.line("x-forwarded-for")?;
        let last = std::str::from_utf8(&line).ok()?.rsplit(',').next()?.trim();
        last.parse().ok()
    }
}

impl IpBlock {
    /// Whether that address is in it. Bits beyond the prefix mean nothing.
    pub(super) fn holds(self, address: IpAddr) -> bool {
        Block::around(self.address, self.prefix).is_some_and(|block| block.holds(address))
    }
}
