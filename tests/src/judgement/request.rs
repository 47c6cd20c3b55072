//! A request as the API sees it: who sent it, from where, to what, and what it says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde_json::{Map, Value};

/// A request, or a connection on a port that carries bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The SPIFFE id that the client's certificate proves.
    pub peer: Option<String>,
    /// The address that the client connected from.
    pub source: IpAddr,
    /// The address that the client dialled: of a service, or of a pod.
    pub address: IpAddr,
    /// The port that it dialled there.
    pub port: u16,
    /// The ports of the service, by their names.
    pub names: Arc<BTreeMap<String, u16>>,
    /// What the providers of the mesh would say, by their names.
    pub answers: Arc<BTreeMap<String, Answer>>,
    /// What it carries.
    pub body: Body,
}

/// What a provider says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it allows it.
    pub allows: bool,
    /// Whether it can be asked about connections: by HTTP nobody can.
    pub of_connections: bool,
}

/// What a connection carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A request.
    Http(Http),
    /// Bytes, and the server name if they open a TLS connection.
    Tcp {
        /// The name that the client asked for.
        sni: Option<String>,
    },
}

/// An HTTP request, its path normalized already and its claims verified already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// As sent: case matters.
    pub method: String,
    /// `:authority`, with its port if it says one.
    pub host: String,
    /// With the query.
    pub path: String,
    /// One entry a line, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Those of the token that was accepted.
    pub claims: Option<Map<String, Value>>,
}

impl Request {
    /// The HTTP request, if it is one.
    pub fn http(&self) -> Option<&Http> {
        match &self.body {
            Body::Http(http) => Some(http),
            Body::Tcp { .. } => None,
        }
    }

    /// The server name that was asked for.
    pub fn sni(&self) -> Option<&str> {
        match &self.body {
            Body::Http(_) => None,
            Body::Tcp { sni } => sni.as_deref(),
        }
    }

    /// The address that the request comes from by its own account: the last that a proxy noted, else
    /// the connection's.
    pub fn remote(&self) -> IpAddr {
        let noted = self.http().and_then(|http| http.line("x-forwarded-for"));
        let last = noted.as_ref().and_then(|noted| noted.rsplit(',').next()).map(str::trim);
        last.and_then(|last| last.parse().ok()).unwrap_or(self.source)
    }
}

impl Http {
    /// The path without its query and fragment.
    pub fn bare_path(&self) -> &str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// The values of a header, pseudo headers too, one for each line.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
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

    /// The lines of a header joined to one.
    pub fn line(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        let values: Vec<_> = values.into_iter().map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            peer: None,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 80,
            names: Arc::default(),
            answers: Arc::default(),
            body: Body::Http(Http::default()),
        }
    }
}
