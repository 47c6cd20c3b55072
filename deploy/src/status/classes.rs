//! The GatewayClasses that are there without anybody doing anything: made where they are not, and never
//! changed. One that somebody else made stays theirs.

use std::{collections::BTreeMap, time::Duration};

use proto::{Kind, ObjectRef};
use tokio::time::Instant;
use translate::Classes;

use crate::backoff::rest;

/// The rests before the next attempt to make one: the first, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long one has to have been there for its removal to be news, and not a fight.
const PEACE: Duration = Duration::from_mins(2);

/// The classes that are to be there.
#[derive(Debug)]
pub(super) struct OwnClasses {
    classes: BTreeMap<&'static str, Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    made: Option<Instant>,
    next: Option<Instant>,
    in_a_row: u32,
    running: bool,
}

/// Which object that class is.
pub(super) fn class(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::GatewayClass, namespace: "".into(), name: name.into() }
}

impl OwnClasses {
    pub(super) fn new(classes: Classes) -> Self {
        let classes = classes.own().iter().map(|name| (*name, Attempts::default()));
        Self { classes: classes.collect() }
    }

    /// The next one to make at `now`, where `is_there` says which exist. It is being made until it is
    /// [`done`](Self::done).
    pub(super) fn take(
        &mut self,
        is_there: impl Fn(&ObjectRef) -> bool,
        now: Instant,
    ) -> Option<&'static str> {
        for (name, attempts) in &mut self.classes {
            if is_there(&class(name)) {
                if attempts.made.is_none_or(|made| made + PEACE < now) {
                    attempts.in_a_row = 0;
                }
                attempts.next = None;
                continue;
            }
            if !attempts.running && attempts.next.is_none_or(|next| next <= now) {
                attempts.running = true;
                return Some(name);
            }
        }
        None
    }

    /// Notes that an attempt has ended. Whatever came of it, there is no other one for a while: what was made
    /// has to be heard of, and who removes it again and again must not make us as fast.
    pub(super) fn done(&mut self, name: &str, now: Instant) {
        if let Some(attempts) = self.classes.get_mut(name) {
            let rest = rest(RESTS, attempts.in_a_row);
            attempts.in_a_row = attempts.in_a_row.saturating_add(1);
            attempts.running = false;
            (attempts.made, attempts.next) = (Some(now), Some(now + rest));
        }
    }

    /// Whatever was being made is given up.
    pub(super) fn rest(&mut self) {
        for attempts in self.classes.values_mut() {
            *attempts = Attempts::default();
        }
    }

    /// When one is to be tried again that is not there.
    pub(super) fn next(&self) -> Option<Instant> {
        self.classes.values().filter(|attempts| !attempts.running).filter_map(|attempts| attempts.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_made_once_and_again_when_it_is_gone_but_not_in_a_fight() {
        let (mut classes, start) = (OwnClasses::new(Classes::Beside), Instant::now());
        let name = classes.take(|_| false, start).unwrap();
        assert_eq!(name, "portolan-waypoint");
        assert_eq!(classes.take(|_| false, start), None, "it is being made");
        classes.done(name, start);
        assert_eq!(classes.take(|_| false, start), None, "it was not heard of yet");
        assert_eq!(classes.take(|_| true, start), None);
        let mut now = start;
        let mut rests = Vec::new();
        for _ in 0..8 {
            let made = now;
            while classes.take(|_| false, now).is_none() {
                now += Duration::from_millis(500);
            }
            rests.push((now - made).as_secs());
            classes.done(name, now);
        }
        assert!(rests[7] >= 29, "{rests:?}");
    }

    #[test]
    fn beside_istiod_its_class_is_its_own() {
        let names = |classes| OwnClasses::new(classes).classes.into_keys().collect::<Vec<_>>();
        assert_eq!(names(Classes::Replace), ["istio-waypoint", "portolan-waypoint"]);
        assert_eq!(names(Classes::Beside), ["portolan-waypoint"]);
    }
}
