//! Who has which certificate: each waypoint and we ourselves, with a new one well before the old one expires.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::{Name, Resource};
use tracing::{info, warn};
use translate::{Anchors, Audience, WaypointPlan};

use crate::identity::{
    self, Authority, IdentityError, Leaf, Leaves, Moved, ServerCertificates, SpiffeId, Succession, Trusts,
};

/// The certificates of the waypoints that should run, and ours.
pub struct Certificates {
    succession: Succession,
    leaves: Leaves,
    server: Arc<ServerCertificates>,
    waypoints: BTreeMap<Audience, Waypoint>,
}

struct Waypoint {
    service_account: Name,
    /// Trust domains besides our own that our root vouches for.
    aliases: Vec<Name>,
    /// Who else vouches for identities that its proxies accept.
    anchors: Arc<Anchors>,
    /// `None` until it could be issued.
    leaf: Option<Leaf>,
    /// What its proxies were given.
    secrets: Vec<Arc<Resource>>,
    /// Why the last attempt to have a certificate failed, so that it is told once.
    failure: Option<String>,
}

impl Certificates {
    /// No waypoint's certificates yet, and ours.
    pub fn new(authority: Authority, leaves: Leaves, server: Arc<ServerCertificates>) -> Self {
        let succession = Succession::new(authority, leaves.lifetime());
        Self { succession, leaves, server, waypoints: BTreeMap::new() }
    }

    /// The roots that proxies trust, as PEM.
    pub fn roots(&self) -> &str {
        self.succession.roots()
    }

    /// That authority is to sign from now on, or from when it is trusted; returns the secrets that changed.
    pub fn adopt(&mut self, authority: Authority, now: SystemTime) -> Vec<(Audience, Vec<Arc<Resource>>)> {
        let moved = self.succession.adopt(authority, now);
        match moved {
            Moved::Nothing => {}
            Moved::Trust => info!("another authority is trusted, and signs once that is known"),
            Moved::Signer => info!("another authority signs"),
        }
        self.refresh(moved, now)
    }

    /// How often to call [`Certificates::renew`] where certificates are good for `lifetime`. Often
    /// enough to try again several times before one expires.
    pub fn renewal_period(lifetime: Duration) -> Duration {
        (lifetime / 20).clamp(Duration::from_millis(100), Duration::from_secs(30))
    }

    /// When the first of all certificates expires, ours among them.
    pub fn next_expiry(&self) -> SystemTime {
        let leaves = self.waypoints.values().filter_map(|waypoint| waypoint.leaf.as_ref());
        leaves.map(Leaf::expires).fold(self.server.expires(), SystemTime::min)
    }

    /// When the root expires.
    pub fn authority_expiry(&self) -> SystemTime {
        self.succession.authority().expires()
    }

    /// The waypoint is to run: returns those of its secrets that its proxies were not given yet.
    /// If there is no certificate to be had, that is told and tried again by [`Certificates::renew`].
    pub fn want(&mut self, gateway: &Audience, plan: WaypointPlan, now: SystemTime) -> Vec<Arc<Resource>> {
        let WaypointPlan { service_account, trust_domain_aliases, anchors, installing: _ } = plan;
        let waypoint = self.waypoints.entry(gateway.clone()).or_insert_with(|| Waypoint {
            service_account: Name::clone(&service_account),
            aliases: Vec::new(),
            anchors: Arc::default(),
            leaf: None,
            secrets: Vec::new(),
            failure: None,
        });
        if waypoint.service_account != service_account {
            waypoint.service_account = service_account;
            waypoint.leaf = None;
        }
        waypoint.aliases = trust_domain_aliases;
        waypoint.anchors = anchors;
        let renewed = waypoint.refresh(gateway, &self.succession, &self.leaves, now);
        if renewed.is_empty() { waypoint.republish(&self.succession) } else { renewed }
    }

