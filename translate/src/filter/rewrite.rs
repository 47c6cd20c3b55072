//! URLRewrite: another host, another path, for the backend.

use proto::{
    envoy::route,
    gateway::httproutes::{
        HttpRouteRulesFiltersUrlRewrite, HttpRouteRulesFiltersUrlRewritePath,
        HttpRouteRulesFiltersUrlRewritePathType,
    },
};

use super::{Place, Reading, RuleFilter};
use crate::route::{
    header::is_hostname,
    path_modifier::{self, PathChange, PathModifier, substitute},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UrlRewrite {
    pub(crate) hostname: Option<String>,
    path: Option<PathModifier>,
}

impl UrlRewrite {
    pub(crate) fn replaces_prefix(&self) -> bool {
        self.path.as_ref().is_some_and(PathModifier::replaces_prefix)
    }
}

impl RuleFilter for UrlRewrite {
    type Spec = HttpRouteRulesFiltersUrlRewrite;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersUrlRewrite { hostname, path } = spec;
        let before = reading.problems.len();
        if let Some(hostname) = hostname.as_ref().filter(|hostname| !is_hostname(hostname)) {
            reading.invalid("hostname", format!("{hostname:?} is not a host name"));
        }
        let path = path.as_ref().and_then(|path| lower_path(path, reading));
        (reading.problems.len() == before).then(|| Self { hostname: hostname.clone(), path })
    }

    fn emit(&self, route: &mut route::Route, place: &Place<'_>) {
        let Some(route::route::Action::Route(action)) = &mut route.action else { return };
        if let Some(hostname) = &self.hostname {
            action.host_rewrite_specifier =
                Some(route::route_action::HostRewriteSpecifier::HostRewriteLiteral(hostname.clone()));
        }
        match self.path.as_ref().and_then(|path| path.change(&place.found.path)) {
            Some(PathChange::Full(path)) => action.regex_rewrite = Some(substitute("^.*$".to_owned(), &path)),
            Some(PathChange::Prefix(prefix)) => action.prefix_rewrite = prefix,
            Some(PathChange::Regex(regex)) => action.regex_rewrite = Some(regex),
            None => {}
        }
    }
}

fn lower_path(spec: &HttpRouteRulesFiltersUrlRewritePath, reading: &mut Reading<'_>) -> Option<PathModifier> {
    use HttpRouteRulesFiltersUrlRewritePathType::{ReplaceFullPath, ReplacePrefixMatch};
    let HttpRouteRulesFiltersUrlRewritePath { replace_full_path, replace_prefix_match, r#type } = spec;
    let (field, path) = match r#type {
        ReplaceFullPath => ("path.replaceFullPath", replace_full_path),
        ReplacePrefixMatch => ("path.replacePrefixMatch", replace_prefix_match),
    };
    let modifier = path_modifier::lower(path.as_deref(), matches!(r#type, ReplacePrefixMatch));
    modifier.map_err(|message| reading.invalid(field, message)).ok()
}
