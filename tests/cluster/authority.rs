//! The Secret that holds our authority: made once by however many replicas, or made by others, and followed.

use std::{collections::BTreeSet, time::SystemTime};

use anyhow::{Context, Result, ensure};
use deploy::{
    ca_secret::{CA_SECRET, CaSecret, permissions},
    identity::Authority,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use proto::Name;
use tests::cluster::Cluster;
use tokio::{sync::mpsc, time::timeout};

use crate::followed::{PATIENCE, permitted, within};

/// A namespace, and a client in it that may do what is asked for and nothing else.
async fn place(cluster: &Cluster, base: &str, named: Option<&Name>) -> Result<(Name, Client)> {
    let namespace: Name = cluster.namespace(base).await?.as_str().into();
    let account = permitted(cluster, &namespace, "portolan", &permissions(&namespace, named)).await?;
    Ok((namespace, cluster.client_of(&account).await?))
}

fn domain() -> Name {
    "cluster.local".into()
}

/// A Secret as istiod would keep a new root in it.
fn istio(name: &str) -> Result<(Secret, String)> {
    let mut entries = Authority::generate(&domain(), SystemTime::now())?;
    let mut take = |entry: &str| entries.remove(entry).context("it was not generated");
    let root = take("tls.crt")?;
    let data =
        [("ca-cert.pem", root.clone()), ("ca-key.pem", take("tls.key")?), ("root-cert.pem", root.clone())];
    let data = data.map(|(name, content)| (name.to_owned(), ByteString(content))).into();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Ok((Secret { metadata, data: Some(data), ..Secret::default() }, String::from_utf8(root)?))
}

#[tokio::test]
async fn however_many_replicas_start_at_once_there_is_one_root() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let (namespace, client) = place(&cluster, "root", None).await?;
        let open = || {
            let mut secret = CaSecret::new(client.clone(), &namespace, None, &domain());
            tokio::spawn(async move { secret.open(|_| {}).await.root_pem().to_owned() })
        };
        let replicas = [open(), open(), open()];
        let mut roots = BTreeSet::new();
        for replica in replicas {
            roots.insert(replica.await?);
        }
        roots.insert(open().await?);
        ensure!(roots.len() == 1, "there are several");
        let secrets = Api::<Secret>::namespaced(cluster.admin()?, &namespace);
        let secret = secrets.get(CA_SECRET).await?;
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        let data = secret.data.unwrap_or_default();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_authority_of_others_is_waited_for_and_followed_and_what_is_wrong_changes_nothing() -> Result<()>
{
    within(async {
        let cluster = Cluster::shared().await?;
        let name: Name = "cacerts".into();
        let (namespace, client) = place(&cluster, "cacerts", Some(&name)).await?;
        let secrets = Api::<Secret>::namespaced(cluster.admin()?, &namespace);
        let mut follower = CaSecret::new(client.clone(), &namespace, Some(&name), &domain());
        let opening = tokio::spawn(async move {
            let authority = follower.open(|_| {}).await;
            (follower, authority)
        });
        let (secret, root) = istio(&name)?;
        let broken = Secret { data: None, ..secret.clone() };
        secrets.create(&PostParams::default(), &broken).await?;
        secrets.replace(&name, &PostParams::default(), &secret).await?;
        let (follower, authority) = opening.await?;
        assert_eq!(authority.root_pem(), root);

        let (tell, mut told) = mpsc::channel(1);
        let following = tokio::spawn(follower.follow(tell));
        let next = async |told: &mut mpsc::Receiver<Authority>| {
            let authority = timeout(PATIENCE, told.recv()).await?.context("it ended")?;
            anyhow::Ok(authority.root_pem().to_owned())
        };
        assert_eq!(next(&mut told).await?, root);
        // Neither of both is an authority; what comes after them is.
        secrets.replace(&name, &PostParams::default(), &broken).await?;
        secrets.delete(&name, &DeleteParams::default()).await?;
        let (secret, other) = istio(&name)?;
        secrets.create(&PostParams::default(), &secret).await?;
        assert_eq!(next(&mut told).await?, other);
        following.abort();
        Ok(())
    })
    .await
}
