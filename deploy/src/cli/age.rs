//! How long ago something was, as kubectl says it.

use std::time::{Duration, SystemTime};

/// `34s`, `5m`, `7h`, `12d`, in the largest unit of which there are two, and never more than is true. What
/// lies ahead, by another clock, is `0s`.
pub(super) fn age(since: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(since).unwrap_or(Duration::ZERO).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days >= 2 {
        format!("{days}d")
    } else if hours >= 2 {
        format!("{hours}h")
    } else if minutes >= 2 {
        format!("{minutes}m")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_the_largest_unit_of_which_there_are_two() {
        let said = |seconds: u64| {
            let start = SystemTime::UNIX_EPOCH;
            age(start, start + Duration::from_secs(seconds))
        };
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(said);
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(age(SystemTime::UNIX_EPOCH + Duration::from_secs(5), SystemTime::UNIX_EPOCH), "0s");
    }
}
