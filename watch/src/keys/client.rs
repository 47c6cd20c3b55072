//! One fetch: a few requests that are each bounded in size, time and in where they may lead.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use translate::{KeySet, KeySource, Origin};

use super::Guard;

/// A hundred keys with their certificates are smaller.
const LARGEST: usize = 256 * 1024;

/// More than any provider needs.
const MOST_REDIRECTS: usize = 5;

/// What asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    guard: Arc<Guard>,
    tls: Arc<OnceCell<TlsConnector>>,
}

/// What came back.
enum Answer {
    Body(Bytes),
    Redirect(String),
}

impl Client {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard: Arc::new(guard), tls: Arc::default() }
    }

    /// Fetches the keys of a source and checks that they can be used.
    pub(super) async fn fetch(&self, source: &KeySource, limit: Duration) -> Result<KeySet, String> {
        match timeout(limit, self.keys(source)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("fetching {source} took longer than {} ms", limit.as_millis())),
        }
    }

    async fn keys(&self, source: &KeySource) -> Result<KeySet, String> {
        let address = match source {
            KeySource::Uri(uri) => uri.clone(),
            KeySource::Issuer(issuer) => self.discover(source, issuer).await?,
        };
        let body = self.get(&address).await?;
        let text = str::from_utf8(&body).map_err(|_| format!("what {address} serves is not text"))?;
        let read = KeySet::read(text, Origin::Published);
        read.map(|(keys, _)| keys).map_err(|why| format!("what {address} serves cannot be used: {why}"))
    }

    /// Asks the issuer where its keys are.
    async fn discover(&self, source: &KeySource, issuer: &str) -> Result<String, String> {
        let body = self.get(&source.address()).await?;
        let wrong = |why: &str| format!("what {source} serves is no discovery document: {why}");
        let document: Value = serde_json::from_slice(&body).map_err(|error| wrong(&error.to_string()))?;
        // Whoever answers has to be who was asked, or one issuer could name the keys of another.
        let named = document["issuer"].as_str().ok_or_else(|| wrong("it has no issuer"))?;
        if named.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(wrong(&format!("it is of the issuer {named:?}")));
        }
        let uri = document["jwks_uri"].as_str().ok_or_else(|| wrong("it has no jwks_uri"))?;
        KeySource::check_address(uri).map_err(|why| wrong(&format!("jwks_uri: {why}")))?;
        if issuer.starts_with("https://") && !uri.starts_with("https://") {
            return Err(wrong("its keys are not at an https address"));
        }
        Ok(uri.to_owned())
    }

    /// The body at an address, wherever redirects lead.
    async fn get(&self, address: &str) -> Result<Bytes, String> {
        let mut at = address.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let uri: Uri = at.parse().map_err(|_| format!("{at} is not an address"))?;
            let answer = self.ask(&uri).await.map_err(|why| format!("fetching {at}: {why}"))?;
            let location = match answer {
                Answer::Body(body) => return Ok(body),
                Answer::Redirect(location) => location,
            };
            let next = if location.starts_with('/') && !location.starts_with("//") {
                let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
                format!("{scheme}://{}{location}", authority.map_or("", |authority| authority.as_str()))
            } else {
                location
            };
            KeySource::check_address(&next).map_err(|why| format!("{at} redirects to {next:?}: {why}"))?;
            if at.starts_with("https://") && !next.starts_with("https://") {
                return Err(format!("{at} redirects to {next}, which is not https"));
            }
            at = next;
        }
        Err(format!("{address} redirects more than {MOST_REDIRECTS} times"))
    }

    async fn ask(&self, uri: &Uri) -> Result<Answer, String> {
        let host = uri.host().ok_or("the address names no host")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = self.dial(host, port).await?;
        if https {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is not a name"))?;
            let tls = self.tls.get_or_try_init(connector).await?;
            let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
            exchange(stream, uri).await
        } else {
            exchange(stream, uri).await
        }
    }

    /// Dials an address that was looked at: to look at the name and dial it afterwards would be to
    /// ask twice, and to be answered differently.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let found = lookup_host((host, port)).await.map_err(|error| format!("looking up {host}: {error}"))?;
        let mut why = format!("{host} has no address");
        for address in found {
            match self.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, String> {
        self.guard.check(address.ip())?;
        TcpStream::connect(address).await.map_err(|error| format!("connecting to {address}: {error}"))
    }
}

/// TLS with the roots of the system, or of `SSL_CERT_FILE`. Read when first needed: they take time.
async fn connector() -> Result<TlsConnector, String> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = read.map_err(|error| format!("reading root certificates: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("there are no root certificates; set SSL_CERT_FILE to a file of them".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange<S>(stream: S, uri: &Uri) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("HTTP: {error}");
    let mut http = http1::Builder::new();
    http.max_buf_size(64 * 1024);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .header(header::USER_AGENT, "portolan")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        return location
            .map(|location| Answer::Redirect(location.to_owned()))
            .ok_or_else(|| format!("it answered {} without saying where to", status.as_u16()));
    }
    if status != StatusCode::OK {
        return Err(format!("it answered {}", status.as_u16()));
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| format!("its body of {LARGEST} bytes at most: {error}"))?;
    Ok(Answer::Body(body.to_bytes()))
}
