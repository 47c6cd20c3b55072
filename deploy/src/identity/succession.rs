//! One authority after another, without a handshake that fails.
//!
//! ```text
//!            adopted            the next signs           all that the old one signed is over
//!   signs    ── the old ──────────┃─ the next ────────────────────────────────────────────►
//!   trusted  ─ the old ┃─ both ───────────────────────────────┃─ the next ────────────────►
//! ```
//!
//! Whoever is to trust the next one has to hear of it first: proxies within moments, by their stream, and what
//! verifies our own server within the time that a kubelet takes to renew a mounted ConfigMap.

use std::time::{Duration, SystemTime};

use super::Authority;

/// From when the next one is trusted until it signs.
const SETTLES: Duration = Duration::from_mins(5);
/// How long the roots of an authority are trusted at least after it signed last. Others than us may sign for the
/// same roots, and their certificates are good for a day by Istio's default.
const HELD: Duration = Duration::from_hours(24);

/// Who signs, and who is trusted.
#[derive(Debug)]
pub struct Succession {
    current: Authority,
    /// With it, from when it signs.
    next: Option<(Authority, SystemTime)>,
    /// Roots of those that signed before, and until when they are trusted.
    retired: Vec<(String, SystemTime)>,
    /// All that are trusted.
    roots: String,
    held: Duration,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Nothing.
    Nothing,
    /// Who is trusted.
    Trust,
    /// Who signs, and maybe who is trusted.
    Signer,
}

impl Succession {
    /// That authority alone. What it signs is good for `lifetime` at most.
    pub fn new(authority: Authority, lifetime: Duration) -> Self {
        let roots = authority.root_pem().to_owned();
        Self { current: authority, next: None, retired: Vec::new(), roots, held: lifetime.max(HELD) }
    }

    /// Who signs.
    pub fn authority(&self) -> &Authority {
        &self.current
    }

    /// The certificates of all roots that are trusted, as PEM.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// `authority` is to sign: as soon as those who shall trust it know it, or at once where the same certificate
    /// signs on.
    pub fn adopt(&mut self, authority: Authority, now: SystemTime) -> Moved {
        let planned = self.next.as_ref().map_or(&self.current, |(next, _)| next);
        if planned.is_same(&authority) {
            return Moved::Nothing;
        }
        let until = now + self.held;
        if let Some((forsaken, _)) = self.next.take() {
            // It has signed nothing, but others may have for it.
            self.retire(forsaken.root_pem().to_owned(), until);
        }
        if self.current.signs_as(&authority) {
            let before = std::mem::replace(&mut self.current, authority);
            self.retire(before.root_pem().to_owned(), until);
        } else {
            let settled = now + SETTLES;
            // One that has no time left cannot be waited for.
            let at = if self.current.expires() <= settled { now } else { settled };
            self.next = Some((authority, at));
        }
        let trust = self.count_roots();
        match self.advance(now) {
            Moved::Nothing => trust,
            moved @ (Moved::Trust | Moved::Signer) => moved,
        }
    }

    /// Does what is due.
    pub fn advance(&mut self, now: SystemTime) -> Moved {
        self.retired.retain(|(_, until)| now < *until);
        let due = self.next.take_if(|(_, at)| *at <= now);
        let signer = due.is_some();
        if let Some((next, _)) = due {
            let before = std::mem::replace(&mut self.current, next);
            self.retire(before.root_pem().to_owned(), now + self.held);
        }
        match self.count_roots() {
            _ if signer => Moved::Signer,
            trust @ (Moved::Nothing | Moved::Trust | Moved::Signer) => trust,
        }
    }

    fn retire(&mut self, roots: String, until: SystemTime) {
        self.retired.retain(|(retired, _)| *retired != roots);
        self.retired.push((roots, until));
    }

