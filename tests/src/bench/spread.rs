//! How values are spread: counts that should all be one number, and times that never are.

use std::{fmt, time::Duration};

use serde::Serialize;

/// The smallest and the largest of some counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The smallest.
    pub least: usize,
    /// The largest.
    pub most: usize,
}

/// How times are distributed, in milliseconds. Each is a time that was measured: the nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Half of them are at most this.
    pub p50: f64,
    /// Nine tenths.
    pub p90: f64,
    /// All but a hundredth.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Span {
    /// The span of `counts`; 0 to 0 of none.
    pub fn of(counts: impl IntoIterator<Item = usize> + Clone) -> Self {
        let least = counts.clone().into_iter().min().unwrap_or_default();
        Self { least, most: counts.into_iter().max().unwrap_or_default() }
    }

    /// Whether every count was `count`.
    pub fn is(self, count: usize) -> bool {
        self == Self { least: count, most: count }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most } = self;
        let text = if least == most { most.to_string() } else { format!("{least}-{most}") };
        out.pad(&text)
    }
}

impl Times {
    /// The distribution of `times`; zeros of none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = times.into_iter().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).map(|time| time.as_secs_f64() * 1e3).unwrap_or_default()
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times = Times::of((1..=200).rev().map(Duration::from_millis));
        assert_eq!(times, Times { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        let one = Times::of([Duration::from_millis(7)]);
        assert_eq!(one, Times { p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Times::of([]), Times::default());
    }

    #[test]
    fn counts_that_agree_print_as_one() {
        assert_eq!(Span::of([1, 1]).to_string(), "1");
        assert_eq!(Span::of([3, 1, 2]).to_string(), "1-3");
        assert!(Span::of([1, 1]).is(1) && !Span::of([1, 2]).is(1));
    }
}
