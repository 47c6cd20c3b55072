//! The authorization cases of `tests/conformance/authz`: policies, requests, and the verdicts on them.
//!
//! Whoever has an opinion on them reads them here: a real Envoy, the evaluator, `portolan why`.

mod manifests;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

pub use manifests::{NAMESPACE, manifests};

use crate::{identity::spiffe, lab};

/// The mesh configuration that a case is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    /// The trust domain, then its aliases; empty for `cluster.local` alone.
    pub trust_domains: Vec<String>,
    /// How paths are normalized, as in `meshConfig.pathNormalization`; empty for the default.
    pub normalization: String,
}

/// Policies, and requests that they judge.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its own among all sets, and a part of its addresses.
    pub number: u16,
    /// Where it is played.
    pub mesh: Mesh,
    /// Whether the ports carry bytes that are not HTTP.
    pub tcp: bool,
    /// The rules of a RequestAuthentication of the set.
    pub tokens: Vec<Value>,
    /// AuthorizationPolicies, with their `spec` and what they have of `metadata`.
    pub policies: Vec<Policy>,
    /// What is asked.
    pub cases: Vec<Case>,
}

/// A policy in the namespace [`NAMESPACE`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    metadata: Value,
    spec: Value,
}

/// A request and the verdict on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, of which there is no other.
    pub id: String,
    /// What is sent.
    #[serde(default)]
    pub ask: Ask,
    /// What has to become of it.
    pub verdict: Verdict,
    /// What the case is about.
    #[serde(default)]
    pub why: String,
}

/// What a request has that others have not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Who asks: `namespace/account`, or a whole SPIFFE URI.
    pub peer: String,
    /// Where the tunnel comes from.
    pub from: String,
    /// What the tunnel dials.
    pub to: SocketAddr,
    /// As it is sent, in whatever case.
    pub method: String,
    /// With the query.
    pub path: String,
    /// `:authority`.
    pub host: String,
    /// Names and values, in their order. `JWT:iss=X` at the end of a value is a token by the issuer X.
    pub headers: Vec<(String, String)>,
    /// Version 2 instead of 1.1.
    pub http2: bool,
    /// What is sent as `Authorization: Bearer`: the claims of a token, or any text.
    pub token: Option<Value>,
    /// The server name of a TLS client hello, which are the first bytes.
    pub sni: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// 200, or the bytes come back.
    Allow,
    /// 403 with the body `RBAC: access denied`, or no tunnel.
    Deny,
    /// 401: the token is no good.
    Unauthenticated,
    /// 403 with another body: the token is somebody else's.
    Forbidden,
    /// 400: the codec takes no such request.
    Bad,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    set: u16,
    #[serde(default)]
    trust_domains: Vec<String>,
    #[serde(default)]
    normalization: String,
    #[serde(default)]
    tcp: bool,
    #[serde(default)]
    tokens: Vec<Value>,
    #[serde(default)]
    policies: Vec<Policy>,
    cases: Vec<Case>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            peer: "foo/a".to_owned(),
            from: "127.10.0.65".to_owned(),
            to: SocketAddr::from(([10, 96, 0, 10], 8080)),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: "svc.ns.svc.cluster.local".to_owned(),
            headers: Vec::new(),
            http2: false,
            token: None,
            sni: None,
        }
    }
}

impl Ask {
    /// The SPIFFE id that the caller's certificate has.
    pub fn peer_id(&self) -> String {
        match self.peer.split_once('/') {
            Some((namespace, account)) if !self.peer.contains("://") => spiffe(namespace, account),
            Some(_) | None => self.peer.clone(),
        }
    }

    /// The headers as they are sent: every token in them is what `sign` makes of its claims.
    pub fn headers(&self, mut sign: impl FnMut(&Value) -> Result<String>) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = match value.split_once("JWT:iss=") {
                Some((before, issuer)) => {
                    format!("{before}{}", sign(&json!({"iss": issuer, "sub": "some"}))?)
                }
                None => value.clone(),
            };
            headers.push((name.clone(), value));
        }
        if let Some(token) = &self.token {
            let token = token.as_str().map_or_else(|| sign(token), |text| Ok(text.to_owned()))?;
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        Ok(headers)
    }
}

/// Every set, in the order of the files' names. Addresses of 10.96.0.0/24 have become the set's own.
pub fn read() -> Result<Vec<Set>> {
    let mut paths = fs::read_dir(lab::repository().join("tests/conformance/authz"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    let mut sets = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        // Once for the numbers, and once more with the addresses that follow from them.
        let written: Vec<Written> =
            serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        for (index, set) in written.iter().enumerate() {
            ensure!(set.set < 255, "set {}: it is a part of addresses", set.set);
            let own = text
                .replace("10.96.0.", &format!("10.96.{}.", set.set))
                .replace("fd00::", &format!("fd00::{:x}:", set.set));
            let mut all: Vec<Written> = serde_saphyr::from_str(&own)?;
            sets.push(Set::of(all.swap_remove(index)));
        }
    }
    Ok(sets)
}

impl Set {
    /// The addresses that the cases dial, in order.
    pub fn dialled(&self) -> BTreeSet<IpAddr> {
        self.cases.iter().map(|case| case.ask.to.ip()).collect()
    }

    /// The trust domain of the case's caller, if it is none of the mesh.
    pub fn foreign<'c>(&self, case: &'c Case) -> Option<&'c str> {
        let (domain, _) = case.ask.peer.strip_prefix("spiffe://")?.split_once('/')?;
        let own = self.mesh.trust_domains.iter().any(|own| own == domain);
        let default = self.mesh.trust_domains.is_empty() && domain == "cluster.local";
        (!own && !default).then_some(domain)
    }

    fn of(written: Written) -> Self {
        let Written { set, trust_domains, normalization, tcp, tokens, policies, mut cases } = written;
        for case in &mut cases {
            if case.ask.to == Ask::default().to {
                let third = u8::try_from(set).unwrap_or_default();
                case.ask.to = SocketAddr::from(([10, 96, third, 10], 8080));
            }
        }
        Self { number: set, mesh: Mesh { trust_domains, normalization }, tcp, tokens, policies, cases }
    }
}
