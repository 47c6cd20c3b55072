//! What stands in a Lease, and what follows from looking at it for a while. Asks nobody.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::api::ObjectMeta;
use tokio::time::Instant;

/// A Lease as it was seen last, and since when it has been so.
#[derive(Debug, Default)]
pub(super) struct Observed {
    spec: LeaseSpec,
    since: Option<Instant>,
}

impl Observed {
    /// Takes note of it. What is compared is whether it changed; what it says of time is its holder's clock.
    pub(super) fn look(&mut self, lease: &Lease, now: Instant) {
        let spec = lease.spec.clone().unwrap_or_default();
        if self.since.is_none() || self.spec != spec {
            *self = Self { spec, since: Some(now) };
        }
    }

    /// Whether it is ours, nobody's, or has not changed for as long as its holder asked for.
    pub(super) fn may_be_taken(&self, identity: &str, now: Instant) -> bool {
        let seconds = self.spec.lease_duration_seconds.unwrap_or_default();
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let is_over = self.since.is_none_or(|since| since + duration <= now);
        self.holder().is_none_or(|holder| holder == identity || is_over)
    }

    /// Whose it is.
    pub(super) fn holder(&self) -> Option<&str> {
        holder_of(&self.spec)
    }
}

/// Whose the Lease is.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    holder_of(lease.spec.as_ref()?)
}

fn holder_of(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// A Lease of ours where there was none.
pub(super) fn new(name: &str, identity: &str, duration: Duration) -> Lease {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let mut new = taken(&Lease { metadata, spec: None }, identity, duration);
    if let Some(spec) = &mut new.spec {
        spec.lease_transitions = Some(0);
    }
    new
}

/// The same Lease, ours from now on, or still.
pub(super) fn taken(lease: &Lease, identity: &str, duration: Duration) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let now = Some(MicroTime(Timestamp::now()));
    let (acquire_time, transitions) = if holder_of(&before) == Some(identity) {
        (before.acquire_time.clone(), before.lease_transitions.unwrap_or_default())
    } else {
        (now.clone(), before.lease_transitions.unwrap_or_default().saturating_add(1))
    };
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let spec = LeaseSpec {
        acquire_time,
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)),
        lease_transitions: Some(transitions),
        renew_time: now,
        ..before
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

/// The same Lease, nobody's. It stays, so that its transitions go on being counted.
pub(super) fn released(lease: &Lease) -> Lease {
    let now = Some(MicroTime(Timestamp::now()));
    let spec = LeaseSpec {
        acquire_time: now.clone(),
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: now,
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn second(seconds: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(seconds).unwrap())
    }

    fn theirs(renewed: i64) -> Lease {
        let mut lease = new("portolan", "they", DURATION);
        let spec = lease.spec.as_mut().unwrap();
        (spec.acquire_time, spec.renew_time) = (Some(second(0)), Some(second(renewed)));
        lease
    }

    #[test]
    fn a_lease_runs_out_by_how_long_it_was_seen_and_not_by_what_it_says_of_time() {
        let start = Instant::now();
        for renewed in [0, 10_000_000_000] {
            let mut observed = Observed::default();
            observed.look(&theirs(renewed), start);
            assert!(!observed.may_be_taken("we", start + DURATION - Duration::from_secs(1)));
            assert!(observed.may_be_taken("we", start + DURATION));
            assert!(observed.may_be_taken("they", start));
            observed.look(&theirs(renewed), start + DURATION);
            assert!(observed.may_be_taken("we", start + DURATION), "seeing it again renews nothing");
            observed.look(&theirs(renewed + 1), start + DURATION);
            assert!(!observed.may_be_taken("we", start + DURATION));
        }
    }

    #[test]
    fn who_renews_keeps_the_time_and_the_number_and_who_takes_counts() {
        let taken_over = taken(&theirs(5), "we", DURATION);
        let spec = taken_over.spec.as_ref().unwrap();
        assert_eq!((holder(&taken_over), spec.lease_transitions), (Some("we"), Some(1)));
        let again = taken(&taken_over, "we", DURATION).spec.unwrap();
        assert_eq!((&again.acquire_time, again.lease_transitions), (&spec.acquire_time, Some(1)));
        let free = released(&taken_over);
        assert_eq!(holder(&free), None);
        let mut observed = Observed::default();
        observed.look(&free, Instant::now());
        assert!(observed.may_be_taken("they", Instant::now()), "at once");
        assert_eq!(taken(&free, "they", DURATION).spec.unwrap().lease_transitions, Some(2));
    }

    #[test]
    fn a_duration_is_whole_seconds_and_at_least_one() {
        let seconds = |duration| new("l", "we", duration).spec.unwrap().lease_duration_seconds;
        assert_eq!(seconds(Duration::from_millis(1500)), Some(2));
        assert_eq!(seconds(Duration::ZERO), Some(1));
        assert_eq!(seconds(DURATION), Some(15));
    }
}
