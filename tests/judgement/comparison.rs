//! A million random requests, each judged twice: by what the API says about the policies as they are
//! written, and by the RBAC that they were compiled to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
};

use serde_json::Value;
use tests::judgement::{
    Because, Decision, Kind, Policy, Request, Verdict, judge,
    random::{self, Dice},
};

use crate::{
    shrunk,
    waypoint::{PORTS, Waypoint, chain, ports_by_name},
    why,
};

const SETS: u64 = 10_000;
const REQUESTS: usize = 100;
/// `why` is asked about the requests of one set of so many.
const EXPLAINED: u64 = 16;
/// Whether a field mattered is asked for one request of so many.
const LOOKED_AT: usize = 8;

/// What was seen, to be sure that there was something to see.
#[derive(Default)]
struct Seen {
    asked: usize,
    allowed: usize,
    because: BTreeMap<&'static str, usize>,
    /// How often the outcome of a field made the verdict, by the field and whether it is negative.
    decisive: BTreeMap<(Kind, bool), usize>,
}

#[test]
fn what_is_emitted_judges_as_the_api_says() {
    let threads = thread::available_parallelism().map_or(1, |found| found.get().min(4)) as u64;
    let seen = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|nth| scope.spawn(move || compare((0..SETS).filter(|seed| seed % threads == nth))))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).fold(Seen::default(), Seen::and)
    });
    assert!(seen.asked >= 1_000_000, "{} are too few", seen.asked);
    let denied = seen.asked - seen.allowed;
    assert!(seen.allowed.min(denied) * 5 > seen.asked, "{} of {} are one-sided", seen.allowed, seen.asked);
    for name in ["nothing asked", "allowed", "denied", "none allowed", "no provider", "refused"] {
        let times = seen.because.get(name).copied().unwrap_or_default();
        assert!(times > 10_000, "{name}: {times} times are too few");
    }
    for kind in random::kinds() {
        for negative in [false, true] {
            let times = seen.decisive.get(&(kind, negative)).copied().unwrap_or_default();
            // Only connections ask for a name, and few requests are connections.
            let enough = if kind == Kind::Sni { 150 } else { 300 };
            assert!(times > enough, "{kind:?}, negative {negative}: {times} times are too few");
        }
    }
}

/// Policies, and the mesh that they are in.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) trust_domain: &'static str,
    pub(crate) aliases: Vec<String>,
    pub(crate) manifests: Value,
}

impl Set {
    fn random(seed: u64, dice: &mut Dice) -> Self {
        let trust_domain = if seed.is_multiple_of(4) { "td2" } else { "cluster.local" };
        let manifests = random::policies(dice);
        let mut aliases = random::aliases(dice);
        aliases.retain(|alias| alias != trust_domain);
        Self { trust_domain, aliases, manifests: Value::Array(manifests) }
    }

    fn manifests(&self) -> &[Value] {
        self.manifests.as_array().map_or(&[], Vec::as_slice)
    }

    fn policies(&self) -> Vec<Policy> {
        let mut bundle = vec![self.trust_domain.to_owned()];
        bundle.extend(self.aliases.iter().cloned());
        self.manifests().iter().map(|manifest| Policy::read(manifest, &bundle)).collect()
    }

    /// What its filters say about the request, started from nothing, if the API says something else.
    pub(crate) fn disagreement(&self, request: &Request) -> Option<String> {
        let mut waypoint = Waypoint::new(self.trust_domain);
        waypoint.enforce(self.manifests(), &self.aliases);
        disagreement(&waypoint, request, &expected(&self.policies(), request, None))
    }
}

fn compare(seeds: impl Iterator<Item = u64>) -> Seen {
    let mut waypoints = BTreeMap::new();
    let mut seen = Seen::default();
    let names = Arc::new(ports_by_name());
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let set = Set::random(seed, &mut dice);
        let waypoint = waypoints.entry(set.trust_domain).or_insert_with(|| Waypoint::new(set.trust_domain));
        waypoint.enforce(set.manifests(), &set.aliases);
        let policies = set.policies();
        // Which makes texts of all that it finds, and takes its time for them.
        let inquiry = seed.is_multiple_of(EXPLAINED).then(|| waypoint.inquiry());
        for _ in 0..REQUESTS {
            let mut request = random::request(set.manifests(), &PORTS, &mut dice);
            if request.address.to_string() == PORTS[0].0 {
                request.names = Arc::clone(&names);
            } else {
                request.names = Arc::new(BTreeMap::from([("http".to_owned(), 80)]));
            }
            let expected = expected(&policies, &request, None);
            if let Some(found) = disagreement(waypoint, &request, &expected) {
                shrunk::report(seed, &set, &request, &found);
            }
            if let Some(found) = inquiry.as_ref().and_then(|it| why::disagreement(it, &request, &expected)) {
                panic!("seed {seed}: {found}\n{request:?}\n{:#}", set.manifests);
            }
            seen.note(&policies, &request, &expected, dice.once_in(LOOKED_AT));
        }
    }
    seen
}

fn expected(policies: &[Policy], request: &Request, inverted: Option<(Kind, bool)>) -> Decision {
    let chain = chain(&request.address.to_string());
    let attached: Vec<_> = policies.iter().filter(|policy| policy.is_attached(&chain)).collect();
    judge(&attached, request, inverted)
}

/// What the filters say, if it is something else.
fn disagreement(waypoint: &Waypoint, request: &Request, expected: &Decision) -> Option<String> {
    let port = waypoint.port(&request.address.to_string(), request.port);
    let outcome = port.judge(request);
    // Before its name is known, a connection is refused if nothing can allow it, whatever would deny it.
    let early = outcome.rule.is_none() && !outcome.allowed && port.asks_names();
    let named = match (&expected.because, &outcome.rule) {
        (Because::NothingAsked | Because::NoneAllowed, rule) => rule.is_none(),
        (Because::Allowed(rules) | Because::Denied(rules), Some(rule)) => rules.contains(rule),
        // Denied with those that deny anyway.
        (Because::NoProvider(_), rule) => rule.is_some() || early,
        (Because::Refused(provider), rule) => rule.as_ref() == Some(provider),
        (Because::Denied(_), None) => early,
        (Because::Allowed(_), None) => false,
    };
    let agreed = outcome.allowed == (expected.verdict == Verdict::Allow) && named;
    (!agreed).then(|| format!("expected {expected:?}\nfilters  {outcome:?}"))
}

impl Seen {
    fn note(&mut self, policies: &[Policy], request: &Request, decision: &Decision, looked_at: bool) {
        self.asked += 1;
        self.allowed += usize::from(decision.verdict == Verdict::Allow);
        let because = match decision.because {
            Because::NothingAsked => "nothing asked",
            Because::Allowed(_) => "allowed",
            Because::Denied(_) => "denied",
            Because::NoneAllowed => "none allowed",
            Because::NoProvider(_) => "no provider",
            Because::Refused(_) => "refused",
        };
        *self.because.entry(because).or_default() += 1;
        if looked_at {
            let kinds: BTreeSet<_> = policies.iter().flat_map(Policy::kinds).collect();
            for kind in kinds {
                if expected(policies, request, Some(kind)).verdict != decision.verdict {
                    *self.decisive.entry(kind).or_default() += 1;
                }
            }
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.asked += other.asked;
        self.allowed += other.allowed;
        for (because, times) in other.because {
            *self.because.entry(because).or_default() += times;
        }
        for (kind, times) in other.decisive {
            *self.decisive.entry(kind).or_default() += times;
        }
        self
    }
}
