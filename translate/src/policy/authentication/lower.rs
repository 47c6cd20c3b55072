//! From the manifest to rules that fail closed.
//!
//! A rule with a mistake keeps the places where it looks for tokens and loses its keys: every token
//! there is rejected, so nobody is taken for somebody by a rule that says something else than meant.

use std::sync::Arc;

use proto::{Name, mesh_api};
use serde_json::Value;

use super::{
    Authentication, Check, ClaimHeader, KeySet, KeySource, Keys, Location, Origin, Rule, emit::refused,
};
use crate::{
    fields::{Fields, Problems, kind},
    mesh::name::created,
    policy::target,
    problem::FieldPath,
    route::{
        header::{is_name, is_value},
        timeout::Millis,
    },
};

/// Every field of a rule; `jwks_uri` is an older spelling.
const FIELDS: [&str; 13] = [
    "issuer",
    "audiences",
    "jwksUri",
    "jwks_uri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "forwardOriginalToken",
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "spaceDelimitedClaims",
    "timeout",
];

/// Istio's own, for fetching keys.
const TIMEOUT: &str = "5s";

/// Claims that are lists with spaces between wherever there is one, by RFC 8693 and by custom.
const ALWAYS_SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];

/// Reads a policy.
pub(crate) fn lower(object: &mesh_api::RequestAuthentication) -> Authentication {
    let mut problems = Problems::default();
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let spec = Fields::read(Some(&object.spec), FieldPath::new("spec"), &mut problems);
    spec.only(&["selector", "targetRef", "targetRefs", "jwtRules"], &mut problems);
    let items = spec.list("jwtRules", &mut problems).unwrap_or_default();
    let unread = !problems.0.is_empty();
    let mut rules: Vec<_> =
        items.into_iter().map(|(value, at)| lower_rule(value, at, &mut problems)).collect();
    if unread {
        // Rules that we cannot find may have been there.
        rules.push(Rule { check: Arc::default(), keys: Keys::Inline(KeySet::nobody()) });
    }
    Authentication {
        generation: object.metadata.generation,
        created: created(&object.metadata),
        targets: target::lower(&spec, &namespace, &mut problems),
        targeted: target::names_any(&spec),
        rules,
        problems: problems.0,
    }
}

fn lower_rule(value: &Value, at: FieldPath, problems: &mut Problems) -> Rule {
    let before = problems.0.len();
    let fields = Fields::read(Some(value), at, problems);
    fields.only(&FIELDS, problems);
    let mut check = Check {
        issuer: text(&fields, "issuer", problems).unwrap_or_default(),
        audiences: texts(&fields, "audiences", problems),
        from_headers: lower_locations(&fields, problems),
        from_params: texts(&fields, "fromParams", problems),
        from_cookies: texts(&fields, "fromCookies", problems),
        forward: fields.boolean("forwardOriginalToken", problems).unwrap_or_default(),
        payload_header: fields
            .string("outputPayloadToHeader", problems)
            .map(|name| output_header(name, &fields.at.field("outputPayloadToHeader"), problems))
            .unwrap_or_default(),
        claim_headers: lower_claim_headers(&fields, problems),
        space_delimited: texts(&fields, "spaceDelimitedClaims", problems).into_iter().collect(),
    };
    check.space_delimited.extend(ALWAYS_SPACE_DELIMITED.map(str::to_owned));
    let mut unused = Vec::new();
    let keys = lower_keys(&fields, &check.issuer, &mut unused, problems);
    if let Some(why) = refused(&check) {
        problems.invalid(&fields.at, format!("Envoy does not take what follows from it ({why})"));
        check = Check::default();
    }
    let keys = keys.filter(|_| problems.0.len() == before);
    // The other keys hold: only what this one signed is rejected.
    for why in unused {
        problems.invalid(&fields.at.field("jwks"), why);
    }
    Rule { check: Arc::new(check), keys: keys.unwrap_or_else(|| Keys::Inline(KeySet::nobody())) }
}

