//! Callers of other trust domains: each is vouched for by the roots of its own, and by no others.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    Authority, Caller, Lab,
    caller::refusal,
    exchange::{Request, Version},
    lab, until,
};

use crate::shop::{PATIENCE, message, shop, status_becomes, waypoint};

/// The mesh configuration with these roots, each as PEM with the trust domain that it is for.
fn mesh(roots: &[(&str, &str)]) -> String {
    let certificates = roots.iter().map(|(pem, domain)| json!({"pem": pem, "trustDomains": [domain]}));
    let mesh = json!({"caCertificates": certificates.collect::<Vec<_>>()}).to_string();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh},
    })
    .to_string()
}

/// Somebody with a certificate of that authority.
fn caller(lab: &Lab, signer: &Authority, uris: &[&str]) -> Result<Caller> {
    Ok(lab.stranger(Some(signer.mint(uris)?)))
}

/// Nobody is let in with it, at the handshake or at the CONNECT.
async fn is_refused(lab: &Lab, signer: &Authority, uris: &[&str]) -> Result<()> {
    let outcome = caller(lab, signer, uris)?.tunnel("reviews.shop:80").await;
    ensure!(outcome.is_err(), "{uris:?} was let in");
    Ok(())
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_and_for_no_longer_than_it_is_there() -> Result<()> {
    const PARTNER: &str = "spiffe://partner.example/ns/default/sa/curl";
    const OTHER: &str = "spiffe://other.example/ns/default/sa/curl";
    const OURS: &str = "spiffe://cluster.local/ns/default/sa/curl";
    lab::test(&shop(), async |lab| {
        let (partner, other) = (Authority::stranger("a partner's root")?, Authority::stranger("another")?);
        let own = lab.client("default", "curl")?;
        assert_eq!(own.get("reviews.shop/").status().await?, 200);
        is_refused(lab, &partner, &[PARTNER]).await?;
        let drains = waypoint(lab)?.drains().await?;

        let both = [(partner.root_pem(), "partner.example"), (other.root_pem(), "other.example")];
        lab.write("mesh.yaml", &mesh(&both))?;
        until("the partner to be accepted", PATIENCE, async || {
            let accepted = caller(lab, &partner, &[PARTNER])?.get("reviews.shop/").status().await;
            Ok(accepted.is_ok_and(|status| status == 200).then_some(()))
        })
        .await?;
        assert_eq!(caller(lab, &other, &[OTHER])?.get("reviews.shop/").status().await?, 200);
        for (signer, uris) in [
            (&partner, &[OTHER][..]),
            (&other, &[PARTNER]),
            (&partner, &[OURS]),
            (&*lab.authority, &[PARTNER]),
            (&partner, &[PARTNER, OURS]),
            (&partner, &[OURS, PARTNER]),
            (&partner, &["spiffe://partner.example.evil/ns/default/sa/curl"]),
            (&partner, &[]),
        ] {
            is_refused(lab, signer, uris).await?;
        }
        // Its account of the same name is not ours.
        assert_eq!(caller(lab, &partner, &[PARTNER])?.get("web.shop/").status().await?, 403);
        let denied = caller(lab, &partner, &[PARTNER])?.tunnel("db.shop:5432").await;
        ensure!(denied.is_err_and(|error| refusal(&error) == Some(403)), "the partner was let in to db");

        // A root that cannot be read vouches for nobody, and takes nothing from the other.
        let kept = caller(lab, &partner, &[PARTNER])?;
        let mut inside = kept.session("reviews.shop:80", Version::Http2).await?;
        assert_eq!(inside.send(Request::get("/")).await?.status, 200);
        let logged = lab.portolan.events()?.len();
        lab.write("mesh.yaml", &mesh(&[(&partner.root_pem()[1..], "partner.example"), both[1]]))?;
        let told = |event: &serde_json::Value| message(event).contains("caCertificates[0].pem");
        lab.portolan.event("the root to be refused", logged, told).await?;
        until("the partner to be refused", PATIENCE, async || {
            Ok(is_refused(lab, &partner, &[PARTNER]).await.ok())
        })
        .await?;
        assert_eq!(caller(lab, &other, &[OTHER])?.get("reviews.shop/").status().await?, 200);
        // Nor on what is open: the next tunnel, and the next request.
        status_becomes(&kept, "reviews.shop/", 403).await?;
        until("the request inside to be refused", PATIENCE, async || {
            Ok((inside.send(Request::get("/")).await?.status == 403).then_some(()))
        })
        .await?;
        assert_eq!(own.get("reviews.shop/").status().await?, 200);
        assert_eq!(waypoint(lab)?.drains().await?, drains);
        Ok(())
    })
}
