//! When which source is asked: no clock and no network, so that hours pass in a test at once.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use translate::{KeySet, KeySource};

use super::{KeyOptions, Told, Wish};

/// The sources that are asked, or were not long ago.
#[derive(Debug)]
pub(super) struct Schedule {
    options: KeyOptions,
    sources: BTreeMap<KeySource, Asked>,
}

/// One source.
#[derive(Debug)]
struct Asked {
    timeout: Duration,
    /// Whether somebody still wants it. One that nobody wants is remembered until its time has come,
    /// so that a policy which is replaced over and over asks nobody over and over.
    wanted: bool,
    /// When to ask next; `None` while it is being asked.
    due: Option<Instant>,
    failures: u32,
    last: Option<Result<KeySet, String>>,
}

impl Schedule {
    pub(super) fn new(options: KeyOptions) -> Self {
        Self { options, sources: BTreeMap::new() }
    }

    /// Takes a wish, and gives what is known already of what it wants.
    pub(super) fn wish(&mut self, wish: Wish, now: Instant) -> Vec<Told> {
        let mut known = Vec::new();
        for (source, timeout) in wish {
            let Some(timeout) = timeout else {
                if let Some(asked) = self.sources.get_mut(&source) {
                    asked.wanted = false;
                }
                continue;
            };
            let new = Asked { timeout, wanted: true, due: Some(now), failures: 0, last: None };
            let asked = self.sources.entry(source.clone()).or_insert(new);
            asked.timeout = timeout;
            let again = !std::mem::replace(&mut asked.wanted, true);
            if let Some(outcome) = asked.last.clone().filter(|_| again) {
                known.push(Told::Fetched(source, outcome));
            }
        }
        known
    }

    /// The source to ask now, if there is one, and how long that may take.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(KeySource, Duration)> {
        let due = |asked: &Asked| asked.wanted && asked.due.is_some_and(|due| due <= now);
        let (source, asked) =
            self.sources.iter_mut().filter(|(_, asked)| due(asked)).min_by_key(|(_, asked)| asked.due)?;
        asked.due = None;
        Some((source.clone(), asked.timeout))
    }

    /// Forgets what nobody wants and whose time has come.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<Told> {
        let unwanted = |asked: &Asked| !asked.wanted && asked.due.is_some_and(|due| due <= now);
        let gone: Vec<_> = self
            .sources
            .iter()
            .filter(|(_, asked)| unwanted(asked))
            .map(|(source, _)| source.clone())
            .collect();
        self.sources.retain(|_, asked| !unwanted(asked));
        gone.into_iter().map(Told::Forgotten).collect()
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.sources.values().filter_map(|asked| asked.due).min()
    }

    /// Takes the end of a fetch, and gives it on if somebody still wants it.
    pub(super) fn fetched(
        &mut self,
        source: &KeySource,
        outcome: Result<KeySet, String>,
        now: Instant,
    ) -> Option<Told> {
        let asked = self.sources.get_mut(source)?;
        let wait = if outcome.is_ok() {
            asked.failures = 0;
            self.options.refresh
        } else {
            let doubled = self.options.retry.saturating_mul(1 << asked.failures.min(16));
            asked.failures += 1;
            doubled.min(self.options.retry_at_most)
        };
        asked.due = Some(now + wait);
        asked.last = Some(outcome.clone());
        asked.wanted.then(|| Told::Fetched(source.clone(), outcome))
    }
}

#[cfg(test)]
mod tests {
    use translate::Origin;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn source() -> KeySource {
        KeySource::Uri("https://keys.example/".into())
    }

    fn told(outcome: Result<KeySet, String>) -> Told {
        Told::Fetched(source(), outcome)
    }

    fn keys() -> KeySet {
        let secret = "A".repeat(43);
        let text = format!(r#"{{"keys": [{{"kty": "oct", "k": "{secret}"}}]}}"#);
        KeySet::read(&text, Origin::Policy).unwrap().0
    }

    fn wanted() -> Wish {
        Wish::from([(source(), Some(MINUTE))])
    }

    #[test]
    fn good_keys_are_fetched_again_after_the_refresh_and_failures_wait_longer_each_time() {
        let mut schedule = Schedule::new(KeyOptions::default());
        let start = Instant::now();
        let after = |minutes: u32| start + MINUTE * minutes;
        assert_eq!(schedule.wish(wanted(), start), []);
        assert_eq!(schedule.take_due(start), Some((source(), MINUTE)));
        assert_eq!((schedule.take_due(start), schedule.next()), (None, None), "it is being asked");
        schedule.fetched(&source(), Ok(keys()), start);
        assert_eq!(schedule.next(), Some(after(20)));
        let mut now = after(20);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(schedule.take_due(now).is_some());
            schedule.fetched(&source(), Err("down".into()), now);
            assert_eq!(schedule.next(), Some(now + MINUTE * wait));
            now += MINUTE * wait;
        }
        assert!(schedule.take_due(now).is_some());
        schedule.fetched(&source(), Ok(keys()), now);
        assert_eq!(schedule.next(), Some(now + MINUTE * 20), "the failures are forgotten");
    }

    #[test]
    fn a_policy_that_is_replaced_over_and_over_asks_once() {
        let mut schedule = Schedule::new(KeyOptions::default());
        let start = Instant::now();
        schedule.wish(wanted(), start);
        assert!(schedule.take_due(start).is_some());
        schedule.fetched(&source(), Ok(keys()), start);
        for second in 1..600 {
            let now = start + Duration::from_secs(second);
            schedule.wish(Wish::from([(source(), None)]), now);
            assert_eq!(schedule.wish(wanted(), now), [told(Ok(keys()))], "known already");
            assert_eq!(schedule.take_due(now), None);
        }
    }

    #[test]
    fn what_nobody_wants_is_asked_no_more_and_forgotten_in_time() {
        let mut schedule = Schedule::new(KeyOptions::default());
        let start = Instant::now();
        schedule.wish(wanted(), start);
        assert!(schedule.take_due(start).is_some());
        schedule.wish(Wish::from([(source(), None)]), start);
        assert_eq!(schedule.fetched(&source(), Ok(keys()), start), None, "nobody is told");
        assert_eq!(schedule.take_due(start + MINUTE * 20), None);
        assert_eq!(schedule.forget(start + MINUTE * 19), []);
        assert_eq!(schedule.forget(start + MINUTE * 20), [Told::Forgotten(source())]);
        assert!(schedule.sources.is_empty());
    }
}
