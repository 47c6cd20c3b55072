//! Small backends: HTTP that tells what it received, TCP that echoes, TCP that speaks first. All of them count.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{ext_authz, grpc, tls};

/// What a server-first backend says to whoever connects.
pub const BANNER: &str = "220 the backend speaks first\r\n";

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 on one port. The answer is a JSON object: the backend's `name`, and the
    /// `method`, `path`, `version`, `authority` and `headers` of the request as they arrived. A gRPC call
    /// of any service and method is answered with one message that is the same object, or, if it asks for
    /// a permission, with what [`ext_authz`] says. A request may
    /// ask for an answer after `x-wait` milliseconds, and that its first `x-fail` tries, told apart by
    /// `x-request-id`, be answered with 503; that it be answered with the status `x-answer`; or
    /// that the answer have headers of the names in `x-say`, whose value is the backend's name.
    Http,
    /// Sends back what it receives.
    Echo,
    /// Sends [`BANNER`] as soon as somebody connects, then echoes.
    Banner,
    /// TLS: says its name and the name that it was asked for, then echoes.
    Tls,
}

/// What a backend has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// HTTP requests received.
    pub requests: u64,
    /// Bytes received, if it speaks TCP.
    pub bytes: u64,
}

/// A backend. It ends when dropped.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    counters: Arc<Counters>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    tries: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    /// How often the request of that id has been tried, with this try.
    fn tries(&self, id: String) -> u64 {
        let mut tries = self.tries.lock();
        let count = tries.entry(id).or_default();
        *count += 1;
        *count
    }
}

impl Backend {
    /// Starts the backend `name` on `address`; port 0 takes any free one.
    pub async fn start(name: &str, protocol: Protocol, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("starting the backend {name} on {address}"))?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let (name, seen) = (Arc::<str>::from(name), Arc::clone(&counters));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let (name, seen) = (Arc::clone(&name), Arc::clone(&seen));
                // A connection that breaks is the client's business.
                connections.spawn(async move { drop(serve(stream, protocol, name, seen).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, counters, _task: AbortOnDropHandle::new(task) })
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        Seen {
            connections: self.counters.connections.load(Ordering::Relaxed),
            requests: self.counters.requests.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }
}

async fn serve(stream: TcpStream, protocol: Protocol, name: Arc<str>, seen: Arc<Counters>) -> Result<()> {
    stream.set_nodelay(true)?;
    match protocol {
        Protocol::Http => http(stream, name, seen).await,
        Protocol::Echo => Ok(echo(stream, &seen).await?),
        Protocol::Banner => {
            let mut stream = stream;
            stream.write_all(BANNER.as_bytes()).await?;
            Ok(echo(stream, &seen).await?)
        }
        Protocol::Tls => {
            let mut stream = tls::accept(stream).await?;
            tls::greet(&mut stream, &name).await?;
            Ok(echo(stream, &seen).await?)
        }
    }
}

async fn http(stream: TcpStream, name: Arc<str>, seen: Arc<Counters>) -> Result<()> {
    let service = service_fn(move |request| {
        seen.requests.fetch_add(1, Ordering::Relaxed);
        answer(Arc::clone(&name), Arc::clone(&seen), request)
    });
    let either = auto::Builder::new(TokioExecutor::new());
    let ended = either.serve_connection(TokioIo::new(stream), service).await;
    ended.map_err(anyhow::Error::from_boxed)
}

async fn answer(
    name: Arc<str>,
    counters: Arc<Counters>,
    request: http::Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    // The request is read to its end before the answer, so that keep-alive connections stay in step.
    let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let number = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(wait) = number("x-wait") {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let mut headers = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    let seen = json!({
        "name": &*name,
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str),
        "authority": parts.uri.authority().map(http::uri::Authority::as_str),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body": sent.len(),
    });
    let is_grpc = parts.headers.get(CONTENT_TYPE).is_some_and(grpc::is_content_type);
    let (body, content_type) = if is_grpc {
        let host = parts.uri.host().unwrap_or_default();
        if host.starts_with(ext_authz::SILENT) {
            std::future::pending::<()>().await;
        }
        let permission =
            (parts.uri.path() == ext_authz::METHOD).then(|| ext_authz::answer(host, sent).ok()).flatten();
        let message = Full::new(permission.unwrap_or_else(|| grpc::frame(seen.to_string().as_bytes())));
        (message.with_trailers(async { Some(Ok(grpc::ok())) }).boxed_unsync(), grpc::CONTENT_TYPE)
    } else {
        (Full::new(Bytes::from(seen.to_string())).boxed_unsync(), "application/json")
    };
    let mut response = Response::new(body);
    let id = headers.get("x-request-id").map(|ids| ids.concat()).unwrap_or_default();
    if number("x-fail").is_some_and(|wanted| counters.tries(id) <= wanted) {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    let answer =
        number("x-answer").and_then(|status| http::StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    if let Some(status) = answer {
        *response.status_mut() = status;
    }
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    let said = headers.get("x-say").into_iter().flatten().flat_map(|names| names.split(' '));
    for said in said {
        if let (Ok(said), Ok(name)) = (http::HeaderName::try_from(said), http::HeaderValue::try_from(&*name))
        {
            response.headers_mut().insert(said, name);
        }
    }
    Ok(response)
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Counters) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        seen.bytes.fetch_add(length as u64, Ordering::Relaxed);
        stream.write_all(&buffer[..length]).await?;
        stream.flush().await?;
    }
}
