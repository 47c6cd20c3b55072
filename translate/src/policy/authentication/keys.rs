//! The public keys of an issuer: read, checked, and kept in a form of our own.

use std::{fmt, sync::Arc};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value, json};

use super::curve::CURVES;

/// Padding or none, as providers have it; Envoy takes both.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// More keys than any provider has; each is sent to every proxy that checks its tokens.
const MOST_KEYS: usize = 100;

/// Public keys, at least one, each of which Envoy accepts. Equal sets have equal text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySet(Arc<str>);

/// Where keys are to be fetched from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySource {
    /// The key set is at this address.
    Uri(String),
    /// This issuer says where, by OpenID Connect Discovery.
    Issuer(String),
}

/// Who has seen a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stands in a policy.
    Policy,
    /// It was served at an address, to whoever asked: a shared secret in it is none.
    Published,
}

impl KeySource {
    /// The address to ask first.
    pub fn address(&self) -> String {
        match self {
            Self::Uri(uri) => uri.clone(),
            Self::Issuer(issuer) => {
                format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
            }
        }
    }

    /// Whether keys can be fetched there, as far as the text tells.
    pub fn check_address(uri: &str) -> Result<(), String> {
        let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
        let Some(rest) = rest else { return Err("it does not start with https:// or http://".to_owned()) };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.is_empty() || authority.starts_with(':') {
            return Err("it names no host".to_owned());
        }
        if authority.contains('@') {
            return Err("it holds a user name or password".to_owned());
        }
        if uri.len() > 2048
            || !uri.bytes().all(|byte| byte.is_ascii_graphic())
            || uri.contains(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}'])
        {
            return Err("it is no address of 2048 plain characters at most".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.address())
    }
}

impl KeySet {
    /// The keys of a JWK set that can be used, and what is wrong with the others.
    pub fn read(text: &str, origin: Origin) -> Result<(Self, Vec<String>), String> {
        let set: Value = serde_json::from_str(text).map_err(|error| format!("not a JWK set: {error}"))?;
        let Some(keys) = set.get("keys").and_then(Value::as_array) else {
            return Err("not a JWK set: it has no list of keys".to_owned());
        };
        if keys.len() > MOST_KEYS {
            return Err(format!("it has {} keys, more than {MOST_KEYS}", keys.len()));
        }
        let (mut usable, mut wrong) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            match read_key(key, origin) {
                Ok(key) => usable.push(key),
                Err(why) => wrong.push(format!("key {index} is not used: {why}")),
            }
        }
        if usable.is_empty() {
            let why = if wrong.is_empty() { "it is empty".to_owned() } else { wrong.join("; ") };
            return Err(format!("no key of it can be used: {why}"));
        }
        Ok((Self::of(&usable), wrong))
    }

    /// A key whose private half nobody has, so that every token fails: what stands in while there
    /// are no keys.
    ///
    /// It is the same for everyone, always, because a version must not depend on which process
    /// computed it. That it was not made from a private key can be seen: its x coordinate is a
    /// sentence, the first one by the number at its end that is a coordinate of P-256 at all, and y
    /// is the even one of the two. Finding the private half is the discrete logarithm problem that
    /// every signature on that curve rests on.
    pub(crate) fn nobody() -> Self {
        let y = "Utd2ZGxcp_G8lnYd1iI0kL1581E6sPGvnn1H-8jBNbw";
        Self::of(&[json!({"kty": "EC", "crv": "P-256", "x": BASE64URL.encode(NOBODY), "y": y})])
    }

    fn of(keys: &[Value]) -> Self {
        Self(json!({ "keys": keys }).to_string().into())
    }

    /// As JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The x coordinate of [`KeySet::nobody`].
const NOBODY: &[u8; 32] = b"Nobody holds the private half 02";

/// A key with the members that Envoy reads and no others: a private half that somebody published by
/// mistake goes no further.
fn read_key(key: &Value, origin: Origin) -> Result<Value, String> {
    let Some(fields) = key.as_object() else { return Err("not an object".to_owned()) };
    let mut members = Members { fields, read: Map::new() };
    if fields.get("use").and_then(Value::as_str) == Some("enc") {
        return Err("it is for encryption".to_owned());
    }
    members.optional("kid")?;
    let algorithm = members.optional("alg")?;
    match members.required("kty")? {
        "EC" => members.elliptic(algorithm)?,
        "RSA" => members.rsa(algorithm)?,
        "OKP" => members.edwards(algorithm)?,
        "oct" if origin == Origin::Published => {
            return Err("a shared secret that anyone can fetch proves nothing".to_owned());
        }
        "oct" => members.secret(algorithm)?,
        other => return Err(format!("keys of type {other:?} are not known")),
    }
    Ok(Value::Object(members.read))
}

/// The members of a key: as written, and those that were read.
struct Members<'k> {
    fields: &'k Map<String, Value>,
    read: Map<String, Value>,
}

