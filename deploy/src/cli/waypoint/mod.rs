//! `portolan waypoint`: waypoints as users have them, in the words of `istioctl waypoint`.

mod generate;
mod objects;

use std::io::Write;

use clap::{Args, Subcommand};

use self::{generate::Generate, objects::Objects};
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
    Objects(Objects),
}

impl Waypoint {
    /// Prints to `out`; what is wrong is told on `err`.
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        match &self.command {
            Command::Generate(command) => command.run(out),
            Command::Objects(command) => command.run(out, err),
        }
    }
}
