//! Precedence: what Gateway API's words choose for a request, against the first of the emitted
//! routes that matches it. Random routes, random requests; nothing of `translate` is asked for the
//! expected answer.

use prost::Message;
use proto::{
    Object, TypeUrl,
    envoy::{RouteConfiguration, matcher, route},
};
use serde_json::{Value, json};
use tests::case;
use translate::{Change, Mesh};

use crate::{oracle::Walk, root, settings};

const MESHES: u64 = 1_000;
const REQUESTS: usize = 101;

const PATHS: [&str; 8] = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b", "/shop.Cart/Get", "/shop.Cart/Put"];
const PREFIXES: [&str; 5] = ["/", "/a", "/a/b", "/b", "/shop.Cart"];
/// What an expression means.
type Meaning = fn(&str) -> bool;
const EXPRESSIONS: [(&str, Meaning); 3] = [
    ("/a.*", |path| path.starts_with("/a")),
    ("/[^/]+", |path| path.len() > 1 && !path[1..].contains('/')),
    ("/.*/(b|Get)", |path| path.matches('/').count() > 1 && (path.ends_with("/b") || path.ends_with("/Get"))),
];
const VALUES: [&str; 2] = ["one", "two"];
const NAMESPACES: [&str; 3] = ["app", "shop", "zoo"];

#[derive(Clone, Debug)]
struct Route {
    grpc: bool,
    namespace: &'static str,
    name: String,
    created: Option<usize>,
    rules: Vec<Vec<Wanted>>,
}

#[derive(Clone, Debug)]
enum Path {
    Any,
    Exact(&'static str),
    Prefix(&'static str),
    Regex(usize),
    Call { service: &'static str, method: &'static str },
}

#[derive(Clone, Debug)]
struct Wanted {
    path: Path,
    method: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
struct Request {
    caller: &'static str,
    path: &'static str,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

impl Walk {
    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn pairs(&mut self, names: &[&'static str], odds: usize) -> Vec<(&'static str, &'static str)> {
        let mut pairs = Vec::new();
        for name in names {
            if self.below(odds) == 0 {
                pairs.push((*name, self.one_of(&VALUES)));
            }
        }
        pairs
    }

    fn route(&mut self, nth: usize) -> Route {
        let grpc = self.below(6) == 0;
        let rules = (0..=self.below(3)).map(|_| (0..self.below(4)).map(|_| self.wanted(grpc)).collect());
        Route {
            rules: rules.collect(),
            grpc,
            namespace: if self.below(3) == 0 { self.one_of(&NAMESPACES) } else { "app" },
            name: format!("{}{nth}", self.one_of(&["a", "b", "c"])),
            created: (self.below(4) > 0).then(|| self.below(3)),
        }
    }

    fn wanted(&mut self, grpc: bool) -> Wanted {
        if grpc {
            let call = [("", ""), ("shop.Cart", ""), ("", "Get"), ("shop.Cart", "Get"), ("a", "b")];
            let path = match self.one_of(&call) {
                ("", "") => Path::Any,
                (service, method) => Path::Call { service, method },
            };
            return Wanted {
                path,
                method: None,
                headers: self.pairs(&["x-one", "x-two"], 3),
                query: Vec::new(),
            };
        }
        let path = match self.below(7) {
            0 => Path::Any,
            1 | 2 => Path::Exact(self.one_of(&PATHS)),
            3..=5 => Path::Prefix(self.one_of(&PREFIXES)),
            _ => Path::Regex(self.below(EXPRESSIONS.len())),
        };
        Wanted {
            path,
            method: (self.below(3) == 0).then(|| self.one_of(&["GET", "POST"])),
            headers: self.pairs(&["x-one", "x-two"], 3),
            query: self.pairs(&["q", "r"], 4),
        }
    }

    fn request(&mut self) -> Request {
        Request {
            caller: self.one_of(&["app", "shop", "zoo", "elsewhere"]),
            path: self.one_of(&PATHS),
            method: self.one_of(&["GET", "POST"]),
            headers: self.pairs(&["x-one", "x-two"], 2),
            query: self.pairs(&["q", "r"], 2),
        }
    }
}

impl Route {
    fn manifest(&self) -> Value {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>()
        };
        let wanted = |wanted: &Wanted| {
            let path = match &wanted.path {
                Path::Any => Value::Null,
                Path::Exact(path) => json!({"type": "Exact", "value": path}),
                Path::Prefix(path) => json!({"type": "PathPrefix", "value": path}),
                Path::Regex(nth) => json!({"type": "RegularExpression", "value": EXPRESSIONS[*nth].0}),
                Path::Call { service, method } => json!({"service": service, "method": method}),
            };
            let headers = pairs(&wanted.headers);
            if self.grpc {
                return json!({"method": path, "headers": headers});
            }
            json!({"path": path, "method": wanted.method, "headers": headers, "queryParams": pairs(&wanted.query)})
        };
        let rules = self.rules.iter().map(|rule| {
            let backends = json!([{"name": "web", "namespace": "app", "port": 80}]);
            json!({"matches": rule.iter().map(wanted).collect::<Value>(), "backendRefs": backends})
        });
        let created = self.created.map(|day| format!("2026-01-0{}T00:00:00Z", day + 1));
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": if self.grpc { "GRPCRoute" } else { "HTTPRoute" },
            "metadata": {"namespace": self.namespace, "name": self.name, "creationTimestamp": created},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "namespace": "app", "name": "web"}],
                "rules": rules.collect::<Value>(),
            },
        })
    }
}

