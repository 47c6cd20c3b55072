//! The filters of a rule and of its backends. To add one: its file, and its line in the list.

pub(crate) mod cors;
pub(crate) mod header_modifier;
pub(crate) mod mirror;
pub(crate) mod redirect;
pub(crate) mod rewrite;

use proto::{
    Name,
    envoy::{core, route},
    gateway::{Filter as Spec, httproutes::HttpRouteRulesFiltersType as Kind},
};

use crate::{
    mesh::name::{PortKey, ServiceKey},
    problem::{FieldPath, Problem, Reason},
    route::matches::HttpMatch,
    settings::Settings,
};

/// One kind of filter. The API's types of a filter differ between rules, backends and kinds of
/// route; they become one before they come here ([`proto::gateway::filter`]), and so do ours.
trait RuleFilter: Sized {
    type Spec;
    /// A rule may have several.
    const REPEATS: bool = false;
    /// A backend may have it too.
    const ON_BACKENDS: bool = false;

    /// `None` for what cannot be done as asked; a problem says why, and the rule fails.
    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self>;

    fn emit(&self, route: &mut route::Route, place: &Place<'_>);

    /// For one backend's share of the requests.
    fn emit_share(&self, _share: &mut route::weighted_cluster::ClusterWeight) {}

    /// What the service's chain needs for the filter to work at all.
    fn service_filter() -> Option<core::TypedExtensionConfig> {
        None
    }
}

/// Where a filter is read, and what is wrong with it.
pub(crate) struct Reading<'r> {
    at: FieldPath,
    namespace: &'r Name,
    problems: &'r mut Vec<Problem>,
}

impl Reading<'_> {
    /// The value of that field is not one that the API allows.
    fn invalid(&mut self, field: &str, message: impl Into<String>) {
        self.problem(field, Reason::Invalid, message);
    }

    /// The value is allowed, and cannot be done.
    fn unsupported(&mut self, field: &str, message: impl Into<String>) {
        self.problem(field, Reason::UnsupportedValue, message);
    }

    fn problem(&mut self, field: &str, reason: Reason, message: impl Into<String>) {
        let at = if field.is_empty() { self.at.clone() } else { self.at.field(field) };
        self.problems.push(Problem { at, reason, message: message.into() });
    }
}

/// The route that a filter is emitted for.
pub(crate) struct Place<'p> {
    pub(crate) found: &'p HttpMatch,
    pub(crate) key: &'p PortKey,
    pub(crate) settings: &'p Settings,
}

macro_rules! filters {
    ($($field:ident: $module:ident::$name:ident),* $(,)?) => {
        /// A filter of a rule or a backend.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Filter {
            $($name($module::$name)),*
        }

        impl Filter {
            fn lower(spec: &Spec, on: On, reading: &mut Reading<'_>) -> Option<Self> {
                match spec.r#type {
                    $(Kind::$name if on == On::Backend && !$module::$name::ON_BACKENDS => {
                        reading.unsupported("type", "a backend cannot have this filter; give it to the rule");
                        None
                    }
                    Kind::$name => {
                        let Some(spec) = &spec.$field else {
                            reading.invalid("type", "the field of that type is missing");
                            return None;
                        };
                        reading.at = reading.at.field(field_name(&Kind::$name));
                        $module::$name::lower(spec, reading).map(Self::$name)
                    })*
                    Kind::ExtensionRef | Kind::ExternalAuth => {
                        reading.unsupported("type", "this type of filter is not supported; remove it");
                        None
                    }
                }
            }

            const fn repeats(&self) -> bool {
                match self { $(Self::$name(_) => $module::$name::REPEATS),* }
            }

            /// Does to the route what the filter is for.
            pub(crate) fn emit(&self, route: &mut route::Route, place: &Place<'_>) {
                match self { $(Self::$name(filter) => filter.emit(route, place)),* }
            }

            /// Does to a backend's share of the requests what the filter is for.
            pub(crate) fn emit_share(&self, share: &mut route::weighted_cluster::ClusterWeight) {
                match self { $(Self::$name(filter) => filter.emit_share(share)),* }
            }
        }

        /// What the service's chain needs, in the order of the list.
        pub(crate) fn service_filters<'f>(
            used: impl Iterator<Item = &'f Filter> + Clone,
        ) -> Vec<core::TypedExtensionConfig> {
            let mut chain = Vec::new();
            $(if used.clone().any(|filter| matches!(filter, Filter::$name(_))) {
                chain.extend($module::$name::service_filter());
            })*
            chain
        }
    };
}

// The order is that of the chain. What decides where a request goes comes before what alters that.
filters! {
    cors: cors::Cors,
    request_header_modifier: header_modifier::RequestHeaderModifier,
    response_header_modifier: header_modifier::ResponseHeaderModifier,
    request_redirect: redirect::RequestRedirect,
    url_rewrite: rewrite::UrlRewrite,
    request_mirror: mirror::RequestMirror,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Rule,
    Backend,
}

/// The field of the union that a type stands for.
const fn field_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::RequestHeaderModifier => "requestHeaderModifier",
        Kind::ResponseHeaderModifier => "responseHeaderModifier",
        Kind::RequestMirror => "requestMirror",
        Kind::RequestRedirect => "requestRedirect",
        Kind::UrlRewrite => "urlRewrite",
        Kind::Cors => "cors",
        Kind::ExtensionRef => "extensionRef",
        Kind::ExternalAuth => "externalAuth",
    }
}

