//! The command line: what can be asked of `portolan`, and how it ends.

mod age;
mod bootstrap;
mod cluster;
mod completion;
mod format;
mod gateway;
mod keys;
mod lifetime;
mod mesh;
mod own;
mod place;
mod proxies;
mod report;
mod serve;
mod source;
mod state;
mod statuses;
mod table;
mod template;
mod translate;
mod waypoint;
mod why;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::{
    bootstrap::Bootstrap,
    completion::Completion,
    proxies::{ProxyConfig, ProxyStatus},
    serve::Serve,
    translate::Translate,
    waypoint::Waypoint,
    why::Why,
};

/// A control plane that drives stock Envoys as the waypoints of an ambient mesh.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<Serve>),
    Translate(Translate),
    Bootstrap(Bootstrap),
    Waypoint(Waypoint),
    Why(Why),
    ProxyStatus(ProxyStatus),
    ProxyConfig(ProxyConfig),
    Completion(Completion),
}

/// How a command that did its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There was nothing to complain of.
    Well,
    /// The work is done, and something that it read is wrong.
    WithComplaints,
    /// `why`: it is denied.
    Denied,
    /// `why`: there is no answer, and standard error says for what reason.
    WithoutAnswer,
    /// `why`: an extension provider decides.
    ProviderDecides,
    /// `why`: no waypoint judges it.
    NotJudged,
    /// `waypoint`: it is not programmed, or not in time.
    NotProgrammed,
    /// `proxy-status`, `proxy-config`: a proxy lacks something.
    Lacking,
    /// The same: a replica of the control plane does not answer, and nothing else is wrong.
    Unanswered,
}

impl Ending {
    /// The exit code: a promise to scripts.
    pub const fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::WithComplaints | Self::Denied => 1,
            Self::WithoutAnswer => 2,
            Self::ProviderDecides | Self::NotProgrammed | Self::Lacking => 3,
            Self::NotJudged | Self::Unanswered => 4,
        }
    }
}

/// Runs a command as a process: its result goes to standard output, what there is to say of it to
/// standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let err = &mut io::stderr();
    match arguments.run(&mut io::stdout().lock(), err) {
        Ok(ending) => ending.code().into(),
        // The reader has seen enough, as in `portolan translate … | head`.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed too, the exit code is all that is left to say it with.
            writeln!(err, "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    /// Runs the command. Its result is written to `out`, what is wrong with what it read to `err`.
    pub fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Translate(command) => command.run(out, err),
            Command::Bootstrap(command) => command.run(out),
            Command::Waypoint(command) => command.run(out, err),
            Command::Why(command) => command.run(out, err),
            Command::ProxyStatus(command) => command.run(out, err),
            Command::ProxyConfig(command) => command.run(out, err),
            Command::Completion(command) => command.run(out),
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn error(arguments: &[&str]) -> ErrorKind {
        let arguments = std::iter::once("portolan").chain(arguments.iter().copied());
        Arguments::try_parse_from(arguments).unwrap_err().kind()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_shortest_commands_are_enough() {
        for arguments in [
            &["portolan", "serve"][..],
            &["portolan", "serve", "--dir", "manifests"],
            &["portolan", "serve", "--context", "kind-mesh"],
            &["portolan", "translate", "manifests"],
            &["portolan", "bootstrap", "--gateway", "default/waypoint"],
            &["portolan", "why", "manifests", "--from", "a/b", "--to", "c:80"],
            &["portolan", "why", "--context", "kind-mesh", "--from", "a/b", "--to", "c:80"],
            &["portolan", "translate", "--current-context"],
            &["portolan", "waypoint", "apply"],
            &["portolan", "waypoint", "list"],
            &["portolan", "waypoint", "status"],
            &["portolan", "waypoint", "delete", "waypoint"],
            &["portolan", "completion", "bash"],
        ] {
            Arguments::try_parse_from(arguments).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(error(&["serve", "--dir", "d", "--context", "c"]), ErrorKind::ArgumentConflict);
        assert_eq!(error(&["serve", "--dir", "d", "--kubeconfig", "f"]), ErrorKind::ArgumentConflict);
        assert_eq!(error(&["serve", "--dir", "d", "--listen", "localhost"]), ErrorKind::ValueValidation);
        assert_eq!(error(&["serve", "--dir", "d", "--bind", "nowhere"]), ErrorKind::InvalidValue);
        assert_eq!(
            error(&["serve", "--dir", "d", "--certificate-lifetime", "0s"]),
            ErrorKind::ValueValidation
        );
        assert_eq!(error(&["bootstrap", "--gateway", "waypoint"]), ErrorKind::ValueValidation);
        assert_eq!(error(&["translate", "d", "-o", "xml"]), ErrorKind::InvalidValue);
        let why = ["why", "d", "--from", "a/b", "--to", "c:80"];
        assert_eq!(error(&[&why[..4], &["--to", "c"]].concat()), ErrorKind::ValueValidation);
        for more in [
            &["GET"][..],
            &["GET", "path"],
            &["-H", "x: y"],
            &["GET", "/", "--sni", "x"],
            &["--context", "c"],
        ] {
            let arguments = [&["portolan"], &why[..], more].concat();
            let ended = Arguments::parse_from(arguments).run(&mut Vec::new(), &mut Vec::new());
            assert_eq!(ended.unwrap(), Ending::WithoutAnswer, "{more:?}");
        }
        assert_eq!(error(&["translate"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(error(&["translate", "d", "--current-context"]), ErrorKind::ArgumentConflict);
        let apply = ["waypoint", "apply"];
        assert_eq!(error(&[&apply[..], &["--name", "none"]].concat()), ErrorKind::ValueValidation);
        assert_eq!(error(&[&apply[..], &["--waypoint-timeout", "1"]].concat()), ErrorKind::ValueValidation);
        assert_eq!(error(&["waypoint", "delete"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(error(&["waypoint", "delete", "a", "--all"]), ErrorKind::ArgumentConflict);
        assert_eq!(error(&["waypoint", "list", "-A", "-n", "a"]), ErrorKind::ArgumentConflict);
    }
}
