//! Random policies, and requests that meet them or miss them by little. A seed gives the same for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::{
    alphabet::{
        ALIASES, BAD_KEYS, CLAIMS, HOSTS, KEYS, LINES, METHODS, NAMES, PATHS, PEERS, SOURCES, bad_values,
        values,
    },
    field::{Kind, OPERATION, SOURCE},
    request::{Answer, Body, Http, Request},
};

/// A source of choices: xorshift.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// That of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % limit.max(1) as u64).unwrap_or_default()
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        list.get(self.below(list.len())).copied()
    }

    fn text(&mut self, list: &[&str]) -> String {
        self.one(list).unwrap_or_default().to_owned()
    }
}

/// The service that most policies are for, in the namespace `app`.
const SERVICES: [&str; 2] = ["web", "cart"];

/// Policies in a mesh whose waypoint is `app/waypoint` and whose services are `app/web` and `app/cart`.
pub fn policies(dice: &mut Dice) -> Vec<Value> {
    (0..=dice.below(4)).map(|nth| policy(nth, dice)).collect()
}

/// Aliases of the trust domain of such a mesh.
pub fn aliases(dice: &mut Dice) -> Vec<String> {
    dice.one(ALIASES).unwrap_or_default().iter().map(|alias| (*alias).to_owned()).collect()
}

/// What the providers `opa`, by HTTP, and `opa-n`, by gRPC, say.
fn answers(dice: &mut Dice) -> BTreeMap<String, Answer> {
    let mut answer = |of_connections| Answer { allows: dice.below(3) > 0, of_connections };
    [("opa", answer(false)), ("opa-n", answer(true))].map(|(name, answer)| (name.to_owned(), answer)).into()
}

fn policy(nth: usize, dice: &mut Dice) -> Value {
    let service = |name: &str| json!({"group": "", "kind": "Service", "name": name});
    let gateway =
        |kind: &str, name: &str| json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name});
    let (namespace, targets) = match dice.below(20) {
        0..=10 => ("app", vec![service("web")]),
        11 => ("app", vec![service(&dice.text(&SERVICES)), service("other")]),
        12 => ("app", vec![service("web"), gateway("Gateway", "waypoint")]),
        13..=15 => ("app", vec![gateway("Gateway", "waypoint")]),
        16 | 17 => ("istio-system", vec![gateway("GatewayClass", "istio-waypoint")]),
        18 => ("other", vec![service("web"), gateway("Gateway", "waypoint")]),
        _ => ("app", vec![service("cart")]),
    };
    let action = match dice.below(16) {
        0..=3 => Value::Null,
        4..=7 => json!("ALLOW"),
        8..=13 => json!("DENY"),
        14 if dice.once_in(2) => json!("AUDIT"),
        _ => json!("CUSTOM"),
    };
    let mut annotations = json!({});
    if dice.once_in(16) {
        annotations["istio.io/dry-run"] = json!(dice.text(&["true", "1", "false", "yes"]));
    }
    let rules: Vec<Value> = (0..dice.below(4)).map(|_| rule(dice)).collect();
    let mut spec = json!({"targetRefs": targets, "rules": rules});
    if action == json!("CUSTOM") {
        spec["provider"] = json!({"name": dice.text(&["nobody", "opa", "opa-n"])});
    }
    if !action.is_null() {
        spec["action"] = action;
    }
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": namespace, "name": format!("p{nth}"), "annotations": annotations},
        "spec": spec,
    })
}

fn rule(dice: &mut Dice) -> Value {
    let mut rule = json!({});
    if dice.below(3) > 0 {
        rule["from"] = alternatives("source", &SOURCE, dice);
    }
    if dice.below(3) > 0 {
        rule["to"] = alternatives("operation", &OPERATION, dice);
    }
    if dice.once_in(2) {
        rule["when"] = (0..=dice.below(2)).map(|_| condition(dice)).collect();
    }
    if dice.once_in(200) {
        rule["form"] = json!([]);
    }
    rule
}

