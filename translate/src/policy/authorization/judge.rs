//! Which rules match a request: the tests that Envoy is sent, answered as Envoy answers them, for
//! whoever asks why.
//!
//! A fact that nobody gave is unknown, and so is what depends on it.

use std::net::IpAddr;

use super::{
    Action, At, Clause, IpBlock, Layer, Operation, Rule, Source,
    claims::Claim,
    emit::{asked_port, can_ask, is_port, is_void},
    facts::{Fact, Facts, Field, Inside, Seen, Truth},
};
use crate::mesh::{expression::Expressions, pattern::Pattern};

/// Who answers the tests of the rules of one action at one place.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) action: Action,
    pub(crate) at: At<'a>,
    pub(crate) facts: &'a Facts<'a>,
    pub(crate) expressions: &'a Expressions,
}

impl Judge<'_> {
    /// Whether the rule matches.
    pub(crate) fn matches(self, rule: &Rule) -> Truth {
        if is_void(rule, self.action, self.at) {
            return Truth::No;
        }
        let from = some(&rule.from, |clause| self.source(clause));
        let to = some(&rule.to, |clause| self.operation(clause));
        let when = all(&rule.when_source, |clause| self.source(clause));
        from.min(to).min(when).min(all(&rule.when_operation, |clause| self.operation(clause)))
    }

    /// The fields because of which a rule matches, in their order.
    pub(crate) fn because(self, rule: &Rule) -> Vec<Field> {
        self.fields(rule, |truth| truth == Truth::Yes)
    }

    /// The fields because of which a rule does not match, or because of which that cannot be told, in
    /// their order. Of several alternatives, of the one that is the nearest to holding.
    pub(crate) fn misses(self, rule: &Rule) -> Vec<Field> {
        if is_void(rule, self.action, self.at) {
            let sources = rule.from.iter().flatten().chain(&rule.when_source);
            let sources =
                sources.filter(|clause| !can_ask(self.at, &clause.any, Source::needs_http, |_| false));
            let operations = rule.to.iter().flatten().chain(&rule.when_operation);
            let operations = operations
                .filter(|clause| !can_ask(self.at, &clause.any, Operation::needs_http, Operation::asks_name));
            return sources.map(void).chain(operations.map(void)).collect();
        }
        self.fields(rule, |truth| truth != Truth::Yes)
    }

    fn fields(self, rule: &Rule, wanted: impl Fn(Truth) -> bool + Copy) -> Vec<Field> {
        let source = |clause: &Clause<Source>| self.source(clause);
        let operation = |clause: &Clause<Operation>| self.operation(clause);
        let asked_source = |clause: &&Clause<Source>| {
            can_ask(self.at, &clause.any, Source::needs_http, |_| false) && wanted(source(clause))
        };
        let asked_operation = |clause: &&Clause<Operation>| {
            can_ask(self.at, &clause.any, Operation::needs_http, Operation::asks_name)
                && wanted(operation(clause))
        };
        let sources = |clauses: &[Clause<Source>]| -> Vec<Field> {
            clauses.iter().filter(asked_source).map(|clause| self.source_field(clause)).collect()
        };
        let operations = |clauses: &[Clause<Operation>]| -> Vec<Field> {
            clauses.iter().filter(asked_operation).map(|clause| self.operation_field(clause)).collect()
        };
        let mut fields = sources(nearest(&rule.from, source));
        fields.extend(operations(nearest(&rule.to, operation)));
        fields.extend(sources(&rule.when_source));
        fields.extend(operations(&rule.when_operation));
        fields
    }

    fn source(self, clause: &Clause<Source>) -> Truth {
        if !can_ask(self.at, &clause.any, Source::needs_http, |_| false) {
            return Truth::Yes;
        }
        one_of(clause, |test| self.source_test(test))
    }

    fn operation(self, clause: &Clause<Operation>) -> Truth {
        if !can_ask(self.at, &clause.any, Operation::needs_http, Operation::asks_name) {
            return Truth::Yes;
        }
        let some = clause.any.iter().map(|test| self.operation_test(test)).max().unwrap_or(Truth::No);
        // A name that is none of a host counts against who asks for it.
        let strange = self.at.layer == Layer::Named
            && clause.any.iter().any(Operation::asks_name)
            && self.action.admits() == clause.negated
            && self.server_name().is_some_and(|name| !is_host_name(name));
        let some = if strange { Truth::Yes } else { some };
        if clause.negated { some.not() } else { some }
    }

    fn source_test(self, test: &Source) -> Truth {
        let Self { facts, expressions, .. } = self;
        let peer = |pattern: &Pattern| {
            facts.peer.is_some_and(|peer| expressions.holds(pattern, peer.as_bytes(), false)).into()
        };
        let within = |block: &IpBlock, address: Option<IpAddr>| {
            address.map_or(Truth::Unknown, |address| block.holds(address).into())
        };
        match test {
            Source::Identity(pattern) => peer(pattern),
            Source::Trusted(trusted) => peer(&trusted.pattern()),
            Source::Meant(patterns) => patterns.iter().map(peer).max().unwrap_or(Truth::No),
            Source::Ip(block) => within(block, facts.source),
            Source::RemoteIp(block) => within(block, self.remote()),
            Source::DestinationIp(block) => within(block, facts.address),
            Source::Header { name, value, any_case } => self.seen(|seen| {
                // Envoy looks at each line by itself.
                seen.lines(name).into_iter().any(|line| self.header(value, line, *any_case))
            }),
            Source::Claims(ways) => self.seen(|seen| {
                let said = |claim: &Claim| claim.is_said(seen.claims.as_ref(), expressions);
                ways.iter().any(|claims| claims.iter().all(said))
            }),
            // Who is asked may answer with more than a verdict; other filters of ours say nothing.
            Source::Metadata { filter, .. } if filter == "envoy.filters.http.ext_authz" => Truth::Unknown,
            Source::Metadata { .. } => Truth::No,
        }
    }

    fn operation_test(self, test: &Operation) -> Truth {
        let Self { at, facts, expressions, .. } = self;
        match test {
            Operation::Host(pattern) => self.seen(|seen| self.header(pattern, seen.host.as_bytes(), true)),
            Operation::Method { value, any_case } => {
                self.seen(|seen| self.header(value, seen.method.as_bytes(), *any_case))
            }
            Operation::Path(pattern) => {
                self.seen(|seen| expressions.holds(pattern, seen.bare_path().as_bytes(), false))
            }
            Operation::Port(_) | Operation::PortNamed(_) => {
                (is_port(test, at) || asked_port(test, at) == Some(facts.port)).into()
            }
            Operation::ServerName(pattern) => {
                if at.layer == Layer::Named && matches!(facts.inside, Inside::AnyRequest) {
                    return Truth::Unknown;
                }
                // The name is a header there, and a host is the same in any case.
                let asked = self.server_name().unwrap_or_default().as_bytes();
                expressions.holds(pattern, asked, at.layer == Layer::Named).into()
            }
        }
    }

    fn server_name(&self) -> Option<&str> {
        match self.facts.inside {
            Inside::Bytes { server_name } => server_name,
            Inside::Request(_) | Inside::AnyRequest => None,
        }
    }

    /// Whether a header is like that. One that is there is present, if it is empty too.
    fn header(self, value: &Pattern, line: &[u8], any_case: bool) -> bool {
        *value == Pattern::Present || self.expressions.holds(value, line, any_case)
    }

    /// Whether that is so of the request.
    fn seen(self, is: impl FnOnce(&Seen<'_>) -> bool) -> Truth {
        match &self.facts.inside {
            Inside::Request(seen) => is(seen).into(),
            Inside::AnyRequest => Truth::Unknown,
            Inside::Bytes { .. } => Truth::No,
        }
    }

    /// Where the request comes from by its own account.
    fn remote(self) -> Option<IpAddr> {
        match (self.at.layer, &self.facts.inside) {
            (Layer::Http, Inside::AnyRequest) => None,
            (Layer::Http, Inside::Request(seen)) => seen.forwarded_for().or(self.facts.source),
            (Layer::Http, Inside::Bytes { .. }) | (Layer::Tcp | Layer::Unnamed | Layer::Named, _) => {
                self.facts.source
            }
        }
    }

    fn source_field(self, clause: &Clause<Source>) -> Field {
        let found = clause.any.first().map(|test| self.source_found(test));
        let needs = |test: &Source| match test {
            Source::Ip(_) => Fact::Source,
            Source::RemoteIp(_) => match (self.at.layer, &self.facts.inside) {
                (Layer::Http, Inside::AnyRequest) => Fact::Request,
                (Layer::Http, Inside::Request(_) | Inside::Bytes { .. })
                | (Layer::Tcp | Layer::Unnamed | Layer::Named, _) => Fact::Source,
            },
            Source::DestinationIp(_) => Fact::Address,
            Source::Header { .. } | Source::Claims(_) => Fact::Request,
            Source::Identity(_) | Source::Trusted(_) | Source::Meant(_) | Source::Metadata { .. } => {
                Fact::Metadata
            }
        };
        field(clause, |test| self.source_test(test), found, needs)
    }

    fn operation_field(self, clause: &Clause<Operation>) -> Field {
        let found = clause.any.first().map(|test| self.operation_found(test));
        let needs = |test: &Operation| match test {
            Operation::ServerName(_) => Fact::ServerName,
            Operation::Host(_)
            | Operation::Method { .. }
            | Operation::Path(_)
            | Operation::Port(_)
            | Operation::PortNamed(_) => Fact::Request,
        };
        field(clause, |test| self.operation_test(test), found, needs)
    }

    fn source_found(self, test: &Source) -> String {
        let facts = self.facts;
        let address = |address: Option<IpAddr>| address.map_or("unknown".to_owned(), |ip| ip.to_string());
        match test {
            Source::Identity(_) | Source::Trusted(_) | Source::Meant(_) => {
                facts.peer.unwrap_or("no identity").to_owned()
            }
            Source::Ip(_) => address(facts.source),
            Source::RemoteIp(_) => address(self.remote()),
            Source::DestinationIp(_) => address(facts.address),
            Source::Header { name, .. } => self.of_request(|seen| {
                let lines = seen.lines(name);
                let lines: Vec<_> = lines.into_iter().map(String::from_utf8_lossy).collect();
                if lines.is_empty() { format!("no header {name}") } else { lines.join(", ") }
            }),
            Source::Claims(ways) => self.of_request(|seen| {
                let Some(claims) = &seen.claims else { return "no token".to_owned() };
                ways.first().map(|way| Claim::found(way, claims)).unwrap_or_default()
            }),
            Source::Metadata { .. } => "nothing".to_owned(),
        }
    }

    fn operation_found(self, test: &Operation) -> String {
        match test {
            Operation::Host(_) => self.of_request(|seen| seen.host.to_owned()),
            Operation::Method { .. } => self.of_request(|seen| seen.method.to_owned()),
            Operation::Path(_) => self.of_request(|seen| seen.bare_path().to_owned()),
            Operation::Port(_) | Operation::PortNamed(_) => self.facts.port.to_string(),
            Operation::ServerName(_) => match self.facts.inside {
                Inside::Bytes { server_name } => server_name.unwrap_or("no server name").to_owned(),
                Inside::Request(_) | Inside::AnyRequest => "no server name".to_owned(),
            },
        }
    }

    fn of_request(self, said: impl FnOnce(&Seen<'_>) -> String) -> String {
        match &self.facts.inside {
            Inside::Request(seen) => said(seen),
            Inside::AnyRequest => "unknown".to_owned(),
            Inside::Bytes { .. } => NO_REQUEST.to_owned(),
        }
    }
}

/// What stands where a rule asks a connection for something that only requests have.
const NO_REQUEST: &str = "a connection, which has none";

/// Of which letters the names of hosts are: Envoy replaces others, and says so.
fn is_host_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn field<T>(
    clause: &Clause<T>,
    holds: impl Fn(&T) -> Truth,
    found: Option<String>,
    needs: impl Fn(&T) -> Fact,
) -> Field {
    let value = clause.any.iter().position(|test| holds(test) == Truth::Yes);
    let unknown = clause.any.iter().find(|test| value.is_none() && holds(test) == Truth::Unknown);
    let very =
        value.and_then(|index| Some((clause.at.index(index), vec![clause.written.get(index)?.clone()])));
    let (at, wanted) = very.unwrap_or_else(|| (clause.at.clone(), clause.written.clone()));
    Field { at, negated: clause.negated, wanted, found: found.unwrap_or_default(), needs: unknown.map(needs) }
}

fn void<T>(clause: &Clause<T>) -> Field {
    Field {
        at: clause.at.clone(),
        negated: clause.negated,
        wanted: clause.written.clone(),
        found: NO_REQUEST.to_owned(),
        needs: None,
    }
}

fn one_of<T>(clause: &Clause<T>, holds: impl Fn(&T) -> Truth) -> Truth {
    let some = clause.any.iter().map(holds).max().unwrap_or(Truth::No);
    if clause.negated { some.not() } else { some }
}

fn all<T>(clauses: &[Clause<T>], holds: impl Fn(&Clause<T>) -> Truth) -> Truth {
    clauses.iter().map(holds).min().unwrap_or(Truth::Yes)
}

fn some<T>(alternatives: &[Vec<Clause<T>>], holds: impl Fn(&Clause<T>) -> Truth) -> Truth {
    alternatives.iter().map(|clauses| all(clauses, &holds)).max().unwrap_or(Truth::Yes)
}

/// The alternative that holds; else the first of those with the fewest clauses that do not.
fn nearest<T>(alternatives: &[Vec<Clause<T>>], holds: impl Fn(&Clause<T>) -> Truth) -> &[Clause<T>] {
    let missed = |clauses: &&Vec<Clause<T>>| {
        let missed = clauses.iter().filter(|clause| holds(clause) != Truth::Yes);
        let surely = missed.clone().filter(|clause| holds(clause) == Truth::No).count();
        (surely, missed.count())
    };
    alternatives.iter().min_by_key(missed).map(Vec::as_slice).unwrap_or_default()
}