    /// The waypoint is gone, and nobody shall have its certificate any more.
    pub fn forget(&mut self, gateway: &Audience) {
        self.waypoints.remove(gateway);
        if let Err(error) = self.leaves.forget(gateway) {
            warn!(group = %gateway, %error, "the certificate of a deleted waypoint is still there");
        }
    }

    /// Replaces what is due, ours too; returns the secrets that changed, for each waypoint that has any.
    pub fn renew(&mut self, now: SystemTime) -> Vec<(Audience, Vec<Arc<Resource>>)> {
        let moved = self.succession.advance(now);
        match moved {
            Moved::Nothing => {}
            Moved::Trust => info!("an authority that signs no more is not trusted any more"),
            Moved::Signer => info!("another authority signs"),
        }
        self.refresh(moved, now)
    }

    fn refresh(&mut self, moved: Moved, now: SystemTime) -> Vec<(Audience, Vec<Arc<Resource>>)> {
        let Self { succession, leaves, server, waypoints } = self;
        if moved == Moved::Signer || server.renew_at() <= now {
            match server.renew(succession.authority(), now) {
                Ok(()) => info!("our own certificate is renewed"),
                Err(error) => warn!(%error, "our own certificate cannot be renewed"),
            }
        }
        let changed = waypoints.iter_mut().map(|(gateway, waypoint)| {
            if moved == Moved::Signer {
                waypoint.leaf = None;
            }
            let renewed = waypoint.refresh(gateway, succession, leaves, now);
            let secrets = match moved {
                Moved::Trust | Moved::Signer if renewed.is_empty() => waypoint.republish(succession),
                Moved::Nothing | Moved::Trust | Moved::Signer => renewed,
            };
            (gateway.clone(), secrets)
        });
        changed.filter(|(_, secrets)| !secrets.is_empty()).collect()
    }
}

impl Waypoint {
    /// Sees to it that there is a certificate that is not due; returns the secrets that changed by it.
    fn refresh(
        &mut self,
        gateway: &Audience,
        succession: &Succession,
        leaves: &Leaves,
        now: SystemTime,
    ) -> Vec<Arc<Resource>> {
        if self.leaf.as_ref().is_some_and(|leaf| now < leaf.renew_at()) {
            return Vec::new();
        }
        match self.current(gateway, succession.authority(), leaves, now) {
            Ok(leaf) => {
                info!(
                    group = %gateway,
                    identity = leaf.uris().first(),
                    valid_for_s = leaf.expires().duration_since(now).unwrap_or_default().as_secs(),
                    "the waypoint has a certificate"
                );
                self.leaf = Some(leaf);
                self.failure = None;
                self.republish(succession)
            }
            Err(error) => {
                let failure = error.to_string();
                if self.failure.as_ref() != Some(&failure) {
                    warn!(group = %gateway, error = failure, "the waypoint gets no certificate");
                }
                self.failure = Some(failure);
                Vec::new()
            }
        }
    }

    fn current(
        &self,
        gateway: &Audience,
        authority: &Authority,
        leaves: &Leaves,
        now: SystemTime,
    ) -> Result<Leaf, IdentityError> {
        let id = SpiffeId::new(authority.trust_domain(), &gateway.namespace, &self.service_account)?;
        leaves.current(authority, gateway, &id, now)
    }

    /// Makes the secrets anew from what there is; returns those that changed by it.
    fn republish(&mut self, succession: &Succession) -> Vec<Arc<Resource>> {
        let Some(leaf) = &self.leaf else { return Vec::new() };
        let trusts = Trusts {
            own: succession.authority().trust_domain(),
            root_pem: succession.roots(),
            aliases: &self.aliases,
            anchors: &self.anchors,
        };
        let secrets = identity::secrets(leaf, trusts);
        let secrets: Vec<_> = secrets.into_iter().map(Arc::new).collect();
        let given = |secret: &&Arc<Resource>| {
            self.secrets.iter().any(|old| old.name == secret.name && old.version == secret.version)
        };
        let changed = secrets.iter().filter(|secret| !given(secret)).cloned().collect();
        self.secrets = secrets;
        changed
    }
}
