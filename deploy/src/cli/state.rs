//! The state directory on the command line.

use std::{env, ffi::OsString, path::PathBuf};

use anyhow::Context;
use clap::Args;

use crate::state::StateDirectory;

/// Where Portolan keeps its keys and its certificates between runs.
#[derive(Clone, Debug, Args)]
pub(super) struct StateArgument {
    /// The state directory [default: $XDG_STATE_HOME/portolan, else ~/.local/state/portolan; in a pod, a folder for temporary files: nothing in it has to last there]
    #[arg(long, value_name = "DIR", env = "PORTOLAN_STATE")]
    state: Option<PathBuf>,
}

impl StateArgument {
    pub(super) fn open(&self) -> anyhow::Result<StateDirectory> {
        let path = match &self.state {
            Some(path) => path.clone(),
            None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => env::temp_dir().join("portolan"),
            None => default_directory(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))
                .context("neither XDG_STATE_HOME nor HOME says where to keep state; use --state DIR")?,
        };
        StateDirectory::open(&path)
            .with_context(|| format!("cannot open the state directory {}", path.display()))
    }
}

/// As the XDG base directory specification has it: a relative path counts as not set.
fn default_directory(state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state_home = state_home.and_then(absolute);
    let base = state_home.or_else(|| home.and_then(absolute).map(|home| home.join(".local/state")))?;
    Some(base.join("portolan"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_where_the_desktop_specification_says() {
        let directory = |state_home: &str, home: &str| {
            default_directory(Some(state_home.into()), Some(home.into())).unwrap()
        };
        assert_eq!(directory("/s", "/home/a"), PathBuf::from("/s/portolan"));
        assert_eq!(directory("", "/home/a"), PathBuf::from("/home/a/.local/state/portolan"));
        assert_eq!(directory("relative", "/home/a"), PathBuf::from("/home/a/.local/state/portolan"));
        assert_eq!(default_directory(None, None), None);
    }
}