    /// The union of all roots, each once, those of who signs first.
    fn count_roots(&mut self) -> Moved {
        let next = self.next.iter().map(|(next, _)| next.root_pem());
        let retired = self.retired.iter().map(|(roots, _)| roots.as_str());
        let bundles = [self.current.root_pem()].into_iter().chain(next).chain(retired);
        let mut each: Vec<&str> = Vec::new();
        for root in bundles.flat_map(|bundle| bundle.split_inclusive("-----END CERTIFICATE-----\n")) {
            if !each.contains(&root) {
                each.push(root);
            }
        }
        let roots = each.concat();
        if roots == self.roots {
            return Moved::Nothing;
        }
        self.roots = roots;
        Moved::Trust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn authority(made: SystemTime) -> Authority {
        let domain = "cluster.local".into();
        let entries = Authority::generate(&domain, made).unwrap();
        Authority::from_entries(&entries, &domain, made).unwrap()
    }

    fn trusted(succession: &Succession, roots: &[&str]) {
        assert_eq!(succession.roots().matches("BEGIN").count(), roots.len());
        assert!(roots.iter().all(|root| succession.roots().contains(root)));
    }

    #[test]
    fn the_next_one_is_trusted_before_it_signs_and_the_old_one_as_long_as_what_it_signed() {
        let (old, next) = (authority(now()), authority(now()));
        let (first, second) = (old.root_pem().to_owned(), next.root_pem().to_owned());
        let mut succession = Succession::new(old, 2 * DAY);
        assert_eq!(succession.adopt(next, now()), Moved::Trust);
        trusted(&succession, &[&first, &second]);
        assert_eq!(succession.authority().root_pem(), first);
        assert_eq!(succession.advance(now() + SETTLES / 2), Moved::Nothing);
        let signs = now() + SETTLES;
        assert_eq!(succession.advance(signs), Moved::Signer);
        assert_eq!(succession.authority().root_pem(), second);
        trusted(&succession, &[&first, &second]);
        assert_eq!(succession.advance(signs + 2 * DAY - SETTLES), Moved::Nothing);
        trusted(&succession, &[&first, &second]);
        assert_eq!(succession.advance(signs + 2 * DAY), Moved::Trust);
        trusted(&succession, &[&second]);
    }

    #[test]
    fn what_is_the_same_changes_nothing_and_what_is_taken_back_never_signs() {
        let domain = "cluster.local".into();
        let entries = Authority::generate(&domain, now()).unwrap();
        let same = || Authority::from_entries(&entries, &domain, now()).unwrap();
        let mut succession = Succession::new(same(), DAY);
        assert_eq!(succession.adopt(same(), now()), Moved::Nothing);
        assert_eq!(succession.adopt(authority(now()), now()), Moved::Trust);
        succession.adopt(same(), now());
        assert_eq!(succession.advance(now() + SETTLES), Moved::Nothing);
        assert_eq!(succession.authority().root_pem(), same().root_pem());
        succession.advance(now() + DAY);
        trusted(&succession, &[same().root_pem()]);
    }

    #[test]
    fn more_roots_for_the_same_signer_are_trusted_at_once_and_fewer_later() {
        let domain = "cluster.local".into();
        let mut entries = Authority::generate(&domain, now()).unwrap();
        let alone = Authority::from_entries(&entries, &domain, now()).unwrap();
        let other = authority(now()).root_pem().to_owned();
        let both = format!("{}{other}", alone.root_pem());
        entries.insert("ca.crt".to_owned(), both.into_bytes());
        let both = Authority::from_entries(&entries, &domain, now()).unwrap();
        let root = alone.root_pem().to_owned();
        let mut succession = Succession::new(both, DAY);
        trusted(&succession, &[&root, &other]);
        assert_eq!(succession.adopt(alone, now()), Moved::Nothing);
        trusted(&succession, &[&root, &other]);
        assert_eq!(succession.advance(now() + DAY), Moved::Trust);
        trusted(&succession, &[&root]);
    }

    #[test]
    fn one_that_is_about_to_expire_is_not_waited_for() {
        let old = authority(now());
        let late = old.expires() - SETTLES / 2;
        let next = authority(late);
        let root = next.root_pem().to_owned();
        let mut succession = Succession::new(old, DAY);
        assert_eq!(succession.adopt(next, late), Moved::Signer);
        assert_eq!(succession.authority().root_pem(), root);
    }
}