fn alternatives(name: &str, fields: &[(&str, Kind)], dice: &mut Dice) -> Value {
    let alternative = |dice: &mut Dice| {
        let mut object = Map::new();
        for _ in 0..=dice.below(2) {
            let Some((field, kind)) = dice.one(fields) else { continue };
            let mut letters = field.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            let not = || first.into_iter().chain(letters.clone()).collect::<String>();
            let field = if dice.once_in(3) { format!("not{}", not()) } else { field.to_owned() };
            object.insert(field, listed(kind, dice));
        }
        if dice.once_in(200) {
            object.insert("misspelt".to_owned(), json!(["x"]));
        }
        json!({name: object})
    };
    (0..=dice.below(2)).map(|_| alternative(dice)).collect()
}

fn condition(dice: &mut Dice) -> Value {
    let (key, kind) = dice.one(KEYS).unwrap_or(("", Kind::Header));
    let key = if dice.once_in(60) { dice.text(BAD_KEYS) } else { key.to_owned() };
    // What stands in a condition on `:path` is no template.
    let kind = if key == "request.headers[:path]" && dice.once_in(2) { Kind::Header } else { kind };
    let mut condition = json!({"key": key});
    let forms = dice.below(4);
    if forms > 0 {
        condition["values"] = listed(kind, dice);
    }
    if forms < 2 {
        condition["notValues"] = listed(kind, dice);
    }
    condition
}

fn listed(kind: Kind, dice: &mut Dice) -> Value {
    let values = (0..=dice.below(3)).map(|_| {
        let known = if dice.once_in(80) { bad_values(kind) } else { values(kind) };
        if dice.once_in(400) { json!(5) } else { json!(dice.text(known)) }
    });
    values.collect()
}

/// A request to one of the ports, with one of the policies in mind.
pub fn request(policies: &[Value], ports: &[(&str, u16, bool)], dice: &mut Dice) -> Request {
    let (address, port, tcp) = dice.one(ports).unwrap_or(("10.0.0.1", 80, false));
    let mut request = anything(dice);
    request.answers = Arc::new(answers(dice));
    request.address = address.parse().unwrap_or(request.address);
    request.port = port;
    let rules = policies.iter().filter_map(|policy| policy["spec"]["rules"].as_array()).flatten();
    let rules: Vec<&Value> = rules.collect();
    if let Some(rule) = dice.one(&rules) {
        for (list, name, fields) in [("from", "source", &SOURCE[..]), ("to", "operation", &OPERATION[..])] {
            let Some(listed) = rule[list].as_array() else { continue };
            let listed: Vec<&Value> = listed.iter().collect();
            let object = dice.one(&listed).and_then(|one| one[name].as_object());
            for (field, values) in object.into_iter().flatten() {
                let found = fields.iter().find(|(known, _)| field.eq_ignore_ascii_case(known));
                let negative = fields
                    .iter()
                    .find(|(known, _)| field.to_lowercase() == format!("not{}", known.to_lowercase()));
                if let Some((_, kind)) = found.or(negative)
                    && (found.is_some() || dice.once_in(6))
                {
                    meet(&mut request, *kind, "", values, dice);
                }
            }
        }
        for condition in rule["when"].as_array().into_iter().flatten() {
            let key = condition["key"].as_str().unwrap_or_default();
            if let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) {
                let negative = dice.once_in(6);
                let values = if negative { &condition["notValues"] } else { &condition["values"] };
                meet(&mut request, *kind, key, values, dice);
            }
        }
    }
    // And then one thing is something else.
    if dice.once_in(2) {
        let other = anything(dice);
        miss(&mut request, other, dice);
    }
    if tcp {
        let sni = dice.once_in(2).then(|| dice.text(NAMES));
        request.body = Body::Tcp { sni };
    }
    request
}

fn anything(dice: &mut Dice) -> Request {
    let names = ["x-a", "X-a", "x-b", "x-c"];
    let headers =
        (0..dice.below(4)).map(|_| (dice.text(&names), dice.one(LINES).unwrap_or_default().to_vec()));
    let headers = headers.collect();
    let http = Http {
        method: dice.text(METHODS),
        host: dice.text(HOSTS),
        path: dice.text(PATHS),
        headers,
        claims: (!dice.once_in(4)).then(|| claims(dice)),
    };
    Request {
        peer: (!dice.once_in(40)).then(|| dice.text(PEERS)),
        source: dice.text(SOURCES).parse().unwrap_or(Request::default().source),
        body: Body::Http(http),
        ..Request::default()
    }
}

