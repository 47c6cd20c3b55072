//! Access logs on standard output, in Istio's default format.

use proto::envoy::{BoolValue, FileAccessLog, accesslog, core, matcher, pack};

use super::extension::format;
use crate::policy::authorization::{AUDIT, DRY_RUN_ALLOW, DRY_RUN_DENY};

/// Under which every RBAC filter speaks, whatever its own name is.
const RBAC: &str = "envoy.filters.http.rbac";

const FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// What is said of a request that a policy only reports. The name of the policy is the one that Envoy
/// gives for a denied request as well, `ns[...]-policy[...]-rule[...]`.
const REPORT: &str = concat!(
    " \"%FILTER_STATE(io.istio.peer_principal:PLAIN)%\" ",
    "\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS%\n",
);

/// One line for everything.
pub(crate) fn all() -> accesslog::AccessLog {
    log(None, FORMAT)
}

/// One more line for each request or tunnel that a rule of an AUDIT policy matches.
pub(crate) fn audited() -> accesslog::AccessLog {
    log(Some(found(AUDIT)), &format!("[%START_TIME%] audit: {}{REPORT}", policy(AUDIT)))
}

/// One more line for each request or tunnel that a policy on trial would have denied. Allowing rules
/// deny by matching nothing, and have no name to tell.
pub(crate) fn tried() -> accesslog::AccessLog {
    let either = accesslog::OrFilter {
        filters: [DRY_RUN_DENY, DRY_RUN_ALLOW]
            .map(|prefix| accesslog::AccessLogFilter { filter_specifier: Some(found(prefix)) })
            .into(),
    };
    let would_deny = format!("[%START_TIME%] dry run would deny: {}{REPORT}", policy(DRY_RUN_DENY));
    log(Some(accesslog::access_log_filter::FilterSpecifier::OrFilter(either)), &would_deny)
}

/// The rule that the rules in the shadow found.
fn policy(prefix: &str) -> String {
    format!("%DYNAMIC_METADATA({RBAC}:{prefix}shadow_effective_policy_id)%")
}

fn found(prefix: &str) -> accesslog::access_log_filter::FilterSpecifier {
    let key = format!("{prefix}shadow_engine_result");
    let denied = matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact("denied".to_owned())),
        ..matcher::StringMatcher::default()
    };
    accesslog::access_log_filter::FilterSpecifier::MetadataFilter(accesslog::MetadataFilter {
        matcher: Some(matcher::MetadataMatcher {
            filter: RBAC.to_owned(),
            path: vec![matcher::metadata_matcher::PathSegment {
                segment: Some(matcher::metadata_matcher::path_segment::Segment::Key(key)),
            }],
            value: Some(matcher::ValueMatcher {
                match_pattern: Some(matcher::value_matcher::MatchPattern::StringMatch(denied)),
            }),
            ..matcher::MetadataMatcher::default()
        }),
        match_if_key_not_found: Some(BoolValue { value: false }),
    })
}

/// One line for each tunnel that was refused or failed; the requests inside the others have their own.
pub(crate) fn failed_tunnels() -> accesslog::AccessLog {
    let at_least = accesslog::ComparisonFilter {
        op: accesslog::comparison_filter::Op::Ge.into(),
        value: Some(core::RuntimeUInt32 {
            default_value: 400,
            runtime_key: "portolan.access_log.failed_tunnels".to_owned(),
        }),
    };
    let failed = accesslog::StatusCodeFilter { comparison: Some(at_least) };
    log(Some(accesslog::access_log_filter::FilterSpecifier::StatusCodeFilter(failed)), FORMAT)
}

/// One line for each tunnel that we could not open.
pub(crate) fn failed_upstream() -> accesslog::AccessLog {
    let failed = accesslog::ResponseFlagFilter { flags: vec!["UF".to_owned()] };
    log(Some(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(failed)), FORMAT)
}

fn log(filter: Option<accesslog::access_log_filter::FilterSpecifier>, line: &str) -> accesslog::AccessLog {
    let file = FileAccessLog {
        path: "/dev/stdout".to_owned(),
        access_log_format: Some(proto::envoy::FileAccessLogFormat::LogFormat(format(line))),
    };
    accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter: filter.map(|specifier| accesslog::AccessLogFilter { filter_specifier: Some(specifier) }),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack(&file))),
    }
}