impl Filter {
    /// The service port that gets copies of the requests.
    pub(crate) fn mirrors_to(&self) -> Option<&(ServiceKey, u16)> {
        match self {
            Self::RequestMirror(mirror) => mirror.to.as_ref(),
            Self::Cors(_)
            | Self::RequestHeaderModifier(_)
            | Self::ResponseHeaderModifier(_)
            | Self::RequestRedirect(_)
            | Self::UrlRewrite(_) => None,
        }
    }

    /// Whether it only means something for a match by prefix.
    pub(crate) fn replaces_prefix(&self) -> bool {
        match self {
            Self::RequestRedirect(redirect) => redirect.replaces_prefix(),
            Self::UrlRewrite(rewrite) => rewrite.replaces_prefix(),
            Self::Cors(_)
            | Self::RequestHeaderModifier(_)
            | Self::ResponseHeaderModifier(_)
            | Self::RequestMirror(_) => false,
        }
    }

    /// Whether the answer comes from the waypoint itself.
    pub(crate) const fn redirects(&self) -> bool {
        matches!(self, Self::RequestRedirect(_))
    }

    /// What it does to the headers of requests.
    fn request_headers(&self) -> Option<&header_modifier::HeaderChanges> {
        match self {
            Self::RequestHeaderModifier(modifier) => Some(&modifier.0),
            Self::Cors(_)
            | Self::ResponseHeaderModifier(_)
            | Self::RequestRedirect(_)
            | Self::UrlRewrite(_)
            | Self::RequestMirror(_) => None,
        }
    }

    /// Whether it gives the request another host.
    fn sets_host(&self) -> bool {
        match self {
            Self::RequestHeaderModifier(modifier) => modifier.0.host.is_some(),
            Self::UrlRewrite(rewrite) => rewrite.hostname.is_some(),
            Self::Cors(_)
            | Self::ResponseHeaderModifier(_)
            | Self::RequestRedirect(_)
            | Self::RequestMirror(_) => false,
        }
    }
}

/// The filters of a rule, and what is wrong with them alone or together. A rule of which something
/// is wrong has to fail: a filter is never skipped.
pub(crate) fn lower_rule(
    specs: impl IntoIterator<Item = Option<Spec>>,
    forwards: bool,
    namespace: &Name,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Vec<Filter> {
    let filters = lower(specs, On::Rule, namespace, at, problems);
    let mut refuse = |message: &str| {
        problems.push(Problem { at: at.clone(), reason: Reason::Invalid, message: message.to_owned() });
    };
    let has = |test: fn(&Filter) -> bool| filters.iter().any(test);
    if has(Filter::redirects) && forwards {
        refuse("a rule that redirects cannot have backends; remove one of them");
    }
    if has(Filter::redirects) && has(|filter| matches!(filter, Filter::UrlRewrite(_))) {
        refuse("a rule cannot both redirect and rewrite; remove one of the filters");
    }
    if has(Filter::redirects) && has(|filter| matches!(filter, Filter::Cors(_))) {
        refuse("the answer of a redirect cannot carry CORS headers; remove one of the filters");
    }
    if filters.iter().filter(|filter| filter.sets_host()).count() > 1 {
        refuse("two filters set the host; remove one of them");
    }
    filters
}

/// Gives a rule's changes of request headers to its backends, if one of them has changes of its own:
/// a backend's come after the rule's, and Envoy has it the other way round.
pub(crate) fn hand_down<'b>(
    rule: &mut Vec<Filter>,
    backends: impl Iterator<Item = &'b mut Vec<Filter>>,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) {
    let mut backends: Vec<_> = backends.collect();
    if !backends.iter().any(|filters| filters.iter().any(|filter| filter.request_headers().is_some())) {
        return;
    }
    if rule.iter().any(|filter| matches!(filter, Filter::UrlRewrite(_)) && filter.sets_host())
        && backends.iter().any(|filters| filters.iter().any(Filter::sets_host))
    {
        problems.push(Problem {
            at: at.clone(),
            reason: Reason::Invalid,
            message: "the rule and a backend both set the host; remove one of them".to_owned(),
        });
    }
    let Some(index) = rule.iter().position(|filter| filter.request_headers().is_some()) else { return };
    let taken = rule.remove(index);
    let Some(before) = taken.request_headers() else { return };
    for filters in &mut backends {
        let own = filters.iter().position(|filter| filter.request_headers().is_some());
        let own = own.map(|index| filters.remove(index));
        let changes = match own.as_ref().and_then(Filter::request_headers) {
            Some(own) => before.then(own),
            None => before.clone(),
        };
        filters.push(Filter::RequestHeaderModifier(header_modifier::RequestHeaderModifier(changes)));
    }
}

/// The filters of a backend. If something is wrong with them, its share of requests has to fail.
pub(crate) fn lower_backend(
    specs: impl IntoIterator<Item = Option<Spec>>,
    namespace: &Name,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Vec<Filter> {
    lower(specs, On::Backend, namespace, at, problems)
}

fn lower(
    specs: impl IntoIterator<Item = Option<Spec>>,
    on: On,
    namespace: &Name,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Vec<Filter> {
    let mut filters: Vec<Filter> = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let mut reading = Reading { at: at.index(index), namespace, problems };
        let Some(spec) = spec else {
            reading.invalid("", "this is no filter");
            continue;
        };
        let Some(filter) = Filter::lower(&spec, on, &mut reading) else { continue };
        let kind = std::mem::discriminant(&filter);
        if !filter.repeats() && filters.iter().any(|other| std::mem::discriminant(other) == kind) {
            reading.invalid("", "there is another filter of that type; make them one");
        }
        filters.push(filter);
    }
    filters
}
