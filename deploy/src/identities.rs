//! Who we are to proxies, who vouches for them, and how they prove themselves: by what there is, a directory
//! or a cluster.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use translate::Settings;

use crate::{
    authn::{Accounts, ApiServer, BearerTokens, Proof, ReviewedTokens, Terms},
    certificates::Certificates,
    identity::{Authority, Leaves, ServerCertificates, ServerNames, token::TokenKey},
    objects::{Cluster, Objects},
    place::Place,
    state::StateDirectory,
    waypoint::Template,
};

/// All of it.
pub(crate) struct Identities {
    pub(crate) proof: Proof,
    pub(crate) certificates: Certificates,
    pub(crate) tls: Arc<ServerConfig>,
}

/// What it depends on.
#[derive(Clone, Copy)]
pub(crate) struct Own<'o> {
    pub(crate) place: &'o Place,
    pub(crate) template: &'o Template,
    pub(crate) settings: &'o Settings,
    pub(crate) certificate_lifetime: Duration,
}

impl Identities {
    /// Opens them. Proxies of a cluster may have what `accounts` says.
    pub(crate) fn open(
        objects: &Objects,
        own: &Own<'_>,
        state: &StateDirectory,
        accounts: &Accounts,
    ) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let authority = Authority::open(state.path(), &own.settings.trust_domain, now)?;
        let (proof, names) = match objects {
            Objects::Directory(_) => {
                let key = TokenKey::open(state.path())?;
                (Proof::Own(BearerTokens::new(key)), ServerNames::default())
            }
            Objects::Cluster(Cluster { client, .. }) => {
                let server = ApiServer::new(client.clone());
                let (audience, terms) = (&own.template.audience, Terms::default());
                let tokens = ReviewedTokens::new(server, audience, accounts.clone(), terms);
                (Proof::Reviewed(Arc::new(tokens)), server_names(own))
            }
        };
        let server = ServerCertificates::issue(&authority, names, own.certificate_lifetime, now)?;
        let tls = server.server_config()?;
        let leaves = Leaves::open(state.path(), own.certificate_lifetime);
        Ok(Self { proof, certificates: Certificates::new(authority, leaves, server), tls })
    }
}

/// All that pods may call us by: our Service, by the names that a resolver in a pod makes of it, the place
/// that proxies are told, and our pod.
fn server_names(own: &Own<'_>) -> ServerNames {
    let Own { place, template, settings, certificate_lifetime: _ } = own;
    let service = Template::service(&place.namespace).host;
    let short = service.trim_end_matches(".svc").to_owned();
    let mut dns = vec![short, format!("{service}.{}", settings.cluster_domain), service];
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
        let names = |host: &str| {
            let own = Own {
                place: &place,
                template: &template(host),
                settings: &Settings::default(),
                certificate_lifetime: Duration::ZERO,
            };
            server_names(&own)
        };
        let service = ["portolan.mesh", "portolan.mesh.svc", "portolan.mesh.svc.cluster.local"];
        assert_eq!(names("portolan.mesh.svc").dns, service);
        assert_eq!(names("portolan.mesh.svc").addresses, [place.ip.unwrap()]);
        assert_eq!(names("xds.example").dns, [&service[..], &["xds.example"]].concat());
        let other: std::net::IpAddr = "10.0.0.8".parse().unwrap();
        assert_eq!(names("10.0.0.8").addresses, [place.ip.unwrap(), other]);
    }
}
