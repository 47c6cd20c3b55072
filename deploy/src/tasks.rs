//! The tasks of the process: who owns them, and how it ends with the first of them.

use std::{collections::BTreeMap, future::Future};

use anyhow::anyhow;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// What a task of ours gives back: that it was told to end, or why it could not go on.
pub(crate) type Ended = anyhow::Result<()>;

/// The tasks of the process. The first that ends ends all.
pub(crate) struct Tasks {
    running: JoinSet<Ended>,
    names: BTreeMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet; `stop` tells all of them to end.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { running: JoinSet::new(), names: BTreeMap::new(), stop }
    }

    /// Starts one that goes on for ever, and is dropped when all are told to end.
    pub(crate) fn spawn_forever(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Ended> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                // Told to end, others hang up on it, which is then no failure of its own.
                biased;
                () = stop.cancelled() => Ok(()),
                ended = task => ended,
            }
        });
    }

    /// What tells them to end.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts one. `name` is for whoever reads why the process ended.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = Ended> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until all have ended. The error is that of the first which ended without being told to.
    pub(crate) async fn join(mut self) -> anyhow::Result<()> {
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
