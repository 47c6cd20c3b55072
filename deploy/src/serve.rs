//! The serving process: what it is made of, and how that is connected.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use translate::{Mesh, Settings};
use watch::{KeyOptions, follow_keys};
use xds::{Cache, Limits, Observer};

use crate::{
    admin::{self, Addresses},
    authn::Accounts,
    certificates::Certificates,
    event_loop::{EventLoop, Inbox},
    identities::{Identities, Own, Signing},
    keys::Keys,
    objects::{self, Objects},
    state::{StateDirectory, write_address},
    tasks::Tasks,
    writers::{self, Ways, Writing},
};

/// What to serve, and where.
#[derive(Debug)]
pub struct Options {
    /// Where the objects of the mesh come from.
    pub objects: Objects,
    /// What is needed for writing to a cluster.
    pub writing: Writing,
    /// Where keys and certificates are kept.
    pub state: StateDirectory,
    /// Where proxies reach us; with port 0 the system chooses one.
    pub listen: SocketAddr,
    /// Where we tell of ourselves.
    pub admin: Addresses,
    /// The settings of the mesh.
    pub settings: Settings,
    /// How certificates are signed.
    pub signing: Signing,
    /// How the keys of issuers are fetched.
    pub keys: KeyOptions,
    /// The file to write once proxies are served.
    pub ready_file: Option<PathBuf>,
}

/// Serves until `stop`. Returns before that only with the reason why serving cannot go on.
pub async fn serve(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let Options { objects, writing, state, listen, admin, settings, signing, keys: fetching, ready_file } =
        options;
    let mut tasks = Tasks::new(stop.clone());
    let cache = Arc::new(Cache::new());
    let (pages, questions) = admin::start(&mut tasks, admin, &state, &cache, objects.requests()).await?;
    let wanted = objects::wanted(&settings);
    let accounts = Accounts::default();
    let (settings, mut identities) = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        prepared = async {
            let settings = objects.adopt(settings, &wanted, &pages.health).await?;
            let own = Own { writing: &writing, settings: &settings, signing: &signing };
            let identities = Identities::open(&objects, &own, &state, &accounts, &pages.health).await?;
            anyhow::Ok((settings, identities))
        } => prepared?,
    };

    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    write_address(&state.xds_address_file(), address)?;
    info!(%address, state = %state.path().display(), objects = %objects, "starting");

    let (update, updates) = mpsc::channel(16);
    let (observation, observations) = mpsc::unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    // Without a bound, for the loop must not wait: what it wishes follows from its own commits.
    let (wish, wishes) = mpsc::unbounded_channel();
    let (told, keys) = mpsc::channel(16);
    let (tell, hears) = mpsc::channel(16);
    let (want, asked) = mpsc::unbounded_channel();
    let (hear, others) = mpsc::channel(1);
    let ways = writers::start(&mut tasks, &objects, &settings, writing, &pages.metrics, tell, hear);
    let Ways { mut outbox, lives } = ways;
    outbox.wanted = objects.is_cluster().then_some(want);
    outbox.accounts = Some(accounts);
    let authorities = identities.oversee(&mut tasks);
    let Identities { proof, certificates, tls, .. } = identities;
    let inbox = Inbox {
        updates,
        observations,
        keys,
        told: hears,
        others,
        questions,
        authorities,
        renewal_period: Certificates::renewal_period(signing.lifetime),
    };
    let kept = Keys::open(state.path(), wish);
    let (mesh, metrics) = (Mesh::new(settings), pages.metrics.clone());
    let event_loop = EventLoop::new(mesh, Arc::clone(&cache), certificates, kept, outbox, metrics, ready);
    let observer: Observer = Arc::new(move |seen| {
        // The loop is gone only when everything is about to end.
        observation.send((seen.clone(), Instant::now())).ok();
    });

    pages.health.gathering();
    let following = objects.follow(wanted, asked, update, lives, pages.clone());
    tasks.spawn_forever("source of objects", following);
    tasks.spawn_forever("fetching of keys", async move {
        follow_keys(fetching, wishes, told).await;
        Ok(())
    });
    let looping = event_loop.run(inbox, stop.clone());
    tasks.spawn("event loop", async move {
        looping.await;
        Ok(())
    });
    tasks.spawn("discovery service", async move {
        // Proxies are let in when there is something for them: until then they keep what they have.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            complete = is_ready => complete.context("the event loop ended before the source was complete")?,
        }
        let serving = xds::serve(listener, tls, cache, proof, observer, Limits::default(), stop);
        if let Some(path) = ready_file {
            write_address(&path, address)?;
        }
        pages.health.serving();
        info!(%address, "ready");
        Ok(serving.await?)
    });
    tasks.join().await
}
