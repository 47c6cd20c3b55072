//! An answer for programs. What is here stays: fields are added, and none is renamed or taken away.

use std::net::IpAddr;

use proto::ObjectRef;
use serde::Serialize;
use translate::why::{
    Answer, Asked, Because, Dialled, Field, Leads, Matched, Nearest, Place, Question, Refusal, Reported,
    Route, Token, Verdict, Would,
};

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// `allowed`, `denied`, `provider` (it decides) or `notJudged`.
    decision: &'static str,
    because: Reason,
    /// The SPIFFE id of the caller.
    caller: Option<String>,
    destination: Destination,
    /// The Gateway that enforces it, as `namespace/name`; null if it is not judged.
    waypoint: Option<String>,
    /// When policies judge: `tunnel`, before a byte flows, `connection`, when its server name is known, or
    /// `request`; null if it is not judged.
    judged: Option<&'static str>,
    /// The extension providers that are asked first, in their order.
    providers: Vec<Provider>,
    token: Option<Proof>,
    /// Policies that match and change nothing.
    reports: Vec<Report>,
    route: Option<Way>,
    notes: Vec<String>,
}

/// What made the decision.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Reason {
    /// No tunnel of the caller is taken.
    Identity {
        message: String,
    },
    /// Behind no waypoint; the words are those of the status.
    Unbound {
        reason: String,
        message: String,
    },
    DenyRule(Matching),
    AllowRule(Matching),
    /// ALLOW policies are attached, and none matches.
    NoAllowRule {
        nearest: Vec<Near>,
    },
    /// No ALLOW policy is attached.
    NoAllowPolicy,
    Token(Rejected),
    /// Only HTTP gets through there.
    NotHttp,
    /// CONNECT inside a tunnel.
    InnerConnect,
}

#[derive(Debug, Serialize)]
struct Object {
    kind: &'static str,
    namespace: String,
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    object: Object,
    host: String,
    address: Option<IpAddr>,
    port: u16,
    port_name: Option<String>,
    /// `http`, `tcp` or `auto`.
    protocol: &'static str,
}

/// A rule that matches.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Matching {
    policy: Object,
    /// The place in `spec.rules`.
    rule: usize,
    /// Those that hold; none for a rule that matches everything.
    fields: Vec<Tested>,
    /// Paths of fields that cannot be asked there.
    taken_as_given: Vec<String>,
    /// Why a CUSTOM policy denies instead of asking.
    not_asked: Option<String>,
    problems: Vec<String>,
    /// Other rules that match.
    also: Vec<Another>,
}

#[derive(Debug, Serialize)]
struct Another {
    policy: Object,
    rule: usize,
}

#[derive(Debug, Serialize)]
struct Tested {
    /// As in `spec.rules[0].to[0].operation.paths[1]`.
    at: String,
    /// Whether none of the values may match.
    negated: bool,
    wanted: Vec<String>,
    found: String,
}

/// A policy that allows something else.
#[derive(Debug, Serialize)]
struct Near {
    policy: Object,
    rule: Option<usize>,
    /// In the order of the rule; what comes first is the first to look at.
    missed: Vec<Tested>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: String,
    service: String,
    fail_open: bool,
    #[serde(flatten)]
    rule: Matching,
}

