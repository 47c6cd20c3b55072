//! The chart, rendered by Helm as its users render it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::{lab, packaged::HELM};

/// The name of the release that is rendered.
pub const RELEASE: &str = "mesh";

/// What is passed to Helm beside the chart.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Rendering {
    arguments: Vec<String>,
}

impl Rendering {
    /// With the values of a file.
    pub fn values(mut self, file: &Path) -> Self {
        self.arguments.extend(["--values".to_owned(), file.display().to_string()]);
        self
    }

    /// With a value, as in `log.format=text`.
    pub fn set(mut self, value: &str) -> Self {
        self.arguments.extend(["--set".to_owned(), value.to_owned()]);
        self
    }

    /// The objects that a release in `namespace` has. An error is Helm's, in its words.
    pub async fn objects(&self, namespace: &str) -> Result<Vec<Value>> {
        // The oldest release that is meant in production; the chart asks for no newer one.
        let mut arguments = vec!["template", RELEASE, "--namespace", namespace, "--kube-version", "1.30.0"];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let rendered = helm(&arguments).await?;
        serde_saphyr::from_multiple(&rendered).map_err(|error| anyhow!("what Helm rendered: {error}"))
    }
}

/// Looks for mistakes in the chart, and takes warnings for some.
pub async fn lint() -> Result<()> {
    helm(&["lint", "--strict"]).await.map(drop)
}

/// Where the chart is.
pub fn folder() -> PathBuf {
    lab::repository().join("deploy/chart")
}

async fn helm(arguments: &[&str]) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let output = Command::new(HELM.find()?).args(arguments).arg(folder()).output();
        let output = output.context("helm does not start")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{out}{err}");
        Ok(out.into_owned())
    })
    .await?
}
