//! Child processes that end with us, even if we are killed, and whose output is kept for whoever debugs.

mod envoy;
mod portolan;

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

pub use envoy::Envoy;
pub use portolan::{Follower, Objects, Options, Portolan, probe};

use crate::until;

/// A running child process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`. What it prints is added to the file `log`.
    pub fn start<A: AsRef<OsStr>>(name: &str, program: &Path, arguments: &[A], log: &Path) -> Result<Self> {
        let mut command = with_death_signal(program);
        command.args(arguments);
        Self::run(name, command, log)
    }

    fn run(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening the log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn(command).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error if it has ended, with the last lines it printed. For loops that wait for something it does.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(anyhow!("{} ended with {status}; its last lines:\n{}", self.name, self.tail(20)))
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let what = format!("{} to end", self.name);
        until(&what, patience, async || self.ended()).await
    }

    /// Makes it stand still (SIGSTOP): its connections stay, and it answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("not a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Everything it printed.
    pub fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last `count` lines it printed.
    pub fn tail(&self, count: usize) -> String {
        tail(&self.log, count)
    }
}

/// The cargo that runs us, as if a person had started it. What it tells the programs it runs about
/// themselves would make build scripts run again that look at it, and with them half of the tree compile.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is all that is wanted.
        let _ = self.kill();
    }
}

/// The last `count` lines of a log; empty if there is none.
pub(crate) fn tail(log: &Path, count: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A command for `program` that the kernel kills when we end, however we end.
fn with_death_signal(program: &Path) -> Command {
    if SETPRIV.is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Whether `setpriv` of util-linux is there. Without it a child outlives us if we are killed, and
/// nothing else changes, so its absence is said once and not an error.
static SETPRIV: LazyLock<Option<()>> = LazyLock::new(|| {
    let version =
        Command::new("setpriv").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return Some(());
    }
    eprintln!("setpriv (package util-linux) is missing: child processes would survive a kill -9 of this one");
    None
});

type Order = (Command, Sender<std::io::Result<Child>>);

/// The thread that starts every child. The kernel sends the death signal when the *thread* that
/// started a child ends, and the threads of a runtime come and go; this one stays.
static STARTER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (orders, received) = channel::<Order>();
    thread::spawn(move || {
        for (mut command, reply) in received {
            // Nobody waits for the reply only if the caller is gone; dropping the reply ends nothing we need.
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(orders)
});

fn spawn(command: Command) -> Result<Child> {
    let (reply, started) = channel();
    STARTER
        .lock()
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    Ok(started.recv()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_child_prints_is_kept_and_dropping_it_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = ["-c", "echo out; echo err >&2; sleep 600"];
        let child = Process::start("sleeper", Path::new("/bin/sh"), &script, &log).unwrap();
        let printed = async || Ok((child.output()? == "out\nerr\n").then_some(()));
        until("the child to print", Duration::from_secs(10), printed).await.unwrap();
        let status = PathBuf::from(format!("/proc/{}", child.id()));
        drop(child);
        assert!(!status.exists(), "the child still runs");
    }

    #[tokio::test]
    async fn an_early_end_is_an_error_with_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut child =
            Process::start("failing", Path::new("/bin/sh"), &["-c", "echo no such port; exit 3"], &log)
                .unwrap();
        let failed = async || Ok(child.must_run().err());
        let error = until("the child to end", Duration::from_secs(10), failed).await.unwrap().to_string();
        assert!(error.contains("no such port") && error.contains('3'), "{error}");
    }
}
