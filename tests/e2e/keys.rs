//! Keys that are fetched: rotation, bad answers, addresses that are refused, and starts without a network.

use std::{future::Future, net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{
    Authority, Lab,
    key_server::{KeyServer, Page},
    lab,
    lab::Setup,
    token::{Issuer, jwks},
    until,
};

use crate::{
    shop::{PATIENCE, message},
    tokens::{asked_with, open_shop, policy},
};

/// Fetched again every second, so that a test sees it.
const QUICK: [&str; 7] =
    ["--jwks-refresh", "1s", "--jwks-retry", "1s", "--jwks-retry-at-most", "1s", "--jwks-allow-loopback"];

fn quick() -> Setup {
    open_shop(&[]).arguments(&QUICK)
}

/// Waits until a token of that issuer is answered with that status.
async fn becomes(lab: &Lab, issuer: &Issuer, iss: &str, wanted: u16) -> Result<()> {
    let token = issuer.sign(&json!({"iss": iss, "sub": "alice"}))?;
    let what = format!("a token of {iss} to give {wanted}");
    until(&what, PATIENCE, async || Ok((asked_with(lab, &token).await? == wanted).then_some(()))).await
}

/// Waits until `holds`, by the server's own count.
async fn counted(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    until(what, PATIENCE, || -> std::pin::Pin<Box<dyn Future<Output = Result<Option<()>>>>> {
        let held = holds();
        Box::pin(async move { Ok(held.then_some(())) })
    })
    .await
}

/// Waits until the log tells of a failure with this in it.
async fn told(lab: &Lab, what: &str) -> Result<()> {
    let wanted = |event: &Value| message(event).starts_with("no keys: ") && message(event).contains(what);
    lab.portolan.event(what, 0, wanted).await.map(drop)
}

#[test]
fn keys_are_fetched_rotated_and_kept_when_what_is_served_is_bad() -> Result<()> {
    lab::test(&quick(), async |lab| {
        let server = KeyServer::start(lab.loopback.address(200).into()).await?;
        let (old, new) = (Issuer::new("old")?, Issuer::new("new")?);
        let discovered = server.url("/issuer");
        let document = json!({"issuer": discovered, "jwks_uri": server.url("/moved")}).to_string();
        server.serve("/issuer/.well-known/openid-configuration", Page::Body(document));
        server.serve("/moved", Page::Redirect("/jwks".to_owned()));
        server.serve("/jwks", Page::Body(old.jwks()));
        lab.write(
            "tokens.yaml",
            &policy(&[
                json!({"issuer": "by-address", "jwksUri": server.url("/jwks"), "timeout": "1s"}),
                json!({"issuer": discovered}),
            ]),
        )?;
        // A stranger first: before the policy is there, every token passes.
        becomes(lab, &new, "by-address", 401).await?;
        becomes(lab, &new, &discovered, 401).await?;
        becomes(lab, &old, "by-address", 200).await?;
        becomes(lab, &old, &discovered, 200).await?;
        ensure!(asked_with(lab, &new.sign(&json!({"iss": "by-address"}))?).await? == 401, "a stranger's key");

        server.serve("/jwks", Page::Body(jwks([&old, &new])));
        becomes(lab, &new, "by-address", 200).await?;
        becomes(lab, &new, &discovered, 200).await?;
        server.serve("/jwks", Page::Body(new.jwks()));
        becomes(lab, &old, "by-address", 401).await?;

        for (page, why) in [
            (Page::Status(503), "503"),
            (Page::Body("garbage".to_owned()), "not a JWK set"),
            (Page::Body(json!({"keys": []}).to_string()), "it is empty"),
            (Page::Body(" ".repeat(300 * 1024)), "at most"),
            (Page::Redirect("http://169.254.169.254/keys".to_owned()), "169.254.169.254 is refused"),
            (Page::Redirect("ftp://127.0.0.1/".to_owned()), "does not start with https:// or http://"),
            (Page::Redirect("/jwks".to_owned()), "redirects more than"),
            (Page::Silence, "took longer than 1000 ms"),
        ] {
            server.serve("/jwks", page);
            told(lab, why).await.with_context(|| why.to_owned())?;
            ensure!(
                asked_with(lab, &new.sign(&json!({"iss": "by-address"}))?).await? == 200,
                "{why}: the last good keys did not stay"
            );
        }
        Ok(())
    })
}

#[test]
fn a_restart_without_a_network_has_the_keys_of_before() -> Result<()> {
    lab::test(&quick(), async |lab| {
        let server = KeyServer::start(lab.loopback.address(200).into()).await?;
        let issuer = Issuer::new("one")?;
        server.serve("/jwks", Page::Body(issuer.jwks()));
        lab.write("tokens.yaml", &policy(&[json!({"issuer": "i", "jwksUri": server.url("/jwks")})]))?;
        // Before the policy is there, every token passes.
        becomes(lab, &Issuer::new("stranger")?, "i", 401).await?;
        becomes(lab, &issuer, "i", 200).await?;
        drop(server);
        let before = crate::shop::settled(crate::shop::waypoint(lab)?).await?;
        lab.portolan.stop().await?;
        lab.portolan.restart().await?;
        told(lab, "connecting to").await?;
        let after = crate::shop::settled(crate::shop::waypoint(lab)?).await?;
        let moved = crate::shop::moved(&before, &after);
        ensure!(moved.is_empty(), "a restart sent something: {moved:?}");
        becomes(lab, &issuer, "i", 200).await
    })
}

#[test]
fn policies_that_come_and_go_ask_nobody_again() -> Result<()> {
    let setup = open_shop(&[]).arguments(&["--jwks-allow-loopback"]);
    lab::test(&setup, async |lab| {
        let server = KeyServer::start(lab.loopback.address(200).into()).await?;
        let issuer = Issuer::new("one")?;
        server.serve("/jwks", Page::Body(issuer.jwks()));
        let rules = |audience: usize| {
            let audience = audience.to_string();
            policy(&[json!({"issuer": "i", "jwksUri": server.url("/jwks"), "audiences": ["i", audience]})])
        };
        let claims = json!({"iss": "i", "sub": "a", "aud": "i"});
        let (token, forged) = (issuer.sign(&claims)?, Issuer::new("stranger")?.sign(&claims)?);
        for round in 0..10 {
            lab.write("tokens.yaml", &rules(round))?;
            // The forged one first: before the policy is there, every token passes.
            for (token, wanted) in [(&forged, 401), (&token, 200)] {
                until(&format!("{wanted} in round {round}"), PATIENCE, async || {
                    Ok((asked_with(lab, token).await? == wanted).then_some(()))
                })
                .await?;
            }
            lab.remove("tokens.yaml")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        counted("one request", || server.requests("/jwks") == 1).await
    })
}

#[test]
fn this_machine_is_not_asked_unless_that_was_allowed() -> Result<()> {
    lab::test(&open_shop(&[]), async |lab| {
        let server = KeyServer::start(lab.loopback.address(200).into()).await?;
        let issuer = Issuer::new("one")?;
        server.serve("/jwks", Page::Body(issuer.jwks()));
        lab.write("tokens.yaml", &policy(&[json!({"issuer": "i", "jwksUri": server.url("/jwks")})]))?;
        told(lab, "is refused").await?;
        becomes(lab, &issuer, "i", 401).await?;
        ensure!(server.requests("/jwks") == 0, "it was asked");
        Ok(())
    })
}

#[test]
fn by_https_keys_come_from_whom_the_roots_vouch_for_and_from_nowhere_less_safe() -> Result<()> {
    let roots = Authority::stranger("the root of key servers")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), roots.root_pem())?;
    let setup = quick().environment("SSL_CERT_FILE", &file.path().display().to_string());
    lab::test(&setup, async |lab| {
        let address: IpAddr = lab.loopback.address(200).into();
        let server = KeyServer::start_tls(address, &roots.server(address)?).await?;
        let plain = KeyServer::start(address).await?;
        let (good, bad) = (Issuer::new("good")?, Issuer::new("bad")?);
        let discovered = server.url("/issuer");
        let document =
            |issuer: &str, keys: &str| Page::Body(json!({"issuer": issuer, "jwks_uri": keys}).to_string());
        let well_known = "/issuer/.well-known/openid-configuration";
        server.serve(well_known, document(&discovered, &server.url("/moved")));
        server.serve("/moved", Page::Redirect(server.url("/jwks")));
        server.serve("/jwks", Page::Body(good.jwks()));
        plain.serve("/jwks", Page::Body(bad.jwks()));
        lab.write("tokens.yaml", &policy(&[json!({"issuer": discovered})]))?;
        // Before the policy is there, every token passes.
        becomes(lab, &bad, &discovered, 401).await?;
        becomes(lab, &good, &discovered, 200).await?;

        for (path, page, why) in [
            ("/moved", Page::Redirect(plain.url("/jwks")), "which is not https"),
            (well_known, document(&discovered, &plain.url("/jwks")), "its keys are not at an https address"),
            (well_known, document("https://other.example", &server.url("/jwks")), "it is of the issuer"),
            (well_known, Page::Body(json!({"issuer": discovered}).to_string()), "it has no jwks_uri"),
            (well_known, Page::Body("<html>".to_owned()), "is no discovery document"),
        ] {
            server.serve(path, page);
            told(lab, why).await.with_context(|| why.to_owned())?;
            ensure!(
                asked_with(lab, &bad.sign(&json!({"iss": discovered}))?).await? == 401,
                "{why}: from elsewhere"
            );
            ensure!(
                asked_with(lab, &good.sign(&json!({"iss": discovered}))?).await? == 200,
                "{why}: not kept"
            );
        }

        // Whoever shows a certificate of another root, or for another address, is not asked.
        let impostors =
            [Authority::stranger("another root")?.server(address)?, roots.server([192, 0, 2, 1].into())?];
        for impostor in &impostors {
            let server = KeyServer::start_tls(address, impostor).await?;
            server.serve("/jwks", Page::Body(bad.jwks()));
            let url = server.url("/jwks");
            lab.write("tokens.yaml", &policy(&[json!({"issuer": "i", "jwksUri": url})]))?;
            told(lab, &format!("fetching {url}: TLS: ")).await?;
            becomes(lab, &bad, "i", 401).await?;
            ensure!(server.requests("/jwks") == 0, "an impostor was asked");
        }
        Ok(())
    })
}
