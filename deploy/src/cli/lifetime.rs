//! A length of time on the command line, as in `24h`.

use std::time::Duration;

/// Reads a whole number of seconds, minutes, hours or days: `90s`, `30m`, `24h`, `7d`. Never zero.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let seconds_in = |unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(60 * 60),
        'd' => Some(24 * 60 * 60),
        _ => None,
    };
    let mut digits = text.chars();
    let unit = digits.next_back().and_then(seconds_in);
    let count = digits.as_str().parse::<u32>().ok().filter(|count| *count > 0);
    match (count, unit) {
        (Some(count), Some(unit)) => Ok(Duration::from_secs(u64::from(count) * unit)),
        (Some(_) | None, _) => Err("write a whole number above zero and s, m, h or d, as in 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_seconds_minutes_hours_and_days() {
        let seconds = |text| parse(text).unwrap().as_secs();
        assert_eq!(["90s", "30m", "24h", "7d"].map(seconds), [90, 1800, 86_400, 604_800]);
    }

    #[test]
    fn a_lifetime_without_unit_or_of_zero_is_refused() {
        for text in ["", "24", "h", "0h", "-1h", "1.5h", "1w", "1 h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