/// The rule that the specification's words choose, narrowing the candidates one criterion at a time.
fn chosen(routes: &[Route], request: &Request) -> String {
    let group =
        |namespace: &str| routes.iter().filter(|route| route.namespace == namespace).collect::<Vec<_>>();
    // GEP-1426: requests from a namespace with consumer routes use those; others the producer's.
    let consumers = group(request.caller);
    let mut group = if consumers.is_empty() { group("app") } else { consumers };
    if group.is_empty() {
        return "default".to_owned();
    }
    // GEP-1426: of several types of route only one is applied, GRPCRoute first.
    if group.iter().any(|route| route.grpc) {
        group.retain(|route| route.grpc);
    }
    let any = Wanted { path: Path::Any, method: None, headers: Vec::new(), query: Vec::new() };
    let mut left: Vec<(&Route, usize, &Wanted)> = Vec::new();
    for route in group {
        for (index, rule) in route.rules.iter().enumerate() {
            let wanted = if rule.is_empty() { std::slice::from_ref(&any) } else { rule.as_slice() };
            left.extend(
                wanted.iter().filter(|wanted| matches(wanted, request)).map(|wanted| (route, index, wanted)),
            );
        }
    }
    let mut keep_most = |of: &dyn Fn(&(&Route, usize, &Wanted)) -> usize| {
        let most = left.iter().map(of).max();
        left.retain(|candidate| Some(of(candidate)) == most);
    };
    let length = |path: &'static str| path.trim_end_matches('/').len();
    keep_most(&|(_, _, wanted)| usize::from(matches!(wanted.path, Path::Exact(_))));
    // Left to the implementation, and ours is: expressions after prefixes, the longer before.
    keep_most(&|(_, _, wanted)| usize::from(!matches!(wanted.path, Path::Regex(_))));
    keep_most(&|(_, _, wanted)| match wanted.path {
        Path::Any => 0,
        Path::Exact(path) | Path::Prefix(path) => length(path),
        Path::Regex(nth) => EXPRESSIONS[nth].0.len(),
        Path::Call { service, .. } => service.len(),
    });
    keep_most(&|(_, _, wanted)| if let Path::Call { method, .. } = wanted.path { method.len() } else { 0 });
    keep_most(&|(_, _, wanted)| usize::from(wanted.method.is_some()));
    keep_most(&|(_, _, wanted)| wanted.headers.len());
    keep_most(&|(_, _, wanted)| wanted.query.len());
    keep_most(&|(route, _, _)| usize::MAX - route.created.unwrap_or(9));
    let first = left.iter().map(|(route, _, _)| &route.name).min().cloned();
    left.retain(|(route, _, _)| Some(&route.name) == first.as_ref());
    match left.iter().min_by_key(|(_, index, _)| *index) {
        Some((route, index, _)) => format!("{}/{}/{index}", route.namespace, route.name),
        None => "not-found".to_owned(),
    }
}

fn matches(wanted: &Wanted, request: &Request) -> bool {
    let path = match wanted.path {
        Path::Any => true,
        Path::Exact(path) => request.path == path,
        Path::Prefix(prefix) => {
            let prefix: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
            let path: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
            path.starts_with(&prefix)
        }
        Path::Regex(nth) => EXPRESSIONS[nth].1(request.path),
        Path::Call { service, method } => match request.path[1..].split_once('/') {
            Some((of, called)) => {
                (service.is_empty() || service == of) && (method.is_empty() || method == called)
            }
            None => method.is_empty() && request.path[1..] == *service,
        },
    };
    path && wanted.method.is_none_or(|method| method == request.method)
        && wanted.headers.iter().all(|header| request.headers.contains(header))
        && wanted.query.iter().all(|parameter| request.query.contains(parameter))
}

