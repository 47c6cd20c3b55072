//! Every case of the snapshots through a real Envoy: whatever users write, Envoy is never sent what it rejects.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tests::{
    Lab,
    case::{self, Case, Edit},
    lab,
    lab::Setup,
    loopback::PLACEHOLDER,
    process::Follower,
    until,
};
use translate::Change;

use crate::shop::{PATIENCE, message};

/// The file that holds the whole mesh of a case: one write is one commit.
const FILE: &str = "corpus.json";

/// A waypoint that no case names and no Envoy runs. Its one service changes with every step, and groups
/// are published in the order of their names, so when it was published the whole step was.
const MARKER: &str = "zzz-marker/waypoint";

/// The first of the lab's addresses for waypoints.
const FIRST_ADDRESS: usize = 150;

/// Objects by who they are.
type Objects = BTreeMap<ObjectRef, Value>;

#[test]
fn no_case_of_the_snapshots_makes_envoy_reject_anything() -> Result<()> {
    let cases = case::all(&lab::repository().join("tests/snapshots"))?;
    let gateways = gateways(&cases);
    let start = gateways.values().cloned().collect::<Vec<_>>();
    // Where endpoints of the cases are, so that what is made for a place is shown as well.
    let place = ["--region", "eu", "--zone", "a", "--node-name", "node-1"];
    let setup = Setup::default().file(FILE, &manifests(start, 0)).bootstrap(&place);
    lab::test(&setup, async |lab| {
        let mut corpus = Corpus { lab, log: lab.portolan.follow()?, counters: BTreeMap::new(), steps: 0 };
        let mut wrong = Vec::new();
        for case in &cases {
            let mut objects = Objects::new();
            edit(&mut objects, &case.defaults, &gateways);
            for step in &case.steps {
                edit(&mut objects, &step.edits, &gateways);
                let place = format!("{}/{}, step {:?}", case.folder, case.name, step.name);
                let rejected = corpus.play(&objects).await.with_context(|| place.clone())?;
                wrong.extend(rejected.into_iter().map(|why| format!("{place}: {why}")));
            }
        }
        eprintln!("{} cases in {} steps, for {} waypoints", cases.len(), corpus.steps, lab.envoys.len());
        ensure!(wrong.is_empty(), "Envoy was sent what it rejects:\n{}", wrong.join("\n"));
        Ok(())
    })
}

/// The lab, and what it has said so far.
struct Corpus<'a> {
    lab: &'a Lab,
    log: Follower,
    /// What each Envoy had rejected after the last step.
    counters: BTreeMap<String, u64>,
    steps: u64,
}

impl Corpus<'_> {
    /// Gives the mesh these objects and nothing else, waits until every Envoy has what follows, and gives
    /// what was rejected.
    async fn play(&mut self, objects: &Objects) -> Result<Vec<String>> {
        self.steps += 1;
        self.lab.write(FILE, &manifests(objects.values().cloned().collect(), self.steps))?;
        let mut wrong = Vec::new();
        let mut published = false;
        // By group, the latest revision that its Envoy has yet to acknowledge.
        let mut open = BTreeMap::<String, u64>::new();
        let all = until("a step to be published and acknowledged", PATIENCE, async || {
            for event in self.log.events()? {
                let group = event["group"].as_str().unwrap_or_default().to_owned();
                let revision = event["revision"].as_u64().unwrap_or_default();
                match message(&event) {
                    "published" if group == MARKER => published = true,
                    "published" if self.lab.envoys.contains_key(&group) => drop(open.insert(group, revision)),
                    "the waypoint is gone" => drop(open.remove(&group)),
                    "acknowledged" => open.retain(|of, wanted| *of != group || *wanted > revision),
                    "acknowledged, but for what was rejected" => {
                        open.retain(|of, wanted| *of != group || *wanted > revision);
                        wrong.push(format!("{group} does not have {}", event["rejected"]));
                    }
                    told if told.starts_with("rejected: ") => {
                        wrong.push(format!("{group}: {} {}: {told}", event["type_url"], event["resources"]));
                    }
                    _ => {}
                }
            }
            Ok((published && open.is_empty()).then_some(()))
        });
        let outcome = all.await;
        outcome.with_context(|| format!("published {published}, not acknowledged {open:?}, {wrong:?}"))?;
        let counters = self.lab.rejections().await?;
        for (name, count) in &counters {
            if self.counters.get(name) < Some(count) {
                wrong.push(format!("{name} is {count}"));
            }
        }
        self.counters = counters;
        Ok(wrong)
    }
}

/// The Gateways of all cases that are waypoints, as the first case has them, each with an address of the lab.
fn gateways(cases: &[Case]) -> BTreeMap<ObjectRef, Value> {
    let defaults = cases.iter().flat_map(|case| &case.defaults);
    let edits = defaults.chain(cases.iter().flat_map(|case| &case.steps).flat_map(|step| &step.edits));
    let mut gateways = BTreeMap::new();
    for Edit { change, manifest } in edits {
        let Change::Set(object) = change else { continue };
        let class = manifest["spec"]["gatewayClassName"].as_str().unwrap_or_default();
        if object.kind() == Kind::Gateway && class.ends_with("-waypoint") {
            gateways.entry(object.reference()).or_insert_with(|| manifest.clone());
        }
    }
    for (number, gateway) in gateways.values_mut().enumerate() {
        // Rewritten for the lab's own block when the file is written.
        let address = format!("{PLACEHOLDER}{}", FIRST_ADDRESS + number);
        gateway["spec"]["addresses"] = json!([{"type": "IPAddress", "value": address}]);
    }
    gateways
}

fn edit(objects: &mut Objects, edits: &[Edit], gateways: &BTreeMap<ObjectRef, Value>) {
    for Edit { change, manifest } in edits {
        match change {
            Change::Set(object) => {
                let reference = object.reference();
                let mut manifest = manifest.clone();
                // The address decides where the lab's Envoy listens and nothing else.
                if let Some(gateway) = gateways.get(&reference) {
                    manifest["spec"]["addresses"] = gateway["spec"]["addresses"].clone();
                }
                objects.insert(reference, manifest);
            }
            Change::Remove(reference) => drop(objects.remove(reference)),
            // Fetched by Portolan itself or not at all; here it has no network, and no cluster to deploy to.
            Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => {}
        }
    }
}

/// The objects and the marker of a step, as one file.
fn manifests(objects: Vec<Value>, step: u64) -> String {
    let (namespace, name) = MARKER.split_once('/').unwrap_or_default();
    let labels = json!({"istio.io/use-waypoint": name});
    let marker = json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "step", "namespace": namespace},
            "spec": {"clusterIP": "198.18.0.1", "ports": [{"name": "http", "port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "step", "namespace": namespace, "labels": {"kubernetes.io/service-name": "step"},
            },
            "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": [format!("198.19.{}.{}", step / 250, step % 250 + 1)]}],
        },
    ]);
    let items = [objects, marker.as_array().cloned().unwrap_or_default()].concat();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
