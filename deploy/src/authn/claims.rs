//! What a service account's token says of itself. Nobody has vouched for it yet: it only saves the API server
//! from being asked about what cannot be good, and whoever sent it from guessing why.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The claims that we look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// From when on it is not good any more.
    pub(super) expires: SystemTime,
}

/// As they stand in the payload (RFC 7519, 4.1).
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    aud: Audiences,
    exp: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Claims {
    /// The claims of a token that may be good for `audience` at `now`; else why not, and what to do.
    pub(super) fn read(token: &str, audience: &str, now: SystemTime) -> Result<Self, String> {
        let remedy = format!("mount a projected serviceAccountToken with the audience {audience:?}");
        let parts: Vec<&str> = token.split('.').collect();
        let [_, payload, _] = parts.as_slice() else {
            return Err(format!("the bearer token is not that of a service account; {remedy}"));
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).ok();
        let Some(written) = payload.and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok()) else {
            return Err(format!("the bearer token is not that of a service account; {remedy}"));
        };
        let audiences = match written.aud {
            Audiences::One(one) => vec![one],
            Audiences::Many(many) => many,
        };
        if !audiences.iter().any(|it| it == audience) {
            let said = audiences.join(", ").chars().take(200).collect::<String>();
            return Err(format!("the token is for {said:?} and not for {audience:?}; {remedy}"));
        }
        let expires =
            written.exp.and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp)));
        let Some(expires) = expires else {
            return Err(format!("the token never expires, as one that is kept in a Secret; {remedy}"));
        };
        if expires <= now {
            return Err(
                "the token has expired; a kubelet replaces it long before, so see whether the pod's node reaches the API server".to_owned(),
            );
        }
        Ok(Self { expires })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn read(payload: &Value) -> Result<Claims, String> {
        Claims::read(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string())), "portolan", NOW)
    }

    #[test]
    fn a_token_for_us_says_when_it_ends() {
        for aud in [json!("portolan"), json!(["other", "portolan"])] {
            let claims = read(&json!({"aud": aud, "exp": 60})).unwrap();
            assert_eq!(claims.expires, NOW + Duration::from_mins(1));
        }
    }

    #[test]
    fn what_cannot_be_good_is_refused_with_what_to_do() {
        for (payload, why) in [
            (json!({"aud": ["istio-ca"], "exp": 60}), "is for \"istio-ca\" and not for \"portolan\""),
            (json!({"exp": 60}), "is for \"\""),
            (json!({"aud": ["portolan"]}), "never expires"),
            (json!({"aud": ["portolan"], "exp": 0}), "has expired"),
            (json!({"aud": 7, "exp": 60}), "not that of a service account"),
            (json!([]), "not that of a service account"),
        ] {
            let error = read(&payload).unwrap_err();
            assert!(error.contains(why) && error.contains([';']), "{payload}: {error}");
        }
        for text in ["", "a", "a.b", "a.b.c", "a.b.c.d", "v1.e30.AA", "..", "\u{e4}.\u{e4}.\u{e4}"] {
            assert!(Claims::read(text, "portolan", NOW).is_err(), "{text:?}");
        }
    }
}
