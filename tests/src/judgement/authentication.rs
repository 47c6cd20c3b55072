//! RequestAuthentication: which token of a request counts, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::request::Http;

/// A rule of a RequestAuthentication, as far as it decides which tokens are taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtRule {
    issuer: Option<String>,
    audiences: Vec<String>,
    from_headers: Vec<FromHeader>,
    from_params: Vec<String>,
    from_cookies: Vec<String>,
    space_delimited_claims: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct FromHeader {
    name: String,
    prefix: String,
}

/// What the tokens of a request come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// There is none where a rule looks.
    Missing,
    /// The claims of the one that counts, those of several words as lists.
    Good(Map<String, Value>),
    /// 401.
    Bad,
    /// 403: good, for somebody else.
    OtherAudience,
}

impl Token {
    /// What the rules make of a request. `signed` holds the claims of every text that is a token with a
    /// signature by its issuer's key; `now` is in seconds.
    pub fn of(
        http: &Http,
        rules: &[JwtRule],
        signed: &BTreeMap<String, Map<String, Value>>,
        now: u64,
    ) -> Self {
        let there = |name: &str| http.values(name).into_iter().any(|value| !value.is_empty());
        if http.method == "OPTIONS" && there("origin") && there("access-control-request-method") {
            return Self::Missing;
        }
        let mut worst = Self::Missing;
        for rule in rules {
            for token in rule.found(http) {
                match rule.verified(signed.get(&token), now) {
                    good @ Self::Good(_) => return good,
                    bad @ (Self::Bad | Self::OtherAudience | Self::Missing) => worst = bad,
                }
            }
        }
        worst
    }
}

impl JwtRule {
    fn found(&self, http: &Http) -> Vec<String> {
        let default =
            self.from_headers.is_empty() && self.from_params.is_empty() && self.from_cookies.is_empty();
        let mut found = Vec::new();
        let mut header = |name: &str, prefix: &str| {
            let line = http.line(name).unwrap_or_default();
            let bearer = prefix == "Bearer " && line.len() > 7 && line[..7].eq_ignore_ascii_case(prefix);
            if bearer {
                found.push(line[7..].trim().to_owned());
            } else if let Some(rest) = line.strip_prefix(prefix) {
                found.push(rest.trim().to_owned());
            }
        };
        if default {
            header("authorization", "Bearer ");
        }
        for from in &self.from_headers {
            header(&from.name, &from.prefix);
        }
        let query = http.path.split_once('?').map_or("", |(_, query)| query);
        let asked =
            |name: &str| default && name == "access_token" || self.from_params.iter().any(|it| it == name);
        found.extend(pairs(query, '&').filter(|(name, _)| asked(name)).map(|(_, value)| value.to_owned()));
        let cookies = http.line("cookie").unwrap_or_default();
        let cookies = pairs(&cookies, ';').filter(|(name, _)| self.from_cookies.iter().any(|it| it == name));
        found.extend(cookies.map(|(_, value)| value.to_owned()));
        found.retain(|token| !token.is_empty());
        found
    }

    fn verified(&self, claims: Option<&Map<String, Value>>, now: u64) -> Token {
        let Some(claims) = claims else { return Token::Bad };
        let says = |name: &str| claims.get(name).and_then(Value::as_str);
        let after = claims.get("exp").and_then(Value::as_u64).is_some_and(|end| end < now);
        let before = claims.get("nbf").and_then(Value::as_u64).is_some_and(|start| start > now);
        let other = self.issuer.as_ref().is_some_and(|issuer| says("iss") != Some(issuer));
        if after || before || other || !well_formed(claims) {
            return Token::Bad;
        }
        let audiences: BTreeSet<&str> = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            aud => aud.and_then(Value::as_str).into_iter().collect(),
        };
        if !self.audiences.is_empty() && !self.audiences.iter().any(|wanted| audiences.contains(&**wanted)) {
            return Token::OtherAudience;
        }
        let mut claims = claims.clone();
        for (name, value) in &mut claims {
            let split = ["scope", "permission"].contains(&name.as_str())
                || self.space_delimited_claims.contains(name);
            if let (true, Some(text)) = (split, value.as_str()) {
                *value = text.split(' ').filter(|word| !word.is_empty()).collect();
            }
        }
        Token::Good(claims)
    }
}

/// Whether the claims that the standard knows are of the types that it gives them.
fn well_formed(claims: &Map<String, Value>) -> bool {
    claims.iter().all(|(name, value)| match name.as_str() {
        "iss" | "sub" | "jti" => value.is_string(),
        "aud" => value.is_string() || value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        "exp" | "nbf" | "iat" => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
        _ => true,
    })
}

fn pairs(text: &str, between: char) -> impl Iterator<Item = (&str, &str)> {
    text.split(between).filter_map(|pair| pair.trim().split_once('='))
}
