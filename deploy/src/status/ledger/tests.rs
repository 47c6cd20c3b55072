//! What is written when, with a server that is a few lines long.

use proto::Name;
use translate::status::{Condition, ParentStatus, Truth};

use super::*;

const TIMING: Timing = Timing {
    window: Duration::from_millis(200),
    lasting: Duration::from_secs(5),
    spacing: Duration::from_secs(1),
};

/// A ledger, and a server whose answers it gets.
struct Desk {
    ledger: Ledger,
    start: Instant,
    now: Instant,
    version: u64,
    /// What was written: the object, when, and the body.
    written: Vec<(ObjectRef, Duration, Value)>,
    held: BTreeMap<Kind, Instant>,
}

impl Desk {
    fn open() -> Self {
        let start = Instant::now();
        let mut ledger = Ledger::new(Classes::Replace, TIMING);
        ledger.open(true, start);
        Self { ledger, start, now: start, version: 1, written: Vec::new(), held: BTreeMap::new() }
    }

    fn shows(&mut self, object: &ObjectRef, status: Value, applied: bool) {
        self.version += 1;
        let live = self.live(status, applied);
        self.ledger.see(object, Some(live), self.now);
    }

    fn live(&self, status: Value, applied: bool) -> Live {
        Live { uid: "u".into(), version: self.version.to_string().into(), api: "v1".into(), applied, status }
    }

    fn says(&mut self, object: &ObjectRef, status: Status) {
        self.ledger.say(object, Some(status), self.now);
    }

    /// Lets time pass; every write that comes up is answered by `answer`, or done as it says.
    fn pass_with(&mut self, time: Duration, mut answer: impl FnMut(&Work) -> Option<Outcome>) {
        let until = self.now + time;
        loop {
            self.ledger.ripen(self.now);
            while let Some(work) = self.ledger.take(&self.held, self.now) {
                self.written.push((work.object.clone(), self.now - self.start, work.body.clone()));
                self.version += 1;
                let outcome = answer(&work)
                    .unwrap_or_else(|| Outcome::Written(self.live(work.body["status"].clone(), true)));
                self.ledger.done(&work.object, &outcome, self.now);
            }
            let next = self.ledger.next_due().unwrap_or(until);
            if next >= until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.pass_with(time, |_| None);
    }

    fn seconds(&self) -> Vec<u64> {
        self.written.iter().map(|(_, at, _)| at.as_secs()).collect()
    }
}

fn object(kind: Kind, name: &str) -> ObjectRef {
    let namespace = if kind.namespaced() { "default" } else { "" };
    ObjectRef { kind, namespace: namespace.into(), name: name.into() }
}

fn policy() -> ObjectRef {
    object(Kind::AuthorizationPolicy, "p")
}

fn programmed(generation: i64, truth: Truth, reason: &'static str) -> Status {
    let condition = Condition { kind: "Programmed", truth, reason, message: reason.to_owned() };
    Status { observed_generation: Some(generation), conditions: vec![condition], ..Status::default() }
}

fn good(generation: i64) -> Status {
    programmed(generation, Truth::True, "Programmed")
}

fn pending(generation: i64) -> Status {
    programmed(generation, Truth::False, "Pending")
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_said_in_a_moment_is_one_write_and_what_is_there_is_none() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), pending(1));
    desk.pass(TIMING.window / 2);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 1, "{:?}", desk.written);
    assert_eq!(desk.written[0].2["status"]["conditions"][0]["reason"], "Programmed");
    // The watch tells of our own write.
    let status = desk.written[0].2["status"].clone();
    desk.shows(&policy(), status, true);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 1);
}

#[test]
fn what_is_not_confirmed_is_written_when_that_lasts() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 10);
    desk.says(&policy(), pending(1));
    desk.pass(TIMING.lasting / 2);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 10);
    assert_eq!(desk.written.len(), 1, "it was true again in time");
    let since = desk.now - desk.start;
    desk.says(&policy(), pending(1));
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 2);
    assert_eq!(desk.written[1].1, since + TIMING.window + TIMING.lasting);
}

#[test]
fn drift_is_repaired_and_later_each_time() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 20);
    // Somebody takes it away whenever it is there.
    for _ in 0..3_600 {
        desk.pass(SECOND);
        if desk.ledger.live[&policy()].status() != Value::Null {
            desk.shows(&policy(), Value::Null, false);
        }
    }
    let writes = desk.written.len();
    assert!((8..25).contains(&writes), "{:?}", desk.seconds());
    let rests: Vec<_> = desk.seconds().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(rests.iter().skip(1).is_sorted() && rests.last().unwrap() >= &512, "{rests:?}");
    // Something new to say does not wait for that.
    desk.says(&policy(), good(2));
    desk.pass(SECOND * 2);
    assert_eq!(desk.written.len(), writes + 1);
}

