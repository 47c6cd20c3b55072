//! An answer for reading: the verdict first, then one line a fact.

use std::{
    fmt::Display,
    io::{self, Write},
};

use proto::ObjectRef;
use translate::why::{
    Answer, Asked, Because, Dialled, Field, Leads, Matched, Nearest, Place, Question, Refusal, Reported,
    Route, Sends, Token, Verdict, Would,
};

/// How wide the names of the lines are.
const NAMES: usize = 10;

/// Prints the answer.
pub(super) fn print(question: &Question, answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let Answer { dialled, waypoint, stranger, because, judged, asked, token, reported, route, notes } =
        answer;
    let mut lines = Lines::default();
    match (answer.verdict(), stranger) {
        (Verdict::Denied, Some(why)) => {
            lines.add("because", format!("no tunnel of that caller is taken: {why}"));
        }
        (Verdict::Allowed | Verdict::Denied | Verdict::ProviderDecides | Verdict::NotJudged, _) => {
            for one in asked {
                ask(one, &mut lines);
            }
            lines.say(because);
        }
    }
    if let Some(waypoint) = waypoint {
        let judges = match (stranger, judged) {
            (Some(_), _) => "refuses the handshake",
            (None, Place::Tunnel) => "judges when the tunnel is opened, before a byte of it flows",
            (None, Place::Connection) => "judges when the connection's server name is known",
            (None, Place::Request) => "judges each request in the tunnel",
        };
        lines.add("waypoint", format!("Gateway {waypoint} {judges}"));
    }
    lines.add("port", port(dialled));
    let would = if answer.verdict() == Verdict::Denied { "were it let through: " } else { "" };
    lines.maybe("route", route.as_ref().map(|route| format!("{would}{}", leads(route))));
    lines.maybe("token", token.as_ref().and_then(proof));
    for one in reported.iter().filter(|_| stranger.is_none()) {
        lines.add("reported", report(one));
    }
    for note in notes {
        lines.add("note", note.clone());
    }
    writeln!(out, "{}: {}", headline(answer.verdict()), asks(question, dialled))?;
    for (name, line) in lines.0 {
        writeln!(out, "  {name:NAMES$}{line}")?;
    }
    Ok(())
}

