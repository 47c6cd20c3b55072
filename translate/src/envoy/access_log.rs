//! Access logs on standard output, in Istio's default format.

use proto::envoy::{FileAccessLog, accesslog, core, pack};

use super::extension::format;

const FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// One line for everything.
pub(crate) fn all() -> accesslog::AccessLog {
    log(None)
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
    log(Some(accesslog::access_log_filter::FilterSpecifier::StatusCodeFilter(accesslog::StatusCodeFilter {
        comparison: Some(at_least),
    })))
}

/// One line for each tunnel that we could not open.
pub(crate) fn failed_upstream() -> accesslog::AccessLog {
    log(Some(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(
        accesslog::ResponseFlagFilter { flags: vec!["UF".to_owned()] },
    )))
}

fn log(filter: Option<accesslog::access_log_filter::FilterSpecifier>) -> accesslog::AccessLog {
    let file = FileAccessLog {
        path: "/dev/stdout".to_owned(),
        access_log_format: Some(proto::envoy::FileAccessLogFormat::LogFormat(format(FORMAT))),
    };
    accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter: filter.map(|specifier| accesslog::AccessLogFilter { filter_specifier: Some(specifier) }),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack(&file))),
    }
}
