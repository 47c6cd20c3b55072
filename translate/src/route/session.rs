//! Session persistence: who comes back gets the same endpoint again.

use proto::{
    Name,
    envoy::{
        CookieSession, HeaderSession, StatefulSession, StatefulSessionPerRoute, core, milliseconds, pack,
        route, session_cookie, stateful_session_per_route::Override,
    },
    gateway::{
        SessionPersistence,
        httproutes::{
            HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime,
            HttpRouteRulesSessionPersistenceType,
        },
    },
};

use super::{backend::BackendRef, header::is_name, timeout::Millis};
use crate::{
    envoy::extension::typed,
    problem::{FieldPath, Problem, Reason},
};

/// The name of the filter in the service's chain, which a route's session is found by.
const NAME: &str = "session";

/// How a caller is known again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Session {
    /// Until the browser closes, or for that long.
    Cookie {
        name: String,
        lasts: Option<Millis>,
    },
    Header {
        name: String,
    },
}

/// `default_name` is the session's where it has no name of its own.
pub(crate) fn lower(
    spec: &SessionPersistence,
    default_name: &str,
    backends: &[BackendRef],
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<Session> {
    let SessionPersistence { absolute_timeout, cookie_config, idle_timeout, session_name, r#type } = spec;
    let before = problems.len();
    let mut refuse = |field: &str, reason, message: String| {
        let at = if field.is_empty() { at.clone() } else { at.field(field) };
        problems.push(Problem { at, reason, message });
    };
    let mut used = backends.iter().filter(|backend| backend.weight > 0);
    if used.clone().count() > 1 && used.any(|backend| !backend.filters.is_empty()) {
        let message = "sessions are kept across backends that are treated alike only; give the filters to the rule, or split it";
        refuse("", Reason::UnsupportedValue, message.to_owned());
    }
    if idle_timeout.is_some() {
        let message = "how long a session is idle is not known; use absoluteTimeout with a permanent cookie";
        refuse("idleTimeout", Reason::UnsupportedValue, message.to_owned());
    }
    let name = session_name.as_deref().unwrap_or(default_name).to_owned();
    if !is_name(&name) || name.len() > 128 {
        refuse("sessionName", Reason::Invalid, format!("{name:?} is not a name of a cookie or a header"));
    }
    let lasts = absolute_timeout.as_ref().map(|text| Millis::parse(text)).transpose();
    let lasts = lasts.unwrap_or_else(|message| {
        refuse("absoluteTimeout", Reason::Invalid, message);
        None
    });
    if lasts.is_some_and(|lasts| lasts.get() < 1000) {
        refuse("absoluteTimeout", Reason::UnsupportedValue, "a session lasts at least one second".to_owned());
    }
    let lifetime = cookie_config.as_ref().and_then(|cookie| cookie.lifetime_type.as_ref());
    let permanent = match lifetime {
        Some(Lifetime::Permanent) => true,
        Some(Lifetime::Session) | None => false,
    };
    let session = match r#type {
        Some(HttpRouteRulesSessionPersistenceType::Header) => {
            if cookie_config.is_some() {
                refuse("cookieConfig", Reason::Invalid, "a session by header has no cookie".to_owned());
            }
            if lasts.is_some() {
                let message = "a session by header has no end; use a permanent cookie";
                refuse("absoluteTimeout", Reason::UnsupportedValue, message.to_owned());
            }
            if name.eq_ignore_ascii_case("host") {
                refuse("sessionName", Reason::Invalid, "the Host is not a session".to_owned());
            }
            Session::Header { name }
        }
        Some(HttpRouteRulesSessionPersistenceType::Cookie) | None => {
            if permanent && lasts.is_none() {
                let message = "a permanent cookie needs an absoluteTimeout";
                refuse("absoluteTimeout", Reason::Invalid, message.to_owned());
            }
            if !permanent && lasts.is_some() {
                let message = "a cookie that ends with the browser's session has no other end; make its lifetimeType Permanent";
                refuse("absoluteTimeout", Reason::UnsupportedValue, message.to_owned());
            }
            Session::Cookie { name, lasts }
        }
    };
    (problems.len() == before).then_some(session)
}

/// The name of a session that a rule leaves to us: one for each rule.
pub(crate) fn default_name(namespace: &Name, route: &Name, rule: &str) -> String {
    let name = format!("portolan-{namespace}-{route}-{rule}");
    if name.len() <= 128 {
        name
    } else {
        format!("portolan-{:016x}", rapidhash::v3::rapidhash_v3(name.as_bytes()))
    }
}

/// What the service's chain needs, if some route has a session. It does nothing where a route has none.
pub(crate) fn service_filter() -> core::TypedExtensionConfig {
    typed(NAME, &StatefulSession::default())
}

pub(crate) fn emit(session: &Session, route: &mut route::Route) {
    let state = match session {
        Session::Cookie { name, lasts } => {
            let cookie = session_cookie::Cookie {
                name: name.clone(),
                ttl: lasts.map(|lasts| milliseconds(lasts.get())),
                path: "/".to_owned(),
                ..session_cookie::Cookie::default()
            };
            typed("envoy.http.stateful_session.cookie", &CookieSession { cookie: Some(cookie) })
        }
        Session::Header { name } => {
            typed("envoy.http.stateful_session.header", &HeaderSession { name: name.clone() })
        }
    };
    let session = StatefulSession { session_state: Some(state), ..StatefulSession::default() };
    let per_route = StatefulSessionPerRoute { r#override: Some(Override::StatefulSession(session)) };
    route.typed_per_filter_config.insert(NAME.to_owned(), pack(&per_route));
}
