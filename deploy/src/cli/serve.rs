//! `portolan serve`: the control plane itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use proto::Name;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use translate::{Bind, References};

use super::{
    Ending, cluster::ObjectsArguments, keys::KeyArguments, lifetime, mesh::MeshArguments, own::OwnArguments,
    state::StateArgument, template::TemplateArguments,
};
use crate::{
    admin::{Addresses, debug},
    identities::Signing,
    lease::lease_name,
    serve::{self, Options},
    telemetry::{self, LogFormat},
    waypoint::PORT,
    writers::Writing,
};

/// Drive the waypoints of a mesh: of a cluster, or of a directory of manifests.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    objects: ObjectsArguments,
    #[command(flatten)]
    state: StateArgument,
    /// Where proxies reach us; with port 0 a free one is chosen and written to `xds-address` in the state directory [default: 0.0.0.0:15010 in a cluster, 127.0.0.1:15010 with a directory]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where /healthz, /readyz and /metrics are answered; with port 0 a free one is chosen and written to `admin-address` in the state directory [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Where proxy-status and proxy-config ask what is known of proxies; on loopback. With port 0 a free one is chosen and written to `debug-address` in the state directory
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = (Ipv4Addr::LOCALHOST, debug::PORT).into())]
    debug: SocketAddr,
    #[command(flatten)]
    mesh: MeshArguments,
    #[command(flatten)]
    own: OwnArguments,
    #[command(flatten)]
    template: TemplateArguments,
    /// For how long a replica that is not heard of any more keeps the others from writing to the cluster
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = lifetime::parse)]
    lease_duration: Duration,
    /// How long the certificates of waypoints are good for; they are renewed well before
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime::parse)]
    certificate_lifetime: Duration,
    /// The Secret in our namespace that holds the authority of a cluster, if others make it: as kubernetes.io/tls, or as Istio's cacerts [default: portolan-ca, which is made where there is none]
    #[arg(long, value_name = "NAME")]
    ca_secret: Option<Name>,
    #[command(flatten)]
    keys: KeyArguments,
    /// The form of the log
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
    /// Written once proxies are served, with the address in it
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

impl Serve {
    /// Serves until SIGINT or SIGTERM.
    pub(super) fn run(self) -> anyhow::Result<Ending> {
        telemetry::start(self.log)?;
        // Proxies of a cluster are pods, with addresses of their own.
        let bind = if self.objects.is_directory() { Bind::GatewayAddress } else { Bind::Everywhere };
        let listen = self.listen.unwrap_or_else(|| {
            let everywhere =
                if self.objects.is_directory() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
            (everywhere, PORT.get()).into()
        });
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let place = self.own.place();
        let mut settings = self.mesh.settings(bind);
        if !self.objects.is_directory() {
            settings.references = References::Followed;
        }
        let options = Options {
            objects: runtime.block_on(self.objects.open())?,
            writing: Writing {
                template: self.template.template(&place.namespace),
                lease: lease_name(settings.revision.as_deref()),
                lease_duration: self.lease_duration,
                place,
            },
            state: self.state.open()?,
            listen,
            admin: Addresses { probes: self.admin, debug: self.debug },
            settings,
            signing: Signing { lifetime: self.certificate_lifetime, ca_secret: self.ca_secret },
            keys: self.keys.options(),
            ready_file: self.ready_file,
        };
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
            let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
            let serving = serve::serve(options, stop.clone());
            tokio::pin!(serving);
            tokio::select! {
                ended = &mut serving => return ended,
                _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
                _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
            }
            stop.cancel();
            serving.await
        })?;
        Ok(Ending::Well)
    }
}
