//! Extension providers of the mesh configuration: services that are asked whether a request may pass.
//!
//! A provider that cannot be read in every part is not asked at all, and what it should decide is denied.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use proto::Name;

use crate::{
    derive::Row,
    fields::{Fields, Problems, kind},
    mesh::pattern::{LONGEST_REGEX, Pattern},
};

/// A provider, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Provider {
    Asks(Arc<ExtAuthz>),
    /// It is there, and something is wrong with it.
    Unusable,
}

impl Row for Provider {
    const TABLE: &'static str = "extension provider";
    type Key = Name;
    /// The host and the port that are called by gRPC.
    type Bucket = (Name, u16);

    fn buckets(_key: &Name, row: &Self) -> Vec<(Name, u16)> {
        match row {
            Self::Asks(asks) => match asks.speaks {
                Speaks::Grpc => vec![(asks.host.clone(), asks.port)],
                Speaks::Http(_) => Vec::new(),
            },
            Self::Unusable => Vec::new(),
        }
    }
}

impl Provider {
    /// Whether a service of that namespace may be the one that it means.
    pub(crate) fn may_be_in(&self, namespace: &Name) -> bool {
        match self {
            Self::Asks(asks) => asks.namespace.as_ref().is_none_or(|named| named == namespace),
            Self::Unusable => false,
        }
    }
}

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExtAuthz {
    /// The namespace of the service, where it is given.
    pub(crate) namespace: Option<Name>,
    pub(crate) host: Name,
    pub(crate) port: u16,
    /// In milliseconds.
    pub(crate) timeout: NonZeroU32,
    /// Whoever cannot be asked says yes.
    pub(crate) fail_open: bool,
    pub(crate) clear_route_cache: bool,
    /// The answer where nobody could be asked.
    pub(crate) status_on_error: Option<u16>,
    pub(crate) body: Option<Body>,
    pub(crate) speaks: Speaks,
}

/// How much of a request's body is sent along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) most: u32,
    pub(crate) partial: bool,
    pub(crate) as_bytes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speaks {
    Http(Http),
    Grpc,
}

/// Of an HTTP provider: which headers go where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Http {
    pub(crate) path_prefix: String,
    /// Of the request, to the provider.
    pub(crate) asked_with: Vec<Pattern>,
    /// Besides, always the same.
    pub(crate) added: BTreeMap<String, String>,
    /// Of the provider's answer, to the backend.
    pub(crate) to_upstream: Vec<Pattern>,
    /// Of a refusal, to the caller.
    pub(crate) to_refused: Vec<Pattern>,
    /// Of a permission, to the caller.
    pub(crate) to_allowed: Vec<Pattern>,
}

/// As long as Istio waits where nobody says how long, in milliseconds.
const TIMEOUT: NonZeroU32 = NonZeroU32::new(600_000).unwrap();