#[test]
fn where_others_would_lose_something_it_is_written_for_the_version_that_was_read() {
    let mut desk = Desk::open();
    let route = object(Kind::HTTPRoute, "r");
    let theirs =
        json!({"parentRef": {"name": "ingress"}, "controllerName": "example.com/other", "conditions": []});
    desk.shows(&route, json!({"parents": [theirs]}), false);
    let conditions = good(1).conditions;
    let parent = ParentStatus { parent_ref: r#"{"name":"web"}"#.into(), conditions };
    desk.says(&route, Status { parents: vec![parent], ..good(1) });
    let mut first = true;
    desk.pass_with(SECOND * 5, |_| std::mem::take(&mut first).then_some(Outcome::Moved));
    let bodies: Vec<_> = desk.written.iter().map(|(_, _, body)| body.clone()).collect();
    assert_eq!(bodies.len(), 2, "it is tried again");
    assert_eq!(bodies[0]["metadata"]["resourceVersion"], "2");
    assert_eq!(bodies[0]["status"]["parents"][0], theirs);
    assert_eq!(bodies[0]["status"]["parents"].as_array().unwrap().len(), 2);
}

#[test]
fn an_event_that_is_older_than_our_write_changes_nothing() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    let old = desk.live(Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 3);
    desk.ledger.see(&policy(), Some(old), desk.now);
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 1);
}

#[test]
fn what_the_server_does_not_take_is_tried_again_when_it_changes_and_not_before() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass_with(SECOND * 3_600, |_| Some(Outcome::Refused("no".to_owned())));
    assert_eq!(desk.written.len(), 1);
    desk.says(&policy(), good(2));
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 2);

    // It takes it and keeps less.
    let class = object(Kind::GatewayClass, "c");
    desk.shows(&class, Value::Null, false);
    let (live, skip) = (desk.live(json!({"conditions": []}), true), desk.written.len());
    desk.says(&class, Status { features: vec!["Mesh"], ..Status::default() });
    desk.pass_with(SECOND * 3_600, |_| Some(Outcome::Written(live.clone())));
    assert_eq!(desk.written.len(), skip + 1);
}

#[test]
fn failures_are_tried_again_later_each_time() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass_with(SECOND * 3_600, |_| Some(Outcome::Failed("no".to_owned())));
    let rests: Vec<_> = desk.seconds().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(rests.is_sorted() && rests.contains(&FAILED.1.as_secs()), "{rests:?}");
}

#[test]
fn nothing_is_written_before_it_is_ours_and_then_all_that_is_not_there() {
    let mut desk = Desk::open();
    desk.ledger.open(false, desk.now);
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 0);
    desk.ledger.open(true, desk.now);
    desk.pass(SECOND);
    assert_eq!(desk.written.len(), 1);
}

#[test]
fn what_was_said_before_us_and_is_not_said_any_more_goes() {
    let mut desk = Desk::open();
    desk.ledger.open(false, desk.now);
    let status =
        json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}]});
    let (ours, theirs) = (object(Kind::Gateway, "ours"), object(Kind::Gateway, "theirs"));
    desk.shows(&ours, status.clone(), true);
    desk.shows(&theirs, status, false);
    desk.ledger.open(true, desk.now);
    desk.pass(SECOND * 60);
    let names: Vec<&Name> = desk.written.iter().map(|(object, _, _)| &object.name).collect();
    assert_eq!(names, [&Name::from("ours")]);
    assert!(desk.written[0].2.get("status").is_none(), "an apply without any takes away what was ours");
    assert!(desk.ledger.pages.is_empty());
}

#[test]
fn an_object_that_is_gone_leaves_nothing_behind() {
    let mut desk = Desk::open();
    desk.shows(&policy(), Value::Null, false);
    desk.says(&policy(), good(1));
    desk.ledger.see(&policy(), None, desk.now);
    desk.ledger.say(&policy(), None, desk.now);
    desk.pass(SECOND * 60);
    assert_eq!(desk.written.len(), 0);
    assert!(desk.ledger.pages.is_empty() && desk.ledger.live.is_empty() && desk.ledger.due.is_empty());
}

#[test]
fn a_rejection_comes_before_whatever_waits() {
    let mut desk = Desk::open();
    for number in 0..20 {
        let object = object(Kind::AuthorizationPolicy, &format!("p{number:02}"));
        desk.shows(&object, Value::Null, false);
        desk.says(&object, good(1));
    }
    let late = object(Kind::AuthorizationPolicy, "rejected");
    desk.shows(&late, Value::Null, false);
    desk.says(&late, programmed(1, Truth::False, "RejectedByProxy"));
    desk.pass(SECOND);
    assert_eq!(desk.written[0].0, late);
    assert_eq!(desk.written.len(), 21);
}

#[test]
fn what_is_said_during_a_write_is_written_after_it() {
    for outcome in [None, Some(Outcome::Refused("no".to_owned()))] {
        let mut desk = Desk::open();
        desk.shows(&policy(), Value::Null, false);
        desk.says(&policy(), good(1));
        desk.now += TIMING.window;
        desk.ledger.ripen(desk.now);
        let work = desk.ledger.take(&desk.held, desk.now).unwrap();
        desk.says(&policy(), good(2));
        let live = desk.live(work.body["status"].clone(), true);
        desk.ledger.done(&policy(), &outcome.unwrap_or(Outcome::Written(live)), desk.now);
        desk.pass(SECOND * 60);
        let generations: Vec<_> = desk
            .written
            .iter()
            .map(|(_, _, body)| &body["status"]["conditions"][0]["observedGeneration"])
            .collect();
        assert_eq!(generations, [2]);
    }
}
