//! Timeouts of a rule, and durations as the Gateway API writes them.

use proto::gateway::httproutes::HttpRouteRulesTimeouts;

use crate::problem::{FieldPath, Problem, Reason};

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Millis(i64);

impl Millis {
    pub(crate) const fn get(self) -> i64 {
        self.0
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// One to four numbers of up to five digits, each with its unit, as in `1h30m` or `100ms`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration as in 1h30m, 10s or 500ms");
        let (mut rest, mut total, mut parts) = (text, 0, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            if !(1..=5).contains(&digits) || parts == 4 {
                return Err(wrong());
            }
            let number: i64 = number.parse().map_err(|_| wrong())?;
            // The longer unit first: `ms` begins like `m`.
            let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
            let unit = units.into_iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
            total += number * unit.1;
            rest = &after[unit.0.len()..];
            parts += 1;
        }
        if parts == 0 { Err(wrong()) } else { Ok(Self(total)) }
    }
}

/// How long a request may take; `None` is for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timeouts {
    /// With all its retries.
    pub(crate) request: Option<Millis>,
    /// One attempt at a backend.
    pub(crate) backend_request: Option<Millis>,
}

pub(crate) fn lower(
    spec: Option<&HttpRouteRulesTimeouts>,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Timeouts {
    let Some(HttpRouteRulesTimeouts { backend_request, request }) = spec else { return Timeouts::default() };
    let mut read = |field: &str, text: Option<&String>| {
        let parsed = Millis::parse(text?).map_err(|message| {
            problems.push(Problem { at: at.field(field), reason: Reason::Invalid, message });
        });
        // Zero is the API's word for no limit.
        parsed.ok().filter(|time| !time.is_zero())
    };
    let timeouts = Timeouts {
        request: read("request", request.as_ref()),
        backend_request: read("backendRequest", backend_request.as_ref()),
    };
    if let (Some(request), Some(attempt)) = (timeouts.request, timeouts.backend_request)
        && attempt > request
    {
        problems.push(Problem {
            at: at.field("backendRequest"),
            reason: Reason::Invalid,
            message: "one attempt cannot take longer than the whole request; lower it".to_owned(),
        });
    }
    timeouts
}
