//! Retries: those that a rule asks for, and those that every request has.

use proto::{
    envoy::{PreviousHosts, UInt32Value, milliseconds, pack, route},
    gateway::httproutes::HttpRouteRulesRetry,
};

use super::timeout::Millis;
use crate::problem::{FieldPath, Problem, Reason};

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retry {
    attempts: u32,
    codes: Vec<u32>,
    backoff: Option<Millis>,
}

/// As many as Istio makes.
const ATTEMPTS: u32 = 2;
/// Failures before the backend has seen the request, or that it says may be repeated: safe for
/// requests of all kinds, so that Istio repeats them without being asked.
const SAFE: &str = "connect-failure,refused-stream,unavailable,cancelled";

pub(crate) fn lower(
    spec: &HttpRouteRulesRetry,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<Retry> {
    let HttpRouteRulesRetry { attempts, backoff, codes } = spec;
    let before = problems.len();
    let mut invalid = |at: FieldPath, message: String| {
        problems.push(Problem { at, reason: Reason::Invalid, message });
    };
    let number = attempts.map_or(Ok(ATTEMPTS), u32::try_from).unwrap_or_else(|_| {
        invalid(at.field("attempts"), "the number of attempts is not in 0..4294967295".to_owned());
        0
    });
    let mut retried = Vec::new();
    for (index, code) in codes.iter().flatten().enumerate() {
        match u32::try_from(*code) {
            Ok(code) if (400..600).contains(&code) => retried.push(code),
            Ok(_) | Err(_) => {
                invalid(at.field("codes").index(index), format!("{code} is not a status in 400..599"));
            }
        }
    }
    let backoff = backoff.as_ref().map(|text| Millis::parse(text));
    let backoff = backoff.transpose().unwrap_or_else(|message| {
        invalid(at.field("backoff"), message);
        None
    });
    if backoff.is_some_and(Millis::is_zero) {
        invalid(at.field("backoff"), "a backoff is longer than nothing".to_owned());
    }
    (problems.len() == before).then_some(Retry { attempts: number, codes: retried, backoff })
}

/// The policy of a route that asks for these retries, or for none in particular.
pub(crate) fn emit(asked: Option<&Retry>, per_try: Option<Millis>) -> route::RetryPolicy {
    let (attempts, codes, backoff) = match asked {
        Some(Retry { attempts, codes, backoff }) => (*attempts, codes.clone(), *backoff),
        None => (ATTEMPTS, Vec::new(), None),
    };
    // Gateway API: a rule that asks for retries has connections that break and attempts that time out
    // repeated as well.
    let mut on = SAFE.to_owned();
    on.push_str(if asked.is_some() { ",reset" } else { "" });
    on.push_str(if codes.is_empty() { "" } else { ",retriable-status-codes" });
    route::RetryPolicy {
        retry_on: on,
        num_retries: Some(UInt32Value { value: attempts }),
        per_try_timeout: per_try.map(|time| milliseconds(time.get())),
        retriable_status_codes: codes,
        retry_back_off: backoff.map(|base| route::retry_policy::RetryBackOff {
            base_interval: Some(milliseconds(base.get())),
            ..route::retry_policy::RetryBackOff::default()
        }),
        // Somebody else is asked, where there is somebody else.
        retry_host_predicate: vec![route::retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(route::retry_policy::retry_host_predicate::ConfigType::TypedConfig(pack(
                &PreviousHosts {},
            ))),
        }],
        host_selection_retry_max_attempts: 5,
        ..route::RetryPolicy::default()
    }
}
