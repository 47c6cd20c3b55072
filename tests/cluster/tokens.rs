//! Whose token it is by the word of a real API server, asked by an account that may do nothing else.

use std::time::Duration;

use anyhow::{Context, Result};
use deploy::{
    authn::{self, Accounts, ApiServer, Proof, ReviewedTokens, Terms},
    deployer::Permission,
    waypoint::AUDIENCE,
};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::PolicyRule,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use proto::Kind;
use tests::cluster::{Account, Cluster};
use tokio::time::timeout;
use translate::{Audience, Installing, WaypointPlan};
use xds::{Authenticate, Client, Denied, Group, Peer};

use crate::{followed::PATIENCE, manifests::manifest};

/// A door in a namespace of its own, which has the accounts `waypoint`, `second`, and `portolan` who asks.
struct Door {
    namespace: String,
    proof: Proof,
    waypoint: Account,
}

impl Door {
    async fn open(cluster: &Cluster, base: &str, terms: Terms, given: bool) -> Result<Self> {
        let namespace = cluster.namespace(base).await?;
        let account = cluster.account(&namespace, "portolan").await?;
        if given {
            let rules: Vec<_> = authn::permissions().iter().map(rule).collect();
            cluster.grant(&account, &rules).await?;
        }
        let accounts = Accounts::default();
        for name in ["waypoint", "second"] {
            let gateway = Audience { namespace: namespace.as_str().into(), name: name.into() };
            accounts.set(&gateway, Some(&plan(name)));
        }
        let server = ApiServer::new(cluster.client_of(&account).await?);
        let proof = Proof::Reviewed(ReviewedTokens::new(server, AUDIENCE, accounts, terms).into());
        let waypoint = cluster.account(&namespace, "waypoint").await?;
        Ok(Self { namespace, proof, waypoint })
    }

    async fn shows(&self, token: &str) -> Result<Client, Denied> {
        self.proof.authenticate(&Peer { token: Some(token.to_owned()), ..Peer::default() }).await
    }

    fn group(&self, name: &str) -> Group {
        Group(format!("{}/{name}", self.namespace).into())
    }
}

fn rule(permission: &Permission) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![permission.group.to_owned()]),
        resources: Some(vec![permission.resource.to_owned()]),
        verbs: permission.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn plan(account: &str) -> WaypointPlan {
    WaypointPlan {
        service_account: account.into(),
        trust_domain_aliases: Vec::new(),
        anchors: <_>::default(),
        installing: Installing::Held,
    }
}

const LIFETIME: Duration = Duration::from_mins(10);

#[tokio::test]
async fn a_token_is_good_for_the_gateway_that_its_account_runs_and_for_nothing_else() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let door = Door::open(&cluster, "tokens", Terms::default(), true).await?;
    let token = cluster.token(&door.waypoint, Some(AUDIENCE), LIFETIME).await?;
    let client = door.shows(&token).await?;
    assert_eq!(client.groups, [door.group("waypoint")].into());
    assert_eq!(client.name, format!("{}/waypoint", door.namespace));
    assert!(client.expires.is_some());

    for other in [Some("istio-ca"), None] {
        let token = cluster.token(&door.waypoint, other, LIFETIME).await?;
        let denied = door.shows(&token).await.unwrap_err();
        assert!(
            matches!(&denied, Denied::Unauthenticated(why) if why.contains("not for \"portolan\"")),
            "{denied}"
        );
    }
    let stranger = cluster.account(&door.namespace, "stranger").await?;
    let token = cluster.token(&stranger, Some(AUDIENCE), LIFETIME).await?;
    let denied = door.shows(&token).await.unwrap_err();
    assert!(matches!(&denied, Denied::Forbidden(why) if why.contains("no waypoint runs as")), "{denied}");
    let elsewhere = cluster.namespace("tokens-elsewhere").await?;
    let namesake = cluster.account(&elsewhere, "waypoint").await?;
    let token = cluster.token(&namesake, Some(AUDIENCE), LIFETIME).await?;
    assert!(matches!(door.shows(&token).await, Err(Denied::Forbidden(_))));

    // Of the right form and not signed by the server.
    let token = cluster.token(&door.waypoint, Some(AUDIENCE), LIFETIME).await?;
    let (signed, signature) = token.rsplit_once('.').context("no signature")?;
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let denied = door.shows(&format!("{signed}.{other}{}", &signature[1..])).await.unwrap_err();
    assert!(matches!(&denied, Denied::Unauthenticated(why) if why.contains("does not accept")), "{denied}");
    let nothing = door.proof.authenticate(&Peer::default()).await;
    assert!(matches!(nothing, Err(Denied::Unauthenticated(_))));
    Ok(())
}

#[tokio::test]
async fn the_streams_of_an_account_that_is_deleted_end() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let terms = Terms {
        good: Duration::from_millis(200),
        bad: Duration::ZERO,
        look: Duration::from_millis(100),
        ..Terms::default()
    };
    let door = Door::open(&cluster, "tokens-deleted", terms, true).await?;
    let token = cluster.token(&door.waypoint, Some(AUDIENCE), LIFETIME).await?;
    let mut client = door.shows(&token).await?;
    let Proof::Reviewed(tokens) = &door.proof else { anyhow::bail!("another proof") };
    let watching = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.watch_over().await }
    });
    // It is looked at several times.
    assert!(timeout(Duration::from_secs(1), client.revocation.revoked()).await.is_err());
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin()?, &door.namespace);
    accounts.delete("waypoint", &DeleteParams::default()).await?;
    timeout(PATIENCE, client.revocation.revoked()).await.context("its stream goes on")?;
    assert!(matches!(door.shows(&token).await, Err(Denied::Unauthenticated(_))));
    watching.abort();
    Ok(())
}

#[tokio::test]
async fn a_proxy_is_named_for_the_pod_that_its_token_is_bound_to() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let door = Door::open(&cluster, "tokens-bound", Terms::default(), true).await?;
    let mut pod = manifest(Kind::Pod, &door.namespace, "waypoint-1", "a");
    pod["spec"]["serviceAccountName"] = "waypoint".into();
    cluster.apply(&pod).await?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some("waypoint-1".to_owned()),
        uid: None,
    };
    let spec = TokenRequestSpec {
        audiences: vec![AUDIENCE.to_owned()],
        bound_object_ref: Some(bound),
        expiration_seconds: Some(600),
    };
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin()?, &door.namespace);
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = accounts.create_token_request("waypoint", &PostParams::default(), &request).await?;
    let client = door.shows(&made.status.context("no token")?.token).await?;
    assert_eq!(client.name, format!("{}/waypoint-1", door.namespace));
    Ok(())
}

#[tokio::test]
async fn who_may_not_ask_decides_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let door = Door::open(&cluster, "tokens-unasked", Terms::default(), false).await?;
    let token = cluster.token(&door.waypoint, Some(AUDIENCE), LIFETIME).await?;
    assert!(matches!(door.shows(&token).await, Err(Denied::Undecided(_))));
    Ok(())
}
