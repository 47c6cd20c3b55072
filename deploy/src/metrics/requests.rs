//! What is counted of our requests to the API server: each of them, whoever makes it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, Uri};
use kube::client::Body;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tower::{Layer, Service};

/// Counts the requests of every client that is built with it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Requests(Family<Labels, Counter>);

/// How many values there are follows from what our own code asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    resource: String,
    code: String,
}

impl Requests {
    pub(super) fn show(&self, page: &mut Registry) {
        let help =
            "Requests to the API server, by verb, resource and the code of the answer; `none` without one";
        page.register("api_requests", help, self.0.clone());
    }

    pub(super) fn count(&self, verb: &'static str, resource: String, code: String) {
        self.0.get_or_create(&Labels { verb, resource, code }).inc();
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A client's service that counts.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S> fmt::Debug for Counted<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = asked(request.method(), request.uri());
        let requests = self.requests.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code =
                answer.as_ref().map_or("none".to_owned(), |answer| answer.status().as_str().to_owned());
            requests.count(verb, resource, code);
            answer
        })
    }
}

/// What a request asks for, in the words of roles: a verb, and a resource with its subresource. Requests
/// about the API itself are of the resource `discovery`.
fn asked(method: &Method, uri: &Uri) -> (&'static str, String) {
    let mut path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    // /api/VERSION or /apis/GROUP/VERSION
    let prefix = if path.first() == Some(&"apis") { 3 } else { 2 };
    path.drain(..prefix.min(path.len()));
    if let ["namespaces", _, _, ..] = path.as_slice()
        && path[2] != "finalize"
        && path[2] != "status"
    {
        path.drain(..2);
    }
    let resource = match path.as_slice() {
        [] => return ("get", "discovery".to_owned()),
        [plural] | [plural, _] => (*plural).to_owned(),
        [plural, _, sub, ..] => format!("{plural}/{sub}"),
    };
    let watches = || uri.query().is_some_and(|query| query.split('&').any(|it| it.starts_with("watch=")));
    let verb = match *method {
        Method::GET if path.len() > 1 => "get",
        Method::GET if watches() => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_called_as_a_role_would() {
        let cases = [
            (Method::GET, "/api/v1/pods?watch=true&resourceVersion=1", "watch pods"),
            (Method::GET, "/api/v1/namespaces?limit=500", "list namespaces"),
            (Method::GET, "/api/v1/namespaces/a/configmaps?&fieldSelector=x", "list configmaps"),
            (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "get leases"),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "update leases"),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b?force=true", "patch deployments"),
            (Method::PATCH, "/apis/a.io/v1/namespaces/a/gateways/b/status", "patch gateways/status"),
            (Method::PATCH, "/apis/a.io/v1/gatewayclasses/b/status", "patch gatewayclasses/status"),
            (Method::GET, "/api/v1/namespaces/a", "get namespaces"),
            (Method::DELETE, "/api/v1/namespaces/a/services/b", "delete services"),
            (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", "create tokenreviews"),
            (Method::GET, "/apis/gateway.networking.k8s.io/v1", "get discovery"),
            (Method::GET, "/version", "get discovery"),
        ];
        for (method, path, expected) in cases {
            let (verb, resource) = asked(&method, &path.parse().unwrap());
            assert_eq!(format!("{verb} {resource}"), expected, "{path}");
        }
    }
}
