//! Classes of security advisories that only a real Envoy can show, each by its name. The list of all
//! classes, with where each is shown, is in `tests/conformance/advisories.rs`.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue};
use rcgen::SanType;
use tests::{
    exchange::{Request, Version},
    hbone,
    identity::spiffe,
    lab, raw_http2,
};

use crate::{
    custom::{ADMIN, AUTHZ, MESH, asked, custom},
    reports::logged,
    shop::{GATEWAY, shop, status_becomes},
};

#[test]
fn cve_2022_21656_cve_2025_66220_cve_2026_47778_only_a_whole_uri_is_an_identity() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let (curl, wget) = (spiffe("default", "curl"), spiffe("default", "wget"));
        let uri = |text: &str| anyhow::Ok(SanType::URI(text.try_into()?));
        let dns = SanType::DnsName(curl.as_str().try_into()?);
        let mail = SanType::Rfc822Name(curl.as_str().try_into()?);
        // What id-on-dnsSRV is called: an otherName, of which CVE-2025-66220 took too much.
        let other = SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 7], curl.as_str().into()));
        let confusions = [
            vec![dns.clone()],
            vec![mail.clone()],
            vec![other.clone()],
            vec![uri(&wget)?, dns],
            vec![uri(&wget)?, mail, other],
            vec![uri(&format!("{curl}\0.elsewhere.example"))?],
        ];
        for names in confusions {
            let cheat = lab.stranger(Some(lab.authority.mint_named(names.clone())?));
            let error = cheat.tunnel("db.shop:5432").await.err();
            let error = error.with_context(|| format!("{names:?} was let in to db"))?;
            let refused = error.downcast_ref::<hbone::Error>();
            let refused = matches!(
                refused,
                Some(hbone::Error::Refused { status: 403, .. } | hbone::Error::Handshake { .. })
            );
            ensure!(refused, "{names:?} was refused in another way: {error:#}");
            if let Ok(mut session) = cheat.session("web.shop:80", Version::Http1).await {
                let status = session.send(Request::get("/")).await?.status;
                ensure!(status == 403, "{names:?} got {status} from web");
            }
        }
        for (pod, port) in [("shop/web-1", 8080), ("shop/db-1", 5432)] {
            assert_eq!(lab.backend(pod, port)?.seen().connections, 0, "{pod}");
        }
        Ok(())
    })
}

#[test]
fn cve_2023_27487_cve_2024_45806_envoys_own_headers_are_not_believed_when_a_caller_sends_them() -> Result<()>
{
    lab::test(&shop(), async |lab| {
        let own = [
            ("x-envoy-internal", "true"),
            ("x-envoy-original-path", "/innocent"),
            ("x-envoy-retry-on", "5xx,reset"),
            ("x-envoy-max-retries", "9"),
            ("x-envoy-retriable-status-codes", "200"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
            ("x-envoy-upstream-alt-stat-name", "other"),
            ("x-envoy-expected-rq-timeout-ms", "1"),
            ("x-envoy-force-trace", "true"),
            ("x-envoy-decorator-operation", "other"),
            ("x-envoy-downstream-service-cluster", "other"),
            ("x-envoy-downstream-service-node", "other"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            // An address that was internal once.
            ("x-forwarded-for", "10.0.0.1"),
        ];
        let wget = lab.client("default", "wget")?;
        for version in [Version::Http1, Version::Http2] {
            let mut session = wget.session("reviews.shop:80", version).await?;
            let mut request = Request::get("/telling");
            for (name, value) in own {
                request = request.header(name, value)?;
            }
            let response = session.send(request).await?;
            let seen = response.json()?;
            assert_eq!(response.status, 200, "{version:?}");
            let headers = seen["headers"].as_object().context("no headers")?;
            let believed: Vec<_> = own
                .iter()
                .filter(|(name, value)| {
                    *name != "x-forwarded-for" && headers.get(*name).is_some_and(|lines| lines[0] == *value)
                })
                .collect();
            ensure!(believed.is_empty(), "{version:?}: {believed:?} reached the backend");
        }
        // Nor does it choose what the log says of a tunnel.
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-original-path", HeaderValue::from_static("/innocent"));
        let db = lab.catalog.resolve("db.shop:5432")?.address.to_string();
        let refused = wget.connection(GATEWAY).await?.tunnel(&db, &headers).await.err();
        ensure!(matches!(refused, Some(hbone::Error::Refused { status: 403, .. })), "{refused:?}");
        for line in
            ["\"GET /telling HTTP/1.1\" 200", "\"GET /telling HTTP/2\" 200", "\"CONNECT - HTTP/2\" 403"]
        {
            logged(lab, &[line]).await?;
        }
        Ok(())
    })
}

/// Two kinds of values that become expressions, each as long as it may be, and of what takes most room
/// there. That Envoy took them is what the lab asks at its end.
#[test]
fn istio_security_2026_006_the_longest_values_are_taken_and_longer_ones_are_refused() -> Result<()> {
    let template = |length: usize| "/{*}".repeat(length / 4);
    let namespace = |length: usize| "*.".repeat(length / 2);
    let rule = |length| {
        format!(
            r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: long, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, group: "", name: web}}]
  action: DENY
  rules:
  - to: [{{operation: {{paths: ["{}"]}}}}]
  - from: [{{source: {{namespaces: ["{}"]}}}}]
  - from: [{{source: {{serviceAccounts: ["{}/{}"]}}}}]
"#,
            template(length),
            namespace(length),
            ".".repeat(length / 2),
            ".".repeat(length / 2 - 1),
        )
    };
    lab::test(&shop().file("web-policy.yaml", &rule(1024)), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(curl.get("web.shop/").status().await?, 200);
        assert_eq!(curl.get(&format!("web.shop{}", "/x".repeat(256))).status().await?, 403);
        assert_eq!(curl.get(&format!("web.shop{}", "/x".repeat(255))).status().await?, 200);
        // What is too long is not read, and denies.
        lab.write("web-policy.yaml", &rule(1028))?;
        status_becomes(&curl, "web.shop/", 403).await
    })
}

