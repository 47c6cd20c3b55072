//! `portolan bootstrap`: what a waypoint's Envoy is started with, and the token it proves itself with.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Args;
use proto::{Name, envoy};
use translate::Audience;

use super::{Ending, format::Format, gateway, lifetime, place::PlaceArguments, state::StateArgument};
use crate::{
    identity::{Authority, token::TokenKey},
    proxy::{self, Endpoint, Proxy, ProxyFiles},
    state::StateDirectory,
};

/// Print the Envoy bootstrap of a waypoint, and mint the token that it refers to.
///
/// The token and our root certificate are written under the state directory. Running this again
/// replaces them; an Envoy that runs uses the new ones from its next connection on.
#[derive(Debug, Args)]
pub(super) struct Bootstrap {
    /// The waypoint's Gateway
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = gateway::parse)]
    gateway: Audience,
    #[command(flatten)]
    state: StateArgument,
    /// Where Envoy reaches us [default: where the last `portolan serve` listened, else 127.0.0.1:15010]
    #[arg(long, value_name = "HOST:PORT")]
    xds: Option<Endpoint>,
    /// The mesh's trust domain [default: that of the root in the state directory, else cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<Name>,
    /// The name of this proxy among those of the waypoint
    #[arg(long, value_name = "NAME", env = "HOSTNAME", default_value = "local")]
    proxy_name: String,
    #[command(flatten)]
    place: PlaceArguments,
    /// The address of Envoy's admin interface
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    admin_address: IpAddr,
    /// The port of Envoy's admin interface; with 0 Envoy chooses a free one
    #[arg(long, value_name = "PORT", default_value = "15000")]
    admin_port: u16,
    /// No admin interface at all
    #[arg(long)]
    no_admin: bool,
    /// How long the token is good for
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime::parse)]
    token_lifetime: Duration,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "json")]
    output: Format,
}

/// Where `portolan serve` listens unless it is told otherwise.
const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(15010).unwrap();

impl Bootstrap {
    /// Mints the token, writes the files, prints the bootstrap to `out`.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Ending> {
        let state = self.state.open()?;
        let xds = self.endpoint(&state)?;
        let files = self.mint(&state, SystemTime::now())?;
        let bootstrap = proxy::bootstrap(&Proxy {
            gateway: &self.gateway,
            name: &self.proxy_name,
            place: &self.place.place(),
            xds: &xds,
            admin: (!self.no_admin).then(|| SocketAddr::new(self.admin_address, self.admin_port)),
            files: &files,
        });
        self.output.print(&proto::render_any(&envoy::pack(&bootstrap))?, out)?;
        Ok(Ending::Well)
    }

    fn endpoint(&self, state: &StateDirectory) -> anyhow::Result<Endpoint> {
        if let Some(given) = &self.xds {
            return Ok(given.clone());
        }
        let last = state
            .xds_address()
            .with_context(|| format!("cannot read {}", state.xds_address_file().display()))?;
        Ok(last.map_or_else(
            || Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: DEFAULT_PORT },
            Endpoint::from_here,
        ))
    }

    fn mint(&self, state: &StateDirectory, now: SystemTime) -> anyhow::Result<ProxyFiles> {
        let trust_domain = match &self.trust_domain {
            Some(given) => given.clone(),
            None => Authority::trust_domain_of(state.path())?.unwrap_or_else(|| "cluster.local".into()),
        };
        let authority = Authority::open(state.path(), &trust_domain, now)?;
        let token = TokenKey::open(state.path())?.mint(&self.gateway, now + self.token_lifetime);
        let files = ProxyFiles::new(&state.proxies_of(&self.gateway))?;
        files.write(token.as_str(), authority.root_pem())?;
        Ok(files)
    }
}
