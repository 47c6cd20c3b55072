//! How fast we write at most: so many at once, then so many in a second.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of permissions to write that fills with time.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, level: burst, at: now }
    }

    /// When the next write may be; `now` if at once.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.fill(now);
        if self.level >= 1.0 {
            return now;
        }
        now + Duration::from_secs_f64((1.0 - self.level) / self.per_second)
    }

    /// Notes a write.
    pub(super) fn spend(&mut self, now: Instant) {
        self.fill(now);
        self.level -= 1.0;
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut pace = Pace::new(10, 3, start);
        for _ in 0..3 {
            assert_eq!(pace.next(start), start);
            pace.spend(start);
        }
        let next = pace.next(start);
        assert!(next > start && next <= start + Duration::from_millis(101), "{:?}", next - start);
        assert_eq!(pace.next(next + Duration::from_millis(1)), next + Duration::from_millis(1));
    }
}