/// In the policy, else at an address, else where the issuer says that they are.
fn lower_keys(
    fields: &Fields<'_>,
    issuer: &str,
    unused: &mut Vec<String>,
    problems: &mut Problems,
) -> Option<Keys> {
    let at = fields.at.field("jwks");
    let timeout = fields.string("timeout", problems).unwrap_or(TIMEOUT);
    let timeout = Millis::parse(timeout).and_then(|timeout| {
        if timeout.is_zero() { Err("0 is no time to fetch keys in".to_owned()) } else { Ok(timeout) }
    });
    let timeout = timeout.map_err(|message| problems.invalid(&fields.at.field("timeout"), message)).ok()?;
    let uri_field = if fields.get("jwksUri").is_some() { "jwksUri" } else { "jwks_uri" };
    let uri = fields.string(uri_field, problems).filter(|uri| !uri.is_empty());
    let inline = fields.string("jwks", problems).filter(|text| !text.is_empty());
    let source = match (inline, uri) {
        (Some(_), Some(_)) => {
            problems.invalid(&at, "a rule has jwks or jwksUri, not both");
            return None;
        }
        (Some(text), None) => {
            return match KeySet::read(text, Origin::Policy) {
                Ok((keys, wrong)) => {
                    unused.extend(wrong);
                    Some(Keys::Inline(keys))
                }
                Err(why) => {
                    problems.invalid(&at, why);
                    None
                }
            };
        }
        (None, Some(uri)) => KeySource::check_address(uri)
            .map(|()| KeySource::Uri(uri.to_owned()))
            .map_err(|why| (fields.at.field(uri_field), why)),
        (None, None) if issuer.is_empty() => {
            Err((fields.at.clone(), "a rule needs an issuer, or jwks, or jwksUri".to_owned()))
        }
        (None, None) => {
            KeySource::check_address(issuer).map(|()| KeySource::Issuer(issuer.to_owned())).map_err(|why| {
                let why = format!("the issuer cannot be asked for its keys, {why}; set jwks or jwksUri");
                (fields.at.field("issuer"), why)
            })
        }
    };
    match source {
        Ok(source) => Some(Keys::Fetched { source, timeout }),
        Err((at, message)) => {
            problems.invalid(&at, message);
            None
        }
    }
}

fn lower_locations(fields: &Fields<'_>, problems: &mut Problems) -> Vec<Location> {
    let mut locations = Vec::new();
    for (value, at) in fields.list("fromHeaders", problems).unwrap_or_default() {
        let header = Fields::read(Some(value), at, problems);
        header.only(&["name", "prefix"], problems);
        let name = header.string("name", problems).unwrap_or_default();
        let prefix = header.string("prefix", problems).unwrap_or_default();
        if !is_name(name) {
            problems.invalid(&header.at.field("name"), format!("{name:?} is not a header name"));
        } else if !prefix.is_empty() && !is_value(prefix) {
            problems.invalid(&header.at.field("prefix"), "longer than a line, or holds a control character");
        } else {
            locations.push(Location { name: name.to_ascii_lowercase(), prefix: prefix.to_owned() });
        }
    }
    locations
}

fn lower_claim_headers(fields: &Fields<'_>, problems: &mut Problems) -> Vec<ClaimHeader> {
    let mut headers = Vec::new();
    for (value, at) in fields.list("outputClaimToHeaders", problems).unwrap_or_default() {
        let output = Fields::read(Some(value), at, problems);
        output.only(&["header", "claim"], problems);
        let name = output.string("header", problems).unwrap_or_default();
        let name = output_header(name, &output.at.field("header"), problems);
        let claim = output.string("claim", problems).unwrap_or_default();
        if claim.split('.').any(str::is_empty) || !is_value(claim) {
            problems.invalid(&output.at.field("claim"), format!("{claim:?} is not the name of a claim"));
        }
        if !name.is_empty() {
            // Even with a claim that is none: what a caller sends in its place is removed.
            let claim = if claim.is_empty() { "-" } else { claim };
            headers.push(ClaimHeader { name, claim: claim.to_owned() });
        }
    }
    headers
}

/// A header for the backend, in lower case; empty if it cannot be one.
fn output_header(name: &str, at: &FieldPath, problems: &mut Problems) -> String {
    let lower = name.to_ascii_lowercase();
    if !is_name(&lower) {
        problems.invalid(at, format!("{name:?} is not a header name"));
        return String::new();
    }
    // Envoy removes what the caller sent in it, and no request lives without these.
    if ["host", "connection", "content-length", "transfer-encoding", "te", "upgrade"].contains(&&*lower) {
        problems.invalid(at, format!("{name:?} belongs to the connection and cannot carry claims"));
        return String::new();
    }
    lower
}

/// One string, as Envoy takes them.
fn text(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> Option<String> {
    let text = fields.string(name, problems).filter(|text| !text.is_empty())?;
    if !is_value(text) {
        problems.invalid(&fields.at.field(name), "longer than a line, or holds a control character");
    }
    Some(text.to_owned())
}

/// A list of strings, none empty.
fn texts(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> Vec<String> {
    let mut texts = Vec::new();
    for (value, at) in fields.list(name, problems).unwrap_or_default() {
        match value.as_str() {
            Some(text) if is_value(text) => texts.push(text.to_owned()),
            Some(_) => problems.invalid(&at, "empty, longer than a line, or holds a control character"),
            None => problems.invalid(&at, format!("expected a string, not {}", kind(value))),
        }
    }
    texts
}
