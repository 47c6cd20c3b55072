//! The mesh configuration changes while everything runs: new tunnels follow it, open ones are not cut.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use http::HeaderMap;
use tests::{
    Caller, Lab,
    exchange::{Request, Session, Version},
    hbone::{Connection, Waypoint},
    lab::{self, STRANGER},
    process::Envoy,
    until,
};

use crate::shop::{GATEWAY, PATIENCE, message, shop, status_becomes, waypoint};

/// Nobody may ask for what is below `/admin`. The file `web-policy.yaml`.
const NO_ADMIN: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-viewer, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  action: DENY
  rules: [{to: [{operation: {paths: ["/admin*"]}}]}]
"#;

/// The file `mesh.yaml`.
fn mesh(says: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: \"{says}\"}}\n"
    )
}

/// What is drained. A listener that is updated in place drains only chains that it had and has no more.
async fn drained(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let mut drains = envoy.drains().await?;
    let modified = drains.remove("listener_manager.listener_modified");
    let in_place = drains.remove("listener_manager.listener_in_place_updated");
    ensure!(modified == in_place, "{modified:?} listeners were modified, and {in_place:?} of them in place");
    Ok(drains)
}

async fn web_answers(caller: &Caller, path: &str, wanted: u16) -> Result<()> {
    status_becomes(caller, &format!("web.shop{path}"), wanted).await
}

#[test]
fn paths_are_normalized_as_the_mesh_says_and_a_change_is_for_new_tunnels_and_drains_nothing() -> Result<()> {
    lab::test(&shop().file("web-policy.yaml", NO_ADMIN), async |lab| {
        let curl = lab.client("default", "curl")?;
        let mut open = curl.session("web.shop:80", Version::Http1).await?;
        for (path, wanted) in [("/x", 200), ("/admin", 403), ("/x/../admin", 403), ("//admin", 200)] {
            assert_eq!(open.send(Request::get(path)).await?.status, wanted, "{path}");
        }
        let drains = drained(waypoint(lab)?).await?;
        // By the weakest way that refuses it: a path, and who may have it with each of the four.
        let paths = ["/x/../admin", "//admin", "/%2fadmin"];
        for (way, statuses) in [
            ("NONE", [200, 200, 200]),
            ("MERGE_SLASHES", [403, 403, 200]),
            ("DECODE_AND_MERGE_SLASHES", [403, 403, 403]),
            ("BASE", [403, 200, 200]),
        ] {
            lab.write("mesh.yaml", &mesh(&format!("pathNormalization: {{normalization: {way}}}")))?;
            for (path, wanted) in paths.into_iter().zip(statuses) {
                web_answers(&curl, path, wanted).await.with_context(|| way.to_owned())?;
            }
            assert_eq!(open.send(Request::get("//admin")).await?.status, 200, "the open tunnel by {way}");
        }
        assert_eq!(drained(waypoint(lab)?).await?, drains);
        Ok(())
    })
}

/// A caller of another trust domain, with a certificate of the mesh's own root.
fn old(lab: &Lab, account: &str) -> Result<Caller> {
    let uri = format!("spiffe://old.example/ns/default/sa/{account}");
    Ok(lab.stranger(Some(lab.authority.mint(&[&uri])?)))
}

#[test]
fn an_alias_of_the_trust_domain_is_accepted_at_once_and_no_more_once_it_is_none() -> Result<()> {
    let mut setup = shop();
    setup.impostors.insert("shop/stock-1".to_owned(), "spiffe://old.example/ns/shop/sa/stock".to_owned());
    lab::test(&setup, async |lab| {
        let own = lab.client("default", "curl")?;
        let mut open = own.session("web.shop:80", Version::Http2).await?;
        assert_eq!(open.send(Request::get("/")).await?.status, 200);
        ensure!(old(lab, "curl")?.tunnel("web.shop:80").await.is_err(), "a foreign identity was let in");
        assert_eq!(own.get("stock.shop/").status().await?, 503);
        let drains = waypoint(lab)?.drains().await?;

        lab.write("mesh.yaml", &mesh("trustDomainAliases: [old.example]"))?;
        until("the alias to be accepted", PATIENCE, async || {
            Ok(old(lab, "curl")?.tunnel("web.shop:80").await.ok().map(drop))
        })
        .await?;
        // Judged as the same account of our own trust domain, on HTTP and on TCP.
        status_becomes(&old(lab, "curl")?, "web.shop/", 200).await?;
        assert_eq!(old(lab, "wget")?.get("web.shop/").status().await?, 403);
        old(lab, "curl")?.tunnel("db.shop:5432").await?;
        ensure!(old(lab, "wget")?.tunnel("db.shop:5432").await.is_err(), "wget was let in to db");
        // A pod may still have a certificate of that trust domain.
        status_becomes(&own, "stock.shop/", 200).await?;

        let kept = old(lab, "curl")?;
        let mut inside = kept.session("reviews.shop:80", Version::Http1).await?;
        assert_eq!(inside.send(Request::get("/")).await?.status, 200);
        lab.remove("mesh.yaml")?;
        until("the alias to be refused", PATIENCE, async || {
            Ok(old(lab, "curl")?.tunnel("reviews.shop:80").await.is_err().then_some(()))
        })
        .await?;
        // Nor is who was connected before: not with the next tunnel, and not with the next request in
        // one that is open, to a service that has no policy at all.
        status_becomes(&kept, "reviews.shop/", 403).await?;
        until("the request inside to be refused", PATIENCE, async || {
            Ok((inside.send(Request::get("/")).await?.status == 403).then_some(()))
        })
        .await?;
        assert_eq!(open.send(Request::get("/")).await?.status, 200);
        assert_eq!(waypoint(lab)?.drains().await?, drains);
        Ok(())
    })
}

#[test]
fn a_mesh_starts_in_the_trust_domain_that_its_configuration_says() -> Result<()> {
    lab::test(&shop().file("mesh.yaml", &mesh("trustDomain: corp.example")), async |lab| {
        let waypoint = Waypoint {
            identity: "spiffe://corp.example/ns/shop/sa/waypoint".to_owned(),
            ..lab.catalog.waypoint(GATEWAY)?
        };
        let web = lab.catalog.resolve("web.shop:80")?.address.to_string();
        // The policy says `cluster.local`, which is whatever the mesh's trust domain is.
        for (account, wanted) in [("curl", 200), ("wget", 403)] {
            let uri = format!("spiffe://corp.example/ns/default/sa/{account}");
            let identity = lab.authority.mint(&[&uri])?;
            let source = lab.loopback.address(STRANGER).into();
            let connection = Connection::open(&waypoint, source, &lab.authority, Some(&identity)).await?;
            let (tunnel, _) = connection.tunnel(&web, &HeaderMap::new()).await?;
            let mut session = Session::open(tunnel, Version::Http1, "web.shop").await?;
            assert_eq!(session.send(Request::get("/")).await?.status, wanted, "{account}");
        }
        let foreign = lab.authority.workload("default", "curl")?;
        let source = lab.loopback.address(STRANGER).into();
        let refused = Connection::open(&waypoint, source, &lab.authority, Some(&foreign)).await;
        ensure!(refused.is_err(), "an identity of another trust domain was let in");

        // Another one takes a start: until then the first holds, and that is said.
        let logged = lab.portolan.events()?.len();
        lab.write("mesh.yaml", &mesh("trustDomain: other.example"))?;
        let told = |event: &serde_json::Value| message(event).contains("until Portolan is started anew");
        lab.portolan.event("the trust domain to be refused", logged, told).await?;
        Ok(())
    })
}
