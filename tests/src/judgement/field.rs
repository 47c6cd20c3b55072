//! One field of a rule, or one condition: what it asks of a request.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    pattern::{Block, PathForm, Port, Text},
    peer::{self, Who},
    principal::RequestPrincipal,
    request::Request,
};

/// What a field or a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `principals`, `source.principal`
    Principal,
    /// `requestPrincipals`, `request.auth.principal`
    RequestPrincipal,
    /// `namespaces`, `source.namespace`
    Namespace,
    /// `serviceAccounts`, `source.serviceAccount`
    ServiceAccount,
    /// `trustDomains`, `source.trustDomain`
    TrustDomain,
    /// `ipBlocks`, `source.ip`
    SourceIp,
    /// `remoteIpBlocks`, `remote.ip`
    RemoteIp,
    /// `hosts`
    Host,
    /// `methods`
    Method,
    /// `paths`
    Path,
    /// `ports`, `destination.port`
    Port,
    /// `destination.ip`
    DestinationIp,
    /// `request.headers[...]`
    Header,
    /// `request.auth.claims[...]`, `request.auth.audiences`, `request.auth.presenter`
    Claim,
    /// `connection.sni`
    Sni,
    /// `experimental.envoy.filters....`
    Experimental,
}

impl Kind {
    /// Whether only a request has it, not a connection.
    pub fn is_http(self) -> bool {
        match self {
            Self::Host | Self::Method | Self::Path | Self::RequestPrincipal | Self::Header | Self::Claim => {
                true
            }
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::TrustDomain
            | Self::SourceIp
            | Self::RemoteIp
            | Self::Port
            | Self::DestinationIp
            | Self::Sni
            | Self::Experimental => false,
        }
    }

    /// Whether providers are asked before it is known: what tokens say, and what other filters do.
    pub fn is_late(self) -> bool {
        match self {
            Self::RequestPrincipal | Self::Claim | Self::Experimental => true,
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::TrustDomain
            | Self::SourceIp
            | Self::RemoteIp
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::Port
            | Self::DestinationIp
            | Self::Header
            | Self::Sni => false,
        }
    }
}

/// The fields of a source, without their `not`.
pub(crate) const SOURCE: [(&str, Kind); 7] = [
    ("principals", Kind::Principal),
    ("requestPrincipals", Kind::RequestPrincipal),
    ("namespaces", Kind::Namespace),
    ("serviceAccounts", Kind::ServiceAccount),
    ("trustDomains", Kind::TrustDomain),
    ("ipBlocks", Kind::SourceIp),
    ("remoteIpBlocks", Kind::RemoteIp),
];

/// The fields of an operation, without their `not`.
pub(crate) const OPERATION: [(&str, Kind); 4] =
    [("hosts", Kind::Host), ("methods", Kind::Method), ("paths", Kind::Path), ("ports", Kind::Port)];

/// What the key of a condition names: a kind, and which header or claim.
pub(crate) fn key(key: &str) -> Option<(Kind, Vec<String>)> {
    let kind = match key {
        "source.ip" => Kind::SourceIp,
        "source.namespace" => Kind::Namespace,
        "source.principal" => Kind::Principal,
        "source.serviceAccount" => Kind::ServiceAccount,
        "source.trustDomain" => Kind::TrustDomain,
        "remote.ip" => Kind::RemoteIp,
        "request.auth.principal" => Kind::RequestPrincipal,
        "request.auth.audiences" => return Some((Kind::Claim, vec!["aud".to_owned()])),
        "request.auth.presenter" => return Some((Kind::Claim, vec!["azp".to_owned()])),
        "destination.ip" => Kind::DestinationIp,
        "destination.port" => Kind::Port,
        "connection.sni" => Kind::Sni,
        key => return bracketed(key),
    };
    Some((kind, Vec::new()))
}

