//! AuthorizationPolicy: who may do what, in the form that both layers of enforcement are made from.
//!
//! `lower` reads the policy, once. `emit` makes Envoy RBAC of it, for the requests of an HTTP port or
//! for the tunnel of a TCP port: one policy, one meaning, two places.

mod claims;
pub(crate) mod custom;
mod emit;
pub(crate) mod facts;
pub(crate) mod judge;
mod lower;
mod matcher;
mod source;
mod trust;

use std::{net::IpAddr, sync::Arc};

use proto::Name;

use claims::Claim;
pub(crate) use emit::{AUDIT, At, DRY_RUN_ALLOW, DRY_RUN_DENY, Layer, Verdicts, emit, rule_name};
pub(crate) use lower::lower;
pub(crate) use matcher::string;
pub(crate) use trust::Trusted;

use crate::{
    derive::Row,
    mesh::{name::Key, pattern::Pattern},
    policy::target::{self, Target},
    problem::{FieldPath, Problem},
};

/// A policy, lowered: what cannot be expressed has already failed closed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authorization {
    pub(crate) generation: Option<i64>,
    /// What it is attached to. Empty for a policy that ztunnel enforces.
    pub(crate) targets: Vec<Target>,
    /// Whether it names any targets at all, known or not.
    pub(crate) targeted: bool,
    pub(crate) judgement: Arc<Judgement>,
    pub(crate) problems: Vec<Problem>,
}

/// The part of a policy that decides, apart from what is only said of it: a new generation with the
/// same rules is no new resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Judgement {
    pub(crate) action: Action,
    /// What it would do is reported, and nothing is done.
    pub(crate) dry_run: bool,
    pub(crate) rules: Vec<Rule>,
    /// CUSTOM: the extension provider that decides about what the rules match. It is denied where the
    /// provider cannot be asked, so that the rules are read as those of one who denies.
    pub(crate) asks: Option<Name>,
}

/// What a policy does when one of its rules matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    Allow,
    Deny,
    /// It is logged that the rule matched, and by nothing else does anyone notice.
    Audit,
}

/// One rule: it matches when some `from`, some `to` and all of `when` match. Empty lists match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    /// Its place in `spec.rules`, which names it in logs.
    pub(crate) index: usize,
    pub(crate) from: Vec<Vec<Clause<Source>>>,
    pub(crate) to: Vec<Vec<Clause<Operation>>>,
    pub(crate) when_source: Vec<Clause<Source>>,
    pub(crate) when_operation: Vec<Clause<Operation>>,
}

/// One field of a rule: some of its values match, or, negated, none does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Clause<T> {
    /// The field that says so, as in `spec.rules[0].from[0].source.principals`.
    pub(crate) at: FieldPath,
    pub(crate) any: Vec<T>,
    /// The same values as the policy has them, for whoever asks why.
    pub(crate) written: Vec<String>,
    pub(crate) negated: bool,
}

/// A test of where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The SPIFFE URI of the caller's certificate.
    Identity(Pattern),
    /// The same, by a text that the mesh's trust domains give its meaning: [`Judgement::trusting`].
    Trusted(Trusted),
    /// What such a text means in the mesh: any of these.
    Meant(Vec<Pattern>),
    /// The address that the tunnel comes from: the caller's pod.
    Ip(IpBlock),
    /// The address that the request comes from: the last in its `X-Forwarded-For`, which is the
    /// caller's word, else that of the tunnel.
    RemoteIp(IpBlock),
    /// The address that was dialled: the service's, or a pod's own.
    DestinationIp(IpBlock),
    /// A request header. The name is lower case.
    Header { name: String, value: Pattern, any_case: bool },
    /// What a filter before us said of the request.
    Metadata { filter: String, key: String, value: Value },
    /// What the token says that a request was let in with: all of the claims of some way.
    Claims(Vec<Vec<Claim>>),
}

/// How a value of metadata is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Text(Pattern),
    /// A list with some item that is like that.
    ListWith(Pattern),
}

