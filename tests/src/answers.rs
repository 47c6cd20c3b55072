//! What the proxies of a waypoint have, as a step of a case writes it.
//!
//! ```yaml
//! --- # step: one of two proxies has not answered yet, and the other rejected a cluster
//! proxies: default/waypoint
//! ready: 2
//! waiting: {Route default/web:80: 1}
//! rejected: {"Cluster outbound|80||web.default.svc.cluster.local": {by: 1, words: no such filter}}
//! ```
//!
//! Of all else that was published before the step they have the last version. With `forgotten: true`
//! nobody looks at them any more.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use proto::{Name, TypeUrl, Version};
use serde::Deserialize;
use serde_json::Value;
use translate::{Audience, Change, Proxies, Seen, Taken};

/// What the proxies of a waypoint have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    proxies: String,
    #[serde(default)]
    ready: u32,
    #[serde(default)]
    starting: u32,
    #[serde(default)]
    forgotten: bool,
    #[serde(default)]
    waiting: BTreeMap<String, u32>,
    #[serde(default)]
    rejected: BTreeMap<String, Rejected>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    by: u32,
    words: String,
}

impl Answers {
    /// Reads a document of a case, if it is one of these.
    pub fn read(document: &Value) -> Option<Result<Self>> {
        document.get("proxies")?;
        Some(serde_json::from_value(document.clone()).map_err(|error| anyhow!(error)))
    }

    /// What the mesh is told, where this is `published`. A resource that is named and not there is an error.
    pub fn changes<'p>(
        &self,
        published: impl IntoIterator<Item = (&'p Audience, TypeUrl, &'p Name, Version)>,
    ) -> Result<Vec<Change>> {
        let (namespace, name) = self.proxies.split_once('/').context("proxies: NAMESPACE/NAME")?;
        let waypoint = Audience { namespace: namespace.into(), name: name.into() };
        let proxies = Proxies { ready: self.ready, starting: self.starting };
        let proxies = Seen::Proxies(waypoint.clone(), (!self.forgotten).then_some(proxies));
        let mut told = vec![Change::Seen(proxies)];
        let mut named: Vec<&String> = self.waiting.keys().chain(self.rejected.keys()).collect();
        for (_, type_url, name, version) in published.into_iter().filter(|(of, ..)| **of == waypoint) {
            let shown = format!("{type_url} {name}");
            named.retain(|one| **one != shown);
            let rejected = self.rejected.get(&shown);
            let taken = Taken {
                version,
                waiting: self.waiting.get(&shown).copied().unwrap_or_default(),
                rejected: rejected.map_or(0, |rejected| rejected.by),
                words: rejected.map(|rejected| rejected.words.as_str().into()),
            };
            // As the control plane has it: of most types only what was rejected.
            let awaited = matches!(type_url, TypeUrl::Listener | TypeUrl::Route);
            let taken = (awaited || rejected.is_some()).then_some(taken);
            told.push(Change::Seen(Seen::Taken(waypoint.clone(), type_url, name.clone(), taken)));
        }
        anyhow::ensure!(named.is_empty(), "not published: {named:?}");
        Ok(told)
    }
}
