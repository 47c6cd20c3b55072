//! Bearer tokens: whoever shows one is a proxy of the gateway that it names.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use translate::Audience;

use super::{IdentityError, file};

/// A later form of token has another one, so that an old reader refuses it instead of guessing.
const VERSION: &str = "v1";

const KEY_LENGTH: usize = 32;

/// The key that tokens are proven with.
pub struct TokenKey(hmac::Key);

/// A token, `v1.<claims>.<proof>`. Whoever has it can use it, so it does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// Whose proxy the bearer is.
    pub gateway: Audience,
    /// From when on it is not valid any more; whole seconds.
    pub expires: SystemTime,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of a token.
    #[error("the token is malformed; it must be what `portolan bootstrap` wrote, without anything around it")]
    Malformed,
    /// Another key signed it, or somebody changed it.
    #[error("the token's signature is wrong; it was made for another state directory, or changed")]
    BadSignature,
    /// It was valid once.
    #[error("the token has expired; replace it by a new one")]
    Expired,
}

/// The claims as they stand in the token.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Namespace and name.
    gateway: String,
    /// Seconds since 1970.
    exp: u64,
}

impl TokenKey {
    /// The key in the directory `state`; a new one if there is none. Tokens of the old key are then worthless.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        let path = state.join("token-key");
        let key = file::in_turn(state, || {
            if let Some(key) = file::read_secret(&path)? {
                return Ok(key);
            }
            let mut key = vec![0; KEY_LENGTH];
            SystemRandom::new().fill(&mut key).map_err(|_| IdentityError::Random)?;
            file::write_secret(&path, &key)?;
            Ok(key)
        })?;
        if key.len() != KEY_LENGTH {
            let problem = format!("holds {} bytes instead of {KEY_LENGTH}", key.len());
            let remedy = "remove it to start with a new key, and give every proxy a new token";
            return Err(IdentityError::Damaged { path, problem, remedy });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// A token for the proxies of `gateway`, valid until `expires`, to the second.
    pub fn mint(&self, gateway: &Audience, expires: SystemTime) -> Token {
        let exp = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = serde_json::json!({ "gateway": gateway.to_string(), "exp": exp }).to_string();
        let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(claims));
        let proof = hmac::sign(&self.0, signed.as_bytes());
        Token(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(proof)))
    }

    /// What `token` says, if we said it and it is still valid at `now`.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<TokenClaims, TokenError> {
        let (signed, proof) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let claims = signed.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix('.'));
        let claims = claims.ok_or(TokenError::Malformed)?;
        let proof = URL_SAFE_NO_PAD.decode(proof).map_err(|_| TokenError::Malformed)?;
        // Before anything in it is read: until then it is a stranger's text. Takes the same time
        // wherever the proofs differ.
        hmac::verify(&self.0, signed.as_bytes(), &proof).map_err(|_| TokenError::BadSignature)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let written: Written = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)?;
        let claims = written.read().ok_or(TokenError::Malformed)?;
        if claims.expires <= now { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

impl Written {
    fn read(self) -> Option<TokenClaims> {
        let (namespace, name) = self.gateway.split_once('/')?;
        // With a second slash, two gateways could print the same.
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return None;
        }
        let gateway = Audience { namespace: namespace.into(), name: name.into() };
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.exp))?;
        Some(TokenClaims { gateway, expires })
    }
}

impl Token {
    /// The token, as it stands after `Bearer `.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::tempdir;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn later(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    fn gateway() -> Audience {
        Audience { namespace: "webapp".into(), name: "waypoint".into() }
    }

    #[test]
    fn a_token_says_what_it_was_minted_for_until_it_expires_and_after_a_restart() {
        let state = tempdir().unwrap();
        let token = TokenKey::open(state.path()).unwrap().mint(&gateway(), later(100));
        let key = TokenKey::open(state.path()).unwrap();
        let claims = TokenClaims { gateway: gateway(), expires: later(100) };
        assert_eq!(key.verify(token.as_str(), later(99)), Ok(claims));
        assert_eq!(key.verify(token.as_str(), later(100)), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let (ours, theirs) = (tempdir().unwrap(), tempdir().unwrap());
        let token = TokenKey::open(theirs.path()).unwrap().mint(&gateway(), later(100));
        let verdict = TokenKey::open(ours.path()).unwrap().verify(token.as_str(), NOW);
        assert_eq!(verdict, Err(TokenError::BadSignature));
    }

    #[test]
    fn no_single_character_can_be_changed() {
        let state = tempdir().unwrap();
        let key = TokenKey::open(state.path()).unwrap();
        let token = key.mint(&gateway(), later(100));
        for at in 0..token.as_str().len() {
            let mut changed = token.as_str().to_owned();
            let other = if changed.as_bytes()[at] == b'A' { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            key.verify(&changed, NOW).unwrap_err();
        }
    }

    #[test]
    fn the_claims_of_one_token_do_not_fit_the_proof_of_another() {
        let state = tempdir().unwrap();
        let key = TokenKey::open(state.path()).unwrap();
        let other = Audience { namespace: "webapp".into(), name: "other".into() };
        let (mine, others) = (key.mint(&gateway(), later(100)), key.mint(&other, later(100)));
        let (_, proof) = mine.as_str().rsplit_once('.').unwrap();
        let (claims, _) = others.as_str().rsplit_once('.').unwrap();
        assert_eq!(key.verify(&format!("{claims}.{proof}"), NOW), Err(TokenError::BadSignature));
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let state = tempdir().unwrap();
        let key = TokenKey::open(state.path()).unwrap();
        let good = key.mint(&gateway(), later(100));
        let good = good.as_str();
        for text in
            ["", ".", "..", "v1.", "v1..", "v2.e30.AA", good.trim_start_matches("v1."), &format!("{good}=")]
        {
            let verdict = key.verify(text, NOW).unwrap_err();
            assert!(verdict != TokenError::Expired, "{text:?}: {verdict}");
        }
        assert_eq!(key.verify("v2.e30.AA", NOW), Err(TokenError::Malformed));
    }

    #[test]
    fn two_gateways_never_share_a_token() {
        let state = tempdir().unwrap();
        let key = TokenKey::open(state.path()).unwrap();
        for (namespace, name) in [("a/b", "c"), ("a", "b/c"), ("", "a/b"), ("a", "")] {
            let gateway = Audience { namespace: namespace.into(), name: name.into() };
            let token = key.mint(&gateway, later(100));
            assert_eq!(key.verify(token.as_str(), NOW), Err(TokenError::Malformed), "{gateway}");
        }
    }

    #[test]
    fn a_token_does_not_print_itself() {
        let state = tempdir().unwrap();
        let token = TokenKey::open(state.path()).unwrap().mint(&gateway(), later(100));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_key_that_is_exposed_or_cut_short_is_refused_with_what_to_do() {
        let state = tempdir().unwrap();
        TokenKey::open(state.path()).unwrap();
        let path = state.path().join("token-key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = TokenKey::open(state.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("0640"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        let error = TokenKey::open(state.path()).unwrap_err().to_string();
        assert!(error.contains("5 bytes instead of 32; remove it"), "{error}");
    }
}
