//! An AuthorizationPolicy as it is written, and where it is attached.

use serde_json::Value;

use super::field::{self, Kind, OPERATION, SOURCE, Setting, Term};

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is allowed, unless something denies it.
    Allow,
    /// It is denied.
    Deny,
    /// Nothing; it is noted.
    Audit,
    /// A provider decides.
    Custom,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `ns[namespace]-policy[name]`
    pub id: String,
    /// What it does with what it matches.
    pub action: Action,
    /// Whether it has a say.
    pub enforced: bool,
    /// Who decides for `Action::Custom`.
    pub provider: Option<String>,
    /// Those that can be applied, by their place.
    pub(crate) rules: Vec<Rule>,
    namespace: String,
    targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq)]
struct Target {
    group: String,
    kind: String,
    name: String,
    namespace: String,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    pub(crate) index: usize,
    /// One of them has to hold, if there are any.
    pub(crate) sources: Vec<Vec<Term>>,
    /// One of them has to hold, if there are any.
    pub(crate) operations: Vec<Vec<Term>>,
    pub(crate) conditions: Vec<Term>,
    faulty: bool,
}

/// What a service is declared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A Kubernetes Service.
    Service,
    /// A ServiceEntry, by the object's name.
    ServiceEntry,
}

/// What policies attach to: one service behind a waypoint, or the pods behind it.
#[derive(Clone, Debug)]
pub struct Chain<'a> {
    /// Kind, namespace and name; nothing for traffic to the pods themselves.
    pub service: Option<(ServiceKind, &'a str, &'a str)>,
    /// Namespace and name of the waypoint's Gateway.
    pub gateway: (&'a str, &'a str),
    /// The class of that Gateway.
    pub class: &'a str,
    /// The namespace of policies for a class.
    pub root: &'a str,
}

impl Policy {
    /// As its manifest says, in a mesh of these trust domains. What cannot be read matches nothing if
    /// it would allow, and everything if not.
    pub fn read(manifest: &Value, bundle: &[String]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &manifest["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let dry_run = metadata["annotations"]["istio.io/dry-run"].as_str();
        let spec = &manifest["spec"];
        let mut policy = Self {
            id: format!("ns[{namespace}]-policy[{name}]"),
            action: Action::Allow,
            enforced: !dry_run.is_some_and(|said| matches!(said, "1" | "t" | "T" | "TRUE" | "true" | "True")),
            provider: spec["provider"]["name"].as_str().map(str::to_owned),
            rules: Vec::new(),
            namespace,
            targets: targets(spec),
        };
        let action = match (spec["action"].is_null(), spec["action"].as_str()) {
            (true, _) | (_, Some("ALLOW")) => Some(Action::Allow),
            (_, Some("DENY")) => Some(Action::Deny),
            (_, Some("AUDIT")) => Some(Action::Audit),
            (_, Some("CUSTOM")) => Some(Action::Custom),
            (_, Some(_) | None) => None,
        };
        let none = Vec::new();
        let rules = if spec["rules"].is_null() { Some(&none) } else { spec["rules"].as_array() };
        let (Some(action), Some(rules)) = (action, rules) else {
            policy.action = Action::Deny;
            policy.rules = vec![Rule::default()];
            return policy;
        };
        policy.action = action;
        let allows = action == Action::Allow;
        let namespace = policy.namespace.clone();
        let setting = Setting { namespace: &namespace, bundle, allows };
        let rules = rules.iter().enumerate().map(|(index, rule)| Rule::read(index, rule, setting));
        policy.rules = rules.filter(|rule| !(allows && rule.faulty)).collect();
        policy
    }

    /// Whom it asks, if it asks anybody; nothing at all is nobody's name.
    pub(crate) fn provider_name(&self) -> &str {
        self.provider.as_deref().unwrap_or_default()
    }

    /// Whether it is attached there.
    pub fn is_attached(&self, chain: &Chain<'_>) -> bool {
        let service = |kind, name: &str| chain.service == Some((kind, self.namespace.as_str(), name));
        self.targets.iter().any(|target| match (target.group.as_str(), target.kind.as_str()) {
            ("" | "core", "Service") => service(ServiceKind::Service, &target.name),
            ("networking.istio.io", "ServiceEntry") => service(ServiceKind::ServiceEntry, &target.name),
            ("gateway.networking.k8s.io", "GatewayClass") => {
                self.namespace == chain.root
                    && ["istio-waypoint", chain.class].contains(&target.name.as_str())
            }
            ("gateway.networking.k8s.io", "Gateway") => {
                (self.namespace.as_str(), target.name.as_str()) == chain.gateway
                    && (target.namespace.is_empty() || target.namespace == self.namespace)
            }
            _ => false,
        })
    }
}

fn targets(spec: &Value) -> Vec<Target> {
    let listed = spec["targetRefs"].as_array().filter(|list| !list.is_empty());
    let single = [spec["targetRef"].clone()];
    let refs = listed.map_or(single.as_slice(), Vec::as_slice).iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let target = |target: &Value| Target {
        group: text(&target["group"]),
        kind: text(&target["kind"]),
        name: text(&target["name"]),
        namespace: text(&target["namespace"]),
    };
    refs.filter(|target| target.is_object()).map(target).collect()
}

impl Rule {
    fn read(index: usize, rule: &Value, setting: Setting<'_>) -> Self {
        let mut read = Self { index, ..Self::default() };
        let Some(object) = rule.as_object() else {
            read.faulty = true;
            return read;
        };
        read.faulty |= object.keys().any(|key| !["from", "to", "when"].contains(&key.as_str()));
        let mut faulty = false;
        read.sources = alternatives(&rule["from"], "source", &SOURCE, setting, &mut faulty);
        read.operations = alternatives(&rule["to"], "operation", &OPERATION, setting, &mut faulty);
        for condition in list(&rule["when"], &mut faulty) {
            read.conditions.extend(when(condition, setting, &mut faulty));
        }
        read.faulty |= faulty;
        read
    }
}

/// Nothing where the field is not there; a fault where it is no list.
fn list<'a>(value: &'a Value, faulty: &mut bool) -> &'a [Value] {
    match value {
        Value::Null => &[],
        Value::Array(list) => list,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            *faulty = true;
            &[]
        }
    }
}

