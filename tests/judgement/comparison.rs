//! A million random requests, each judged twice: by what the API says about the policies as they are
//! written, and by the RBAC that they were compiled to.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
};

use serde_json::Value;
use tests::judgement::{
    Because, Decision, Kind, Policy, Request, Verdict, judge,
    random::{self, Dice},
};

use crate::{
    shrunk,
    waypoint::{PORTS, Waypoint, chain},
};

const SETS: u64 = 10_000;
const REQUESTS: usize = 100;
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
    for name in ["nothing asked", "allowed", "denied", "none allowed", "no provider"] {
        let times = seen.because.get(name).copied().unwrap_or_default();
        assert!(times > 10_000, "{name}: {times} times are too few");
    }
    for kind in random::kinds() {
        for negative in [false, true] {
            let times = seen.decisive.get(&(kind, negative)).copied().unwrap_or_default();
            assert!(times > 1_000, "{kind:?}, negative {negative}: {times} times are too few");
        }
    }
}

fn compare(seeds: impl Iterator<Item = u64>) -> Seen {
    let mut waypoint = Waypoint::new();
    let mut seen = Seen::default();
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let manifests = random::policies(&mut dice);
        waypoint.enforce(&manifests);
        let policies = read(&manifests);
        for _ in 0..REQUESTS {
            let request = random::request(&manifests, &PORTS, &mut dice);
            let expected = expected(&policies, &request, None);
            if let Some(found) = disagreement(&waypoint, &request, &expected) {
                shrunk::report(seed, &manifests, &request, &found);
            }
            seen.note(&policies, &request, &expected, dice.once_in(LOOKED_AT));
        }
    }
    seen
}

fn read(manifests: &[Value]) -> Vec<Policy> {
    let bundle = ["cluster.local".to_owned()];
    manifests.iter().map(|manifest| Policy::read(manifest, &bundle)).collect()
}

fn expected(policies: &[Policy], request: &Request, inverted: Option<(Kind, bool)>) -> Decision {
    let chain = chain(&request.address.to_string());
    let attached: Vec<_> = policies.iter().filter(|policy| policy.is_attached(&chain)).collect();
    judge(&attached, request, inverted)
}

/// What the filters say, if it is something else.
fn disagreement(waypoint: &Waypoint, request: &Request, expected: &Decision) -> Option<String> {
    let outcome = waypoint.port(&request.address.to_string(), request.port).judge(request);
    let named = match (&expected.because, &outcome.rule) {
        (Because::NothingAsked | Because::NoneAllowed, rule) => rule.is_none(),
        (Because::Allowed(rules) | Because::Denied(rules), Some(rule)) => rules.contains(rule),
        // Denied with those that deny anyway.
        (Because::NoProvider(_), rule) => rule.is_some(),
        (Because::Allowed(_) | Because::Denied(_), None) => false,
    };
    let agreed = outcome.allowed == (expected.verdict == Verdict::Allow) && named;
    (!agreed).then(|| format!("expected {expected:?}\nfilters  {outcome:?}"))
}

/// As `disagreement`, from nothing.
pub(crate) fn fresh_disagreement(manifests: &[Value], request: &Request) -> Option<String> {
    let mut waypoint = Waypoint::new();
    waypoint.enforce(manifests);
    disagreement(&waypoint, request, &expected(&read(manifests), request, None))
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
