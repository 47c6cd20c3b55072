//! Which token of a request is taken, as Envoy finds it by the rules that govern a service.
//!
//! Nobody's signature is checked here: a token that can be read is taken for one that its issuer signed.

use std::sync::Arc;

use base64::Engine;
use serde_json::{Map, Value};

use super::{Check, KeySet, keys::BASE64URL};
use crate::policy::authorization::facts::Seen;

/// How far clocks may be apart, in seconds (Envoy, `JwtProvider.clock_skew_seconds`).
const SKEW: i64 = 60;

/// What the tokens of a request come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// There is none where a rule looks.
    Missing,
    /// The claims of the one that counts, those of several words as lists, by the rule of that place.
    Taken { claims: Map<String, Value>, rule: usize },
    /// The request is answered with that status, for the rule of that place.
    Refused { status: u16, why: String, rule: usize },
}

/// A token that was shown to a rule.
enum Shown {
    Text(String),
    Claims(Map<String, Value>),
}

/// What the rules make of a request. `shown` are the claims of a token that is wherever a rule looks;
/// `now` is in seconds since 1970. `keyless` says of a rule without usable keys whether that is to be
/// taken as it is.
pub(crate) fn judge(
    rules: &[(Arc<Check>, KeySet)],
    seen: &Seen<'_>,
    shown: Option<&Map<String, Value>>,
    now: i64,
    keyless: impl Fn(&Check) -> Option<String>,
) -> Token {
    let there = |name: &str| seen.lines(name).into_iter().any(|line| !line.is_empty());
    // As the filter is told to: a browser asks without a token whether it may ask.
    if seen.method == "OPTIONS" && there("origin") && there("access-control-request-method") {
        return Token::Missing;
    }
    let mut worst = Token::Missing;
    for (rule, (check, keys)) in rules.iter().enumerate() {
        let texts = check.found(seen).into_iter().map(Shown::Text);
        for token in texts.chain(shown.cloned().map(Shown::Claims)) {
            match check.verified(token, now) {
                Ok(claims) => match (*keys == KeySet::nobody()).then(|| keyless(check)).flatten() {
                    None => return Token::Taken { claims: check.split(claims), rule },
                    Some(why) => worst = Token::Refused { status: 401, why, rule },
                },
                Err((status, why)) => worst = Token::Refused { status, why, rule },
            }
        }
    }
    worst
}

impl Check {
    /// The tokens of a request where the rule looks for them.
    fn found(&self, seen: &Seen<'_>) -> Vec<String> {
        let Self { from_headers, from_params, from_cookies, .. } = self;
        let usual = from_headers.is_empty() && from_params.is_empty() && from_cookies.is_empty();
        let line = |name: &str| {
            let line = seen.line(&name.to_ascii_lowercase()).unwrap_or_default();
            String::from_utf8_lossy(&line).into_owned()
        };
        let mut found = Vec::new();
        let mut header = |name: &str, prefix: &str| {
            let line = line(name);
            // The scheme is one in any case of letters, other prefixes are texts.
            let bearer = prefix == "Bearer ";
            let behind = match line.split_at_checked(prefix.len()) {
                Some((front, rest)) if front == prefix || bearer && front.eq_ignore_ascii_case(prefix) => {
                    rest
                }
                Some(_) | None => return,
            };
            found.push(behind.trim().to_owned());
        };
        if usual {
            header("authorization", "Bearer ");
        }
        for location in from_headers {
            header(&location.name, &location.prefix);
        }
        let query = seen.path.split_once('?').map_or("", |(_, query)| query);
        let asked = |name: &str| usual && name == "access_token" || from_params.iter().any(|it| it == name);
        found.extend(pairs(query, '&').filter(|(name, _)| asked(name)).map(|(_, value)| value.to_owned()));
        let cookies = line("cookie");
        let cookies = pairs(&cookies, ';').filter(|(name, _)| from_cookies.iter().any(|it| it == name));
        found.extend(cookies.map(|(_, value)| value.to_owned()));
        found.retain(|token| !token.is_empty());
        found
    }

    /// What the token says, if it is one that the rule takes; else the status and the reason.
    fn verified(&self, token: Shown, now: i64) -> Result<Map<String, Value>, (u16, String)> {
        let bad = |why: String| Err((401, why));
        let claims = match token {
            Shown::Claims(claims) => claims,
            Shown::Text(text) => match read(&text) {
                Some(claims) => claims,
                None => return bad("what stands where a token is looked for is none".to_owned()),
            },
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let number = |name: &str| claims.get(name).and_then(Value::as_i64);
        if let Some(name) =
            ["iss", "sub"].iter().find(|name| claims.get(**name).is_some_and(|it| !it.is_string()))
        {
            return bad(format!("the token's {name} is no text"));
        }
        if !self.issuer.is_empty() && text("iss") != Some(&*self.issuer) {
            let issuer = text("iss").unwrap_or_default();
            return bad(format!(
                "the token is of issuer {issuer:?}, and the rule asks for {:?}",
                self.issuer
            ));
        }
        if number("exp").is_some_and(|end| end.saturating_add(SKEW) < now) {
            return bad("the token has expired".to_owned());
        }
        if number("nbf").is_some_and(|start| start.saturating_sub(SKEW) > now) {
            return bad("the token is not valid yet".to_owned());
        }
        let audiences: Vec<&str> = match claims.get("aud") {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => return bad("the token's aud is no text and no list of texts".to_owned()),
        };
        if !self.audiences.is_empty() && !self.audiences.iter().any(|wanted| audiences.contains(&&**wanted)) {
            let wanted = self.audiences.join(", ");
            return Err((403, format!("the token is for {audiences:?}, and the rule asks for {wanted}")));
        }
        Ok(claims)
    }

    /// Claims of several words are lists to whoever asks.
    fn split(&self, mut claims: Map<String, Value>) -> Map<String, Value> {
        for (name, value) in &mut claims {
            let split =
                ["scope", "permission"].contains(&name.as_str()) || self.space_delimited.contains(name);
            if let (true, Some(text)) = (split, value.as_str()) {
                *value = text.split(' ').filter(|word| !word.is_empty()).collect();
            }
        }
        claims
    }
}

/// The claims of a token in compact form.
fn read(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let object = |part: &str| {
        let part = BASE64URL.decode(part).ok()?;
        serde_json::from_slice::<Value>(&part).ok()?.as_object().cloned()
    };
    object(header)?.get("alg")?.as_str()?;
    object(claims)
}

fn pairs(text: &str, between: char) -> impl Iterator<Item = (&str, &str)> {
    text.split(between).filter_map(|pair| pair.trim().split_once('='))
}
