//! The authorization cases: every request through a real Envoy over HBONE, with the verdict that it must get.
//!
//! A file in `authz/` is a list of sets. A set is some policies, all of them attached to the set's own
//! Services, and the requests that they judge. All sets of one mesh configuration run side by side
//! behind one waypoint, so that one Envoy and one control plane judge them all at once, and a policy that
//! leaked from one Service to another would change some verdict.
//!
//! A request is a GET of `/` from `cluster.local/ns/foo/sa/a` at 127.10.0.65 to port 8080, and whatever
//! the case says differently. Each set has addresses of its own: 10.96.0.10 stands for its Service, any
//! other 10.96.0.N for another one with the same policies.

mod ask;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::json;
use tests::{
    Lab,
    authorization::{self, Case, Mesh, Set, manifests},
    lab::{self, Setup},
    until,
};

use ask::{FOREIGN, ISSUER, judged};

/// How many requests are on their way at a time.
const AT_ONCE: usize = 16;

/// The meshes that are started, each once for all tests, and what became of its cases.
static PLAYED: LazyLock<[Played; 3]> = LazyLock::new(|| {
    let trust_domains = vec!["td1".to_owned(), "old-td".to_owned()];
    let normalization = "DECODE_AND_MERGE_SLASHES".to_owned();
    [Mesh::default(), Mesh { trust_domains, ..Mesh::default() }, Mesh { normalization, ..Mesh::default() }]
        .map(|mesh| Played { mesh, outcomes: OnceLock::new() })
});

struct Played {
    mesh: Mesh,
    outcomes: OnceLock<Outcomes>,
}

/// Why a case did not get its verdict, if it did not.
type Outcomes = BTreeMap<String, Result<(), String>>;

#[test]
fn every_authorization_case_gets_its_verdict() -> Result<()> {
    PLAYED[0].holds()
}

#[test]
fn every_case_of_trust_domain_aliases_gets_its_verdict() -> Result<()> {
    PLAYED[1].holds()
}

#[test]
fn every_case_of_decoded_slashes_gets_its_verdict() -> Result<()> {
    PLAYED[2].holds()
}

/// A case of a mesh that no test starts would look like one that passes.
#[test]
fn every_case_is_played() -> Result<()> {
    let sets = authorization::read()?;
    for set in &sets {
        let played = PLAYED.iter().any(|played| played.mesh == set.mesh);
        ensure!(played, "set {}: no test starts {:?}", set.number, set.mesh);
    }
    let cases: Vec<&str> = sets.iter().flat_map(|set| &set.cases).map(|case| case.id.as_str()).collect();
    let distinct: BTreeSet<&str> = cases.iter().copied().collect();
    ensure!(distinct.len() == cases.len(), "two cases have one name");
    ensure!(cases.len() >= 236, "{} cases; the table has 236", cases.len());
    Ok(())
}

/// Each of these cases gets its verdict.
pub(crate) fn shown_by(ids: &[&str]) -> Result<()> {
    let sets = authorization::read()?;
    for id in ids {
        let set = sets.iter().find(|set| set.cases.iter().any(|case| case.id == *id));
        let set = set.with_context(|| format!("{id} is no case"))?;
        let played = PLAYED.iter().find(|played| played.mesh == set.mesh).context("nobody plays it")?;
        if let Err(error) = &played.outcomes()[*id] {
            bail!("{id}: {error}");
        }
    }
    Ok(())
}

impl Played {
    fn holds(&self) -> Result<()> {
        let wrong = self.outcomes().iter().filter_map(|(id, outcome)| Some((id, outcome.as_ref().err()?)));
        let faults: Vec<String> = wrong.map(|(id, error)| format!("{id}: {error}")).collect();
        ensure!(faults.is_empty(), "{} cases are wrong:\n{}", faults.len(), faults.join("\n"));
        Ok(())
    }

    /// What became of the cases of the mesh, which are played when somebody asks first.
    fn outcomes(&self) -> &Outcomes {
        self.outcomes.get_or_init(|| {
            let outcomes = Mutex::default();
            let played = play_all(&self.mesh, &outcomes);
            let outcomes: Outcomes = outcomes.into_inner();
            assert!(!outcomes.is_empty(), "no case was played: {played:?}");
            outcomes
        })
    }
}

/// Plays every case of the sets in `mesh`. It fails if one is wrong, so that the logs are shown.
fn play_all(mesh: &Mesh, outcomes: &Mutex<Outcomes>) -> Result<()> {
    let sets: Vec<Set> = authorization::read()?.into_iter().filter(|set| set.mesh == *mesh).collect();
    let six = sets.iter().flat_map(Set::dialled).any(|address| address.is_ipv6());
    let _six = six.then(claim_ipv6).transpose()?;
    let objects = manifests(mesh, &sets, &ISSUER.jwks(), FOREIGN.root_pem(), six);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let setup = Setup::default().file("cases.json", &serde_json::to_string_pretty(&list)?);
    lab::test(&setup, async |lab| {
        let all = sets.iter().flat_map(|set| set.cases.iter().map(move |case| (set, case)));
        let played = stream::iter(all).map(async |(set, case)| (case, play(lab, set, case).await));
        let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
        let told = played.into_iter().map(|(case, outcome)| {
            let outcome = outcome.map_err(|error| format!("{error:#} ({})", case.why));
            (case.id.clone(), outcome)
        });
        let told: Outcomes = told.collect();
        let wrong = told.values().filter(|outcome| outcome.is_err()).count();
        outcomes.lock().extend(told);
        ensure!(wrong == 0, "{wrong} cases are wrong");
        Ok(())
    })
}

async fn play(lab: &Lab, set: &Set, case: &Case) -> Result<()> {
    let verdict = judged(lab, set, case).await?;
    ensure!(verdict == case.verdict, "{verdict:?} and not {:?}", case.verdict);
    Ok(())
}

/// Of the loopback addresses of IPv6 there is only one, so labs take turns with it.
fn claim_ipv6() -> Result<TcpListener> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(until("the IPv6 loopback address to be free", Duration::from_mins(5), async || {
            Ok(TcpListener::bind("[::1]:15099").ok())
        }))
        .context("the machine has to have the address ::1")
}
