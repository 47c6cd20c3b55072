//! One value of a rule at a time: from a user's text to the test it stands for.

use std::net::IpAddr;

use proto::Name;

use super::{IpBlock, Operation, Source, Trusted};
use crate::mesh::pattern::{LONGEST_REGEX, Pattern, quote};

/// What a value needs to be understood.
pub(super) struct Place<'p> {
    /// The policy's own namespace, which a bare service account is in.
    pub(super) namespace: &'p Name,
    /// Match methods in any case: the codec lets `post` through on HTTP/2, and a rule that denies
    /// `POST` must not be escaped that way.
    pub(super) any_case: bool,
}

/// How the values of one field are read: an error is the message of a problem.
pub(super) type Read<T> = fn(&Place<'_>, &str) -> Result<T, String>;

/// The fields of `source`, without their `not` forms.
pub(super) const SOURCES: [(&str, Read<Source>); 5] = [
    ("principals", principal),
    ("serviceAccounts", service_account),
    ("trustDomains", trust_domain),
    ("namespaces", namespace),
    ("ipBlocks", ip_block),
];

/// The fields of `operation`, without their `not` forms.
pub(super) const OPERATIONS: [(&str, Read<Operation>); 4] =
    [("hosts", host), ("methods", method), ("paths", path), ("ports", port)];

/// The keys of `when` that speak of the source.
pub(super) const SOURCE_KEYS: [(&str, Read<Source>); 5] = [
    ("source.principal", principal),
    ("source.serviceAccount", service_account),
    ("source.trustDomain", trust_domain),
    ("source.namespace", namespace),
    ("source.ip", ip_block),
];

/// `principals`: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, with a star at one end.
fn principal(_: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    if text.starts_with("spiffe://") {
        return Err("write it without spiffe://".to_owned());
    }
    Ok(Source::Trusted(Trusted::Principal(text.to_owned())))
}

/// `namespaces`: a star anywhere, any trust domain.
fn namespace(_: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    let quoted: Vec<String> = text.split('*').map(quote).collect();
    Ok(Source::Identity(Pattern::Regex(format!(".*/ns/{}/.*", quoted.join(".*")))))
}

/// `serviceAccounts`: `NAMESPACE/ACCOUNT`, or an account of the policy's namespace. No stars.
fn service_account(place: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    if text.contains('*') {
        return Err("service accounts take no star; use principals or namespaces".to_owned());
    }
    let (namespace, account) = text.split_once('/').unwrap_or((place.namespace, text));
    if namespace.is_empty() || account.is_empty() || account.contains('/') {
        return Err("expected NAMESPACE/ACCOUNT or ACCOUNT".to_owned());
    }
    let (namespace, account) = (quote(namespace), quote(account));
    Ok(Source::Identity(Pattern::Regex(format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))))
}

/// `trustDomains`: at most one star.
fn trust_domain(_: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    if text.matches('*').count() > 1 {
        return Err("a trust domain takes one star at most".to_owned());
    }
    Ok(Source::Trusted(Trusted::Domain(text.to_owned())))
}

/// `ipBlocks`: an address or a CIDR block.
fn ip_block(_: &Place<'_>, text: &str) -> Result<Source, String> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let wrong = || format!("{text:?} is not an IP address or CIDR block");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => most,
        // "08" and "+8" parse as numbers; no API server takes them.
        Some(digits) if digits.starts_with(['0', '+']) && digits != "0" => return Err(wrong()),
        Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?,
    };
    Ok(Source::Ip(IpBlock { address, prefix }))
}

/// `request.headers[NAME]`, from the key of a condition.
pub(super) fn header_name(key: &str) -> Option<Result<String, String>> {
    let name = key.strip_prefix("request.headers[")?.strip_suffix(']')?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = name.strip_prefix(':').unwrap_or(name);
    if plain.is_empty() || !plain.bytes().all(token) || name.len() > LONGEST_REGEX {
        return Some(Err(format!("{name:?} is not a header name")));
    }
    Some(Ok(name.to_ascii_lowercase()))
}

fn host(_: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    Ok(Operation::Host(Pattern::of_istio(text)))
}

fn method(place: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    Ok(Operation::Method { value: Pattern::of_istio(text), any_case: place.any_case })
}

pub(super) fn port(_: &Place<'_>, text: &str) -> Result<Operation, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.map(Operation::Port).ok_or_else(|| format!("{text:?} is not a port, 0 to 65535"))
}

/// `paths`: Istio's grammar, or a template with `{*}` and `{**}`.
fn path(_: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    if text.contains(['{', '}']) { template(text) } else { Ok(Operation::Path(Pattern::of_istio(text))) }
}

/// A path template as an expression of our own: Envoy's own matcher knows fewer characters than a
/// path may hold, and what it does not know escapes a rule that denies.
fn template(text: &str) -> Result<Operation, String> {
    let mut regex = String::new();
    let mut rest_taken = false;
    let trimmed = text.trim_matches('/');
    for (index, segment) in trimmed.split('/').enumerate() {
        regex.push_str(if index > 0 || text.starts_with('/') { "/" } else { "" });
        match segment {
            "{*}" | "{**}" if rest_taken => return Err("nothing with braces may follow {**}".to_owned()),
            "{*}" => regex.push_str("[^/]+"),
            "{**}" => {
                rest_taken = true;
                regex.push_str(".*");
            }
            literal if literal.contains(['{', '}']) || literal.is_empty() => {
                return Err("a segment of a template is {*}, {**} or plain text".to_owned());
            }
            literal => regex.push_str(&quote(literal)),
        }
    }
    if text.len() > 1 && text.ends_with('/') {
        regex.push('/');
    }
    Ok(Operation::Path(Pattern::Regex(regex)))
}

/// Every text that may reach an expression is bounded, and an empty one is a mistake.
pub(super) fn bounded(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty; leave the field out instead".to_owned());
    }
    if text.len() > LONGEST_REGEX {
        return Err(format!("longer than {LONGEST_REGEX} bytes"));
    }
    if text.contains(|letter: char| letter.is_control()) {
        return Err("holds a control character".to_owned());
    }
    Ok(())
}