fn claims(dice: &mut Dice) -> Map<String, Value> {
    let mut claims = Map::new();
    for (name, values) in CLAIMS {
        if *name == "iss" || dice.once_in(2) {
            claims.insert((*name).to_owned(), serde_json::from_str(&dice.text(values)).unwrap_or_default());
        }
    }
    claims
}

fn miss(request: &mut Request, other: Request, dice: &mut Dice) {
    let (Body::Http(http), Body::Http(others)) = (&mut request.body, other.body) else { return };
    match dice.below(9) {
        0 => request.peer = other.peer,
        1 => request.source = other.source,
        2 => http.method = others.method,
        3 => http.host = others.host,
        4 => http.path = others.path,
        5 => http.headers = others.headers,
        6 => http.claims = others.claims,
        // By one letter.
        7 => match dice.below(4) {
            0 => http.path.push_str(&dice.text(&["x", "/", "b", "?"])),
            1 => http.host.push_str(&dice.text(&["x", ":", "."])),
            2 => http.host = http.host.to_uppercase(),
            _ => {
                let last = http.path.pop();
                if http.path.is_empty() {
                    http.path.extend(last);
                }
            }
        },
        _ => {
            if let Some(peer) = &mut request.peer {
                peer.push_str(&dice.text(&["x", "/", "/x"]));
            }
        }
    }
}

/// Makes one of the values hold, most of the times.
fn meet(request: &mut Request, kind: Kind, key: &str, values: &Value, dice: &mut Dice) {
    let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(value) = dice.one(&values) else { return };
    let Body::Http(http) = &mut request.body else { return };
    let mut filled = |fillings: &[&str]| {
        let mut text = value.to_owned();
        for star in ["{**}", "{*}", "*"] {
            while let Some(at) = text.find(star) {
                // A star in the middle is one, most of the times.
                text.replace_range(at..at + star.len(), &dice.text(fillings));
            }
        }
        text
    };
    match kind {
        Kind::Principal => {
            request.peer = Some(format!("spiffe://{}", filled(&["cluster.local", "a", "x/y"])));
        }
        Kind::Namespace => {
            request.peer = Some(format!("spiffe://cluster.local/ns/{}/sa/a", filled(&["", "o", "x-o"])));
        }
        Kind::ServiceAccount => {
            let (namespace, name) = value.split_once('/').unwrap_or(("app", value));
            request.peer = Some(format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"));
        }
        Kind::TrustDomain => request.peer = Some(format!("spiffe://{}/ns/foo/sa/a", filled(&["", "t", "2"]))),
        Kind::SourceIp => {
            let address = value.split('/').next().and_then(|address| address.parse().ok());
            request.source = address.unwrap_or(request.source);
        }
        Kind::RemoteIp => {
            let address = value.split('/').next().unwrap_or_default().as_bytes().to_vec();
            http.headers.retain(|(name, _)| name != "x-forwarded-for");
            http.headers.push(("x-forwarded-for".to_owned(), address));
        }
        Kind::Host => http.host = filled(&["", "x", "80"]),
        Kind::Method => http.method = filled(&["", "T", "U"]),
        Kind::Path => {
            let path = filled(&["", "x", "x/y", "\u{fc}"]);
            http.path = if path.starts_with('/') { path } else { format!("/{path}") };
        }
        Kind::Header => {
            let value = filled(&["", "x", "1"]);
            match key.strip_prefix("request.headers[").and_then(|name| name.strip_suffix(']')) {
                Some(":path") => http.path = value,
                Some(name) => http.headers.push((name.to_ascii_lowercase(), value.into_bytes())),
                None => {}
            }
        }
        Kind::Port
        | Kind::DestinationIp
        | Kind::RequestPrincipal
        | Kind::Claim
        | Kind::Sni
        | Kind::Experimental => {}
    }
}

/// The kinds of fields that random policies have.
pub fn kinds() -> impl Iterator<Item = Kind> {
    let listed = SOURCE.iter().chain(&OPERATION).chain(KEYS).map(|(_, kind)| *kind);
    listed.collect::<BTreeSet<_>>().into_iter()
}
