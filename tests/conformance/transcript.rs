//! Runs the transcripts in `tests/conformance/xds`: one file for each claim about the protocol.
//!
//! A line beginning with `>` or `!` is a step; the lines after it are all that follows from it.
//!
//! ```text
//! ! publish Cluster a@1 b@1 -c Route r@1   resources by type, at a version; -c removes c
//! ! publish Listener l@1~2 Cluster big@1*300   a wave, and a size in KiB
//! ! publish Endpoint e@1?                  its body depends on where the client stands
//! ! pause, ! resume                        the client does not read; it reads again
//! ! reconnect                              the stream is lost, and a new one begins
//! ! reconnect at b                         of a client that stands in zone b from now on
//! > subscribe Cluster * a                  a request that subscribes to names
//! > unsubscribe Cluster a                  and one that unsubscribes
//! > ask Cluster                            a request that names nothing
//! > ack 1,  > nack 1 "why"                 answers response 1; a list `1 2 3` answers each
//! > … subscribe a unsubscribe b have a@1 nonce 7    further parts of the same request
//! < Cluster 1 +a@1 -b                      response 1 sets a and removes b
//! < Endpoint 2 +e@1(b)                     what it sets is what is right in b; have e@1(b) claims it
//! < error "…"                              the request violates the protocol
//! = rejected Cluster a@1 "why"             an observation; a step that lists one lists all of them
//! ```
//!
//! Text after two spaces and a `#` is a comment.

use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc};

