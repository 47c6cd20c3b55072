//! Why a caller may do something, or may not: the decision with what made it.
//!
//! It is found by the rows that resources are made of (`PortConfig`, `Scope`), rule by rule and field by
//! field, and by nothing else that is read from objects: so it says what Envoy is told, mistakes
//! included. Nothing that is emitted depends on anything here.
//!
//! ```text
//! Question ─ destination ─► a port behind a waypoint ─ verdict ─► policies, field by field ─ route ─► Answer
//! ```

mod answer;
mod destination;
mod path;
mod question;
mod route;
mod verdict;

use std::{fmt, net::IpAddr};

use proto::{Name, ObjectRef};

pub use answer::{
    Answer, Asked, Because, Dialled, Leads, Matched, Nearest, Place, Refusal, Reported, Route, Token,
    Verdict, Would,
};
pub use question::{Destination, Port, Question, Request, Sends};

use self::{
    destination::{Found, namespace_of},
    verdict::{Bench, Doubts, Stage},
};
pub use crate::policy::authorization::facts::{Fact, Field};
use crate::{
    Mesh,
    change::Audience,
    derive::Reads,
    mesh::{
        expression::Expressions, mesh_config::Normalization, name::PortKey, pattern::Pattern,
        protocol::Protocol,
    },
    policy::authorization::{
        Layer,
        facts::{Facts, Inside, Seen},
    },
};

/// Questions to a mesh as it is now.
pub struct Inquiry<'m> {
    mesh: &'m Mesh,
    expressions: Expressions,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Unanswered {
    /// Nothing has that name.
    NoSuchService {
        /// The name.
        asked: String,
        /// The namespace of the caller, in which names without one are.
        namespace: Option<Name>,
        /// Names that may have been meant.
        like: Vec<String>,
    },
    /// Something has that name, and the caller's namespace does not know of it.
    NotExported {
        /// What has it.
        object: ObjectRef,
        /// The caller's.
        namespace: Name,
    },
    /// Nothing has that address.
    NothingAt(IpAddr),
    /// It has no such port.
    NoSuchPort {
        /// What was asked for the port.
        object: ObjectRef,
        /// The port.
        asked: String,
        /// Those that it has.
        ports: Vec<String>,
    },
    /// The port speaks HTTP, and what is sent is not.
    SpeaksHttp(u16),
    /// What becomes of a request and of other bytes differs.
    SayWhat(u16),
    /// It depends on something that nobody said.
    Depends(Vec<(ObjectRef, Field)>),
    /// Nothing is emitted for the port.
    Unknown(String),
}

impl Mesh {
    /// Takes questions to the mesh as it is after the last commit.
    pub fn inquiry(&self) -> Inquiry<'_> {
        Inquiry { mesh: self, expressions: Expressions::default() }
    }
}

