//! Edits of a policy's file with a real Envoy: when it has acknowledged each, and when requests are judged by it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::{
    CHANGE_BYTES,
    spread::{Span, Times},
};
use crate::{
    Lab, demo,
    exchange::{Request, Session, Version},
    lab::Setup,
};

/// The file that is edited, and what it says of methods before and after an edit.
const FILE: &str = "webapp.yaml";
const METHODS: [&str; 2] = [r#"methods: ["GET"]"#, r#"methods: ["GET", "POST"]"#];

/// How long an edit may take before the control plane counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rest between two requests, so that asking does not compete with what is measured. It is also how
/// exactly the first request that is judged by an edit can be told.
const PAUSE: Duration = Duration::from_millis(1);

/// What a number of edits cost, one after another.
#[derive(Clone, Debug, Serialize)]
pub struct Edits {
    /// How many.
    pub edits: usize,
    /// From the file written to Envoy's acknowledgement, as the log of `portolan serve` has it.
    pub acknowledged: Times,
    /// The part of it from when the event loop got the change. The rest is noticing and reading the file.
    pub delivered: Times,
    /// From the file written to the response of the first request that was judged by it.
    pub in_force: Times,
    /// Resources that all waypoints together were sent for an edit.
    pub resources: Span,
    /// In how many bytes of DeltaDiscoveryResponses.
    pub bytes: Span,
    /// Streams that were sent anything.
    pub streams: Span,
    /// Envoys' drain counters that moved, as `gateway: counter`, from and to.
    pub drained: BTreeMap<String, (u64, u64)>,
    /// What an Envoy rejected, as `gateway: counter`.
    pub rejected: BTreeMap<String, u64>,
}

/// What one edit cost.
struct Measured {
    acknowledged: Duration,
    delivered: Duration,
    in_force: Duration,
    resources: usize,
    bytes: usize,
    streams: usize,
}

/// Starts the lab of the demo, on that Envoy if one is named, and edits a policy's file `count` times.
pub async fn measure(envoy: Option<PathBuf>, count: usize) -> Result<Edits> {
    let lab = Lab::start(&Setup { envoy, ..demo::setup() }).await?;
    let outcome = edits(&lab, count).await;
    outcome.with_context(|| lab.last_lines())
}

/// What is wrong with the counts; nothing if they are as promised. Times are never wrong.
pub fn wrong(edits: &Edits) -> Vec<String> {
    let Edits { resources, bytes, streams, drained, rejected, .. } = edits;
    let mut wrong = Vec::new();
    if !resources.is(1) {
        wrong.push(format!("an edit moved {resources} resources, not 1"));
    }
    if bytes.most > CHANGE_BYTES {
        wrong.push(format!("an edit was {bytes} bytes, not at most {CHANGE_BYTES}"));
    }
    if !streams.is(1) {
        wrong.push(format!("an edit was told to {streams} Envoys, not 1"));
    }
    wrong.extend(drained.iter().map(|(counter, (from, to))| format!("{counter} went from {from} to {to}")));
    wrong.extend(rejected.iter().map(|(counter, count)| format!("{counter} is {count}")));
    wrong
}

async fn edits(lab: &Lab, count: usize) -> Result<Edits> {
    let caller = lab.client("webapp", "curl")?;
    let mut session = caller.session("web.webapp:80", Version::Http1).await?;
    let before = drains(lab).await?;
    let mut all = Vec::new();
    for number in 0..count {
        let [old, new] = if number % 2 == 0 { METHODS } else { [METHODS[1], METHODS[0]] };
        all.push(edit(lab, &mut session, old, new).await.with_context(|| format!("edit {}", number + 1))?);
    }
    let after = drains(lab).await?;
    Ok(Edits {
        edits: count,
        acknowledged: Times::of(all.iter().map(|edit| edit.acknowledged)),
        delivered: Times::of(all.iter().map(|edit| edit.delivered)),
        in_force: Times::of(all.iter().map(|edit| edit.in_force)),
        resources: Span::of(all.iter().map(|edit| edit.resources)),
        bytes: Span::of(all.iter().map(|edit| edit.bytes)),
        streams: Span::of(all.iter().map(|edit| edit.streams)),
        drained: moved(&before, &after),
        rejected: lab.rejections().await?,
    })
}

async fn edit(lab: &Lab, session: &mut Session, old: &str, new: &str) -> Result<Measured> {
    let status = if new == METHODS[1] { 200 } else { 403 };
    let logged = lab.portolan.events()?.len();
    let (written, start) = (SystemTime::now(), Instant::now());
    lab.edit(FILE, old, new)?;
    // On a connection that was open before: it must not need a new one.
    while session.send(Request::post("/")).await?.status != status {
        ensure!(start.elapsed() < PATIENCE, "not in force after {} s", PATIENCE.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
    let in_force = start.elapsed();
    let is_acknowledged = |event: &Value| event["message"] == "acknowledged";
    let event = lab.portolan.event("an acknowledgement", logged, is_acknowledged).await?;
    let events = lab.portolan.events()?;
    let sent: Vec<&Value> = events.iter().skip(logged).filter(|event| event["message"] == "sent").collect();
    let sum = |field: &str| sent.iter().filter_map(|event| event[field].as_u64()).sum::<u64>();
    let mut streams: Vec<_> = sent.iter().filter_map(|event| event["stream"].as_u64()).collect();
    streams.sort_unstable();
    streams.dedup();
    let delivered = event["after_ms"].as_f64().context("an acknowledgement without a duration")?;
    Ok(Measured {
        acknowledged: since(written, event["timestamp"].as_str().unwrap_or_default())?,
        delivered: Duration::from_secs_f64(delivered / 1e3),
        in_force,
        resources: usize::try_from(sum("resources") + sum("removed"))?,
        bytes: usize::try_from(sum("bytes"))?,
        streams: streams.len(),
    })
}

/// Every counter of every Envoy that counts something drained, as `gateway: counter`.
async fn drains(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for (gateway, envoy) in &lab.envoys {
        let drains = envoy.drains().await?;
        ensure!(!drains.is_empty(), "the Envoy of {gateway} has no counter of drains");
        all.extend(drains.into_iter().map(|(counter, count)| (format!("{gateway}: {counter}"), count)));
    }
    Ok(all)
}

fn moved(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, (u64, u64)> {
    let names = after.keys().chain(before.keys()).cloned();
    let counts = names.map(|name| {
        let count = |counts: &BTreeMap<String, u64>| counts.get(&name).copied().unwrap_or_default();
        let moved = (count(before), count(after));
        (name, moved)
    });
    counts.filter(|(_, (before, after))| before != after).collect()
}

/// How long after `start` a line of the log was written. Its timestamp is in UTC, as in
/// `2026-01-31T23:59:59.123456Z`; the date is left out, for nothing here takes a day.
fn since(start: SystemTime, timestamp: &str) -> Result<Duration> {
    const DAY: Duration = Duration::from_hours(24);
    let time = timestamp.split_once('T').and_then(|(_, time)| time.strip_suffix('Z'));
    let time = time.with_context(|| format!("{timestamp:?} is not a time in UTC"))?;
    let numbers: Vec<f64> = time.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds] = numbers[..] else { anyhow::bail!("{timestamp:?} is not a time") };
    let logged = Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds);
    let started = start.duration_since(SystemTime::UNIX_EPOCH)?;
    let started = Duration::new(started.as_secs() % DAY.as_secs(), started.subsec_nanos());
    let after = logged.checked_sub(started).unwrap_or_else(|| (logged + DAY).saturating_sub(started));
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_after_midnight_is_later_than_an_edit_before() {
        let day = 86_400;
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * day - 1);
        let close = |timestamp: &str, milliseconds: u64| {
            let found = since(start, timestamp).unwrap();
            found.abs_diff(Duration::from_millis(milliseconds)) < Duration::from_micros(1)
        };
        assert!(close("2024-10-03T23:59:59.250000Z", 250));
        assert!(close("2024-10-04T00:00:00.500000Z", 1_500));
        assert!(since(start, "yesterday").is_err());
    }

    #[test]
    fn a_drain_that_appears_or_moves_is_told() {
        let counts = |counts: &[(&str, u64)]| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let before = counts(&[("a", 1), ("b", 2)]);
        let after = counts(&[("a", 1), ("b", 3), ("c", 1), ("d", 0)]);
        let expected = [("b".to_owned(), (2, 3)), ("c".to_owned(), (0, 1))];
        assert_eq!(moved(&before, &after), BTreeMap::from(expected));
    }
}
