//! HTTP over any stream of bytes: one connection of version 1.1 or 2, requests one after another.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// The version of HTTP that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1 with keep-alive.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// What to ask for.
#[derive(Clone, Debug)]
#[must_use]
pub struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// What came after the body: where gRPC says how it went.
    pub trailers: HeaderMap,
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    authority: String,
    sender: Sender,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST with an empty body.
    pub fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    /// Adds a header, beside any others of the name.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        self.headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        Ok(self)
    }

    /// The same, of a value that need not be text.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Result<Self> {
        self.headers.append(HeaderName::try_from(name)?, HeaderValue::from_bytes(value)?);
        Ok(self)
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Response {
    /// The body as text, what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, which is what an HTTP [`backend`](crate::backend) answers with.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.text()))
    }
}

impl Session {
    /// Speaks HTTP over `stream`, to the host `authority`.
    pub async fn open<S>(stream: S, version: Version, authority: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, task) = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }))
            }
            Version::Http2 => {
                let stream = TokioIo::new(stream);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Ok(Self { authority: authority.to_owned(), sender, _task: AbortOnDropHandle::new(task) })
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&mut self, request: Request) -> Result<Response> {
        let Request { method, path, headers, body } = request;
        let mut message = http::Request::new(Full::new(body));
        *message.method_mut() = method;
        *message.headers_mut() = headers;
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                *message.uri_mut() = path.parse()?;
                let host = HeaderValue::try_from(&self.authority)?;
                message.headers_mut().entry(http::header::HOST).or_insert(host);
                sender.ready().await?;
                sender.send_request(message).await?
            }
            Sender::Http2(sender) => {
                *message.uri_mut() = format!("http://{}{path}", self.authority).parse::<Uri>()?;
                sender.ready().await?;
                sender.send_request(message).await?
            }
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_bytes(),
            trailers,
        })
    }
}