impl Inquiry<'_> {
    /// Answers a question.
    pub fn ask(&self, question: &Question) -> Result<Answer, Unanswered> {
        let Question { peer, source: _, to, port, sends, now: _ } = question;
        let Found { dialled, bound, canary, mut notes } =
            self.find(to, port, peer.as_deref().and_then(namespace_of))?;
        let key = match bound {
            Ok(key) => key,
            Err(because) => {
                return Ok(Answer {
                    dialled,
                    waypoint: None,
                    stranger: None,
                    because,
                    judged: Place::Tunnel,
                    asked: Vec::new(),
                    token: None,
                    reported: Vec::new(),
                    route: None,
                    notes,
                });
            }
        };
        let judged = self.judge(&key, &dialled, question)?;
        if let Some(canary) = canary {
            let other = PortKey { waypoint: canary.clone(), ..key.clone() };
            let other = self.judge(&other, &dialled, question).map(|other| other.stage.because);
            let same = other.as_ref().is_ok_and(|other| *other == judged.stage.because);
            let so = if same { "and it judges the same" } else { "and it may judge otherwise" };
            notes.push(format!("a share of the connections goes to the canary waypoint {canary}, {so}"));
        }
        let sent = matches!(sends, Sends::Request(_));
        if sent && judged.place != Place::Request && dialled.protocol == "tcp" {
            notes.push(format!(
                "port {} carries bytes, so nobody looks at the request; declare the port as HTTP to have requests judged",
                dialled.port
            ));
        }
        let with_claims = matches!(sends, Sends::Request(Request { claims: Some(_), .. }));
        if with_claims && judged.stage.token.is_none() {
            notes.push("no RequestAuthentication governs it, so nobody reads the token".to_owned());
        }
        let Judged { stage: Stage { because, asked, token, reported }, place, route } = judged;
        let route = match because {
            Because::NotHttp | Because::InnerConnect => None,
            Because::Unbound { .. }
            | Because::Denied(_)
            | Because::Token(_)
            | Because::NoneAllows(_)
            | Because::NothingAsked
            | Because::Allowed(_) => Some(route),
        };
        Ok(Answer {
            dialled,
            waypoint: Some(Audience { namespace: key.waypoint.namespace, name: key.waypoint.name }),
            stranger: self.stranger(peer.as_deref()),
            because,
            judged: place,
            asked,
            token,
            reported,
            route,
            notes,
        })
    }

    /// Why the handshake of a caller fails: exactly one SPIFFE URI of a trust domain of the mesh.
    fn stranger(&self, peer: Option<&str>) -> Option<String> {
        let Some(peer) = peer else { return Some("it proves no identity".to_owned()) };
        let one = Pattern::Regex("spiffe://[^,/]+/[^,]+".to_owned());
        if !self.expressions.holds(&one, peer.as_bytes(), false) {
            return Some(format!("{peer:?} is not one SPIFFE URI"));
        }
        let accepted = self.mesh.inputs.accepted(&Reads::default());
        if accepted.iter().any(|domain| peer.starts_with(&format!("spiffe://{domain}/"))) {
            return None;
        }
        let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
        Some(format!(
            "it is of none of the trust domains whose identities are accepted, which are {}",
            accepted.join(", ")
        ))
    }

    /// What the port's policies and routes say, tunnel first.
    fn judge(&self, key: &PortKey, dialled: &Dialled, question: &Question) -> Result<Judged, Unanswered> {
        let Question { peer, source, to: _, port: _, sends, now } = question;
        let peer = peer.as_deref();
        let config = self.mesh.resources.config(key);
        let config = config.ok_or_else(|| Unanswered::Unknown(key.route_name()))?;
        let bench = Bench { inquiry: self, config, key, now: *now };
        let facts =
            |inside| Facts { peer, source: *source, address: dialled.address, port: dialled.port, inside };
        let normalization = self.mesh.inputs.normalization.get(&Reads::default(), &());
        let normalization = normalization.map_or(Normalization::Base, |how| **how);
        let host = question.host(dialled.port);
        let inside = match sends {
            Sends::Request(request) => Inside::Request(seen(request, &host, normalization)),
            Sends::Anything => Inside::AnyRequest,
            Sends::Bytes { server_name } => Inside::Bytes { server_name: server_name.as_deref() },
        };
        let server_name = match sends {
            Sends::Bytes { server_name } => server_name.as_deref(),
            Sends::Request(_) | Sends::Anything => None,
        };
        // Whoever routes the connections of a namespace's callers has them carry bytes.
        let consumed =
            config.routes.consumed.iter().any(|(namespace, _)| self.is_of(namespace, peer, config));
        let protocol = if consumed { Protocol::Tcp } else { config.routes.protocol };
        let stage = |layer, inside| bench.stage(layer, &facts(inside)).map_err(Unanswered::Depends);
        let connection = || match sends {
            Sends::Anything => Inside::AnyRequest,
            Sends::Request(_) | Sends::Bytes { .. } => Inside::Bytes { server_name },
        };
        let layer = config.of_tunnels(protocol);
        let mut place = Place::Tunnel;
        let mut tunnel = config.judges_tunnels(protocol).then(|| stage(layer, connection())).transpose()?;
        if layer == Layer::Unnamed
            && let Some(unnamed) = tunnel.take_if(|stage| !stage.because.denies())
        {
            place = Place::Connection;
            tunnel = Some(Stage { asked: unnamed.asked, ..stage(Layer::Named, connection())? });
        }
        let of_connection =
            |stage| Judged { stage, place, route: self.of_connection(config, key, peer, server_name) };
        let before = match (tunnel, protocol, sends) {
            (Some(stage), Protocol::Tcp, _) => return Ok(of_connection(stage)),
            (Some(stage), _, _) if stage.because.denies() => return Ok(of_connection(stage)),
            (Some(stage), _, Sends::Bytes { .. }) => return Ok(of_connection(stage)),
            (_, Protocol::Http, Sends::Bytes { .. }) => return Err(Unanswered::SpeaksHttp(dialled.port)),
            (None, _, Sends::Bytes { .. }) => {
                let because = Because::NotHttp;
                let stage = Stage { because, asked: Vec::new(), token: None, reported: Vec::new() };
                return Ok(of_connection(stage));
            }
            (None, Protocol::Sniffed, Sends::Anything) => return Err(Unanswered::SayWhat(dialled.port)),
            (before, _, Sends::Request(_) | Sends::Anything) => before,
        };
        let route = self.of_request(config, key, peer, &inside);
        let mut stage = if matches!(sends, Sends::Request(request) if request.method == "CONNECT") {
            Stage { because: Because::InnerConnect, asked: Vec::new(), token: None, reported: Vec::new() }
        } else {
            stage(Layer::Http, inside)?
        };
        for reported in before.into_iter().flat_map(|before| before.reported) {
            if !stage.reported.contains(&reported) {
                stage.reported.push(reported);
            }
        }
        Ok(Judged { stage, place: Place::Request, route })
    }
}

