//! An API server that is away, that comes back, and that has forgotten how it came to be what it is.

use anyhow::Result;
use proto::Kind;
use tests::cluster::Cluster;
use watch::Wanted;

use crate::{
    followed::{Followed, Moved, within},
    manifests::{manifest, reference},
};

#[tokio::test]
async fn nothing_is_ready_before_the_server_answers() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("early").await?;
        cluster.apply(&manifest(Kind::Service, &namespace, "s", "old")).await?;
        let (client, gate) = cluster.gated_client(cluster.admin_token()).await?;
        gate.shut();
        let mut followed = Followed::start(client, Wanted::default(), &namespace);
        followed.until("a complaint", |it| !it.wrong().is_empty()).await?;
        let wrong = followed.wrong();
        assert!(wrong.len() == 1 && wrong[0].contains("nothing is served before it does"), "{wrong:?}");
        assert!(!followed.ready && followed.history.is_empty());

        gate.open();
        followed.until("the source to be ready", |it| it.ready).await?;
        followed.until("nothing to be wrong", |it| it.wrong().is_empty()).await?;
        assert!(followed.objects.contains_key(&reference(Kind::Service, &namespace, "s")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_changed_while_the_server_was_away_is_told_and_nothing_else() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("away").await?;
        let ns = namespace.as_str();
        let (policy, route) = (Kind::AuthorizationPolicy, Kind::HTTPRoute);
        for name in ["same", "changed", "gone"] {
            cluster.apply(&manifest(policy, ns, name, "old")).await?;
            cluster.apply(&manifest(route, ns, name, "old")).await?;
        }
        let (client, gate) = cluster.gated_client(cluster.admin_token()).await?;
        let mut followed = Followed::ready(client, Wanted::default(), &namespace).await?;
        let (skip, said) = (followed.history.len(), followed.said().len());

        gate.shut();
        followed.until("a complaint", |it| !it.wrong().is_empty()).await?;
        for kind in [policy, route] {
            cluster.apply(&manifest(kind, ns, "changed", "new")).await?;
            cluster.apply(&manifest(kind, ns, "added", "new")).await?;
            cluster.delete(&reference(kind, ns, "gone")).await?;
        }
        assert_eq!(followed.since(skip, ns), []);

        gate.open();
        for kind in [policy, route] {
            let gone = reference(kind, ns, "gone");
            followed.until("what is gone", |it| it.told(skip, &gone, Moved::Removed)).await?;
        }
        followed.until("nothing to be wrong", |it| it.wrong().is_empty()).await?;
        let mut told = followed.since(skip, ns);
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [(policy, "added"), (policy, "changed"), (policy, "gone")].into_iter().chain([
            (route, "added"),
            (route, "changed"),
            (route, "gone"),
        ]);
        let expected: Vec<_> = expected
            .map(|(kind, name)| {
                let moved = if name == "gone" { Moved::Removed } else { Moved::Set };
                (reference(kind, ns, name).to_string(), moved)
            })
            .collect();
        assert_eq!(told, expected);

        let said: Vec<_> = followed.said().into_iter().skip(said).collect();
        assert!(
            said.len() == 2 && said[0].len() == 1 && said[1].is_empty(),
            "said once, and once that it is over: {said:#?}"
        );
        assert!(said[0][0].contains("what is served stays as it is"), "{said:?}");
        Ok(())
    })
    .await
}

/// A server that was started again does not know how it came to be what it is, so whoever asks it to go on
/// from before is told 410 and has to list everything.
#[tokio::test]
async fn a_server_that_forgot_its_past_is_listed_again_and_only_differences_are_told() -> Result<()> {
    within(async {
        let cluster = Cluster::start(&[Kind::AuthorizationPolicy, Kind::EndpointSlice]).await?;
        let namespace = cluster.namespace("forgot").await?;
        let ns = namespace.as_str();
        let kinds = [Kind::AuthorizationPolicy, Kind::Service];
        for kind in kinds {
            for name in ["same", "changed", "gone"] {
                cluster.apply(&manifest(kind, ns, name, "old")).await?;
            }
        }
        let (client, gate) = cluster.gated_client(cluster.admin_token()).await?;
        let mut followed = Followed::ready(client, Wanted::default(), &namespace).await?;
        let skip = followed.history.len();
        gate.shut();
        for kind in kinds {
            cluster.apply(&manifest(kind, ns, "changed", "new")).await?;
            cluster.delete(&reference(kind, ns, "gone")).await?;
        }
        cluster.kill()?;
        cluster.resume().await?;
        gate.open();
        for kind in kinds {
            let (changed, gone) = (reference(kind, ns, "changed"), reference(kind, ns, "gone"));
            followed.until("what is gone", |it| it.told(skip, &gone, Moved::Removed)).await?;
            followed.until("what changed", |it| it.told(skip, &changed, Moved::Set)).await?;
        }
        followed.until("nothing to be wrong", |it| it.wrong().is_empty()).await?;
        assert_eq!(followed.since(skip, ns).len(), 4, "{:?}", followed.since(skip, ns));
        // And it is followed on.
        cluster.apply(&manifest(Kind::Service, ns, "next", "new")).await?;
        let next = reference(Kind::Service, ns, "next");
        followed.until("what comes next", |it| it.told(skip, &next, Moved::Set)).await
    })
    .await
}
