//! RequestRedirect: the caller is sent elsewhere.

use proto::{
    envoy::route,
    gateway::httproutes::{
        HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectPath,
        HttpRouteRulesFiltersRequestRedirectPathType, HttpRouteRulesFiltersRequestRedirectScheme,
    },
};

use super::{Place, Reading, RuleFilter};
use crate::route::{
    header::is_hostname,
    path_modifier::{self, PathChange, PathModifier},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestRedirect {
    scheme: Option<Scheme>,
    hostname: Option<String>,
    port: Option<u16>,
    path: Option<PathModifier>,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    MovedPermanently,
    Found,
    SeeOther,
    TemporaryRedirect,
    PermanentRedirect,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl RequestRedirect {
    pub(crate) fn replaces_prefix(&self) -> bool {
        self.path.as_ref().is_some_and(PathModifier::replaces_prefix)
    }

    /// The port to name in the location; 0 names none.
    ///
    /// Gateway API: the port that was asked for, else the scheme's own, else the one that the request
    /// came to; and a port that is the scheme's own is not named. Without a new host name Envoy keeps
    /// the port of the request's Host, so there it is replaced, own or not, unless it is known to be none.
    fn port(&self, came_to: u16) -> u32 {
        // Requests come in tunnels, in plain text: https is only where the rule says so.
        let own = self.scheme.unwrap_or(Scheme::Http).port();
        let port = self.port.or_else(|| self.scheme.map(Scheme::port)).unwrap_or(came_to);
        let left_by_host = match &self.hostname {
            Some(_) => false,
            None => came_to != Scheme::Http.port(),
        };
        if port == own && !left_by_host { 0 } else { u32::from(port) }
    }
}

impl RuleFilter for RequestRedirect {
    type Spec = HttpRouteRulesFiltersRequestRedirect;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersRequestRedirect { hostname, path, port, scheme, status_code } = spec;
        let before = reading.problems.len();
        if let Some(hostname) = hostname.as_ref().filter(|hostname| !is_hostname(hostname)) {
            reading.invalid("hostname", format!("{hostname:?} is not a host name"));
        }
        let number = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_some() && number.is_none() {
            reading.invalid("port", "the port is not in 1..65535");
        }
        let status = match status_code.unwrap_or(302) {
            301 => Status::MovedPermanently,
            302 => Status::Found,
            303 => Status::SeeOther,
            307 => Status::TemporaryRedirect,
            308 => Status::PermanentRedirect,
            other => {
                reading.invalid("statusCode", format!("{other} is not one of 301, 302, 303, 307, 308"));
                return None;
            }
        };
        let path = path.as_ref().and_then(|path| lower_path(path, reading));
        let scheme = scheme.as_ref().map(|scheme| match scheme {
            HttpRouteRulesFiltersRequestRedirectScheme::Http => Scheme::Http,
            HttpRouteRulesFiltersRequestRedirectScheme::Https => Scheme::Https,
        });
        (reading.problems.len() == before).then(|| Self {
            scheme,
            hostname: hostname.clone(),
            port: number,
            path,
            status,
        })
    }

    fn emit(&self, route: &mut route::Route, place: &Place<'_>) {
        use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
        let path = self.path.as_ref().and_then(|path| path.change(&place.found.path));
        let code = match self.status {
            Status::MovedPermanently => RedirectResponseCode::MovedPermanently,
            Status::Found => RedirectResponseCode::Found,
            Status::SeeOther => RedirectResponseCode::SeeOther,
            Status::TemporaryRedirect => RedirectResponseCode::TemporaryRedirect,
            Status::PermanentRedirect => RedirectResponseCode::PermanentRedirect,
        };
        route.action = Some(route::route::Action::Redirect(route::RedirectAction {
            host_redirect: self.hostname.clone().unwrap_or_default(),
            port_redirect: self.port(place.key.port),
            response_code: code.into(),
            strip_query: false,
            scheme_rewrite_specifier: self
                .scheme
                .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.as_str().to_owned())),
            path_rewrite_specifier: path.map(|path| match path {
                PathChange::Full(path) => PathRewriteSpecifier::PathRedirect(path),
                PathChange::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
                PathChange::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
            }),
        }));
    }
}

fn lower_path(
    spec: &HttpRouteRulesFiltersRequestRedirectPath,
    reading: &mut Reading<'_>,
) -> Option<PathModifier> {
    use HttpRouteRulesFiltersRequestRedirectPathType::{ReplaceFullPath, ReplacePrefixMatch};
    let HttpRouteRulesFiltersRequestRedirectPath { replace_full_path, replace_prefix_match, r#type } = spec;
    let (field, path) = match r#type {
        ReplaceFullPath => ("path.replaceFullPath", replace_full_path),
        ReplacePrefixMatch => ("path.replacePrefixMatch", replace_prefix_match),
    };
    let modifier = path_modifier::lower(path.as_deref(), matches!(r#type, ReplacePrefixMatch));
    modifier.map_err(|message| reading.invalid(field, message)).ok()
}
