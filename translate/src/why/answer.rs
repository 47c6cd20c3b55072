//! An answer: the verdict, what made it, who enforces it, and where the request would go.

use std::net::IpAddr;

use proto::{Name, ObjectRef};

use crate::{change::Audience, policy::authorization::facts::Field};

/// What becomes of a request, or of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was dialled.
    pub dialled: Dialled,
    /// The waypoint that enforces the answer; none judges what is not bound to one.
    pub waypoint: Option<Audience>,
    /// Why no tunnel of the caller is taken at all, whatever the policies say.
    pub stranger: Option<String>,
    /// What made the verdict.
    pub because: Because,
    /// Whether the tunnel is judged, before a byte flows in it, or each request.
    pub judged: Place,
    /// The providers that are asked before anything else is decided, in their order.
    pub asked: Vec<Asked>,
    /// What a token came to. `None` where nobody looks for one.
    pub token: Option<Token>,
    /// Policies that change nothing and report that they match.
    pub reported: Vec<Reported>,
    /// Where it goes if it is let through. `None` where there is no way at all.
    pub route: Option<Route>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// What becomes of it in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is let through.
    Allowed,
    /// It is refused.
    Denied,
    /// A provider outside decides.
    ProviderDecides,
    /// No waypoint of this control plane sees it.
    NotJudged,
}

/// What was dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// The object that declares it.
    pub object: ObjectRef,
    /// Its DNS name.
    pub host: String,
    /// The address that was dialled, if it has one at all.
    pub address: Option<IpAddr>,
    /// The number of the port.
    pub port: u16,
    /// The port's name, if it has one.
    pub port_name: Option<Name>,
    /// What goes there: `http`, `tcp`, or `auto` for what is looked at when the first bytes arrive.
    pub protocol: &'static str,
}

/// Where policies judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// When the tunnel is opened, before a byte of it flows.
    Tunnel,
    /// When the name is known that the connection in it asks for.
    Connection,
    /// When a request arrives in it.
    Request,
}

/// What made a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// The service is bound to no waypoint.
    Unbound {
        /// As the status of the service has it.
        reason: String,
        /// What to do about it.
        message: String,
    },
    /// A rule denies.
    Denied(Matched),
    /// The token is none that is taken.
    Token(Refusal),
    /// Behind policies about requests only HTTP gets through, where the port does not say what it speaks.
    NotHttp,
    /// No method opens a tunnel inside a tunnel.
    InnerConnect,
    /// Policies allow something, and none of them this.
    NoneAllows(Vec<Nearest>),
    /// No policy that allows is attached, and none denies.
    NothingAsked,
    /// A rule allows.
    Allowed(Matched),
}

/// A rule that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Its policy.
    pub policy: ObjectRef,
    /// Its place in `spec.rules`.
    pub rule: usize,
    /// The fields that hold. A rule without any matches everything.
    pub fields: Vec<Field>,
    /// Fields that cannot be asked there and are taken as given.
    pub given: Vec<String>,
    /// Why a rule denies whose policy asks a provider.
    pub unasked: Option<String>,
    /// What is wrong with the policy.
    pub problems: Vec<String>,
    /// Other rules that match.
    pub also: Vec<(ObjectRef, usize)>,
}

/// A policy that allows something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The policy.
    pub policy: ObjectRef,
    /// The place in `spec.rules` of the rule that is the nearest to matching. A policy may have none.
    pub rule: Option<usize>,
    /// The fields of that rule that do not hold; the first of them is the first to look at.
    pub missed: Vec<Field>,
    /// What is wrong with the policy.
    pub problems: Vec<String>,
}

/// A provider that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name in the mesh configuration.
    pub provider: Name,
    /// The host and port of the service that answers.
    pub service: String,
    /// Whether the request goes on if that service does not answer.
    pub fail_open: bool,
    /// The rule that has it asked.
    pub rule: Matched,
}

/// What a token came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// There is none, and none is needed for this.
    Missing,
    /// It proves who asks.
    Taken {
        /// The policy whose rule takes it.
        policy: Option<ObjectRef>,
        /// `iss`
        issuer: String,
        /// `sub`
        subject: String,
    },
    /// The request is answered before any policy.
    Refused(Refusal),
}

/// A token that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy whose rule does not take it.
    pub policy: Option<ObjectRef>,
    /// The status that the caller gets.
    pub status: u16,
    /// Why.
    pub why: String,
}

/// A policy that reports and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The policy; for policies that allow on trial and do not allow this, one of them.
    pub policy: ObjectRef,
    /// The rule that matches; `None` where none of the policies that allow on trial does.
    pub rule: Option<usize>,
    /// What it would do.
    pub would: Would,
}

/// What a policy would do that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// A log line says that it matched.
    Audit,
    /// Denied, were it no dry run.
    Deny,
    /// Allowed, were it no dry run.
    Allow,
}

/// Where a request or a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route; `None` where no route says anything, and it goes to the service that was dialled.
    pub route: Option<ObjectRef>,
    /// The rule: its name, else its place.
    pub rule: Option<Name>,
    /// Whose callers the routes are for, if they are those of a consumer.
    pub consumer: Option<Name>,
    /// What becomes of it there.
    pub leads: Leads,
}

/// Where a rule leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To service ports, each with its weight; a backend that cannot be used has none, and fails.
    To(Vec<(Option<String>, u32)>),
    /// The waypoint answers with a redirect.
    Redirected,
    /// It is answered with that status, or closed.
    Fails(u16),
    /// No rule matches: 404.
    NotFound,
    /// It depends on what is sent.
    Unknown,
}

impl Answer {
    /// What becomes of it.
    pub fn verdict(&self) -> Verdict {
        if self.waypoint.is_some() && self.stranger.is_some() { Verdict::Denied } else { self.policies() }
    }

    /// What becomes of it by the policies, whoever asks.
    pub fn policies(&self) -> Verdict {
        match &self.because {
            Because::Unbound { .. } => Verdict::NotJudged,
            Because::Denied(_)
            | Because::Token(_)
            | Because::NotHttp
            | Because::InnerConnect
            | Because::NoneAllows(_) => Verdict::Denied,
            Because::NothingAsked | Because::Allowed(_) if self.asked.is_empty() => Verdict::Allowed,
            Because::NothingAsked | Because::Allowed(_) => Verdict::ProviderDecides,
        }
    }
}

impl Verdict {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::ProviderDecides => "provider",
            Self::NotJudged => "not judged",
        }
    }
}