fn bracketed(key: &str) -> Option<(Kind, Vec<String>)> {
    let inside = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']');
    if let Some(name) = inside("request.headers") {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let bare = name.strip_prefix(':').unwrap_or(name);
        let valid = !bare.is_empty() && bare.bytes().all(token);
        return valid.then(|| (Kind::Header, vec![name.to_owned()]));
    }
    if let Some(claims) = inside("request.auth.claims") {
        let path: Vec<String> = claims.split("][").map(str::to_owned).collect();
        let nested = path.iter().all(|name| !name.contains(['[', ']']));
        let path = if nested { path } else { vec![claims.to_owned()] };
        return path.iter().all(|name| !name.is_empty()).then_some((Kind::Claim, path));
    }
    let (filter, key) = key.strip_prefix("experimental.envoy.filters.")?.split_once('[')?;
    let valid = !filter.is_empty() && key.len() > 1 && key.ends_with(']');
    valid.then(|| (Kind::Experimental, vec![filter.to_owned(), key.to_owned()]))
}

/// What the policy around a field decides about its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// The policy's namespace.
    pub(crate) namespace: &'a str,
    /// The trust domain of the mesh and its aliases.
    pub(crate) bundle: &'a [String],
    /// Whether a match of the rule allows.
    pub(crate) allows: bool,
}

/// Values of a field: one of them has to hold, or none may.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) kind: Kind,
    pub(crate) negated: bool,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Peer(Vec<Who>),
    RequestPrincipal(Vec<RequestPrincipal>),
    Address(Vec<Block>),
    Host(Vec<Text>),
    Method(Vec<Text>, /* in any case */ bool),
    Path(Vec<PathForm>),
    Port(Vec<Port>),
    Header(String, Vec<Text>, /* in any case */ bool),
    Claim(Vec<String>, Vec<Text>),
    Sni(Vec<Text>),
    /// Metadata of filters that no waypoint has.
    Absent,
}

impl Term {
    /// Nothing if a value is none that the field takes.
    pub(crate) fn read(
        (kind, argument): (Kind, &[String]),
        negated: bool,
        values: &[Value],
        setting: Setting<'_>,
    ) -> Option<Self> {
        let texts = values.iter().map(|value| value.as_str().filter(|text| !text.is_empty()));
        let values: Vec<&str> = texts.collect::<Option<_>>()?;
        let texts = || values.iter().map(|value| Text::read(value)).collect::<Vec<_>>();
        let blocks = || values.iter().map(|value| Block::read(value)).collect::<Option<Vec<_>>>();
        // Where a match refuses, what is in doubt is refused: a method in another case, the port of a name.
        let refuses = setting.allows == negated;
        let values = match kind {
            Kind::Principal => {
                let named = values.iter().flat_map(|value| match value.strip_prefix("spiffe://") {
                    None => peer::aliases(value, setting.bundle),
                    // Written so it is nobody, unless whoever is meant has to be refused.
                    Some(rest) if refuses => peer::aliases(rest, setting.bundle),
                    Some(_) => Vec::new(),
                });
                Values::Peer(named.map(|value| Who::Principal(Text::read(&value))).collect())
            }
            Kind::Namespace => Values::Peer(values.iter().map(|value| Who::namespace(value)).collect()),
            Kind::ServiceAccount => {
                let accounts = values.iter().map(|value| Who::service_account(value, setting.namespace));
                Values::Peer(accounts.collect::<Option<_>>()?)
            }
            Kind::TrustDomain => {
                let domains = values.iter().flat_map(|value| {
                    let ours = setting.bundle.iter().any(|member| member == value);
                    if ours { setting.bundle.to_vec() } else { vec![(*value).to_owned()] }
                });
                Values::Peer(domains.map(|value| Who::trust_domain(&value)).collect::<Option<_>>()?)
            }
            Kind::RequestPrincipal => {
                let principal = |value: &&str| RequestPrincipal::read(value, refuses);
                Values::RequestPrincipal(values.iter().map(principal).collect())
            }
            Kind::SourceIp | Kind::RemoteIp | Kind::DestinationIp => Values::Address(blocks()?),
            Kind::Host => Values::Host(texts()),
            Kind::Method => Values::Method(texts(), refuses),
            Kind::Path => {
                Values::Path(values.iter().map(|value| PathForm::read(value)).collect::<Option<_>>()?)
            }
            Kind::Port => {
                let port = |value: &&str| {
                    Port::read(value)
                        .filter(|port| !setting.allows && refuses || matches!(port, Port::Number(_)))
                };
                Values::Port(values.iter().map(port).collect::<Option<_>>()?)
            }
            Kind::Header => {
                let name = argument.first()?.to_ascii_lowercase();
                let any_case = refuses && [":method", ":authority", "host"].contains(&name.as_str());
                Values::Header(name, texts(), any_case)
            }
            Kind::Claim => Values::Claim(argument.to_vec(), texts()),
            Kind::Sni => Values::Sni(texts()),
            Kind::Experimental => Values::Absent,
        };
        Some(Self { kind, negated, values })
    }

