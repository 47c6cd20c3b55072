//! What the process knows of its proxies, for `portolan proxy-status` and `portolan proxy-config`.
//!
//! ```text
//!   GET /debug/syncz                                  each proxy, and what it lacks of each type
//!       /debug/config_dump?of=NAME[&type=…][&bodies]  the resources of a waypoint or a proxy, and who has them
//! ```
//!
//! It listens on loopback only, where whoever may forward a port to our pod gets by the API server. What is
//! secret is not in it: of keys there is nothing, and of certificates what everybody may know.

mod answers;
mod secrets;
mod view;

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use http::{Method, StatusCode, header::HOST, request::Parts, uri::Authority};
use proto::TypeUrl;
use serde::Serialize;
use tokio::{net::TcpListener, task::spawn_blocking};
use tracing::info;
use xds::Cache;

pub(crate) use view::{ConfigDump, ProxyRef, ProxySync, ResourceDump, SyncDump, TypeSync, since};

use super::server::{Answer, serve};
use crate::{state::write_address, tasks::Tasks};

/// Where everybody expects it.
pub const PORT: u16 = 15014;

/// The types of resources by the names that operators have for them, in the order in which they are shown.
pub(crate) const TYPES: [(&str, TypeUrl); 7] = [
    ("clusters", TypeUrl::Cluster),
    ("endpoints", TypeUrl::Endpoint),
    ("listeners", TypeUrl::Listener),
    ("scopes", TypeUrl::ScopedRoute),
    ("routes", TypeUrl::Route),
    ("secrets", TypeUrl::Secret),
    ("extensions", TypeUrl::Extension),
];

/// Answers at `address`, which has to be on loopback, from now on. Where that is, the file `told` says.
pub(crate) async fn start(
    tasks: &mut Tasks,
    address: SocketAddr,
    told: &Path,
    cache: Arc<Cache>,
) -> anyhow::Result<()> {
    ensure!(
        address.ip().is_loopback(),
        "--debug {address} is not on loopback, and it asks nobody who they are"
    );
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; --debug takes another port"))?;
    let address = listener.local_addr()?;
    write_address(told, address)?;
    info!(%address, "what is known of proxies");
    tasks.spawn_forever("debug endpoint", async move {
        let never: Infallible = serve(listener, move |asked| {
            let cache = Arc::clone(&cache);
            async move {
                // All proxies of a large mesh take a while, and streams must not wait for who looks at them.
                let answered = spawn_blocking(move || answer(&cache, &asked)).await;
                answered.unwrap_or_else(|error| {
                    Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("no answer: {error}"))
                })
            }
        })
        .await;
        match never {}
    });
    Ok(())
}

fn answer(cache: &Cache, asked: &Parts) -> Answer {
    if asked.method != Method::GET {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered");
    }
    if !is_meant(asked) {
        return Answer::text(StatusCode::FORBIDDEN, "ask by an address or as localhost");
    }
    let query = asked.uri.query().unwrap_or_default();
    match asked.uri.path() {
        "/debug/syncz" => json(&answers::sync(cache)),
        "/debug/config_dump" => match Wanted::read(query) {
            Ok(wanted) => match answers::config(cache, &wanted) {
                Ok(dump) => json(&dump),
                Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, wrong),
        },
        _ => Answer::text(StatusCode::NOT_FOUND, "there are /debug/syncz and /debug/config_dump?of=NAME"),
    }
}

/// A page of a browser on this machine may name us by a host of its own, and must not read the answer.
fn is_meant(asked: &Parts) -> bool {
    let Some(host) = asked.headers.get(HOST) else { return true };
    let named = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    named.is_some_and(|named| {
        let host = named.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok()
    })
}

fn json(answer: &impl Serialize) -> Answer {
    match serde_json::to_string(answer) {
        Ok(body) => Answer { status: StatusCode::OK, content_type: "application/json", body },
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Whose configuration is wanted, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// A waypoint, as in `shop/waypoint`, or a proxy: its name, or that and its namespace.
    of: String,
    /// Only resources of this type.
    only: Option<TypeUrl>,
    /// With all that they say.
    bodies: bool,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, String> {
        let (mut of, mut only, mut bodies) = (None, None, false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("of", name) => of = Some(name.to_owned()),
                ("type", name) => {
                    let known = TYPES.iter().find(|(known, _)| *known == name);
                    let (_, known) = known.ok_or_else(|| format!("there is no type {name:?}"))?;
                    only = Some(*known);
                }
                ("bodies", _) => bodies = true,
                (other, _) => {
                    return Err(format!("nothing is known of {other:?}; there are of, type and bodies"));
                }
            }
        }
        let of = of.ok_or("say whose configuration, as in ?of=shop/waypoint")?;
        Ok(Self { of, only, bodies })
    }
}

#[cfg(test)]
mod tests;
