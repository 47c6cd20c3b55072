//! The cases as their files have them.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tests::lab;

/// The mesh configuration that a case is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mesh {
    /// The trust domain, then its aliases; empty for `cluster.local` alone.
    pub(super) trust_domains: Vec<String>,
    /// How paths are normalized, as in `meshConfig.pathNormalization`; empty for the default.
    pub(super) normalization: String,
}

/// Policies, and requests that they judge.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) number: u16,
    pub(super) mesh: Mesh,
    /// Whether the ports carry bytes that are not HTTP.
    pub(super) tcp: bool,
    /// The rules of a RequestAuthentication of the set.
    pub(super) tokens: Vec<Value>,
    pub(super) policies: Vec<Policy>,
    pub(super) cases: Vec<Case>,
}

/// A policy in the namespace `foo`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(default)]
    pub(super) metadata: Value,
    pub(super) spec: Value,
}

/// A request and the verdict on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    #[serde(default)]
    pub(super) ask: Ask,
    pub(super) verdict: Verdict,
    #[serde(default)]
    pub(super) why: String,
}

/// What a request has that others have not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    /// Who asks: `namespace/account`, or a whole SPIFFE URI.
    pub(super) peer: String,
    /// Where the tunnel comes from.
    pub(super) from: String,
    /// What the tunnel dials.
    pub(super) to: SocketAddr,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) headers: Vec<(String, String)>,
    /// Version 2 instead of 1.1.
    pub(super) http2: bool,
    /// The claims of a token that is sent as `Authorization: Bearer`.
    pub(super) token: Option<Value>,
    /// The server name of a TLS client hello, which are the first bytes.
    pub(super) sni: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verdict {
    /// 200, or the bytes come back.
    Allow,
    /// 403 with the body `RBAC: access denied`, or no tunnel.
    Deny,
    /// 401: the token is no good.
    Unauthenticated,
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

impl Set {
    /// The addresses that the set's cases dial.
    pub(super) fn dialled(&self) -> impl Iterator<Item = SocketAddr> {
        self.cases.iter().map(|case| case.ask.to)
    }

    pub(super) fn needs_ipv6(&self) -> bool {
        self.dialled().any(|address| address.is_ipv6())
    }
}

/// Every set, in the order of the files' names. Addresses of 10.96.0.0/24 have become the set's own.
pub(super) fn read() -> Result<Vec<Set>> {
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