/// The alternatives of `from` or `to`. What cannot be read of one asks for nothing.
fn alternatives(
    value: &Value,
    name: &str,
    fields: &[(&str, Kind)],
    setting: Setting<'_>,
    faulty: &mut bool,
) -> Vec<Vec<Term>> {
    let mut all = Vec::new();
    for alternative in list(value, faulty) {
        let mut terms = Vec::new();
        match &alternative[name] {
            Value::Null => {}
            Value::Object(object) => {
                for (key, value) in object {
                    let negated = key.strip_prefix("not").and_then(|rest| {
                        let first = rest.chars().next().filter(char::is_ascii_uppercase)?;
                        Some(format!("{}{}", first.to_ascii_lowercase(), &rest[1..]))
                    });
                    let bare = negated.as_deref().unwrap_or(key);
                    let values = list(value, faulty);
                    match fields.iter().find(|(field, _)| *field == bare) {
                        Some(_) if values.is_empty() => {}
                        Some((_, kind)) => {
                            match Term::read((*kind, &[]), negated.is_some(), values, setting) {
                                Some(term) => terms.push(term),
                                None => *faulty = true,
                            }
                        }
                        None => *faulty = true,
                    }
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => *faulty = true,
        }
        *faulty |= alternative.as_object().is_none_or(|object| object.keys().any(|key| key != name));
        all.push(terms);
    }
    all
}

/// What can be read of a condition: a form that cannot be read asks for nothing. That denies no less
/// than any meaning it may have had, as each of the two forms only narrows the other.
fn when(condition: &Value, setting: Setting<'_>, faulty: &mut bool) -> Vec<Term> {
    let known = |key: &String| ["key", "values", "notValues"].contains(&key.as_str());
    *faulty |= condition.as_object().is_none_or(|object| !object.keys().all(known));
    let Some((kind, argument)) = condition["key"].as_str().and_then(field::key) else {
        *faulty = true;
        return Vec::new();
    };
    let mut terms = Vec::new();
    let mut asked = false;
    for (name, negated) in [("values", false), ("notValues", true)] {
        let values = list(&condition[name], faulty);
        if !values.is_empty() {
            asked = true;
            let term = Term::read((kind, &argument), negated, values, setting);
            *faulty |= term.is_none();
            terms.extend(term);
        }
    }
    *faulty |= !asked;
    terms
}