/// Reads `extensionProviders`. Providers that are asked for no permission are nobody's business here.
pub(crate) fn lower(mesh: &Fields<'_>, problems: &mut Problems) -> BTreeMap<Name, Provider> {
    let mut providers = BTreeMap::new();
    for (value, at) in mesh.list("extensionProviders", problems).unwrap_or_default() {
        let provider = Fields::read(Some(value), at, problems);
        let forms = ["envoyExtAuthzHttp", "envoyExtAuthzGrpc"];
        let Some(form) = forms.into_iter().find(|form| provider.get(form).is_some()) else { continue };
        let before = problems.0.len();
        let name = provider.string("name", problems).unwrap_or_default();
        if !is_name(name) {
            let message =
                format!("{name:?} is not a name of at most 63 lower-case letters, digits and dashes");
            problems.invalid(&provider.at.field("name"), message);
            continue;
        }
        provider.only(&["name", form], problems);
        let read = Fields::read(provider.get(form), provider.at.field(form), problems);
        let asks = if form == "envoyExtAuthzHttp" { http(&read, problems) } else { grpc(&read, problems) };
        let whole = asks.filter(|_| problems.0.len() == before);
        let row = whole.map_or(Provider::Unusable, |asks| Provider::Asks(Arc::new(asks)));
        if providers.contains_key(name) {
            let message = format!(
                "there is another provider {name:?}; as nobody can tell which is meant, neither is asked"
            );
            problems.invalid(&provider.at.field("name"), message);
            providers.insert(name.into(), Provider::Unusable);
        } else {
            providers.insert(name.into(), row);
        }
    }
    providers
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What both forms have.
const COMMON: [&str; 7] = [
    "service",
    "port",
    "timeout",
    "failOpen",
    "clearRouteCache",
    "statusOnError",
    "includeRequestBodyInCheck",
];

fn grpc(fields: &Fields<'_>, problems: &mut Problems) -> Option<ExtAuthz> {
    fields.only(&COMMON, problems);
    common(fields, Speaks::Grpc, problems)
}

fn http(fields: &Fields<'_>, problems: &mut Problems) -> Option<ExtAuthz> {
    let own = [
        "pathPrefix",
        "includeHeadersInCheck",
        "includeRequestHeadersInCheck",
        "includeAdditionalHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ];
    fields.only(&[&COMMON[..], &own].concat(), problems);
    let path_prefix = fields.string("pathPrefix", problems).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    let is_path = path_prefix.starts_with('/') && path_prefix.bytes().all(plain);
    if !is_path && !path_prefix.is_empty() {
        let message = format!("{path_prefix:?} is not a path; it begins with a slash and has no query");
        problems.invalid(&fields.at.field("pathPrefix"), message);
    }
    // The one is the old name of the other.
    let asked_with = match headers(fields, "includeRequestHeadersInCheck", problems) {
        headers_named if headers_named.is_empty() => headers(fields, "includeHeadersInCheck", problems),
        headers_named => headers_named,
    };
    let speaks = Speaks::Http(Http {
        path_prefix: path_prefix.to_owned(),
        asked_with,
        added: added(fields, problems),
        to_upstream: headers(fields, "headersToUpstreamOnAllow", problems),
        to_refused: headers(fields, "headersToDownstreamOnDeny", problems),
        to_allowed: headers(fields, "headersToDownstreamOnAllow", problems),
    });
    common(fields, speaks, problems)
}

fn common(fields: &Fields<'_>, speaks: Speaks, problems: &mut Problems) -> Option<ExtAuthz> {
    let service = fields.string("service", problems).unwrap_or_default();
    let (namespace, host) =
        service.split_once('/').map_or((None, service), |(namespace, host)| (Some(namespace), host));
    let is_part = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !text.is_empty() && text.len() <= 255 && text.bytes().all(plain)
    };
    if !is_part(host) || !namespace.is_none_or(is_part) {
        let message = format!("{service:?} is not HOST or NAMESPACE/HOST");
        problems.invalid(&fields.at.field("service"), message);
    }
    if fields.get("port").is_none() {
        problems.invalid(&fields.at.field("port"), "the port of the service is missing");
    }
    let port = fields.number_or_text("port", 1..=65535, problems);
    let timeout = timeout(fields, problems);
    let fail_open = boolean(fields, "failOpen", problems);
    let clear_route_cache = boolean(fields, "clearRouteCache", problems);
    let status_on_error = status(fields, problems);
    let body = body(fields, problems);
    // All that is wrong has been said by now.
    Some(ExtAuthz {
        namespace: namespace.map(Into::into),
        host: host.to_ascii_lowercase().into(),
        port: u16::try_from(port?).ok()?,
        timeout: timeout?,
        fail_open,
        clear_route_cache,
        status_on_error,
        body,
        speaks,
    })
}

fn boolean(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> bool {
    let Some(value) = fields.get(name) else { return false };
    value.as_bool().unwrap_or_else(|| {
        problems.invalid(&fields.at.field(name), format!("expected a boolean, not {}", kind(value)));
        false
    })
}

/// As a duration stands in JSON: seconds, with at most nine digits after the point.
fn timeout(fields: &Fields<'_>, problems: &mut Problems) -> Option<NonZeroU32> {
    let Some(text) = fields.string("timeout", problems) else { return Some(TIMEOUT) };
    let read = || {
        let (whole, part) = text.strip_suffix('s')?.split_once('.').map_or_else(
            || Some((text.strip_suffix('s')?, "")),
            |(whole, part)| (!part.is_empty()).then_some((whole, part)),
        )?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 6 || part.len() > 9 || !digits(whole) || !digits(part) {
            return None;
        }
        let thousandths: u32 = format!("{part}000").get(..3)?.parse().ok()?;
        NonZeroU32::new(whole.parse::<u32>().ok()? * 1000 + thousandths)
    };
    let read = read();
    if read.is_none() {
        let message = format!("{text:?} is not a time of at least a millisecond, as in \"0.5s\"");
        problems.invalid(&fields.at.field("timeout"), message);
    }
    read
}

/// The codes that Envoy has a name for.
const STATUSES: [u16; 56] = [
    100, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401,
    402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 426,
    428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

fn status(fields: &Fields<'_>, problems: &mut Problems) -> Option<u16> {
    let text = fields.string("statusOnError", problems).filter(|text| !text.is_empty())?;
    let status = text.parse().ok().filter(|status| STATUSES.contains(status));
    if status.is_none() {
        let message = format!("{text:?} is not a status of HTTP that Envoy knows");
        problems.invalid(&fields.at.field("statusOnError"), message);
    }
    status
}

fn body(fields: &Fields<'_>, problems: &mut Problems) -> Option<Body> {
    let at = fields.at.field("includeRequestBodyInCheck");
    let body = Fields::read(Some(fields.get("includeRequestBodyInCheck")?), at, problems);
    body.only(&["maxRequestBytes", "allowPartialMessage", "packAsBytes"], problems);
    if body.get("maxRequestBytes").is_none() {
        problems.invalid(&body.at.field("maxRequestBytes"), "how many bytes to send at most is missing");
    }
    Some(Body {
        most: body.number_or_text("maxRequestBytes", 1..=u32::MAX, problems)?,
        partial: boolean(&body, "allowPartialMessage", problems),
        as_bytes: boolean(&body, "packAsBytes", problems),
    })
}

/// Names of headers, with a star at one end.
fn headers(fields: &Fields<'_>, name: &str, problems: &mut Problems) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for (value, at) in fields.list(name, problems).unwrap_or_default() {
        let Some(text) = value.as_str() else {
            problems.invalid(&at, format!("expected a string, not {}", kind(value)));
            continue;
        };
        let pattern = Pattern::of_istio(text);
        match &pattern {
            Pattern::Exact(name) | Pattern::Prefix(name) | Pattern::Suffix(name) if is_header(name) => {
                patterns.push(pattern);
            }
            Pattern::Exact(_)
            | Pattern::Prefix(_)
            | Pattern::Suffix(_)
            | Pattern::Present
            | Pattern::Regex(_) => {
                problems.invalid(&at, format!("{text:?} is not the name of a header, or its begin or end"));
            }
        }
    }
    patterns
}

fn is_header(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= LONGEST_REGEX && name.bytes().all(token)
}

/// Envoy refuses to add a Host, or what would begin another line.
fn added(fields: &Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut added = fields.strings("includeAdditionalHeadersInCheck", problems);
    let at = fields.at.field("includeAdditionalHeadersInCheck");
    added.retain(|name, value| {
        let good = is_header(name)
            && !name.eq_ignore_ascii_case("host")
            && value.len() <= LONGEST_REGEX
            && !value.contains(|letter: char| letter.is_control());
        if !good {
            problems.invalid(&at.field(name), "not a header that can be added");
        }
        good
    });
    added
}

/// The name of the provider that a policy refers to.
pub(crate) fn lower_reference(spec: &Fields<'_>, problems: &mut Problems) -> Option<Name> {
    let provider = Fields::read(spec.get("provider"), spec.at.field("provider"), problems);
    provider.only(&["name"], problems);
    let name = provider.string("name", problems).unwrap_or_default();
    if name.is_empty() {
        let message = "CUSTOM needs the name of an extension provider; what its rules match is denied";
        problems.invalid(&provider.at.field("name"), message);
        return None;
    }
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::problem::FieldPath;

    fn read(one: &Value) -> (Option<ExtAuthz>, Vec<String>) {
        let mut problems = Problems::default();
        let mesh = json!({ "extensionProviders": [one] });
        let fields = Fields::read(Some(&mesh), FieldPath::default(), &mut problems);
        let provider = lower(&fields, &mut problems).into_values().next();
        let asks = provider.and_then(|provider| match provider {
            Provider::Asks(asks) => Some((*asks).clone()),
            Provider::Unusable => None,
        });
        (asks, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_provider_is_read_with_its_defaults() {
        let (asks, problems) =
            read(&json!({"name": "a", "envoyExtAuthzGrpc": {"service": "ns/a.example", "port": 9000}}));
        let asks = asks.unwrap();
        assert_eq!((asks.namespace.as_deref(), &*asks.host, asks.port), (Some("ns"), "a.example", 9000));
        assert_eq!((asks.timeout.get(), asks.fail_open, asks.status_on_error), (600_000, false, None));
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn what_istio_itself_takes_is_read() {
        let body = json!({"maxRequestBytes": "4096"});
        let http = json!({
            "service": "A.example", "port": "8000", "includeHeadersInCheck": ["x-old"],
            "includeRequestBodyInCheck": body,
        });
        let (asks, problems) = read(&json!({"name": "a", "envoyExtAuthzHttp": http}));
        assert_eq!(problems, Vec::<String>::new());
        let asks = asks.unwrap();
        assert_eq!((&*asks.host, asks.port, asks.body.unwrap().most), ("a.example", 8000, 4096));
        let Speaks::Http(http) = asks.speaks else { panic!("it is asked by HTTP") };
        assert_eq!(http.asked_with, [Pattern::Exact("x-old".to_owned())]);
    }

    #[test]
    fn times_are_read_as_json_has_them() {
        let time = |text: &str| {
            let grpc = json!({"service": "a", "port": 1, "timeout": text});
            read(&json!({"name": "a", "envoyExtAuthzGrpc": grpc})).0.map(|asks| asks.timeout.get())
        };
        assert_eq!(time("10s"), Some(10_000));
        assert_eq!(time("0.25s"), Some(250));
        assert_eq!(time("1.5s"), Some(1500));
        for bad in ["", "s", "1", "1m", "0s", "-1s", "1.s", ".5s", "0.0001s", "999999999s", "1.0000000001s"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_provider_with_a_mistake_anywhere_is_not_asked() {
        for (field, value) in [
            ("port", json!(999_999)),
            ("port", json!(0)),
            ("port", json!("0")),
            ("port", json!("+80")),
            ("port", json!("")),
            ("port", json!("99999999999")),
            ("service", json!("")),
            ("service", json!("a/b/c")),
            ("pathPrefix", json!("check")),
            ("pathPrefix", json!("/a?b")),
            ("statusOnError", json!("999")),
            ("statusOnError", json!("0")),
            ("statusOnError", json!(503)),
            ("failOpen", json!("true")),
            ("includeRequestHeadersInCheck", json!(["*"])),
            ("headersToUpstreamOnAllow", json!(["a b"])),
            ("includeAdditionalHeadersInCheck", json!({"x": "a\r\nb: c"})),
            ("includeAdditionalHeadersInCheck", json!({"Host": "a"})),
            ("includeRequestBodyInCheck", json!({})),
            ("includeRequestBodyInCheck", json!({"maxRequestBytes": 0})),
            ("timeOut", json!("1s")),
        ] {
            let mut http = json!({"service": "a.example", "port": 80});
            http[field] = value.clone();
            let (asks, problems) = read(&json!({"name": "a", "envoyExtAuthzHttp": http}));
            assert!(asks.is_none(), "{field}: {value}");
            assert!(problems[0].contains(field), "{problems:?}");
        }
    }
}
