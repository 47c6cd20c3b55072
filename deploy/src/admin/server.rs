//! A small HTTP server: whole answers to requests without bodies.

use std::{convert::Infallible, future::Future, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tracing::debug;

/// How many connections there may be. Whoever else reaches the port waits; it is for probes.
const CONNECTIONS: usize = 64;
/// How long a client may take for its request.
const REQUEST: Duration = Duration::from_secs(10);
/// How long to wait after the system had no connection to give.
const AGAIN: Duration = Duration::from_millis(100);

/// What somebody who asks is told.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    /// A text, with a new line at its end.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.into() + "\n" }
    }
}

/// Answers for ever. A connection that fails is nobody's business but its client's.
pub(crate) async fn serve<F, A>(listener: TcpListener, answer: F) -> Infallible
where
    F: Fn(Parts) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(TokioIo::new(stream), answer.clone()));
            }
            Err(error) => {
                debug!(%error, "no connection");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn connection<F, A>(stream: TokioIo<tokio::net::TcpStream>, answer: F)
where
    F: Fn(Parts) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (asked, _) = request.into_parts();
        let answer = answer(asked);
        async move { Ok::<_, Infallible>(response(answer.await)) }
    });
    let mut server = http1::Builder::new();
    // Its timer starts with a connection and with the end of a request, so idle ones end too.
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST);
    if let Err(error) = server.serve_connection(stream, service).await {
        debug!(%error, "a connection failed");
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, content_type, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
