//! Somebody who sends requests: an identity, a source address, and what its ztunnel would do for it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::Mutex;

use crate::{
    catalog::Catalog,
    exchange::{Request, Response, Session, Version},
    hbone::{self, Connection, Tunnel},
    identity::{Authority, Identity},
};

/// A caller. Like ztunnel it keeps one connection to each waypoint and opens a tunnel for each TCP
/// connection of the application.
#[derive(Debug)]
pub struct Caller {
    /// What its requests' `baggage` says about it.
    pub baggage: String,
    catalog: Arc<Catalog>,
    trust: Arc<Authority>,
    identity: Option<Identity>,
    source: IpAddr,
    connections: Mutex<BTreeMap<String, Connection>>,
}

/// A request that is being put together.
#[derive(Debug)]
#[must_use]
pub struct Call<'a> {
    caller: &'a Caller,
    authority: String,
    version: Version,
    request: Result<Request>,
}

impl Caller {
    /// A caller that is the service account `account` of `namespace`. It calls from the address of a pod
    /// that has the account, if the manifests have one, else from `elsewhere`.
    pub fn workload(
        catalog: Arc<Catalog>,
        trust: Arc<Authority>,
        namespace: &str,
        account: &str,
        elsewhere: IpAddr,
    ) -> Result<Self> {
        let identity = trust.workload(namespace, account)?;
        let baggage =
            format!("k8s.namespace.name={namespace},k8s.deployment.name={account},service.name={account}");
        let pod = catalog.pods.values().find(|pod| pod.namespace == namespace && pod.account == account);
        let source = pod.map_or(elsewhere, |pod| pod.address);
        Ok(Self::new(catalog, trust, Some(identity), source, baggage))
    }

    /// A caller with a certificate, or without one, that connects from `source`.
    pub fn new(
        catalog: Arc<Catalog>,
        trust: Arc<Authority>,
        identity: Option<Identity>,
        source: IpAddr,
        baggage: String,
    ) -> Self {
        Self { baggage, catalog, trust, identity, source, connections: Mutex::default() }
    }

    /// A GET of a URL such as `http://web.webapp:80/path`, on a connection of its own.
    pub fn get(&self, url: &str) -> Call<'_> {
        self.call(Method::GET, url)
    }

    /// A POST.
    pub fn post(&self, url: &str) -> Call<'_> {
        self.call(Method::POST, url)
    }

    /// A request with any method.
    pub fn call(&self, method: Method, url: &str) -> Call<'_> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        Call {
            caller: self,
            authority: authority.to_owned(),
            version: Version::Http1,
            request: Ok(Request::new(method, path)),
        }
    }

    /// An HTTP connection to `authority`, such as `web.webapp:80`, for several requests.
    pub async fn session(&self, authority: &str, version: Version) -> Result<Session> {
        let tunnel = self.tunnel(authority).await?;
        Session::open(tunnel, version, authority).await
    }

    /// A TCP connection to `authority`. A refused CONNECT is a [`hbone::Error::Refused`] inside the error.
    pub async fn tunnel(&self, authority: &str) -> Result<Tunnel> {
        let destination = self.catalog.resolve(authority)?;
        let Some(gateway) = destination.waypoint else { bail!("{authority} has no waypoint to go through") };
        let connection = self.connection(&gateway).await?;
        let mut headers = HeaderMap::new();
        headers.insert("baggage", HeaderValue::try_from(&self.baggage)?);
        let (tunnel, _) = connection.tunnel(&destination.address.to_string(), &headers).await?;
        Ok(tunnel)
    }

    /// The connection to the waypoint of a Gateway, such as `webapp/waypoint`; opened on first use.
    pub async fn connection(&self, gateway: &str) -> Result<Connection> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.get(gateway) {
            return Ok(connection.clone());
        }
        let waypoint = self.catalog.waypoint(gateway)?;
        let connection =
            Connection::open(&waypoint, self.source, &self.trust, self.identity.as_ref()).await?;
        connections.insert(gateway.to_owned(), connection.clone());
        Ok(connection)
    }

    /// Forgets the connections: the next request shakes hands again.
    pub async fn disconnect(&self) {
        self.connections.lock().await.clear();
    }
}

impl Call<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.and_then(|request| request.header(name, value));
        self
    }

    /// Speaks HTTP/2 inside the tunnel.
    pub fn http2(mut self) -> Self {
        self.version = Version::Http2;
        self
    }

    /// Sends it and reads the response.
    pub async fn send(self) -> Result<Response> {
        let Self { caller, authority, version, request } = self;
        let mut session = caller.session(&authority, version).await?;
        session.send(request?).await.with_context(|| format!("asking {authority}"))
    }

    /// Sends it and gives the status: of the response, or of a refused CONNECT.
    pub async fn status(self) -> Result<u16> {
        match self.send().await {
            Ok(response) => Ok(response.status),
            Err(error) => refusal(&error).ok_or(error),
        }
    }
}

/// The status of the refused CONNECT that an error tells of.
pub fn refusal(error: &anyhow::Error) -> Option<u16> {
    error.chain().find_map(|cause| {
        let refused = cause.downcast_ref::<hbone::Error>()?;
        if let hbone::Error::Refused { status, .. } = refused { Some(*status) } else { None }
    })
}