/// A test of what a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// `:authority`, port included, in any case.
    Host(Pattern),
    Method {
        value: Pattern,
        any_case: bool,
    },
    /// The path without its query.
    Path(Pattern),
    /// The port that was dialled. Decided for each port when emitting; at run time only where any
    /// port may be dialled.
    Port(u16),
    /// The port of that name, in a rule that refuses: Istio knows numbers only, but what refuses must
    /// not refuse less for a value that it cannot read.
    PortNamed(Name),
    /// The server name of the TLS connection inside the tunnel; HTTP ports have none.
    ServerName(Pattern),
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IpBlock {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Source {
    /// Whether a request may answer otherwise than the tunnel that it is in.
    const fn depends_on_http(&self) -> bool {
        match self {
            Self::RemoteIp(_) => true,
            Self::Header { .. }
            | Self::Claims(_)
            | Self::Identity(_)
            | Self::Trusted(_)
            | Self::Meant(_)
            | Self::Ip(_)
            | Self::DestinationIp(_)
            | Self::Metadata { .. } => self.needs_http(),
        }
    }

    /// Whether only an HTTP request can be asked this.
    pub(crate) const fn needs_http(&self) -> bool {
        match self {
            Self::Header { .. } | Self::Claims(_) => true,
            Self::Identity(_)
            | Self::Trusted(_)
            | Self::Meant(_)
            | Self::Ip(_)
            | Self::RemoteIp(_)
            | Self::DestinationIp(_)
            | Self::Metadata { .. } => false,
        }
    }
}

impl Operation {
    /// Whether it cannot be asked of a tunnel, before a byte of it flows.
    pub(crate) const fn needs_http(&self) -> bool {
        match self {
            Self::Host(_) | Self::Method { .. } | Self::Path(_) => true,
            Self::ServerName(_) | Self::Port(_) | Self::PortNamed(_) => false,
        }
    }

    /// Whether only the first bytes of a connection tell.
    pub(crate) const fn asks_name(&self) -> bool {
        match self {
            Self::ServerName(_) => true,
            Self::Host(_) | Self::Method { .. } | Self::Path(_) | Self::Port(_) | Self::PortNamed(_) => false,
        }
    }
}

impl Action {
    /// Whether what a rule matches is let through for it: such a rule has to match less where it is in
    /// doubt, and any other more.
    pub(crate) const fn admits(self) -> bool {
        match self {
            Self::Allow => true,
            Self::Deny | Self::Audit => false,
        }
    }
}

impl Rule {
    /// Whether some part of it cannot be asked of a tunnel.
    pub(crate) fn needs_http(&self) -> bool {
        self.inside_only().next().is_some()
    }

    /// The fields that cannot be asked of a tunnel.
    pub(crate) fn inside_only(&self) -> impl Iterator<Item = &FieldPath> {
        let sources = self.from.iter().flatten().chain(&self.when_source);
        let sources = sources.filter(|clause| clause.any.iter().any(Source::needs_http));
        let operations = self.to.iter().flatten().chain(&self.when_operation);
        let operations = operations.filter(|clause| clause.any.iter().any(Operation::needs_http));
        sources.map(|clause| &clause.at).chain(operations.map(|clause| &clause.at))
    }

    /// The fields that ask which name a connection is for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &FieldPath> {
        let operations = self.to.iter().flatten().chain(&self.when_operation);
        operations.filter(|clause| clause.any.iter().any(Operation::asks_name)).map(|clause| &clause.at)
    }

    /// The fields that a tunnel cannot answer while it does not show whether there is HTTP in it.
    pub(crate) fn unknown_at_first(&self) -> impl Iterator<Item = &FieldPath> {
        let sources = self.from.iter().flatten().chain(&self.when_source);
        let sources = sources.filter(|clause| clause.any.iter().any(Source::depends_on_http));
        let operations = self.to.iter().flatten().chain(&self.when_operation);
        let operations =
            operations.filter(|clause| clause.any.iter().any(|test| test.needs_http() || test.asks_name()));
        sources.map(|clause| &clause.at).chain(operations.map(|clause| &clause.at))
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.to.iter().flatten().chain(&self.when_operation).flat_map(|clause| &clause.any)
    }

    /// Whether it asks for a port by its name.
    fn names_ports(&self) -> bool {
        self.operations().any(|test| matches!(test, Operation::PortNamed(_)))
    }

    /// Whether it asks which name a connection is for.
    pub(crate) fn asks_name(&self) -> bool {
        self.operations().any(Operation::asks_name)
    }
}

impl Judgement {
    /// Whether it has a say in the verdict.
    pub(crate) const fn decides(&self) -> bool {
        match self.action {
            Action::Allow | Action::Deny => !self.dry_run,
            Action::Audit => false,
        }
    }

    /// Whether it decides otherwise about a TCP connection than about an HTTP request.
    pub(crate) fn needs_http(&self) -> bool {
        self.decides() && self.rules.iter().any(|rule| rule.unknown_at_first().next().is_some())
    }

    /// Whether it asks which name a connection is for.
    pub(crate) fn asks_name(&self) -> bool {
        self.rules.iter().any(Rule::asks_name)
    }

    /// Whether it asks for a port by its name.
    pub(crate) fn names_ports(&self) -> bool {
        self.rules.iter().any(Rule::names_ports)
    }
}

impl Row for Authorization {
    const TABLE: &'static str = "authorization";
    type Key = Key;
    type Bucket = Target;

    fn buckets(_key: &Key, row: &Self) -> Vec<Target> {
        target::buckets(&row.targets).collect()
    }
}
