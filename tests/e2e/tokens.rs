//! Tokens, checked by a real Envoy: who is who, what goes on to the backend, and what is rejected.

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tests::{
    Caller, Lab,
    exchange::{Request, Version},
    grpc, lab,
    lab::Setup,
    token::{Issuer, base64url, jwks, sign_with_secret, unsigned},
};

use crate::shop::{PATIENCE, shop, status_becomes};

/// The issuer of most tests.
const ISSUER: &str = "https://issuer.example";

/// A rule of these fields, with these keys.
fn rule(issuer: &str, keys: &str, more: &Value) -> Value {
    let mut rule = json!({"issuer": issuer, "jwks": keys});
    for (field, value) in more.as_object().into_iter().flatten() {
        rule[field] = value.clone();
    }
    rule
}

/// The policy that has tokens checked for `web`.
pub(crate) fn policy(rules: &[Value]) -> String {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "group": "", "name": "web"}], "jwtRules": rules},
    })
    .to_string()
}

/// The shop, with `web` open to everyone and its tokens checked.
pub(crate) fn open_shop(rules: &[Value]) -> Setup {
    shop().file("web-policy.yaml", "# open\n").file("tokens.yaml", &policy(rules))
}

/// The status of a GET of `web` by `caller` with an Authorization header.
async fn asked(caller: &Caller, authorization: &str) -> Result<u16> {
    caller.get("web.shop/").header("authorization", authorization).status().await
}

/// The status of a GET of `web` with a token.
pub(crate) async fn asked_with(lab: &Lab, token: &str) -> Result<u16> {
    asked(&lab.client("default", "curl")?, &format!("Bearer {token}")).await
}

#[test]
fn a_token_is_valid_missing_or_an_error() -> Result<()> {
    let (ec, rsa) = (Issuer::new("ec")?, Issuer::rsa("rsa")?);
    let other = Issuer::new("ec")?;
    let set = jwks([&ec, &rsa]);
    lab::test(&open_shop(&[rule(ISSUER, &set, &json!({"audiences": ["web"]}))]), async |lab| {
        let curl = lab.client("default", "curl")?;
        let claims = |more: Value| {
            let mut claims = json!({"iss": ISSUER, "sub": "alice", "aud": ["other", "web"]});
            for (name, value) in more.as_object().into_iter().flatten() {
                claims[name] = value.clone();
            }
            claims
        };
        let good = claims(json!({}));
        status_becomes(&curl, "web.shop/", 200).await?;
        let bearer = |token: String| format!("Bearer {token}");
        let header = |alg: &str| json!({"alg": alg, "typ": "JWT"});
        for (what, authorization, expected) in [
            ("ES256", bearer(ec.sign(&good)?), 200),
            ("RS256", bearer(rsa.sign(&good)?), 200),
            ("the scheme in small letters", format!("bearer {}", ec.sign(&good)?), 200),
            ("no kid", bearer(ec.sign_as_is(&header("ES256"), &good)?), 200),
            ("no exp", bearer(ec.sign_as_is(&header("ES256"), &good)?), 200),
            ("another scheme", "Basic YTpi".to_owned(), 200),
            ("an empty token", "Bearer ".to_owned(), 200),
            ("expired", bearer(ec.sign(&claims(json!({"exp": 1})))?), 401),
            ("not yet", bearer(ec.sign(&claims(json!({"nbf": 4_000_000_000_u64})))?), 401),
            ("another issuer", bearer(ec.sign(&claims(json!({"iss": "other"})))?), 401),
            ("a subject that is none", bearer(ec.sign(&claims(json!({"sub": 7})))?), 401),
            ("another key of that id", bearer(other.sign(&good)?), 401),
            ("no signature", bearer(format!("{}.", unsigned(&header("none"), &good))), 401),
            ("the public key as a secret", bearer(sign_with_secret(set.as_bytes(), &good)), 401),
            ("no token at all", bearer(format!("x.{}.z", base64url(b"{}"))), 401),
            ("another audience", bearer(ec.sign(&claims(json!({"aud": "other"})))?), 403),
        ] {
            let status = asked(&curl, &authorization).await?;
            ensure!(status == expected, "{what}: {status}, not {expected}");
        }
        let in_query = format!("web.shop/?access_token={}", other.sign(&good)?);
        assert_eq!(curl.get(&in_query).status().await?, 401);
        // A browser asks first, without credentials of the page.
        let preflight = curl.call(Method::OPTIONS, "web.shop/").header("origin", "https://o.example");
        let preflight = preflight.header("access-control-request-method", "GET");
        assert_eq!(preflight.header("authorization", "Bearer x.y.z").status().await?, 200);

        let mut session = curl.session("web.shop:80", Version::Http2).await?;
        let call = |token: String| grpc::call("/shop.Web/Get")?.header("authorization", &bearer(token));
        assert_eq!(grpc::status(&session.send(call(ec.sign(&good)?)?).await?)?, 0);
        let refused = session.send(call(other.sign(&good)?)?).await?;
        ensure!(grpc::status(&refused)? == 16, "a bad token is not UNAUTHENTICATED: {refused:?}");
        Ok(())
    })
}

