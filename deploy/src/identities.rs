//! Who we are to proxies, who vouches for them, and how they prove themselves: by what there is, a directory
//! or a cluster.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Name;
use rustls::ServerConfig;
use tokio::sync::mpsc;
use translate::Settings;

use crate::{
    admin::Health,
    authn::{Accounts, ApiServer, BearerTokens, Proof, ReviewedTokens, Terms},
    ca_secret::CaSecret,
    certificates::Certificates,
    identity::{Authority, Leaves, ServerCertificates, ServerNames, token::TokenKey},
    objects::{Cluster, Objects},
    place::Place,
    state::StateDirectory,
    tasks::Tasks,
    waypoint::Template,
    writers::Writing,
};

/// All of it.
pub(crate) struct Identities {
    pub(crate) proof: Proof,
    pub(crate) certificates: Certificates,
    pub(crate) tls: Arc<ServerConfig>,
    /// Where our authority is kept, if it may become another.
    ca_secret: Option<CaSecret>,
}

/// How certificates are signed.
#[derive(Clone, Debug)]
pub struct Signing {
    /// How long a certificate is good for.
    pub lifetime: Duration,
    /// The Secret that holds the authority of a cluster, if others make it.
    pub ca_secret: Option<Name>,
}

/// What it depends on.
#[derive(Clone, Copy)]
pub(crate) struct Own<'o> {
    pub(crate) writing: &'o Writing,
    pub(crate) settings: &'o Settings,
    pub(crate) signing: &'o Signing,
}

impl Identities {
    /// Opens them; in a cluster, waits until there is an authority. Proxies of a cluster may have what
    /// `accounts` says, and `health` hears what is waited for.
    pub(crate) async fn open(
        objects: &Objects,
        own: &Own<'_>,
        state: &StateDirectory,
        accounts: &Accounts,
        health: &Health,
    ) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let Own { writing: Writing { place, template, .. }, settings, signing } = own;
        let (proof, names, authority, ca_secret) = match objects {
            Objects::Directory(_) => {
                let authority = Authority::open(state.path(), &settings.trust_domain, now)?;
                let tokens = BearerTokens::new(TokenKey::open(state.path())?);
                (Proof::Own(tokens), ServerNames::default(), authority, None)
            }
            Objects::Cluster(Cluster { client, .. }) => {
                let domain = &settings.trust_domain;
                let mut secret =
                    CaSecret::new(client.clone(), &place.namespace, signing.ca_secret.as_ref(), domain);
                let authority = secret.open(|wrong| health.complain(wrong)).await;
                let (server, terms) = (ApiServer::new(client.clone()), Terms::default());
                let tokens = ReviewedTokens::new(server, &template.audience, accounts.clone(), terms);
                (
                    Proof::Reviewed(Arc::new(tokens)),
                    server_names(place, template, &settings.cluster_domain),
                    authority,
                    Some(secret),
                )
            }
        };
        let server = ServerCertificates::issue(&authority, names, signing.lifetime, now)?;
        let tls = server.server_config()?;
        let leaves = Leaves::open(state.path(), signing.lifetime);
        let certificates = Certificates::new(authority, leaves, server);
        Ok(Self { proof, certificates, tls, ca_secret })
    }

    /// Starts what goes on with them, and gives the authorities that follow.
    pub(crate) fn oversee(&mut self, tasks: &mut Tasks) -> mpsc::Receiver<Authority> {
        self.proof.oversee(tasks);
        let (tell, authorities) = mpsc::channel(1);
        if let Some(secret) = self.ca_secret.take() {
            tasks.spawn_forever("following of our authority", async move {
                secret.follow(tell).await;
                Ok(())
            });
        }
        authorities
    }
}

/// All that pods may call us by: our Service, by the names that a resolver in a pod makes of it, the place
/// that proxies are told, and our pod.
fn server_names(place: &Place, template: &Template, cluster_domain: &str) -> ServerNames {
    let service = Template::service(&place.namespace).host;
    let short = service.trim_end_matches(".svc").to_owned();
    let mut dns = vec![short, format!("{service}.{cluster_domain}"), service];
    let mut addresses: Vec<_> = place.ip.into_iter().collect();
    match template.xds.host.parse() {
        Ok(address) => addresses.push(address),
        Err(_) => dns.push(template.xds.host.clone()),
    }
    dns.sort();
    dns.dedup();
    addresses.dedup();
    ServerNames { dns, addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_may_call_us_by_every_name_of_our_service_and_by_our_address() {
        let place = Place { namespace: "mesh".into(), pod: None, ip: "10.0.0.7".parse().ok() };
        let template = |host: &str| Template {
            image: String::new(),
            xds: format!("{host}:15010").parse().unwrap(),
            audience: String::new(),
        };
        let names = |host: &str| server_names(&place, &template(host), "cluster.local");
        let service = ["portolan.mesh", "portolan.mesh.svc", "portolan.mesh.svc.cluster.local"];
        assert_eq!(names("portolan.mesh.svc").dns, service);
        assert_eq!(names("portolan.mesh.svc").addresses, [place.ip.unwrap()]);
        assert_eq!(names("xds.example").dns, [&service[..], &["xds.example"]].concat());
        let other: std::net::IpAddr = "10.0.0.8".parse().unwrap();
        assert_eq!(names("10.0.0.8").addresses, [place.ip.unwrap(), other]);
    }
}
