//! CUSTOM policies of TCP ports: an extension provider is asked before a tunnel is opened.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Caller, Lab,
    backend::BANNER,
    hbone::{self, Tunnel},
    lab,
    lab::Setup,
    until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    custom::{AUTHZ, MESH, asked, custom},
    shop::{PATIENCE, shop},
};

const ANYTHING: &str = "{}";

fn setup(policies: &str) -> Setup {
    shop().file("authz.yaml", AUTHZ).file("mesh.yaml", MESH).file("db-policy.yaml", policies)
}

/// With what a tunnel to the database is refused: the status and what is said.
async fn refusal(caller: &Caller) -> Result<(u16, String)> {
    let error = caller.tunnel("db.shop:5432").await.err().context("the tunnel is open")?;
    match error.downcast_ref::<hbone::Error>() {
        Some(hbone::Error::Refused { status, body }) => Ok((*status, body.clone())),
        _ => Err(error),
    }
}

/// The database greets, and answers.
async fn works(tunnel: &mut Tunnel) -> Result<()> {
    let mut banner = vec![0; BANNER.len()];
    tunnel.read_exact(&mut banner).await?;
    ensure!(banner == BANNER.as_bytes(), "another banner: {banner:?}");
    tunnel.write_all(b"hello").await?;
    let mut echo = [0; 5];
    tunnel.read_exact(&mut echo).await?;
    ensure!(&echo == b"hello", "another answer: {echo:?}");
    Ok(())
}

/// Waits until tunnels are refused with that status, or opened. One that is still asked about as it was
/// before is given up.
async fn becomes(caller: &Caller, wanted: Option<u16>) -> Result<()> {
    until(&format!("a tunnel to end with {wanted:?}"), PATIENCE, async || {
        let tunnel = caller.tunnel("db.shop:5432");
        let Ok(outcome) = tokio::time::timeout(Duration::from_secs(2), tunnel).await else { return Ok(None) };
        let found = match outcome {
            Ok(_) => None,
            Err(error) => Some(tests::caller::refusal(&error).ok_or(error)?),
        };
        Ok((found == wanted).then_some(()))
    })
    .await
}

/// How many connections the database has seen.
fn dialled(lab: &Lab) -> Result<u64> {
    Ok(lab.backend("shop/db-1", 5432)?.seen().connections)
}

#[test]
fn a_provider_is_asked_before_a_tunnel_is_open_and_told_who_dials_what() -> Result<()> {
    let rule =
        r#"{from: [{source: {notServiceAccounts: [default/passer]}}], to: [{operation: {ports: ["5432"]}}]}"#;
    lab::test(&setup(&custom("db", "foo-n", rule)), async |lab| {
        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        let (status, said) = refusal(&wget).await?;
        let said: Value = serde_json::from_str(&said)?;
        let db = lab.catalog.resolve("db.shop:5432")?.address.to_string();
        assert_eq!((status, &said["principal"]), (418, &"spiffe://cluster.local/ns/default/sa/wget".into()));
        assert_eq!((&said["method"], &said["host"]), (&"CONNECT".into(), &db.clone().into()), "{said:#}");
        assert_eq!((&said["body"], &said["raw_body"]), (&0.into(), &0.into()));
        ensure!(said["from"].as_str().is_some_and(|from| from.starts_with("127.")), "{said:#}");
        let headers = said["headers"].as_object().context("no headers")?;
        ensure!(
            headers.contains_key("baggage") && !headers.keys().any(|name| name.starts_with("x-wp-")),
            "{said:#}"
        );
        // Neither the caller nor the database has seen anything of the other.
        assert_eq!((dialled(lab)?, asked(lab)?), (0, (0, 1)));

        let mut tunnel = curl.tunnel("db.shop:5432").await?;
        works(&mut tunnel).await?;
        assert_eq!((dialled(lab)?, asked(lab)?), (1, (0, 2)));
        // What no rule matches nobody is asked about.
        works(&mut lab.client("default", "passer")?.tunnel("db.shop:5432").await?).await?;
        assert_eq!(asked(lab)?, (0, 2));
        // Each tunnel is asked about anew, on the same connection too.
        drop(curl.tunnel("db.shop:5432").await?);
        assert_eq!(asked(lab)?, (0, 3));
        // Another provider is asked about the next tunnel. What is open stays open.
        lab.write("db-policy.yaml", &custom("db", "strict", ANYTHING))?;
        becomes(&curl, Some(418)).await?;
        tunnel.write_all(b"still").await?;
        let mut echo = [0; 5];
        tunnel.read_exact(&mut echo).await?;
        assert_eq!(&echo, b"still");
        Ok(())
    })
}