#[derive(Debug, Serialize)]
struct Rejected {
    policy: Option<Object>,
    /// What the caller gets.
    status: u16,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Proof {
    Missing,
    Taken { policy: Option<Object>, issuer: String, subject: String },
    Refused(Rejected),
}

#[derive(Debug, Serialize)]
struct Report {
    policy: Object,
    rule: Option<usize>,
    /// `audit`, `deny` or `allow`.
    would: &'static str,
}

#[derive(Debug, Serialize)]
struct Way {
    route: Option<Object>,
    /// The rule's name, else its place.
    rule: Option<String>,
    /// The namespace whose callers the route is for.
    consumer: Option<String>,
    /// `backends`, `redirect`, `fails`, `notFound` or `unknown`.
    leads: &'static str,
    backends: Vec<Backend>,
    /// Of an answer that is no backend's.
    status: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Backend {
    /// Null for one that cannot be used.
    to: Option<String>,
    weight: u32,
}

/// The answer, to be printed.
pub(super) fn view(question: &Question, answer: &Answer) -> View {
    let Answer { dialled, waypoint, stranger, because, judged, asked, token, reported, route, notes } =
        answer;
    let verdict = answer.verdict();
    View {
        decision: match verdict {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::ProviderDecides => "provider",
            Verdict::NotJudged => "notJudged",
        },
        because: match stranger {
            Some(why) if verdict == Verdict::Denied => Reason::Identity { message: why.clone() },
            Some(_) | None => reason(because),
        },
        caller: question.peer.clone(),
        destination: destination(dialled),
        waypoint: waypoint.as_ref().map(ToString::to_string),
        judged: waypoint.as_ref().map(|_| match judged {
            Place::Tunnel => "tunnel",
            Place::Connection => "connection",
            Place::Request => "request",
        }),
        // Nobody gets to what a stranger asks for.
        providers: asked.iter().filter(|_| stranger.is_none()).map(provider).collect(),
        token: token.as_ref().filter(|_| stranger.is_none()).map(proof),
        reports: reported.iter().filter(|_| stranger.is_none()).map(report).collect(),
        route: route.as_ref().map(way),
        notes: notes.clone(),
    }
}

fn reason(because: &Because) -> Reason {
    match because {
        Because::Unbound { reason, message } => {
            Reason::Unbound { reason: reason.clone(), message: message.clone() }
        }
        Because::Denied(matched) => Reason::DenyRule(rule(matched)),
        Because::Token(refusal) => Reason::Token(rejected(refusal)),
        Because::NotHttp => Reason::NotHttp,
        Because::InnerConnect => Reason::InnerConnect,
        Because::NoneAllows(all) => Reason::NoAllowRule { nearest: all.iter().map(near).collect() },
        Because::NothingAsked => Reason::NoAllowPolicy,
        Because::Allowed(matched) => Reason::AllowRule(rule(matched)),
    }
}

fn object(object: &ObjectRef) -> Object {
    let ObjectRef { kind, namespace, name } = object;
    Object { kind: kind.name(), namespace: namespace.to_string(), name: name.to_string() }
}

fn destination(dialled: &Dialled) -> Destination {
    let Dialled { object: declared_by, host, address, port, port_name, protocol } = dialled;
    Destination {
        object: object(declared_by),
        host: host.clone(),
        address: *address,
        port: *port,
        port_name: port_name.as_ref().map(ToString::to_string),
        protocol,
    }
}

fn rule(matched: &Matched) -> Matching {
    let Matched { policy, rule, fields, given, unasked, problems, also } = matched;
    Matching {
        policy: object(policy),
        rule: *rule,
        fields: fields.iter().map(tested).collect(),
        taken_as_given: given.clone(),
        not_asked: unasked.clone(),
        problems: problems.clone(),
        also: also.iter().map(|(policy, rule)| Another { policy: object(policy), rule: *rule }).collect(),
    }
}

fn tested(field: &Field) -> Tested {
    let Field { at, negated, wanted, found, needs: _ } = field;
    Tested { at: at.to_string(), negated: *negated, wanted: wanted.clone(), found: found.clone() }
}

fn near(nearest: &Nearest) -> Near {
    let Nearest { policy, rule, missed, problems } = nearest;
    Near {
        policy: object(policy),
        rule: *rule,
        missed: missed.iter().map(tested).collect(),
        problems: problems.clone(),
    }
}

fn provider(asked: &Asked) -> Provider {
    let Asked { provider, service, fail_open, rule: matched } = asked;
    Provider {
        name: provider.to_string(),
        service: service.clone(),
        fail_open: *fail_open,
        rule: rule(matched),
    }
}

fn rejected(refusal: &Refusal) -> Rejected {
    let Refusal { policy, status, why } = refusal;
    Rejected { policy: policy.as_ref().map(object), status: *status, message: why.clone() }
}

fn proof(token: &Token) -> Proof {
    match token {
        Token::Missing => Proof::Missing,
        Token::Taken { policy, issuer, subject } => Proof::Taken {
            policy: policy.as_ref().map(object),
            issuer: issuer.clone(),
            subject: subject.clone(),
        },
        Token::Refused(refusal) => Proof::Refused(rejected(refusal)),
    }
}

fn report(reported: &Reported) -> Report {
    let Reported { policy, rule, would } = reported;
    let would = match would {
        Would::Audit => "audit",
        Would::Deny => "deny",
        Would::Allow => "allow",
    };
    Report { policy: object(policy), rule: *rule, would }
}

fn way(route: &Route) -> Way {
    let Route { route, rule, consumer, leads } = route;
    let (leads, backends, status) = match leads {
        Leads::To(shares) => {
            let backend = |(to, weight): &(Option<String>, u32)| Backend { to: to.clone(), weight: *weight };
            ("backends", shares.iter().map(backend).collect(), None)
        }
        Leads::Redirected => ("redirect", Vec::new(), None),
        Leads::Fails(status) => ("fails", Vec::new(), Some(*status)),
        Leads::NotFound => ("notFound", Vec::new(), None),
        Leads::Unknown => ("unknown", Vec::new(), None),
    };
    Way {
        route: route.as_ref().map(object),
        rule: rule.as_ref().map(ToString::to_string),
        consumer: consumer.as_ref().map(ToString::to_string),
        leads,
        backends,
        status,
    }
}