#[test]
fn cve_2023_27488_cve_2024_23324_what_a_provider_cannot_be_told_is_not_passed() -> Result<()> {
    for provider in ["foo", "foo-n"] {
        let policy = custom("web", provider, ADMIN);
        let setup = shop().file("authz.yaml", AUTHZ).file("mesh.yaml", MESH).file("web-policy.yaml", &policy);
        lab::test(&setup, async |lab| {
            let curl = lab.client("default", "curl")?;
            status_becomes(&curl, "web.shop/admin", 200).await?;
            let before = lab.backend("shop/web-1", 8080)?.seen().requests;
            let told = asked(lab)?;
            for version in [Version::Http1, Version::Http2] {
                let mut session = curl.session("web.shop:80", version).await?;
                // What a gRPC message holds as text is UTF-8, and this is not.
                let odd = Request::get("/admin")
                    .header_bytes("x-odd", b"\xff\xfe")?
                    .header("x-answer", "403")?
                    .header("x-refuse", "1")?;
                let status = session.send(odd).await?.status;
                ensure!(matches!(status, 403 | 418), "{provider} by {version:?}: {status}");
            }
            ensure!(asked(lab)? != told, "{provider} was not asked");
            assert_eq!(lab.backend("shop/web-1", 8080)?.seen().requests, before);
            Ok(())
        })?;
    }
    Ok(())
}

/// Nothing normalizes the path here, so it comes to the rules as it is. No client library sends it.
#[test]
fn cve_2026_73552_bytes_that_are_no_text_escape_no_rule() -> Result<()> {
    let rules = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  action: DENY
  rules:
  - to: [{operation: {paths: ["/template/{**}", "/segment/{*}", "/prefix/*"]}}]
  - to: [{operation: {paths: ["/other*"], notPaths: ["/other/{*}/open"]}}]
"#;
    let mesh = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'pathNormalization: {normalization: NONE}'}
";
    lab::test(&shop().file("web-policy.yaml", rules).file("mesh.yaml", mesh), async |lab| {
        let (curl, web) = (lab.client("default", "curl")?, lab.backend("shop/web-1", 8080)?);
        for (path, allowed) in [
            (b"/open".as_slice(), true),
            (b"/template/x", false),
            (b"/template/\xff", false),
            (b"/segment/\xff", false),
            (b"/segment/a\xc3", false),
            (b"/prefix/\xff", false),
            (b"/other/x/open", true),
            (b"/other/\xff/open/not", false),
        ] {
            let (shown, before) = (String::from_utf8_lossy(path), web.seen().requests);
            raw_http2::get(curl.tunnel("web.shop:80").await?, "web.shop", path).await?;
            ensure!((web.seen().requests > before) == allowed, "{shown:?}, allowed {allowed}");
        }
        Ok(())
    })
}
