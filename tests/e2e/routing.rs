//! What a rule of a route does to its requests besides sending them somewhere, as a real Envoy does it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use http::Method;
use tests::{Caller, Lab, exchange::Response, lab, until};

use crate::shop::{PATIENCE, shop};

/// A GET of a path at the front of the shop.
async fn get(caller: &Caller, path: &str) -> Result<Response> {
    caller.get(&format!("front.shop:80{path}")).send().await
}

/// A header of a response; empty if there is none.
fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[test]
fn the_filters_of_a_rule_do_what_the_api_says() -> Result<()> {
    lab::test(&shop().file("routing.yaml", include_str!("routing.yaml")), async |lab| {
        let curl = lab.client("default", "curl")?;
        headers(&curl).await?;
        redirects(&curl).await?;
        rewrites(&curl).await?;
        mirrors(lab, &curl).await?;
        cors(lab, &curl).await?;
        assert_eq!(get(&curl, "/refused").await?.status, 500);
        Ok(())
    })
}

#[test]
fn timeouts_retries_and_sessions_are_kept() -> Result<()> {
    lab::test(&shop().file("routing.yaml", include_str!("routing.yaml")), async |lab| {
        let curl = lab.client("default", "curl")?;
        timeouts(&curl).await?;
        retries(&curl).await?;
        sessions(&curl).await?;
        sessions_across_backends(&curl).await
    })
}

async fn headers(curl: &Caller) -> Result<()> {
    let response =
        curl.get("front.shop:80/headers").header("x-remove", "me").header("x-add", "mine").send().await?;
    let seen = response.json()?;
    let of = |name: &str| seen["headers"][name].clone();
    assert_eq!(of("x-set"), serde_json::json!(["100% %REQ(:path)%"]));
    assert_eq!(of("x-add"), serde_json::json!(["mine", "added"]));
    assert_eq!(of("x-remove"), serde_json::Value::Null);
    assert_eq!(of("x-whose"), serde_json::json!(["backend"]));
    assert_eq!(of("host"), serde_json::json!(["backend.example.org"]));
    assert_eq!(header(&response, "content-type"), "text/plain");
    assert_eq!((header(&response, "x-rule"), header(&response, "x-backend")), ("yes", "yes"));
    Ok(())
}

async fn redirects(curl: &Caller) -> Result<()> {
    let wanted = [
        ("/r301/a?b=c", 301, "https://front.shop/r301/a?b=c"),
        ("/r302", 302, "http://example.org:8443/r302"),
        ("/r303/a?b=c", 303, "http://front.shop:80/other?b=c"),
        ("/r307/a", 307, "http://example.org/other/a"),
        ("/r307", 307, "http://example.org/other"),
        ("/r308/a?b=c", 308, "http://example.org/a?b=c"),
        ("/r308/", 308, "http://example.org/"),
        ("/r308", 308, "http://example.org/"),
    ];
    for (path, status, location) in wanted {
        let response = get(curl, path).await?;
        assert_eq!((response.status, header(&response, "location")), (status, location), "{path}");
    }
    Ok(())
}

async fn rewrites(curl: &Caller) -> Result<()> {
    let wanted = [
        ("/full/of/it?a=b", "/a\\1?a=b"),
        ("/prefix/a", "/other/a"),
        ("/prefix/", "/other/"),
        ("/prefix", "/other"),
        ("/cut.off/a?b=c", "/a?b=c"),
        ("/cut.off/", "/"),
        ("/cut.off", "/"),
        ("/else", "/under/else"),
        ("/", "/under/"),
    ];
    for (path, seen) in wanted {
        assert_eq!(get(curl, path).await?.json()?["path"], seen, "{path}");
    }
    assert_eq!(get(curl, "/full").await?.json()?["headers"]["host"], serde_json::json!(["full.example.org"]));
    Ok(())
}

async fn mirrors(lab: &Lab, curl: &Caller) -> Result<()> {
    const REQUESTS: u64 = 60;
    let (whole, third) = (lab.backend("shop/reviews-v2", 8080)?, lab.backend("shop/web-1", 8080)?);
    let (whole_before, third_before) = (whole.seen().requests, third.seen().requests);
    for _ in 0..REQUESTS {
        assert_eq!(get(curl, "/mirror").await?.json()?["name"], "reviews-v1");
    }
    until("every copy to arrive", PATIENCE, async || {
        Ok((whole.seen().requests == whole_before + REQUESTS).then_some(()))
    })
    .await?;
    let copies = third.seen().requests - third_before;
    ensure!((5..40).contains(&copies), "{copies} copies of {REQUESTS} are not about a third");
    Ok(())
}