struct Judged {
    stage: Stage,
    place: Place,
    route: Route,
}

impl Because {
    const fn denies(&self) -> bool {
        match self {
            Self::Denied(_) | Self::Token(_) | Self::NotHttp | Self::InnerConnect | Self::NoneAllows(_) => {
                true
            }
            Self::Unbound { .. } | Self::NothingAsked | Self::Allowed(_) => false,
        }
    }
}

fn seen<'q>(request: &'q Request, dialled: &'q str, normalization: Normalization) -> Seen<'q> {
    let Request { method, host, path, headers, claims } = request;
    let host = host.as_deref().unwrap_or(dialled);
    Seen { method, host, path: path::normalized(path, normalization), headers, claims: claims.clone() }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchService { asked, namespace, like } => {
                write!(out, "nothing has the name {asked:?}")?;
                if let Some(namespace) = namespace {
                    write!(out, " as the caller's namespace {:?} knows names", &**namespace)?;
                }
                if like.is_empty() {
                    write!(out, "; write name.namespace, a host of a ServiceEntry, or an address")
                } else {
                    write!(out, "; there is {}", like.join(", and "))
                }
            }
            Self::NotExported { object, namespace } => write!(
                out,
                "{object} is not exported to the caller's namespace {:?}, where it does not exist; correct its exportTo",
                &**namespace
            ),
            Self::NothingAt(ip) => write!(out, "nothing is at {ip}; ask for a service by its name"),
            Self::NoSuchPort { object, asked, ports } if ports.is_empty() => {
                write!(out, "{object} has no port {asked}, and none at all that a waypoint serves")
            }
            Self::NoSuchPort { object, asked, ports } => {
                write!(out, "{object} has no port {asked}; it has {}", ports.join(", "))
            }
            Self::SpeaksHttp(port) => write!(
                out,
                "port {port} speaks HTTP, and nothing else gets anywhere there; ask about a request"
            ),
            Self::SayWhat(port) => write!(
                out,
                "port {port} does not say what it speaks, and requests are judged otherwise than other bytes; give the method and the path of a request, or say that it is none"
            ),
            Self::Depends(doubts) => depends(out, doubts),
            Self::Unknown(name) => write!(out, "nothing is known of {name}"),
        }
    }
}

fn depends(out: &mut fmt::Formatter<'_>, doubts: &Doubts) -> fmt::Result {
    let Some((policy, Field { at, needs, .. })) = doubts.first() else {
        return write!(out, "it depends on what was not said");
    };
    let what = match needs {
        Some(Fact::Source) => "where the caller connects from; give its address",
        Some(Fact::Address) => "which of its addresses is dialled; ask for the address instead of the name",
        Some(Fact::Request) => "the request; give its method and path",
        Some(Fact::ServerName) => "the server name of the connection; give it, or say that there is none",
        Some(Fact::Metadata) | None => "what an extension provider says, which nobody knows here",
    };
    write!(out, "{policy} asks in {at} for {what}")?;
    if doubts.len() > 1 { write!(out, " (and {} more fields do)", doubts.len() - 1) } else { Ok(()) }
}

impl std::error::Error for Unanswered {}