/// What Envoy does with the routes: the first that matches.
fn taken(config: &RouteConfiguration, request: &Request) -> String {
    let routes = config.virtual_hosts.iter().flat_map(|host| &host.routes);
    let mut found = routes.filter(|route| route.r#match.as_ref().is_some_and(|found| takes(found, request)));
    found.next().unwrap().name.clone()
}

fn takes(found: &route::RouteMatch, request: &Request) -> bool {
    use route::{
        header_matcher::HeaderMatchSpecifier, query_parameter_matcher::QueryParameterMatchSpecifier,
        route_match::PathSpecifier,
    };
    let path = match found.path_specifier.as_ref().unwrap() {
        PathSpecifier::ConnectMatcher(_) => return false,
        PathSpecifier::Path(path) => request.path == path,
        PathSpecifier::Prefix(prefix) => request.path.starts_with(prefix),
        PathSpecifier::PathSeparatedPrefix(prefix) => request
            .path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathSpecifier::SafeRegex(regex) if regex.regex == "/[^/]+/Get" => {
            request.path.ends_with("/Get") && request.path.matches('/').count() == 2
        }
        PathSpecifier::SafeRegex(regex) => {
            let known = EXPRESSIONS.iter().find(|(text, _)| *text == regex.regex);
            known.unwrap_or_else(|| panic!("{} is none of ours", regex.regex)).1(request.path)
        }
        other @ PathSpecifier::PathMatchPolicy(_) => panic!("{other:?} is not known here"),
    };
    let headers = found.headers.iter().all(|header| {
        let Some(HeaderMatchSpecifier::StringMatch(value)) = &header.header_match_specifier else {
            panic!("{header:?} is not known here");
        };
        let sent = match header.name.as_str() {
            ":method" => Some(request.method),
            name => request.headers.iter().find(|(sent, _)| *sent == name).map(|(_, value)| *value),
        };
        sent.is_some_and(|sent| is(value, sent))
    });
    let query = found.query_parameters.iter().all(|parameter| {
        let Some(QueryParameterMatchSpecifier::StringMatch(value)) =
            &parameter.query_parameter_match_specifier
        else {
            panic!("{parameter:?} is not known here");
        };
        request.query.iter().any(|(name, sent)| *name == parameter.name && is(value, sent))
    });
    let caller = format!("spiffe://cluster.local/ns/{}/sa/some", request.caller);
    let state = found.filter_state.iter().all(|state| {
        let Some(matcher::filter_state_matcher::Matcher::StringMatch(value)) = &state.matcher else {
            panic!("{state:?} is not known here");
        };
        state.key == "io.istio.peer_principal" && is(value, &caller)
    });
    path && headers && query && state
}

fn is(wanted: &matcher::StringMatcher, value: &str) -> bool {
    use matcher::string_matcher::MatchPattern;
    match wanted.match_pattern.as_ref().unwrap() {
        MatchPattern::Exact(text) => value == text,
        MatchPattern::Prefix(text) => value.starts_with(text.as_str()),
        other @ (MatchPattern::Suffix(_)
        | MatchPattern::SafeRegex(_)
        | MatchPattern::Contains(_)
        | MatchPattern::Custom(_)) => panic!("{other:?} is not known here"),
    }
}

#[test]
fn the_emitted_order_is_the_specified_order() {
    let cases = case::all(root()).unwrap();
    let defaults = cases.into_iter().find(|case| case.folder == "route").unwrap().defaults;
    let mut asked = 0;
    for seed in 1..=MESHES {
        let mut walk = Walk(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let routes: Vec<Route> = (0..=walk.below(5)).map(|nth| walk.route(nth)).collect();
        let decoded =
            routes.iter().map(|route| Change::Set(Object::decode(route.manifest()).unwrap().object));
        let commit =
            Mesh::new(settings()).commit(defaults.iter().map(|edit| edit.change.clone()).chain(decoded));
        let resources = commit.resources.values().flat_map(|delta| &delta.set);
        let config = resources
            .into_iter()
            .find(|resource| resource.type_url == TypeUrl::Route && &*resource.name == "app/web:80");
        let config = RouteConfiguration::decode(config.unwrap().body.plain().as_ref()).unwrap();
        for _ in 0..REQUESTS {
            let request = walk.request();
            assert_eq!(
                taken(&config, &request),
                chosen(&routes, &request),
                "seed {seed}: {request:?}\n{}",
                serde_json::to_string_pretty(&routes.iter().map(Route::manifest).collect::<Value>()).unwrap()
            );
            asked += 1;
        }
    }
    assert!(asked >= 100_000, "{asked} is too few");
}
