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

use std::{collections::BTreeSet, net::TcpListener, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::json;
use tests::{
    Lab,
    authorization::{self, Case, Mesh, Set, manifests},
    lab::{self, Setup},
    until,
};

use ask::{FOREIGN, ISSUER, judged};

/// Cases that do not get their verdict yet, each with what it waits for. One of them that does get it
/// fails the test, so that the list can only become shorter.
const PENDING: [(&str, &[&str]); 1] = [("connection.sni", &["T449"])];

/// What has gone wrong before, in Istio or Envoy, where a control plane decides whether it can again: the
/// advisory, and the cases that would get another verdict.
const ADVISORIES: [(&str, &[&str]); 16] = [
    ("CVE-2019-9901: dot segments", &["T243", "T244"]),
    ("CVE-2020-8595, CVE-2021-39156: query or fragment in a path", &["T225", "T282"]),
    ("CVE-2020-16844: suffixes of principals", &["T046", "T048", "T049"]),
    ("CVE-2021-21378: tokens that may be missing", &["T409", "T411", "T412"]),
    ("CVE-2021-29492: escaped slashes", &["T256", "T257", "T258"]),
    ("CVE-2021-31920: multiple slashes", &["T246", "T255"]),
    ("CVE-2021-39155: hosts in another case", &["T179", "T193"]),
    ("CVE-2021-32777, CVE-2026-26308: repeated headers", &["T317", "T318", "T319"]),
    ("CVE-2025-46821: characters that templates do not know", &["T291", "T292", "T293", "T294", "T300"]),
    ("CVE-2026-39350, istio 59992: dots in accounts, namespaces and principals", &["T077", "T080", "T066"]),
    ("CVE-2026-73551: parameters of dot segments", &["T261"]),
    ("ISTIO-SECURITY-2021-002: which port is meant", &["T151", "T152", "T155", "T156"]),
    ("ISTIO-SECURITY-2021-004: what is not said of a caller", &["T054", "T055", "T072", "T095"]),
    ("addresses of a tunnel that never match", &["T131", "T132", "T135", "T136", "T445"]),
    ("methods in small letters by HTTP/2", &["T201"]),
    ("mistakes that open", &["T467", "T469", "T471", "T472", "T474"]),
];

/// How many requests are on their way at a time.
const AT_ONCE: usize = 16;

#[test]
fn every_authorization_case_gets_its_verdict() -> Result<()> {
    holds(&Mesh::default())
}

#[test]
fn every_case_of_trust_domain_aliases_gets_its_verdict() -> Result<()> {
    let trust_domains = vec!["td1".to_owned(), "old-td".to_owned()];
    holds(&Mesh { trust_domains, ..Mesh::default() })
}

#[test]
fn every_case_of_decoded_slashes_gets_its_verdict() -> Result<()> {
    holds(&Mesh { normalization: "DECODE_AND_MERGE_SLASHES".to_owned(), ..Mesh::default() })
}

/// A case of a mesh that no test starts would look like one that passes.
#[test]
fn every_case_is_played_and_every_pending_one_is_a_case() -> Result<()> {
    let sets = authorization::read()?;
    let played = [
        Mesh::default(),
        Mesh { trust_domains: vec!["td1".to_owned(), "old-td".to_owned()], ..Mesh::default() },
        Mesh { normalization: "DECODE_AND_MERGE_SLASHES".to_owned(), ..Mesh::default() },
    ];
    for set in &sets {
        ensure!(played.contains(&set.mesh), "set {}: no test starts {:?}", set.number, set.mesh);
    }
    let cases: Vec<&str> = sets.iter().flat_map(|set| &set.cases).map(|case| case.id.as_str()).collect();
    let distinct: BTreeSet<&str> = cases.iter().copied().collect();
    ensure!(distinct.len() == cases.len(), "two cases have one name");
    ensure!(cases.len() == 236, "{} cases; the table has 236", cases.len());
    for id in PENDING.iter().flat_map(|(_, ids)| *ids) {
        ensure!(distinct.contains(id), "{id} is pending and no case");
    }
    for (advisory, ids) in ADVISORIES {
        for id in ids {
            ensure!(distinct.contains(id), "{id} shows {advisory}, and is no case");
        }
    }
    Ok(())
}

/// Plays every case of the sets in `mesh`.
fn holds(mesh: &Mesh) -> Result<()> {
    let sets: Vec<Set> = authorization::read()?.into_iter().filter(|set| set.mesh == *mesh).collect();
    let six = sets.iter().flat_map(Set::dialled).any(|address| address.is_ipv6());
    let _six = six.then(claim_ipv6).transpose()?;
    let objects = manifests(mesh, &sets, &ISSUER.jwks(), FOREIGN.root_pem(), six);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let setup = Setup::default().file("cases.json", &serde_json::to_string_pretty(&list)?);
    lab::test(&setup, async |lab| {
        let all = sets.iter().flat_map(|set| set.cases.iter().map(move |case| (set, case)));
        let played = stream::iter(all).map(async |(set, case)| (case, play(lab, set, case).await));
        let outcomes: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
        let pending = |case: &Case| PENDING.iter().find(|(_, ids)| ids.contains(&case.id.as_str()));
        let mut faults = Vec::new();
        let (mut right, mut waiting) = (0, 0);
        for (case, outcome) in outcomes {
            match (outcome, pending(case)) {
                (Ok(()), None) => right += 1,
                (Ok(()), Some((cause, _))) => {
                    faults.push(format!("{} gets its verdict: take it from the list of {cause:?}", case.id));
                }
                (Err(error), None) => {
                    let of = ADVISORIES.iter().filter(|(_, ids)| ids.contains(&case.id.as_str()));
                    let of: Vec<_> = of.map(|(advisory, _)| *advisory).collect();
                    faults.push(format!("{}: {error:#} ({}) {of:?}", case.id, case.why));
                }
                (Err(_), Some(_)) => waiting += 1,
            }
        }
        faults.sort();
        eprintln!("{mesh:?}: {right} cases get their verdicts, {waiting} are pending");
        ensure!(faults.is_empty(), "{} cases are wrong:\n{}", faults.len(), faults.join("\n"));
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
