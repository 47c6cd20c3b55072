//! What the other tests rely on: that the server is a real one, that accounts have what they were given, and
//! that it can be taken away.

use anyhow::Result;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    core::v1::Service,
    rbac::v1::PolicyRule,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use proto::{Kind, ObjectRef};
use serde_json::json;
use tests::cluster::Cluster;

#[tokio::test]
async fn an_account_may_do_what_it_was_given_and_no_more() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("accounts").await?;
    let account = cluster.account(&namespace, "reader").await?;
    let list = |text: &str| Some(vec![text.to_owned()]);
    let rule = PolicyRule {
        api_groups: list(""),
        resources: list("services"),
        verbs: vec!["list".to_owned()],
        ..PolicyRule::default()
    };
    cluster.grant(&account, &[rule]).await?;
    let services = Api::<Service>::namespaced(cluster.client_of(&account).await?, &namespace);
    assert_eq!(services.list(&ListParams::default()).await?.items.len(), 0);
    let refused = services.get("web").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_only() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("tokens").await?;
    let account = cluster.account(&namespace, "waypoint").await?;
    let token = cluster.token(&account, Some("portolan"), std::time::Duration::from_mins(10)).await?;
    let reviews = Api::<TokenReview>::all(cluster.admin()?);
    for (audience, good) in [("portolan", true), ("someone-else", false)] {
        let spec = TokenReviewSpec { token: Some(token.clone()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = reviews.create(&PostParams::default(), &review).await?.status;
        assert_eq!(status.is_some_and(|status| status.authenticated == Some(true)), good, "{audience}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_knows_outlives_it() -> Result<()> {
    let cluster = Cluster::start(&[Kind::HTTPRoute]).await?;
    let namespace = cluster.namespace("kept").await?;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": namespace},
        "spec": {"hostnames": ["a.example"]}, "status": {"parents": []},
    });
    cluster.apply(&route).await?;
    cluster.kill()?;
    let object = ObjectRef { kind: Kind::HTTPRoute, namespace: namespace.as_str().into(), name: "r".into() };
    assert!(cluster.objects(&object, None)?.get("r").await.is_err(), "the server was killed and answers");
    cluster.resume().await?;
    let kept = cluster.objects(&object, None)?.get("r").await?;
    assert_eq!(kept.data["spec"]["hostnames"], json!(["a.example"]));
    assert_eq!(kept.data["status"], json!({"parents": []}));
    Ok(())
}
