//! Tokens as an identity provider signs them, and the keys it publishes.
//!
//! An [`Issuer`] holds a key and signs any claims and header, so that a test says what is in a token
//! and nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use rcgen::{KeyPair, PublicKeyData};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, RsaKeyPair},
};
use serde_json::{Value, json};

/// How long a token is valid that does not say so itself.
const LIFETIME: Duration = Duration::from_hours(1);

/// A key for tests and nothing else: ring cannot make RSA keys.
const RSA: &[u8] = include_bytes!("rsa.pk8");

/// An identity provider: a key pair under the id that its tokens and its key set name it by.
#[derive(Debug)]
pub struct Issuer {
    kid: String,
    key: Key,
}

#[derive(Debug)]
enum Key {
    /// ES256, with the point's two coordinates.
    Ec(EcdsaKeyPair, [String; 2]),
    /// RS256. All issuers of this kind have the same key.
    Rsa(RsaKeyPair),
}

impl Issuer {
    /// One with a fresh key, which signs with ES256.
    pub fn new(kid: &str) -> Result<Self> {
        let pair = KeyPair::generate()?;
        // An uncompressed point: 4, then 32 bytes each of x and y.
        let point = pair.der_bytes().get(1..65).context("not a point of P-256")?;
        let coordinates = [base64url(&point[..32]), base64url(&point[32..])];
        let key = EcdsaKeyPair::from_pkcs8(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &pair.serialize_der(),
            &SystemRandom::new(),
        );
        let key = key.map_err(|error| anyhow!("the generated key is not one of P-256: {error}"))?;
        Ok(Self { kid: kid.to_owned(), key: Key::Ec(key, coordinates) })
    }

    /// One that signs with RS256. There is one such key in the world, and everyone has it.
    pub fn rsa(kid: &str) -> Result<Self> {
        let key = RsaKeyPair::from_pkcs8(RSA).map_err(|error| anyhow!("the RSA key: {error}"))?;
        Ok(Self { kid: kid.to_owned(), key: Key::Rsa(key) })
    }

    /// The algorithm as a token's header names it.
    pub const fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ec(..) => "ES256",
            Key::Rsa(_) => "RS256",
        }
    }

    /// Its public key, as it stands in a key set.
    pub fn jwk(&self) -> Value {
        match &self.key {
            Key::Ec(_, [x, y]) => {
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": x, "y": y})
            }
            Key::Rsa(key) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (base64url(&public.n), base64url(&public.e));
                json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.kid, "n": n, "e": e})
            }
        }
    }

    /// A key set of this one key.
    pub fn jwks(&self) -> String {
        jwks([self])
    }

    /// A token with these claims, valid for an hour unless they say otherwise.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut claims = claims.clone();
        let fields = claims.as_object_mut().context("claims are a JSON object")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        fields.entry("exp").or_insert_with(|| (now + LIFETIME).as_secs().into());
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid});
        self.sign_as_is(&header, &claims)
    }

    /// A token with this header and these claims, whatever they say.
    pub fn sign_as_is(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = unsigned(header, claims);
        let signature = match &self.key {
            Key::Ec(key, _) => {
                let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
                signature.map_err(|error| anyhow!("signing: {error}"))?.as_ref().to_vec()
            }
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    signed.as_bytes(),
                    &mut signature,
                )
                .map_err(|error| anyhow!("signing: {error}"))?;
                signature
            }
        };
        Ok(format!("{signed}.{}", base64url(&signature)))
    }
}

/// A key set of these keys.
pub fn jwks<'i>(issuers: impl IntoIterator<Item = &'i Issuer>) -> String {
    json!({"keys": issuers.into_iter().map(Issuer::jwk).collect::<Vec<_>>()}).to_string()
}

/// The part of a token that is signed.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

/// A token signed with a shared secret, as nobody should accept it from a set of public keys.
pub fn sign_with_secret(secret: &[u8], claims: &Value) -> String {
    let signed = unsigned(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64url(tag.as_ref()))
}

/// The alphabet of tokens, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_issuer_signs_its_published_key_verifies() {
        for issuer in [Issuer::new("a").unwrap(), Issuer::rsa("b").unwrap()] {
            let token = issuer.sign(&json!({"iss": "i"})).unwrap();
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let decode = |text: &str| {
                use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
                URL_SAFE_NO_PAD.decode(text).unwrap()
            };
            let jwk = issuer.jwk();
            let part = |name: &str| decode(jwk[name].as_str().unwrap());
            let verified = if issuer.algorithm() == "RS256" {
                rsa::PublicKeyComponents { n: part("n"), e: part("e") }.verify(
                    &signature::RSA_PKCS1_2048_8192_SHA256,
                    signed.as_bytes(),
                    &decode(signature),
                )
            } else {
                let point = [vec![4], part("x"), part("y")].concat();
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed.as_bytes(), &decode(signature))
            };
            assert!(verified.is_ok(), "{}", issuer.algorithm());
        }
    }
}