impl<'k> Members<'k> {
    fn optional(&mut self, name: &str) -> Result<Option<&'k str>, String> {
        let Some(value) = self.fields.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| format!("{name} is not a string"))?;
        self.read.insert(name.to_owned(), text.into());
        Ok(Some(text))
    }

    fn required(&mut self, name: &str) -> Result<&'k str, String> {
        self.optional(name)?.ok_or_else(|| format!("it has no {name}"))
    }

    /// The bytes that a member stands for.
    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let text = self.required(name)?;
        let bytes = BASE64URL.decode(text).map_err(|_| format!("{name} is not base64url"))?;
        self.read.insert(name.to_owned(), BASE64URL.encode(&bytes).into());
        Ok(bytes)
    }

    fn elliptic(&mut self, algorithm: Option<&str>) -> Result<(), String> {
        let name = self.optional("crv")?;
        let curve = CURVES.iter().find(|curve| match (name, algorithm) {
            (Some(name), _) => curve.name == name,
            (None, Some(algorithm)) => curve.algorithm == algorithm,
            (None, None) => curve.name == "P-256",
        });
        let curve = curve.ok_or("its curve is none of P-256, P-384 and P-521")?;
        only(algorithm, &[curve.algorithm])?;
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        if !curve.holds(&x, &y) {
            return Err(format!("x and y are not a point of {}", curve.name));
        }
        self.read.insert("crv".to_owned(), curve.name.into());
        Ok(())
    }

    fn rsa(&mut self, algorithm: Option<&str>) -> Result<(), String> {
        only(algorithm, &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])?;
        let (modulus, exponent) = (self.bytes("n")?, self.bytes("e")?);
        let start = modulus.iter().position(|byte| *byte != 0).unwrap_or(modulus.len());
        let bits = modulus[start..]
            .first()
            .map_or(0, |first| (modulus.len() - start) * 8 - first.leading_zeros() as usize);
        // RFC 7518 asks for 2048 at least; BoringSSL stops at 8192.
        if !(2048..=8192).contains(&bits) {
            return Err(format!("its modulus has {bits} bits, not 2048 to 8192"));
        }
        if modulus.last().is_some_and(|last| last % 2 == 0) {
            return Err("its modulus is even".to_owned());
        }
        let start = exponent.iter().position(|byte| *byte != 0).unwrap_or(exponent.len());
        if !matches!(exponent[start..], [3] | [1, 0, 1]) {
            return Err("its exponent is neither 3 nor 65537".to_owned());
        }
        Ok(())
    }

    fn edwards(&mut self, algorithm: Option<&str>) -> Result<(), String> {
        only(algorithm, &["EdDSA"])?;
        if self.required("crv")? != "Ed25519" {
            return Err("its curve is not Ed25519".to_owned());
        }
        if self.bytes("x")?.len() != 32 {
            return Err("x is not 32 bytes".to_owned());
        }
        Ok(())
    }

    fn secret(&mut self, algorithm: Option<&str>) -> Result<(), String> {
        only(algorithm, &["HS256", "HS384", "HS512"])?;
        // RFC 7518 asks for as many bits as the hash has; the shortest hash has 256.
        if self.bytes("k")?.len() < 32 {
            return Err("its secret is shorter than 32 bytes".to_owned());
        }
        Ok(())
    }
}

fn only(algorithm: Option<&str>, known: &[&str]) -> Result<(), String> {
    match algorithm {
        Some(algorithm) if !known.contains(&algorithm) => {
            Err(format!("its algorithm {algorithm:?} is none of {}", known.join(", ")))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_key_is_one_that_envoy_takes_and_was_not_chosen() {
        let nobody = KeySet::nobody();
        assert_eq!(KeySet::read(nobody.as_str(), Origin::Published), Ok((nobody.clone(), Vec::new())));
        let set: Value = serde_json::from_str(nobody.as_str()).unwrap();
        let y = BASE64URL.decode(set["keys"][0]["y"].as_str().unwrap()).unwrap();
        assert_eq!(y.last().unwrap() % 2, 0, "the other root");
        assert!(NOBODY.is_ascii(), "the coordinate has to read as a sentence");
    }

    #[test]
    fn private_halves_and_what_envoy_does_not_read_go_no_further() {
        let key = serde_json::from_str::<Value>(KeySet::nobody().as_str()).unwrap()["keys"][0].clone();
        let mut leaked = key.clone();
        leaked["d"] = "c2VjcmV0".into();
        leaked["x5c"] = json!(["MII"]);
        let text = json!({"keys": [leaked], "other": 1}).to_string();
        assert_eq!(KeySet::read(&text, Origin::Policy), Ok((KeySet::nobody(), Vec::new())));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let long = "A".repeat(43);
        let odd = "x".repeat(342);
        for (key, why) in [
            (json!({"kty": "EC", "x": long, "y": long}), "x and y are not a point of P-256"),
            (json!({"kty": "EC", "crv": "P-192", "x": "AA", "y": "AA"}), "its curve is none of"),
            (json!({"kty": "EC", "crv": "P-256", "alg": "ES384", "x": "AA", "y": "AA"}), "its algorithm"),
            (json!({"kty": "EC", "crv": "P-256", "x": "+/", "y": "AA"}), "x is not base64url"),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "its modulus has 17 bits"),
            (json!({"kty": "RSA", "n": odd, "e": "AAAA"}), "its exponent is"),
            (json!({"kty": "RSA", "alg": "RSA-OAEP", "n": odd, "e": "AQAB"}), "its algorithm \"RSA-OAEP\""),
            (json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}), "its curve is not Ed25519"),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "x is not 32 bytes"),
            (json!({"kty": "oct", "k": long}), "a shared secret that anyone can fetch"),
            (json!({"kty": "EC", "use": "enc"}), "it is for encryption"),
            (json!({"kty": 1}), "kty is not a string"),
            (json!({"kid": "a"}), "it has no kty"),
            (json!("EC"), "not an object"),
        ] {
            let error = KeySet::read(&json!({ "keys": [key] }).to_string(), Origin::Published).unwrap_err();
            assert!(error.contains(why), "{key}: {error}");
        }
        for text in ["", "{}", "[]", r#"{"keys": {}}"#, r#"{"keys": []}"#] {
            assert!(KeySet::read(text, Origin::Policy).is_err(), "{text}");
        }
        assert!(
            KeySet::read(&json!({"keys": [{"kty": "oct", "k": long}]}).to_string(), Origin::Policy).is_ok()
        );
    }
}
