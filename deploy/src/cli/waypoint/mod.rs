//! `portolan waypoint`: waypoints as users have them, in the words of `istioctl waypoint`.

mod apply;
mod delete;
mod generate;
mod list;
mod live;
mod objects;
mod scope;
mod status;
#[cfg(test)]
mod tests;

use std::io::Write;

use clap::{Args, Subcommand};
use tokio::runtime;

use self::{apply::Apply, delete::Delete, generate::Generate, list::List, objects::Objects, status::Status};
use super::Ending;

/// Make and look at waypoints.
#[derive(Debug, Args)]
pub(super) struct Waypoint {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(Generate),
    Apply(Apply),
    List(List),
    Status(Status),
    Delete(Delete),
    Objects(Objects),
}

impl Waypoint {
    /// Prints to `out`; what is wrong is told on `err`.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let runtime = || runtime::Builder::new_current_thread().enable_all().build();
        match self.command {
            Command::Generate(command) => command.run(out),
            Command::Apply(command) => runtime()?.block_on(command.run(out, err)),
            Command::List(command) => runtime()?.block_on(command.run(out, err)),
            Command::Status(command) => runtime()?.block_on(command.run(out, err)),
            Command::Delete(command) => runtime()?.block_on(command.run(out, err)),
            Command::Objects(command) => command.run(out, err),
        }
    }
}
