//! A server of key sets: pages that a test sets and changes, and a count of who asks for them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::LOCATION};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ServerConfig, crypto};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::Identity;

/// What is served at a path.
#[derive(Clone, Debug)]
pub enum Page {
    /// A document.
    Body(String),
    /// The way to another address.
    Redirect(String),
    /// A status and nothing else.
    Status(u16),
    /// Nothing, for longer than anybody waits.
    Silence,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct KeyServer {
    /// Where it listens.
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Mutex<Pages>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Pages {
    pages: BTreeMap<String, Page>,
    requests: BTreeMap<String, u64>,
}

impl KeyServer {
    /// Starts one at `address`, at a port that the system chooses.
    pub async fn start(address: IpAddr) -> Result<Self> {
        Self::listen(address, None).await
    }

    /// Starts one that speaks TLS and shows that certificate.
    pub async fn start_tls(address: IpAddr, shown: &Identity) -> Result<Self> {
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(shown.chain.clone(), shown.key.clone_key())?;
        Self::listen(address, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(address: IpAddr, tls: Option<TlsAcceptor>) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind((address, 0)).await.context("starting the server of keys")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Pages::default()));
        let pages = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (pages, tls) = (Arc::clone(&pages), tls.clone());
                // A connection that breaks is the client's business.
                connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, pages).await;
                            }
                        }
                        None => serve(stream, pages).await,
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, scheme, shared, _task: AbortOnDropHandle::new(task) })
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Serves `page` at `path` from now on.
    pub fn serve(&self, path: &str, page: Page) {
        self.shared.lock().pages.insert(path.to_owned(), page);
    }

    /// How often `path` has been asked for.
    pub fn requests(&self, path: &str) -> u64 {
        self.shared.lock().requests.get(path).copied().unwrap_or_default()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, pages: Arc<Mutex<Pages>>) {
    let service = service_fn(move |request| answer(Arc::clone(&pages), request));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    pages: Arc<Mutex<Pages>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, http::Error> {
    let path = request.uri().path().to_owned();
    let page = {
        let mut pages = pages.lock();
        *pages.requests.entry(path.clone()).or_default() += 1;
        pages.pages.get(&path).cloned().unwrap_or(Page::Status(404))
    };
    let response = Response::builder();
    match page {
        Page::Body(body) => response.body(Full::new(body.into())),
        Page::Redirect(location) => {
            response.status(StatusCode::FOUND).header(LOCATION, location).body(Full::default())
        }
        Page::Status(status) => response.status(status).body(Full::default()),
        Page::Silence => std::future::pending().await,
    }
}