async fn cors(lab: &Lab, curl: &Caller) -> Result<()> {
    let backend = lab.backend("shop/reviews-v1", 8080)?;
    let before = backend.seen().requests;
    let preflight = async |caller: &Caller, origin: &str| {
        let call = caller.call(Method::OPTIONS, "front.shop:80/cors").header("origin", origin);
        let call = call.header("access-control-request-method", "PUT");
        call.header("access-control-request-headers", "x-token").send().await
    };
    for origin in ["https://app.example.org", "https://any.example.com"] {
        let response = preflight(curl, origin).await?;
        let said = |name: &str| header(&response, &format!("access-control-{name}")).to_owned();
        assert_eq!((response.status, said("allow-origin")), (200, origin.to_owned()));
        assert_eq!((said("allow-methods"), said("allow-headers")), ("PUT".to_owned(), "x-token".to_owned()));
        assert_eq!((said("allow-credentials"), said("max-age")), ("true".to_owned(), "600".to_owned()));
    }
    for origin in ["https://app.example.org.evil.com", "https://example.com", "http://app.example.org"] {
        let response = preflight(curl, origin).await?;
        assert_eq!(header(&response, "access-control-allow-origin"), "", "{origin}");
    }
    // Who may not ask is not answered, and no preflight is passed on.
    assert_eq!(preflight(&lab.client("default", "wget")?, "https://app.example.org").await?.status, 403);
    assert_eq!(backend.seen().requests, before);

    let response = curl.get("front.shop:80/cors").header("origin", "https://app.example.org").send().await?;
    assert_eq!(header(&response, "access-control-allow-origin"), "https://app.example.org");
    assert_eq!(header(&response, "access-control-expose-headers"), "x-one, x-two");
    Ok(())
}

async fn timeouts(curl: &Caller) -> Result<()> {
    let slow = async |path: &str, wait: &str| {
        anyhow::Ok(curl.get(&format!("front.shop:80{path}")).header("x-wait", wait).send().await?.status)
    };
    assert_eq!(slow("/timeout", "1000").await?, 504);
    assert_eq!(slow("/timeout", "1").await?, 200);
    assert_eq!(slow("/prefix", "300").await?, 200);
    // Each of two attempts takes too long.
    assert_eq!(slow("/attempts", "1000").await?, 504);
    Ok(())
}

async fn retries(curl: &Caller) -> Result<()> {
    let failing = async |path: &str, times: &str| {
        anyhow::Ok(curl.get(&format!("front.shop:80{path}")).header("x-fail", times).send().await?.status)
    };
    assert_eq!(failing("/retry", "1").await?, 200);
    assert_eq!(failing("/retry", "2").await?, 200);
    assert_eq!(failing("/retry", "3").await?, 503);
    // What every request has repeats nothing that the backend has answered.
    assert_eq!(failing("/prefix", "1").await?, 503);
    Ok(())
}

/// Of the two endpoints one is reached by its address and the other through a tunnel.
async fn sessions(curl: &Caller) -> Result<()> {
    const REQUESTS: usize = 12;
    for (path, given, sent) in
        [("/cookie", "set-cookie", "cookie"), ("/session-header", "x-session", "x-session")]
    {
        let mut seen = BTreeSet::new();
        for _ in 0..REQUESTS {
            let first = get(curl, path).await?;
            let name = first.json()?["name"].as_str().context("no name")?.to_owned();
            let session = header(&first, given).split(';').next().unwrap_or_default().to_owned();
            ensure!(!session.is_empty(), "{path}: no session was given: {:?}", first.headers);
            ensure!(
                given != "set-cookie" || session.starts_with("shop.session="),
                "another cookie: {session}"
            );
            for _ in 0..4 {
                let again = curl.get(&format!("front.shop:80{path}")).header(sent, &session).send().await?;
                assert_eq!(again.json()?["name"], name, "{path}");
            }
            seen.insert(name);
        }
        ensure!(seen.len() == 2, "{path}: only {seen:?} of the two endpoints were asked");
    }
    Ok(())
}

/// Those who come back stay where they are, and new ones are spread by the weights.
async fn sessions_across_backends(curl: &Caller) -> Result<()> {
    const REQUESTS: usize = 200;
    for (path, given, sent) in
        [("/several-cookie", "set-cookie", "cookie"), ("/several-header", "x-several", "x-several")]
    {
        let mut heavy = 0;
        for request in 0..REQUESTS {
            let first = get(curl, path).await?;
            let name = first.json()?["name"].as_str().context("no name")?.to_owned();
            heavy += usize::from(name.starts_with("reviews-v1"));
            if request % 20 > 0 {
                continue;
            }
            ensure!(
                given != "set-cookie" || header(&first, given).contains("Max-Age=3600"),
                "a cookie that does not last: {}",
                header(&first, given)
            );
            let session = header(&first, given).split(';').next().unwrap_or_default().to_owned();
            for _ in 0..5 {
                let again = curl.get(&format!("front.shop:80{path}")).header(sent, &session).send().await?;
                assert_eq!(again.json()?["name"], name, "{path}");
            }
        }
        // Three quarters; five standard deviations are 31.
        ensure!((119..=181).contains(&heavy), "{path}: {heavy} of {REQUESTS} went to the heavier backend");
    }
    Ok(())
}