use proto::{
    Body, Delta, Place, Resource, TypeUrl, Version,
    envoy::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use xds::{Cache, Follower, Group, Observation, Session, StreamId};

#[test]
fn every_transcript_is_kept() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/xds");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 30, "only {} transcripts in {}", files.len(), directory.display());
    let failures: Vec<String> = files.iter().filter_map(|file| run(file).err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The step and what it is to lead to.
struct Step {
    line: usize,
    text: String,
    expected: Vec<String>,
}

fn run(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut play = Play::new();
    for step in steps(&text).map_err(|error| format!("{}: {error}", file.display()))? {
        let Step { line, text, expected } = step;
        let place = format!("{}:{line}: {text}", file.file_name().unwrap().to_string_lossy());
        let actual = play.step(&text).map_err(|error| format!("{place}\n  {error}"))?;
        let observed = expected.iter().any(|line| line.starts_with('='));
        let actual: Vec<_> = actual.into_iter().filter(|line| observed || !line.starts_with('=')).collect();
        if actual != expected {
            let list = |lines: &[String]| match lines {
                [] => "    nothing".to_owned(),
                lines => lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"),
            };
            return Err(format!("{place}\n  expected\n{}\n  got\n{}", list(&expected), list(&actual)));
        }
    }
    Ok(())
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let content = content.split("  #").next().unwrap_or_default().trim_end();
        match (content.chars().next(), steps.last_mut()) {
            (None | Some('#'), _) => {}
            (Some('>' | '!'), _) => {
                steps.push(Step { line: line + 1, text: content.to_owned(), expected: Vec::new() });
            }
            (Some('<' | '='), Some(step)) => step.expected.push(content.to_owned()),
            _ => return Err(format!("line {} is none of # > ! < =", line + 1)),
        }
    }
    Ok(steps)
}

/// One client and the cache it follows.
struct Play {
    cache: Cache,
    group: Group,
    /// A stream follows its group from its first moment, which keeps the group's memory.
    follower: Follower,
    session: Session,
    /// The type of every response of this stream.
    types: BTreeMap<String, String>,
    /// Where the client stands.
    place: Place,
    /// The versions of placed resources, as the client was told them, by how they are shown.
    told: BTreeMap<String, String>,
    paused: bool,
}

impl Play {
    fn new() -> Self {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        let follower = cache.follow(&group);
        let session = session(&follower, &group);
        let (types, told) = (BTreeMap::new(), BTreeMap::new());
        Self { cache, group, follower, session, types, place: Place::default(), told, paused: false }
    }

    fn step(&mut self, text: &str) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        let words = words(text);
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["!", "publish", ref resources @ ..] => {
                self.cache.publish(&self.group, &delta(resources)?);
                self.look();
            }
            ["!", "pause"] => self.paused = true,
            ["!", "resume"] => self.paused = false,
            ["!", "reconnect", ref at @ ..] => {
                if let ["at", zone] = at {
                    self.place = Place { zone: (*zone).into(), ..Place::default() };
                }
                self.session = session(&self.follower, &self.group);
                self.session.stand_at(self.place.clone());
                self.types.clear();
                self.look();
            }
            [">", ref request @ ..] => {
                for request in self.requests(request)? {
                    if let Err(violation) = self.session.on_request(request) {
                        lines.push(format!("< error \"{violation}\""));
                    }
                }
            }
            _ => return Err("not a step".to_owned()),
        }
        while !self.paused
            && let Some(response) = self.session.next_response()
        {
            self.types.insert(response.nonce.clone(), response.type_url.clone());
            lines.push(self.shown(&response));
        }
        lines.extend(self.session.take_observations().iter().filter_map(observed));
        Ok(lines)
    }

    fn look(&mut self) {
        if let Some(snapshot) = self.cache.snapshot(&self.group) {
            self.session.on_snapshot(snapshot);
        }
    }

    /// The requests of a line: one, or one for each nonce that is answered.
    fn requests(&self, words: &[&str]) -> Result<Vec<DeltaDiscoveryRequest>, String> {
        let [verb, rest @ ..] = words else { return Err("a request is missing".to_owned()) };
        let (mut base, rest, nonces) = match (*verb, rest) {
            ("ack" | "nack", rest) => {
                let count = rest.iter().take_while(|word| word.parse::<u64>().is_ok()).count();
                let (nonces, rest) = rest.split_at(count);
                let (error, rest) = match rest {
                    [error, rest @ ..] if *verb == "nack" => (Some(*error), rest),
                    rest => (None, rest),
                };
                let mut request = DeltaDiscoveryRequest::default();
                if let Some(message) = error {
                    let message = message.strip_prefix('"').unwrap_or(message);
                    message.clone_into(&mut request.error_detail.get_or_insert_default().message);
                }
                (request, rest, nonces.to_vec())
            }
            ("ask", [type_url, rest @ ..]) => (request(type_url), rest, Vec::new()),
            ("subscribe" | "unsubscribe", [type_url, ..]) => (request(type_url), rest, Vec::new()),
            _ => return Err(format!("{verb:?} is not a request")),
        };
        let mut part = if *verb == "unsubscribe" { "unsubscribe" } else { "subscribe" };
        let skip = usize::from(matches!(*verb, "subscribe" | "unsubscribe"));
        for word in &rest[skip..] {
            match (*word, part) {
                ("subscribe" | "unsubscribe" | "have" | "nonce", _) => part = word,
                (name, "subscribe") => base.resource_names_subscribe.push(name.to_owned()),
                (name, "unsubscribe") => base.resource_names_unsubscribe.push(name.to_owned()),
                (nonce, "nonce") => nonce.clone_into(&mut base.response_nonce),
                (held, _) => {
                    let (name, version) = held.split_once('@').ok_or("have wants name@version")?;
                    let version = match (self.told.get(held), version.parse()) {
                        (Some(told), _) => told.clone(),
                        (None, Ok(version)) => Version(version).to_string(),
                        (None, Err(_)) => version.to_owned(),
                    };
                    base.initial_resource_versions.insert(name.to_owned(), version);
                }
            }
        }
        if nonces.is_empty() {
            return Ok(vec![base]);
        }
        let answer = |nonce: &&str| {
            let type_url =
                self.types.get(*nonce).cloned().ok_or(format!("response {nonce} was never sent"))?;
            Ok(DeltaDiscoveryRequest { response_nonce: (*nonce).to_owned(), type_url, ..base.clone() })
        };
        nonces.iter().map(answer).collect()
    }

    fn shown(&mut self, response: &DeltaDiscoveryResponse) -> String {
        let known = TypeUrl::parse(&response.type_url).map(TypeUrl::short);
        let mut line = format!("< {} {}", known.unwrap_or(&response.type_url), response.nonce);
        for resource in &response.resources {
            let (version, placed) = match resource.version.split_once('@') {
                Some((version, _)) => (version, resource.resource.as_ref()),
                None => (resource.version.as_str(), None),
            };
            let version = Version::parse(version).expect("a version that we print").0;
            let place = placed.map(|body| format!("({})", String::from_utf8_lossy(&body.value)));
            let shown = format!("{}@{version}{}", resource.name, place.unwrap_or_default());
            write!(line, " +{shown}").unwrap();
            if placed.is_some() {
                self.told.insert(shown, resource.version.clone());
            }
        }
        for name in &response.removed_resources {
            write!(line, " -{name}").unwrap();
        }
        line
    }
}

