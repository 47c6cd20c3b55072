//! CORS: which pages may call a route from a browser.

use proto::{
    envoy::{BoolValue, core, http_cors, pack, route},
    gateway::httproutes::HttpRouteRulesFiltersCors,
};

use super::{Place, Reading, RuleFilter};
use crate::{
    envoy::extension::typed,
    mesh::pattern::{Pattern, quote},
    policy::authorization::string,
    route::header::is_name,
};

/// The name of the filter in the service's chain, which a route's policy is found by.
const NAME: &str = "cors";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cors {
    origins: Vec<Pattern>,
    methods: String,
    headers: String,
    exposed: String,
    credentials: bool,
    max_age: Option<u32>,
}

impl RuleFilter for Cors {
    type Spec = HttpRouteRulesFiltersCors;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersCors {
            allow_credentials,
            allow_headers,
            allow_methods,
            allow_origins,
            expose_headers,
            max_age,
        } = spec;
        let before = reading.problems.len();
        let mut origins = Vec::new();
        for (index, origin) in allow_origins.iter().flatten().enumerate() {
            match lower_origin(origin) {
                Some(pattern) => origins.push(pattern),
                None => reading.invalid(
                    &format!("allowOrigins[{index}]"),
                    format!("{origin:?} is neither an origin, as in https://*.example.com:8443, nor *"),
                ),
            }
        }
        let methods = tokens("allowMethods", allow_methods.as_deref(), reading);
        let headers = tokens("allowHeaders", allow_headers.as_deref(), reading);
        let exposed = tokens("exposeHeaders", expose_headers.as_deref(), reading);
        let max_age = max_age.map(|age| u32::try_from(age).ok().filter(|age| *age > 0));
        if max_age == Some(None) {
            reading.invalid("maxAge", "an age is at least one second");
        }
        (reading.problems.len() == before).then(|| Self {
            origins,
            methods,
            headers,
            exposed,
            credentials: allow_credentials.unwrap_or(false),
            max_age: max_age.flatten(),
        })
    }

    fn emit(&self, route: &mut route::Route, _place: &Place<'_>) {
        let policy = http_cors::CorsPolicy {
            allow_origin_string_match: self.origins.iter().map(|origin| string(origin, false)).collect(),
            allow_methods: self.methods.clone(),
            allow_headers: self.headers.clone(),
            expose_headers: self.exposed.clone(),
            max_age: self.max_age.map(|age| age.to_string()).unwrap_or_default(),
            allow_credentials: Some(BoolValue { value: self.credentials }),
            // The backend is not asked whether a stranger may ask it.
            forward_not_matching_preflights: Some(BoolValue { value: false }),
            ..http_cors::CorsPolicy::default()
        };
        route.typed_per_filter_config.insert(NAME.to_owned(), pack(&policy));
    }

    fn service_filter() -> Option<core::TypedExtensionConfig> {
        Some(typed(NAME, &http_cors::Cors {}))
    }
}

/// `*`, or an origin whose host may begin with one.
fn lower_origin(origin: &str) -> Option<Pattern> {
    if origin == "*" {
        return Some(Pattern::Present);
    }
    let (scheme, rest) = origin.split_once("://")?;
    let (host, port) = rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+_".contains(&byte))
    };
    if !plain(scheme)
        || origin.len() > 253
        || !port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        return None;
    }
    let ending = port.map(|port| format!(":{port}")).unwrap_or_default();
    match host.strip_prefix('*') {
        None if plain(host) => Some(Pattern::Exact(origin.to_owned())),
        Some(rest) if rest.is_empty() || (rest.starts_with('.') && plain(rest)) => {
            Some(Pattern::Regex(format!("{}://[^/:]+{}{}", quote(scheme), quote(rest), quote(&ending))))
        }
        None | Some(_) => None,
    }
}

fn tokens(field: &str, listed: Option<&[String]>, reading: &mut Reading<'_>) -> String {
    let listed = listed.unwrap_or_default();
    for (index, token) in listed.iter().enumerate().filter(|(_, token)| !is_name(token)) {
        reading.invalid(&format!("{field}[{index}]"), format!("{token:?} is not a name that HTTP allows"));
    }
    // A star among others stands for them all, and Envoy knows it only alone.
    if listed.iter().any(|token| token == "*") { "*".to_owned() } else { listed.join(", ") }
}