    pub(crate) fn holds(&self, request: &Request) -> bool {
        self.one_of(request) != self.negated
    }

    fn one_of(&self, request: &Request) -> bool {
        let http = request.http();
        match &self.values {
            Values::Peer(wanted) => wanted.iter().any(|who| who.holds(request.peer.as_deref())),
            Values::RequestPrincipal(wanted) => {
                let claims = http.and_then(|http| http.claims.as_ref());
                claims.is_some_and(|claims| wanted.iter().any(|wanted| wanted.holds(claims)))
            }
            Values::Address(blocks) => {
                let address = self.address(request);
                blocks.iter().any(|block| block.holds(address))
            }
            Values::Host(hosts) => {
                http.is_some_and(|http| hosts.iter().any(|host| host.holds_in_any_case(http.host.as_bytes())))
            }
            Values::Method(methods, any_case) => http.is_some_and(|http| {
                let sent = http.method.as_bytes();
                methods
                    .iter()
                    .any(|method| if *any_case { method.holds_in_any_case(sent) } else { method.holds(sent) })
            }),
            Values::Path(paths) => {
                http.is_some_and(|http| paths.iter().any(|path| path.holds(http.bare_path())))
            }
            Values::Port(ports) => ports.iter().any(|port| match port {
                Port::Number(port) => *port == request.port,
                // A name that nobody has may have meant any.
                Port::Named(name) => request.names.get(name).is_none_or(|port| *port == request.port),
            }),
            Values::Header(name, wanted, any_case) => http.is_some_and(|http| {
                http.values(name).into_iter().any(|line| {
                    wanted.iter().any(|value| {
                        if *any_case { value.holds_in_any_case(line) } else { value.holds(line) }
                    })
                })
            }),
            Values::Claim(path, wanted) => {
                let claims = http.and_then(|http| http.claims.as_ref());
                let Some((first, rest)) = path.split_first() else { return false };
                let mut found = claims.and_then(|claims| claims.get(first));
                for name in rest {
                    found = found.and_then(Value::as_object).and_then(|object| object.get(name));
                }
                found.is_some_and(|found| says(found, wanted))
            }
            Values::Sni(names) => {
                request.sni().is_some_and(|sni| names.iter().any(|name| name.holds_filled(sni)))
            }
            Values::Absent => false,
        }
    }

    fn address(&self, request: &Request) -> IpAddr {
        match self.kind {
            Kind::RemoteIp => request.remote(),
            Kind::DestinationIp => request.address,
            Kind::SourceIp
            | Kind::Principal
            | Kind::RequestPrincipal
            | Kind::Namespace
            | Kind::ServiceAccount
            | Kind::TrustDomain
            | Kind::Host
            | Kind::Method
            | Kind::Path
            | Kind::Port
            | Kind::Header
            | Kind::Claim
            | Kind::Sni
            | Kind::Experimental => request.source,
        }
    }
}

/// A string, or a string in a list.
fn says(claim: &Value, wanted: &[Text]) -> bool {
    let holds = |value: &Value| {
        value.as_str().is_some_and(|text| wanted.iter().any(|wanted| wanted.holds_filled(text)))
    };
    holds(claim) || claim.as_array().is_some_and(|list| list.iter().any(holds))
}