fn session(follower: &Follower, group: &Group) -> Session {
    let stream = StreamId { group: group.clone(), client: "client".into(), number: 1 };
    Session::new(Arc::new(stream), follower.quarantine(), 40)
}

fn request(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: url(type_url), ..Default::default() }
}

/// The type URL of a short name; what is no short name stands for itself, and `-` for nothing.
fn url(name: &str) -> String {
    let known = TypeUrl::ALL.into_iter().find(|known| known.short() == name);
    known.map_or_else(|| name.trim_matches('-').to_owned(), |known| known.as_str().to_owned())
}

fn delta(words: &[&str]) -> Result<Delta, String> {
    let (mut delta, mut current) = (Delta::default(), None);
    for word in words {
        if let Some(type_url) = TypeUrl::ALL.into_iter().find(|known| known.short() == *word) {
            current = Some(type_url);
            continue;
        }
        let type_url = current.ok_or(format!("no type before {word:?}"))?;
        if let Some(name) = word.strip_prefix('-') {
            delta.removed.push((type_url, name.into()));
            continue;
        }
        let (name, rest) = word.split_once('@').ok_or(format!("{word:?} has no version"))?;
        let (rest, placed) = rest.strip_suffix('?').map_or((rest, false), |rest| (rest, true));
        let (rest, kilobytes) = rest.split_once('*').unwrap_or((rest, "0"));
        let (version, wave) = rest.split_once('~').unwrap_or((rest, "0"));
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{word:?}: {error}"));
        let plain = vec![b'x'; usize::try_from(number(kilobytes)?).unwrap() * 1024];
        let body = if placed {
            Body::by_place("anywhere", |place| place.zone.as_bytes().to_vec().into())
        } else {
            plain.into()
        };
        let wave = u8::try_from(number(wave)?).unwrap();
        let version = Version(number(version)?);
        delta.set.push(Arc::new(Resource { type_url, name: name.into(), version, wave, body }));
    }
    Ok(delta)
}

/// Words, of which a quoted one may have spaces and keeps its first quote.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(format!("\"{part}")),
        }
    }
    words
}

fn observed(observation: &Observation) -> Option<String> {
    match observation {
        Observation::Rejected { type_url, resources, quarantined, message, .. } => {
            let what = if *quarantined { "quarantined" } else { "rejected" };
            let mut line = format!("= {what} {type_url}");
            for (name, version) in resources {
                write!(line, " {name}@{}", version.0).unwrap();
            }
            Some(format!("{line} \"{message}\""))
        }
        Observation::Unserved { type_url, .. } => Some(format!("= unserved {type_url}")),
        Observation::UpToDate { quarantined, .. } => {
            let but = quarantined.iter().map(|(type_url, name)| format!(" {type_url} {name}"));
            let but: String = but.collect();
            Some(if but.is_empty() { "= up to date".to_owned() } else { format!("= up to date but{but}") })
        }
        Observation::Connected { .. }
        | Observation::Refused { .. }
        | Observation::Sent { .. }
        | Observation::Acked { .. }
        | Observation::Gone { .. } => None,
    }
}
