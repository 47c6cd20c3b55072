//! Whether the process works, and whether it serves: what its probes ask.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::Question;

/// How long the event loop may take to answer. A commit that is longer makes a probe fail, and a kubelet
/// asks several times before it gives up.
const BOUND: Duration = Duration::from_secs(4);
/// How many may ask at a time. Were the loop stuck, nobody would wait behind more of them.
const ASKING: usize = 16;

/// What is known of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: Arc<Mutex<State>>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// What is read and not complete, as a role would call it.
    missing: Vec<String>,
    /// What is wrong with reading, or keeps us from it.
    wrong: Vec<String>,
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is no event loop yet: what it needs is waited for.
    #[default]
    Starting,
    /// It gathers what exists.
    Gathering,
    /// Proxies are served.
    Serving,
}

impl Health {
    /// The health of a process that starts, and what its event loop will be asked.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(ASKING);
        (Self { state: Arc::default(), questions }, asked)
    }

    /// The event loop runs, and answers from now on.
    pub(crate) fn gathering(&self) {
        self.state.lock().stage = Stage::Gathering;
    }

    /// Proxies are served from now on.
    pub(crate) fn serving(&self) {
        self.state.lock().stage = Stage::Serving;
    }

    /// What is not complete now.
    pub(crate) fn lacks(&self, missing: Vec<String>) {
        self.state.lock().missing = missing;
    }

    /// What is wrong now.
    pub(crate) fn complain(&self, wrong: Vec<String>) {
        self.state.lock().wrong = wrong;
    }

    /// An error, for whoever reads the probe's answer, if the event loop does not answer. That something is
    /// not there yet is no error: starting again would not bring it.
    pub(crate) async fn alive(&self) -> Result<(), String> {
        self.answers_within(BOUND).await
    }

    async fn answers_within(&self, bound: Duration) -> Result<(), String> {
        match self.state.lock().stage {
            Stage::Starting => return Ok(()),
            Stage::Gathering | Stage::Serving => {}
        }
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.questions.send(Question::Alive(answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(bound, asking).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err("the event loop has ended".to_owned()),
            Err(_) => Err(format!("the event loop has not answered for {bound:?}")),
        }
    }

    /// What keeps us from serving, a line for each thing, as an error.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let state = self.state.lock();
        match state.stage {
            Stage::Serving => return Ok(()),
            Stage::Starting | Stage::Gathering => {}
        }
        let missing = state.missing.iter().map(|missing| format!("missing: {missing}"));
        let wrong = state.wrong.iter().map(|wrong| format!("wrong: {wrong}"));
        let lines: Vec<String> =
            ["not everything is read yet".to_owned()].into_iter().chain(missing).chain(wrong).collect();
        Err(lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_waits_for_others_is_healthy_and_not_ready() {
        let (health, _asked) = Health::new();
        health.complain(vec!["the API server does not answer".to_owned()]);
        assert_eq!(health.alive().await, Ok(()));
        let expected = "not everything is read yet\nwrong: the API server does not answer";
        assert_eq!(health.ready(), Err(expected.to_owned()));
        health.gathering();
        health.complain(Vec::new());
        health.lacks(vec!["pods".to_owned()]);
        assert_eq!(health.ready(), Err("not everything is read yet\nmissing: pods".to_owned()));
        health.serving();
        assert_eq!(health.ready(), Ok(()));
    }

    #[tokio::test]
    async fn a_loop_that_is_stuck_is_unhealthy_and_one_that_answers_is_not() {
        let (health, mut asked) = Health::new();
        health.serving();
        let stuck = Err("the event loop has not answered for 20ms".to_owned());
        let bound = Duration::from_millis(20);
        assert_eq!(health.answers_within(bound).await, stuck);
        let answering = async {
            while let Some(Question::Alive(answer)) = asked.recv().await {
                answer.send(()).ok();
            }
        };
        tokio::select! {
            alive = health.alive() => assert_eq!(alive, Ok(())),
            () = answering => panic!("nobody asks"),
        }
        // Asked so often that no question finds a place any more.
        for _ in 0..ASKING {
            health.questions.try_send(Question::Alive(oneshot::channel().0)).unwrap();
        }
        assert_eq!(health.answers_within(bound).await, stuck);
        drop(asked);
        assert_eq!(health.alive().await, Err("the event loop has ended".to_owned()));
    }
}