#[test]
fn several_are_asked_about_one_tunnel_and_then_the_other_policies_judge() -> Result<()> {
    let deny = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: db}]
  action: DENY
  rules: [{from: [{source: {serviceAccounts: [default/third]}}]}]
"#;
    let of = |account: &str| format!("{{from: [{{source: {{serviceAccounts: [default/{account}]}}}}]}}");
    let policies = custom("db", "foo-n", ANYTHING) + &custom("db", "strict", &of("second")) + deny;
    lab::test(&setup(&policies), async |lab| {
        works(&mut lab.client("default", "first")?.tunnel("db.shop:5432").await?).await?;
        assert_eq!((asked(lab)?, dialled(lab)?), ((0, 1), 1));
        // The first permits it after a while, and the second is asked all the same.
        let (status, said) = refusal(&lab.client("default", "second")?).await?;
        ensure!(status == 418 && said.contains("strict"), "{status}: {said}");
        assert_eq!(asked(lab)?, (0, 3));
        assert_eq!(refusal(&lab.client("default", "third")?).await?, (403, "RBAC: access denied".to_owned()));
        // Who is refused by the first is not asked about again.
        ensure!(refusal(&lab.client("default", "wget")?).await?.1.contains("authz"));
        assert_eq!((asked(lab)?, dialled(lab)?), ((0, 5), 1));
        Ok(())
    })
}

#[test]
fn where_nobody_answers_a_tunnel_ends_as_the_mesh_says() -> Result<()> {
    lab::test(&setup(&custom("db", "silent", ANYTHING)), async |lab| {
        let curl = lab.client("default", "curl")?;
        // Whoever gives up while somebody is asked leaves nothing behind.
        for _ in 0..3 {
            let waiting = tokio::time::timeout(Duration::from_millis(300), curl.tunnel("db.shop:5432")).await;
            ensure!(waiting.is_err(), "nobody answered, and yet: {waiting:?}");
        }
        assert_eq!(dialled(lab)?, 0);
        let silent = "service: silent.shop.svc.cluster.local, port: 9000";
        lab.edit("mesh.yaml", silent, &format!("{silent}, timeout: 0.2s"))?;
        becomes(&curl, Some(403)).await?;
        lab.edit("mesh.yaml", "timeout: 0.2s", "timeout: 0.2s, statusOnError: \"503\"")?;
        becomes(&curl, Some(503)).await?;
        assert_eq!(dialled(lab)?, 0);
        lab.edit("mesh.yaml", "statusOnError: \"503\"", "failOpen: true")?;
        becomes(&curl, None).await?;
        // Nobody is there at all.
        lab.edit(
            "mesh.yaml",
            "silent.shop.svc.cluster.local, port: 9000",
            "nobody.shop.svc.cluster.local, port: 80",
        )?;
        becomes(&curl, None).await?;
        lab.edit("mesh.yaml", "failOpen: true", "statusOnError: \"502\"")?;
        becomes(&curl, Some(502)).await?;
        // By HTTP nobody can be asked, and what the rules match is refused.
        lab.write("db-policy.yaml", &custom("db", "foo", ANYTHING))?;
        becomes(&curl, Some(403)).await?;
        assert_eq!(refusal(&curl).await?.1, "RBAC: access denied");
        assert_eq!(asked(lab)?.0, 0);
        Ok(())
    })
}

#[test]
fn whom_to_ask_changes_while_tunnels_are_asked_about() -> Result<()> {
    lab::test(&setup(&custom("db", "foo-n", ANYTHING)), async |lab| {
        let callers: Vec<_> = (0..4).map(|_| lab.client("default", "curl")).collect::<Result<_>>()?;
        let dial = async |caller: &Caller| match caller.tunnel("db.shop:5432").await {
            Ok(mut tunnel) => works(&mut tunnel).await.map(|()| None),
            Err(error) => tests::caller::refusal(&error).ok_or(error).map(Some),
        };
        let dialling = async || {
            let (mut seen, mut dialled, start) = (BTreeSet::new(), 0, Instant::now());
            // Long enough that both of them were asked, however slow the machine is.
            while dialled < 100 || seen.len() < 2 && start.elapsed() < PATIENCE {
                seen.extend(futures::future::try_join_all(callers.iter().map(dial)).await?);
                dialled += 1;
            }
            anyhow::Ok(seen)
        };
        let changing = async {
            for round in 0_u32.. {
                let provider = if round % 2 == 0 { "strict" } else { "foo-n" };
                lab.write("db-policy.yaml", &custom("db", provider, ANYTHING))?;
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            anyhow::Ok(())
        };
        let seen = tokio::select! {
            seen = dialling() => seen?,
            never = changing => return never,
        };
        ensure!(seen == [None, Some(418)].into(), "other answers than those of the two: {seen:?}");
        Ok(())
    })
}
