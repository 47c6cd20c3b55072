//! How long to rest before what failed is tried again.

use std::time::Duration;

/// The rest after `failures` in a row before the last one: `first`, twice as long each time, and never longer
/// than `longest`.
pub(crate) fn rest((first, longest): (Duration, Duration), failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_it_up_to_the_longest() {
        let bounds = (Duration::from_secs(1), Duration::from_mins(5));
        let rests = [0, 1, 2, 8, 9, u32::MAX].map(|failures| rest(bounds, failures).as_secs());
        assert_eq!(rests, [1, 2, 4, 256, 300, 300]);
    }
}
