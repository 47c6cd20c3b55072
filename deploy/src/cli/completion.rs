//! `portolan completion`: what a shell has to know to complete our commands.

use std::io::Write;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{generate, shells};

use super::{Arguments, Ending};

/// Print the script by which a shell completes these commands.
#[derive(Debug, Args)]
#[command(after_help = "bash: source <(portolan completion bash)\n\
                        zsh:  portolan completion zsh > \"${fpath[1]}/_portolan\"\n\
                        fish: portolan completion fish | source")]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// Prints it to `out`.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Ending> {
        let command = &mut Arguments::command();
        let name = command.get_name().to_owned();
        // What clap_complete writes to may not fail, and ours may: its reader may have gone.
        let mut script = Vec::new();
        match self.shell {
            Shell::Bash => generate(shells::Bash, command, name, &mut script),
            Shell::Zsh => generate(shells::Zsh, command, name, &mut script),
            Shell::Fish => generate(shells::Fish, command, name, &mut script),
        }
        out.write_all(&script)?;
        Ok(Ending::Well)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in ["bash", "zsh", "fish"] {
            let mut out = Vec::new();
            let arguments = Arguments::parse_from(["portolan", "completion", shell]);
            assert_eq!(arguments.run(&mut out, &mut Vec::new()).unwrap(), Ending::Well);
            let script = String::from_utf8(out).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
