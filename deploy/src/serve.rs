//! The serving process: its tasks, who owns them, and how it ends.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, anyhow};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use translate::{Mesh, Settings};
use watch::{KeyOptions, Wanted, follow_keys};
use xds::{Cache, Limits, Observer};

use crate::{
    authn::BearerTokens,
    certificates::Certificates,
    event_loop::{EventLoop, Inbox},
    identity::{Authority, Leaves, ServerCertificates, ServerNames, token::TokenKey},
    keys::Keys,
    objects::Objects,
    state::{Readable, StateDirectory, replace_file},
};

/// What to serve, and where.
#[derive(Debug)]
pub struct Options {
    /// Where the objects of the mesh come from.
    pub objects: Objects,
    /// Where keys and certificates are kept.
    pub state: StateDirectory,
    /// Where proxies reach us; with port 0 the system chooses one.
    pub listen: SocketAddr,
    /// The settings of the mesh.
    pub settings: Settings,
    /// How long a certificate is good for.
    pub certificate_lifetime: Duration,
    /// How the keys of issuers are fetched.
    pub keys: KeyOptions,
    /// The file to write once proxies are served.
    pub ready_file: Option<PathBuf>,
}

/// What a task of ours gives back: that it was told to end, or why it could not go on.
type Ended = anyhow::Result<()>;

/// Serves until `stop`. Returns before that only with the reason why serving cannot go on.
pub async fn serve(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let Options { objects, state, listen, settings, certificate_lifetime, keys: fetching, ready_file } =
        options;
    let wanted = Wanted::by_reference([settings.mesh_config()]);
    let settings = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        adopted = objects.adopt(settings, &wanted) => adopted?,
    };
    let now = SystemTime::now();
    let authority = Authority::open(state.path(), &settings.trust_domain, now)?;
    let tokens = BearerTokens::new(TokenKey::open(state.path())?);
    let server = ServerCertificates::issue(&authority, ServerNames::default(), certificate_lifetime, now)?;
    let tls = server.server_config()?;
    let leaves = Leaves::open(state.path(), certificate_lifetime);
    let certificates = Certificates::new(authority, leaves, server);

    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    write_address(&state.xds_address_file(), address)?;
    info!(%address, state = %state.path().display(), objects = %objects, "starting");

    let cache = Arc::new(Cache::new());
    let (update, updates) = mpsc::channel(16);
    let (observation, observations) = mpsc::unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    // Without a bound, for the loop must not wait: what it wishes follows from its own commits.
    let (wish, wishes) = mpsc::unbounded_channel();
    let (told, keys) = mpsc::channel(16);
    let inbox = Inbox {
        updates,
        observations,
        keys,
        renewal_period: Certificates::renewal_period(certificate_lifetime),
    };
    let kept = Keys::open(state.path(), wish);
    let event_loop = EventLoop::new(Mesh::new(settings), Arc::clone(&cache), certificates, kept, ready);
    let observer: Observer = Arc::new(move |seen| {
        // The loop is gone only when everything is about to end.
        observation.send((seen.clone(), Instant::now())).ok();
    });

    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn("source of objects", {
        let stop = stop.clone();
        async move {
            tokio::select! {
                // Told to end, the loop hangs up on the source, which is then no failure of the source.
                biased;
                () = stop.cancelled() => Ok(()),
                ended = objects.follow(wanted, update) => ended,
            }
        }
    });
    tasks.spawn("fetching of keys", {
        let stop = stop.clone();
        async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                () = follow_keys(fetching, wishes, told) => Ok(()),
            }
        }
    });
    tasks.spawn("event loop", {
        let stop = stop.clone();
        async move {
            event_loop.run(inbox, stop).await;
            Ok(())
        }
    });
    tasks.spawn("discovery service", async move {
        // Proxies are let in when there is something for them: until then they keep what they have.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            complete = is_ready => complete.context("the event loop ended before the source was complete")?,
        }
        let serving = xds::serve(listener, tls, cache, tokens, observer, Limits::default(), stop);
        if let Some(path) = ready_file {
            write_address(&path, address)?;
        }
        info!(%address, "ready");
        Ok(serving.await?)
    });
    tasks.join().await
}

fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    replace_file(path, format!("{address}\n").as_bytes(), Readable::Everyone)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The tasks of the process. The first that ends ends all.
struct Tasks {
    running: JoinSet<Ended>,
    names: BTreeMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    fn new(stop: CancellationToken) -> Self {
        Self { running: JoinSet::new(), names: BTreeMap::new(), stop }
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Ended> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until all have ended. The error is that of the first which ended without being told to.
    async fn join(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.running.join_next_with_id().await {
            let (id, ended) = match ended {
                Ok((id, ended)) => (id, ended),
                Err(error) => (error.id(), Err(anyhow!(error))),
            };
            let name = self.names.remove(&id).unwrap_or("task");
            let told_to = self.stop.is_cancelled();
            let ended = match ended {
                Ok(()) if told_to => Ok(()),
                Ok(()) => Err(anyhow!("the {name} ended by itself")),
                Err(error) => Err(error.context(format!("the {name} failed"))),
            };
            if outcome.is_ok() {
                outcome = ended;
            }
            self.stop.cancel();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_ends_the_others_and_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("patient", async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.spawn("source", async { Err(anyhow!("the disk is gone")) });
        assert_eq!(format!("{:#}", tasks.join().await.unwrap_err()), "the source failed: the disk is gone");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_a_silence() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("event loop", async { panic!("a bug") });
        let error = format!("{:#}", tasks.join().await.unwrap_err());
        assert!(error.starts_with("the event loop failed: ") && error.contains("panicked"), "{error}");
    }

    #[tokio::test]
    async fn a_task_that_has_no_more_to_do_is_an_error_unless_told_to_end() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("event loop", async { Ok(()) });
        assert_eq!(tasks.join().await.unwrap_err().to_string(), "the event loop ended by itself");

        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("event loop", {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    () = pending() => Ok(()),
                }
            }
        });
        stop.cancel();
        tasks.join().await.unwrap();
    }
}
