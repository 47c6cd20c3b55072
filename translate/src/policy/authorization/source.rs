//! One value of a rule at a time: from a user's text to the test it stands for.

use std::net::IpAddr;

use proto::Name;

use super::{IpBlock, Operation, Source, Trusted, Value, claims::request_principal};
use crate::{
    mesh::pattern::{LONGEST_REGEX, Pattern, quote},
    problem::Problem,
};

/// What a value needs to be understood.
pub(super) struct Place<'p> {
    /// The policy's own namespace, which a bare service account is in.
    pub(super) namespace: &'p Name,
    /// Whether a request that is like the value is the worse off for it. Where such a value is in
    /// doubt it has to stand for more: the codec lets the method `post` through on HTTP/2, and a rule
    /// that denies `POST` must not be escaped that way.
    pub(super) refuses: bool,
    /// What there is to say of values that hold all the same.
    pub(super) remarks: Vec<Problem>,
}

/// How the values of one field are read: an error is the message of a problem.
pub(super) type Read<T> = fn(&Place<'_>, &str) -> Result<T, String>;

/// The fields of `source`, without their `not` forms.
pub(super) const SOURCES: [(&str, Read<Source>); 7] = [
    ("principals", principal),
    ("requestPrincipals", request_principal),
    ("serviceAccounts", service_account),
    ("trustDomains", trust_domain),
    ("namespaces", namespace),
    ("ipBlocks", ip_block),
    ("remoteIpBlocks", remote_ip_block),
];

/// The fields of `operation`, without their `not` forms.
pub(super) const OPERATIONS: [(&str, Read<Operation>); 4] =
    [("hosts", host), ("methods", method), ("paths", path), ("ports", port)];

/// The keys of `when` that speak of the source.
pub(super) const SOURCE_KEYS: [(&str, Read<Source>); 8] = [
    ("request.auth.principal", request_principal),
    ("source.principal", principal),
    ("source.serviceAccount", service_account),
    ("source.trustDomain", trust_domain),
    ("source.namespace", namespace),
    ("source.ip", ip_block),
    ("remote.ip", remote_ip_block),
    // What was dialled comes with the tunnel, as its source does.
    ("destination.ip", destination_ip_block),
];

/// The keys of `when` that speak of the operation.
pub(super) const OPERATION_KEYS: [(&str, Read<Operation>); 2] =
    [("destination.port", port), ("connection.sni", server_name)];

/// `principals`: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, with a star at one end.
fn principal(place: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    if let Some(principal) = text.strip_prefix("spiffe://") {
        bounded(principal)?;
        let principal = principal.to_owned();
        return Ok(Source::Trusted(Trusted::Uri { principal, refuses: place.refuses }));
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
    block(text).map(Source::Ip)
}

/// `remoteIpBlocks`: the same, of the client that the request says it comes from.
fn remote_ip_block(_: &Place<'_>, text: &str) -> Result<Source, String> {
    block(text).map(Source::RemoteIp)
}

/// `destination.ip`: the same, of what was dialled.
fn destination_ip_block(_: &Place<'_>, text: &str) -> Result<Source, String> {
    block(text).map(Source::DestinationIp)
}

fn block(text: &str) -> Result<IpBlock, String> {
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
    Ok(IpBlock { address, prefix })
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

/// A value of that header.
pub(super) fn header(place: &Place<'_>, name: &str, text: &str) -> Result<Source, String> {
    bounded(text)?;
    // Envoy answers for `host` with `:authority`, and a host is the same in any case.
    let any_case = place.refuses && matches!(name, ":method" | ":authority" | "host");
    Ok(Source::Header { name: name.to_owned(), value: Pattern::of_istio(text), any_case })
}

/// `experimental.envoy.filters.FILTER[KEY]`, from the key of a condition: the name under which a
/// filter says something, and what.
pub(super) fn metadata_key(key: &str) -> Option<Result<(&str, &str), String>> {
    let named = key.strip_prefix("experimental.").filter(|rest| rest.starts_with("envoy.filters."))?;
    let split = named.split_once('[').and_then(|(filter, rest)| Some((filter, rest.strip_suffix(']')?)));
    Some(match split {
        Some((filter, key)) if !key.is_empty() && filter != "envoy.filters." => {
            bounded(named).map(|()| (filter, key))
        }
        Some(_) | None => Err(format!("{key:?} is not experimental.envoy.filters.FILTER[KEY]")),
    })
}

/// A value of that metadata; in brackets, an item of a list.
pub(super) fn metadata(filter: &str, key: &str, text: &str) -> Result<Source, String> {
    bounded(text)?;
    let item = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|item| !item.is_empty());
    let value = item.map_or_else(
        || Value::Text(Pattern::of_istio(text)),
        |item| Value::ListWith(Pattern::of_istio(item)),
    );
    Ok(Source::Metadata { filter: filter.to_owned(), key: key.to_owned(), value })
}

fn host(_: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    Ok(Operation::Host(Pattern::of_istio(text)))
}

fn method(place: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    Ok(Operation::Method { value: Pattern::of_istio(text), any_case: place.refuses })
}

fn port(place: &Place<'_>, text: &str) -> Result<Operation, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // As many zeros in front as anyone likes.
    let number = digits.then(|| text.parse().ok()).flatten();
    let named = || (place.refuses && is_port_name(text)).then(|| Operation::PortNamed(text.into()));
    number.map(Operation::Port).or_else(named).ok_or_else(|| format!("{text:?} is not a port, 0 to 65535"))
}

/// As Kubernetes has it: small letters, digits and dashes, and a letter among them.
fn is_port_name(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// `connection.sni`: what a TLS client asks for in its first message.
fn server_name(_: &Place<'_>, text: &str) -> Result<Operation, String> {
    bounded(text)?;
    Ok(Operation::ServerName(Pattern::of_istio(text)))
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
    let inner = text.trim_matches('/');
    let (front, back) = text.split_at(text.len() - text.trim_start_matches('/').len());
    regex.push_str(front);
    for (index, segment) in inner.split('/').enumerate() {
        regex.push_str(if index > 0 { "/" } else { "" });
        match segment {
            "{*}" | "{**}" if rest_taken => return Err("nothing with braces may follow {**}".to_owned()),
            "{*}" => regex.push_str("[^/]+"),
            "{**}" => {
                rest_taken = true;
                regex.push_str(".*");
            }
            literal if !literal.is_empty() && literal.bytes().all(is_path_byte) => {
                regex.push_str(&quote(literal));
            }
            _ => return Err("a segment of a template is {*}, {**} or plain text".to_owned()),
        }
    }
    regex.push_str(&back[inner.len()..]);
    Ok(Operation::Path(Pattern::Regex(regex)))
}

/// What a segment of a path may hold as it is.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'+'
                | b','
                | b';'
                | b':'
                | b'@'
                | b'='
        )
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