/// Lines with their names; those that go on have none.
#[derive(Default)]
struct Lines(Vec<(&'static str, String)>);

impl Lines {
    fn add(&mut self, name: &'static str, line: String) {
        self.0.push((name, line));
    }

    fn maybe(&mut self, name: &'static str, line: Option<String>) {
        self.0.extend(line.map(|line| (name, line)));
    }

    fn more(&mut self, line: impl Display) {
        self.0.push(("", format!("  {line}")));
    }

    fn say(&mut self, because: &Because) {
        match because {
            Because::Unbound { reason, message } => {
                self.add("because", "it is behind no waypoint of this control plane, which does not judge it".to_owned());
                self.more(format!("{reason}: {message}"));
            }
            Because::Denied(matched) => {
                self.add("because", format!("{} denies it by {}", matched.policy, rule(matched)));
                self.matched(matched);
            }
            Because::Token(refusal) => self.add("because", format!("its token is not taken: {}", refused(refusal))),
            Because::NotHttp => self.add(
                "because",
                "its policies ask about requests, and the port does not say what it speaks: only HTTP gets through".to_owned(),
            ),
            Because::InnerConnect => {
                self.add("because", "nobody opens a tunnel inside a tunnel: CONNECT is denied".to_owned());
            }
            Because::NoneAllows(nearest) => {
                self.add("because", "policies allow something there, and none of them this".to_owned());
                for one in nearest {
                    self.nearest(one);
                }
            }
            Because::NothingAsked => self.add(
                "because",
                "no ALLOW policy is attached, so everything is allowed that no other policy denies".to_owned(),
            ),
            Because::Allowed(matched) => {
                self.add("because", format!("{} allows it by {}", matched.policy, rule(matched)));
                self.matched(matched);
            }
        }
    }

    fn matched(&mut self, matched: &Matched) {
        let Matched { policy: _, rule: _, fields, given, unasked, problems, also } = matched;
        for field in fields {
            self.more(held(field));
        }
        if fields.is_empty() && given.is_empty() {
            self.more("which has no conditions, or none that count, so it matches everything");
        }
        if !given.is_empty() {
            self.more(format!("{}: cannot be asked here, and is taken as given", given.join(", ")));
        }
        if let Some(why) = unasked {
            self.more(format!("its provider is not asked: {why}"));
        }
        self.problems(problems);
        if !also.is_empty() {
            let also = also.iter().map(|(policy, rule)| format!("{policy} spec.rules[{rule}]"));
            self.more(format!("so do {}", also.collect::<Vec<_>>().join(", ")));
        }
    }

    fn nearest(&mut self, nearest: &Nearest) {
        let Nearest { policy, rule, missed, problems } = nearest;
        match rule {
            None => self.more(format!("{policy} has no rule that counts, and so allows nothing")),
            Some(rule) => self.more(format!("{policy}, of which spec.rules[{rule}] is the nearest")),
        }
        for (index, field) in missed.iter().enumerate() {
            let first = if index == 0 { "" } else { "and " };
            self.more(format!("  {first}{}", missing(field)));
        }
        self.problems(problems);
    }

    fn problems(&mut self, problems: &[String]) {
        for problem in problems {
            self.more(format!("  wrong in it: {problem}"));
        }
    }
}

fn headline(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "ALLOWED",
        Verdict::Denied => "DENIED",
        Verdict::ProviderDecides => "THE PROVIDER DECIDES",
        Verdict::NotJudged => "NOT JUDGED",
    }
}

fn asks(question: &Question, dialled: &Dialled) -> String {
    let what = match &question.sends {
        Sends::Request(request) => format!("{} {}", request.method, request.path),
        Sends::Bytes { server_name: Some(name) } => format!("TLS for {name}"),
        Sends::Bytes { server_name: None } => "a connection".to_owned(),
        Sends::Anything => "anything".to_owned(),
    };
    let from = question.source.map(|ip| format!(" at {ip}")).unwrap_or_default();
    let peer = question.peer.as_deref().unwrap_or("nobody");
    format!("{what} from {peer}{from} to {}:{}", dialled.host, dialled.port)
}

fn rule(matched: &Matched) -> String {
    format!("spec.rules[{}]", matched.rule)
}

fn ask(asked: &Asked, lines: &mut Lines) {
    let Asked { provider, service, fail_open, rule: matched } = asked;
    let silent = if *fail_open { ", and lets it pass if that does not answer" } else { "" };
    lines.add(
        "asked",
        format!(
            "{} has provider {provider:?} asked at {service} by {}{silent}",
            matched.policy,
            rule(matched)
        ),
    );
    lines.matched(matched);
}

fn held(field: &Field) -> String {
    let Field { at, negated, wanted, found, needs: _ } = field;
    let found = shown(found);
    match (negated, wanted.as_slice()) {
        (false, wanted) => format!("{at}: {found} matches {}", listed(wanted)),
        (true, [only]) => format!("{at}: {found}, which is not {only:?}"),
        (true, several) => format!("{at}: {found}, which is none of {}", listed(several)),
    }
}

fn missing(field: &Field) -> String {
    let Field { at, negated, wanted, found, needs } = field;
    let found = if needs.is_some() { "not said" } else { shown(found) };
    match (negated, wanted.as_slice()) {
        (false, [only]) => format!("{at}: {found}, where {only:?} is asked for"),
        (false, several) => format!("{at}: {found}, where one of {} is asked for", listed(several)),
        (true, wanted) => format!("{at}: {found}, which must not be {}", listed(wanted)),
    }
}

/// What was found is a text of the request, or says that there is none.
fn shown(found: &str) -> &str {
    if found.is_empty() { "an empty text" } else { found }
}

fn listed(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}

fn port(dialled: &Dialled) -> String {
    let Dialled { object, host: _, address, port, port_name, protocol } = dialled;
    let name = port_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let address = address.map(|ip| format!(" at {ip}")).unwrap_or_default();
    let speaks = match *protocol {
        "http" => "speaks HTTP",
        "tcp" => "carries bytes",
        _ => "does not say what it speaks",
    };
    format!("{port}{name} of {object}{address} {speaks}")
}

fn leads(route: &Route) -> String {
    let Route { route, rule, consumer, leads } = route;
    let by = match (route, rule) {
        (Some(route), Some(rule)) => format!("{route}, rule {rule}, "),
        (Some(route), None) => format!("{route} "),
        (None, _) => String::new(),
    };
    let whose = consumer
        .as_ref()
        .map(|namespace| format!("of the callers of namespace {namespace}: "))
        .unwrap_or_default();
    let to = match leads {
        Leads::To(shares) => {
            let weighted = shares.len() > 1;
            let shares = shares.iter().map(|(to, weight)| {
                let to = to.as_deref().unwrap_or("a backend that cannot be used");
                if weighted { format!("{to} (weight {weight})") } else { to.to_owned() }
            });
            format!("leads to {}", shares.collect::<Vec<_>>().join(", "))
        }
        Leads::Redirected => "answers with a redirect".to_owned(),
        Leads::Fails(status) => format!("has no backend that can be used: {status}"),
        Leads::NotFound => "no rule takes it: not found".to_owned(),
        Leads::Unknown => "it depends on the request".to_owned(),
    };
    format!("{whose}{by}{to}")
}

/// `None` where the reason says it already.
fn proof(token: &Token) -> Option<String> {
    let by =
        |policy: &Option<ObjectRef>| policy.as_ref().map(|it| format!(", as {it} asks")).unwrap_or_default();
    match token {
        Token::Missing => Some("none where one is looked for, so nobody is proved by one".to_owned()),
        Token::Taken { policy, issuer, subject } => Some(format!(
            "of issuer {issuer:?} for subject {subject:?}{}; that its signature is right is taken as given",
            by(policy)
        )),
        Token::Refused(_) => None,
    }
}

fn refused(refusal: &Refusal) -> String {
    let Refusal { policy, status, why } = refusal;
    let by = policy.as_ref().map(|policy| format!(" ({policy})")).unwrap_or_default();
    format!("{status}, {why}{by}")
}

fn report(reported: &Reported) -> String {
    let Reported { policy, rule, would } = reported;
    match (would, rule) {
        (Would::Audit, Some(rule)) => format!("{policy} writes a log line for spec.rules[{rule}]"),
        (Would::Audit, None) => format!("{policy} writes a log line"),
        (Would::Deny, Some(rule)) => format!("{policy}, a dry run, would deny it by spec.rules[{rule}]"),
        (Would::Deny, None) => format!("{policy}, a dry run, would deny it"),
        (Would::Allow, Some(rule)) => format!("{policy}, a dry run, would allow it by spec.rules[{rule}]"),
        (Would::Allow, None) => {
            format!("{policy}, a dry run, would not allow it, and no other dry run would")
        }
    }
}
