//! A scenario as its file has it: the claim, the manifests, and the requests with what is expected of them.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;
use tests::Lab;

/// What the last document of a scenario's file opens with.
const REQUESTS: &str = "requests:\n";

pub(super) struct Scenario {
    pub(super) claim: String,
    pub(super) manifests: String,
    requests: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    requests: Vec<Exchange>,
}

/// A request and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Exchange {
    /// Method, host as the caller says it, port if it is not 80, and path: `GET echo-v1:8080/path`. The
    /// method GRPC is a unary call.
    pub(super) ask: String,
    /// The caller's namespace and service account.
    #[serde(default = "default_caller")]
    pub(super) caller: String,
    /// Headers of the request.
    #[serde(default)]
    pub(super) with: BTreeMap<String, String>,
    /// The status of the response.
    #[serde(default = "default_status")]
    pub(super) status: u16,
    /// The pod that answers.
    pub(super) by: Option<String>,
    /// Headers of the response.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Headers that the response must not have.
    #[serde(default)]
    pub(super) without: Vec<String>,
    /// Where a redirect leads. A port that is its scheme's own may be left out or not.
    pub(super) location: Option<String>,
    /// What the pod received.
    #[serde(default)]
    pub(super) received: Received,
    /// The pod that gets a copy.
    pub(super) copy_to: Option<String>,
    /// How many of a hundred requests each pod answers. The request is sent often enough to tell.
    #[serde(default)]
    pub(super) shares: BTreeMap<String, usize>,
}

/// What a backend has to have received.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Received {
    /// The path.
    pub(super) path: Option<String>,
    /// Headers; the values of several of one name joined by commas.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Headers that must not have arrived.
    #[serde(default)]
    pub(super) without: Vec<String>,
}

fn default_caller() -> String {
    "gateway-conformance-mesh/echo-v1".to_owned()
}

fn default_status() -> u16 {
    200
}

impl Scenario {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let claim = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let claim =
            claim.with_context(|| format!("{}: the first line has to be the claim", path.display()))?;
        let (manifests, requests) = text
            .split_once(REQUESTS)
            .with_context(|| format!("{}: the last document has to be the requests", path.display()))?;
        let manifests = manifests.trim_end().trim_end_matches("---");
        Ok(Self {
            claim: claim.to_owned(),
            manifests: manifests.to_owned(),
            requests: format!("{REQUESTS}{requests}"),
        })
    }

    /// The requests, in the addresses of a lab.
    pub(super) fn exchanges(&self, lab: &Lab) -> Result<Vec<Exchange>> {
        let table: Table = serde_saphyr::from_str(&lab.loopback.localize(&self.requests))?;
        Ok(table.requests)
    }
}