/// `reviews-v1` is for those whose token says so.
const BY_CLAIM: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-claim, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - matches: [{headers: [{name: x-team, value: reviewers}]}]
    backendRefs: [{name: reviews-v1, port: 80}]
  - backendRefs: [{name: web, port: 80}]
"#;

#[test]
fn headers_with_claims_come_from_tokens_only_and_choose_the_route() -> Result<()> {
    let issuer = Issuer::new("one")?;
    let outputs = json!({
        "outputPayloadToHeader": "x-claims",
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}, {"header": "x-team", "claim": "org.team"}],
    });
    let setup = open_shop(&[rule(ISSUER, &issuer.jwks(), &outputs)]).file("by-claim.yaml", BY_CLAIM);
    lab::test(&setup, async |lab| {
        let curl = lab.client("default", "curl")?;
        status_becomes(&curl, "web.shop/", 200).await?;
        let token = |team: &str| issuer.sign(&json!({"iss": ISSUER, "sub": "alice", "org": {"team": team}}));
        for (token, name, user) in [
            (Some(token("reviewers")?), "reviews-v1", json!(["alice"])),
            (Some(token("sales")?), "web-1", json!(["alice"])),
            (None, "web-1", Value::Null),
        ] {
            let call = curl.get("web.shop/").header("x-user", "mallory").header("x-team", "reviewers");
            let call = call.header("x-claims", "forged");
            let call = match &token {
                Some(token) => call.header("authorization", &format!("Bearer {token}")),
                None => call,
            };
            let seen = call.send().await?.json()?;
            ensure!(seen["name"] == name && seen["headers"]["x-user"] == user, "{name}: {seen}");
            ensure!(seen["headers"]["authorization"].is_null(), "the token went on: {seen}");
            let forged = seen["headers"]["x-claims"] == json!(["forged"]);
            ensure!(!forged && seen["headers"]["x-claims"].is_null() == token.is_none(), "{seen}");
        }
        Ok(())
    })
}

#[test]
fn an_issuer_is_revoked_with_the_next_request_of_open_connections() -> Result<()> {
    let (kept, revoked) = (Issuer::new("kept")?, Issuer::new("revoked")?);
    let rules = |issuers: &[&Issuer]| policy(&[rule(ISSUER, &jwks(issuers.iter().copied()), &json!({}))]);
    let setup = open_shop(&[]).file("tokens.yaml", &rules(&[&kept, &revoked]));
    lab::test(&setup, async |lab| {
        let curl = lab.client("default", "curl")?;
        status_becomes(&curl, "web.shop/", 200).await?;
        let claims = json!({"iss": ISSUER, "sub": "alice"});
        let authorization = format!("Bearer {}", revoked.sign(&claims)?);
        let request = || Request::get("/").header("authorization", &authorization);
        let mut sessions = Vec::new();
        for version in [Version::Http1, Version::Http2] {
            let mut session = curl.session("web.shop:80", version).await?;
            assert_eq!(session.send(request()?).await?.status, 200, "{version:?}");
            sessions.push(session);
        }
        lab.write("tokens.yaml", &rules(&[&kept]))?;
        tests::until("the key to be revoked", PATIENCE, async || {
            Ok((asked(&curl, &authorization).await? == 401).then_some(()))
        })
        .await?;
        for session in &mut sessions {
            assert_eq!(session.send(request()?).await?.status, 401, "an open connection");
        }
        assert_eq!(asked_with(lab, &kept.sign(&claims)?).await?, 200);
        lab.remove("tokens.yaml").context("removing the policy")?;
        tests::until("tokens to be nobody's business", PATIENCE, async || {
            Ok((asked(&curl, &authorization).await? == 200).then_some(()))
        })
        .await
    })
}
