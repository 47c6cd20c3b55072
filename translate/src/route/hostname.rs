//! Host names that a route is for, compared to the name that a TLS client asks for (SNI).

use std::{collections::BTreeSet, fmt, net::IpAddr};

use proto::Name;
use serde_json::Value;

use super::header::is_hostname;
use crate::problem::{FieldPath, Problem, Reason};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hostname {
    Exact(Name),
    /// Whatever has a label or more before the dot and this.
    ///
    /// Gateway API, Listener.hostname: "Hostnames that are prefixed with a wildcard label (`*.`) are
    /// interpreted as a suffix match. That means that a match for `*.example.com` would match both
    /// `test.example.com`, and `foo.test.example.com`, but not `example.com`."
    Below(Name),
}

impl fmt::Display for Hostname {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => out.write_str(name),
            Self::Below(suffix) => write!(out, "*.{suffix}"),
        }
    }
}

impl Hostname {
    fn lower_one(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or("expected a string")?;
        let (name, hostname): (&str, fn(Name) -> Self) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, Self::Below),
            None => (text, Self::Exact),
        };
        if name.parse::<IpAddr>().is_ok() {
            return Err("no TLS client asks for an address by SNI (RFC 6066); attach the route to the service that has the address".to_owned());
        }
        if !is_hostname(name) {
            return Err(format!(
                "{text:?} is not a DNS name in lower case, nor one after \"*.\"; no connection matches it"
            ));
        }
        Ok(hostname(name.into()))
    }

    /// Whether every name of the other is one of this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let below = |name: &Name, suffix: &Name| {
            name.strip_suffix(&**suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        match (self, other) {
            (Self::Exact(name), Self::Exact(other)) => name == other,
            (Self::Exact(_), Self::Below(_)) => false,
            (Self::Below(suffix), Self::Exact(name)) => below(name, suffix),
            (Self::Below(suffix), Self::Below(other)) => suffix == other || below(other, suffix),
        }
    }

    /// Of several that a name is one of, the greatest has it: the exact one, else the longest.
    pub(crate) fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(name) => (true, name.len()),
            Self::Below(suffix) => (false, suffix.len()),
        }
    }
}

/// The hostnames of a route, and what is wrong with some of them: those match nothing. No hostnames
/// at all are for every connection.
///
/// # Errors
///
/// If there are hostnames and none that could match. To take that for every connection would send
/// those for other hosts to this route's backends.
pub(crate) fn lower(
    spec: &Value,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Result<BTreeSet<Hostname>, Problem> {
    let refused = |message: &str| Problem {
        at: at.clone(),
        reason: Reason::UnsupportedValue,
        message: message.to_owned(),
    };
    if spec.is_null() {
        return Ok(BTreeSet::new());
    }
    let list = spec.as_array().ok_or_else(|| {
        refused("expected a list of host names; leave the field out to route every connection")
    })?;
    let mut hostnames = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        match Hostname::lower_one(value) {
            Ok(hostname) => {
                hostnames.insert(hostname);
            }
            Err(message) => {
                problems.push(Problem { at: at.index(index), reason: Reason::Invalid, message });
            }
        }
    }
    if hostnames.is_empty() && !list.is_empty() {
        return Err(refused(
            "none of the host names can match; leave the field out to route every connection",
        ));
    }
    Ok(hostnames)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label_or_more() {
        let read = |text: &str| Hostname::lower_one(&json!(text)).unwrap();
        for (wide, narrow, covered) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "myexample.com", false),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.b.example.com", true),
            ("*.b.example.com", "*.example.com", false),
            ("a.example.com", "*.example.com", false),
        ] {
            assert_eq!(read(wide).covers(&read(narrow)), covered, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn what_no_client_can_ask_for_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "**.a",
            "a.*.b",
            "*a.b",
            "A.b",
            "a..b",
            "a.b.",
            "-a.b",
            "a_b",
            "1.2.3.4",
            "::1",
            "*.1.2.3.4",
            "a:443",
            "ä.de",
        ] {
            assert!(Hostname::lower_one(&json!(bad)).is_err(), "{bad}");
        }
        assert!(Hostname::lower_one(&json!(1)).is_err());
        assert!(Hostname::lower_one(&json!("a".repeat(254))).is_err());
        assert!(Hostname::lower_one(&json!("localhost")).is_ok());
    }
}
