//! The Secret in our namespace that holds our authority: found, or made by whichever replica comes first, and
//! followed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use ::watch::Permissions;
use futures::TryStreamExt;
use k8s_openapi::{
    ByteString,
    api::{core::v1::Secret, rbac::v1::PolicyRule},
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use proto::Name;
use tokio::{sync::mpsc::Sender, time::sleep};
use tracing::{error, info, warn};

use crate::identity::Authority;

/// The Secret unless another one is named. It is made where there is none.
pub const CA_SECRET: &str = "portolan-ca";

/// How soon we look again at what is missing or wrong.
const AGAIN: Duration = Duration::from_secs(2);

/// The Secret of our authority.
pub struct CaSecret {
    secrets: Api<Secret>,
    namespace: Name,
    name: Name,
    /// Nobody else is said to make it.
    ours: bool,
    trust_domain: Name,
    /// What was last said to be wrong.
    told: Option<String>,
}

/// What the account needs for it: nothing but this one Secret by its name, and to make one where it is ours.
/// That cannot be limited to a name, as an object that is not there yet has none for the authorizer.
pub fn permissions(namespace: &Name, named: Option<&Name>) -> Permissions {
    let rule = |verbs: &[&str], names: Option<Vec<String>>| PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".to_owned()]),
        resource_names: names,
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        non_resource_urls: None,
    };
    let name = named.map_or(CA_SECRET, |name| name);
    let mut rules = vec![rule(&["list", "watch"], Some(vec![name.to_owned()]))];
    if named.is_none() {
        rules.push(rule(&["create"], None));
    }
    Permissions { namespaces: BTreeMap::from([(namespace.clone(), rules)]), ..Permissions::default() }
}

impl CaSecret {
    /// The Secret `named` of `namespace`, which somebody else makes; without a name, our own.
    pub fn new(client: Client, namespace: &Name, named: Option<&Name>, trust_domain: &Name) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.clone(),
            name: named.cloned().unwrap_or_else(|| CA_SECRET.into()),
            ours: named.is_none(),
            trust_domain: trust_domain.clone(),
            told: None,
        }
    }

    /// The authority that it holds. Waits until there is a good one, and makes it where it is ours. Meanwhile
    /// `complain` hears what is wrong.
    pub async fn open(&mut self, complain: impl Fn(Vec<String>)) -> Authority {
        loop {
            let wrong = match self.look().await {
                Ok((Some(secret), _)) => match self.read(&secret) {
                    Ok(authority) => {
                        info!(secret = %self, authority = ?authority, "the authority");
                        if self.told.take().is_some() {
                            complain(Vec::new());
                        }
                        return authority;
                    }
                    Err(problem) => problem,
                },
                Ok((None, _)) if self.ours => match self.make().await {
                    // Whoever came first, it is that one's that counts.
                    Ok(()) => continue,
                    Err(problem) => problem,
                },
                Ok((None, _)) => {
                    "is not there; make it, with tls.crt and tls.key, or as Istio's cacerts".to_owned()
                }
                Err(error) => format!("cannot be read: {error}"),
            };
            if self.is_news(&wrong) {
                error!("nothing is served before this is mended: the Secret {self} {wrong}");
                complain(vec![format!("the Secret {self} {wrong}")]);
            }
            sleep(AGAIN).await;
        }
    }

    /// Tells of each authority that it comes to hold, for ever. Where it holds none, what was known stays.
    pub async fn follow(mut self, told: Sender<Authority>) {
        while !told.is_closed() {
            if let Err(error) = self.follow_once(&told).await {
                self.complain(&format!("cannot be followed: {error}"));
            }
            sleep(AGAIN).await;
        }
    }

    async fn follow_once(&mut self, told: &Sender<Authority>) -> Result<(), kube::Error> {
        let (secret, version) = self.look().await?;
        self.tell(secret.as_ref(), told).await;
        let parameters = WatchParams::default().fields(&self.selector());
        let events = self.secrets.watch(&parameters, &version).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    self.tell(Some(&secret), told).await;
                }
                WatchEvent::Deleted(_) => self.tell(None, told).await,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }

    async fn tell(&mut self, secret: Option<&Secret>, told: &Sender<Authority>) {
        let Some(secret) = secret else {
            self.complain(
                "is gone; restore it from a backup, for whoever starts next makes another root or waits",
            );
            return;
        };
        match self.read(secret) {
            Ok(authority) => {
                if self.told.take().is_some() {
                    info!("the Secret {self} is as it should be again");
                }
                // Whoever listened is gone only when everything is about to end.
                told.send(authority).await.ok();
            }
            Err(problem) => self.complain(&problem),
        }
    }

    fn complain(&mut self, wrong: &str) {
        if self.is_news(wrong) {
            warn!("what we signed with before goes on: the Secret {self} {wrong}");
        }
    }

    fn is_news(&mut self, wrong: &str) -> bool {
        self.told.replace(wrong.to_owned()).is_none_or(|told| told != wrong)
    }

    fn read(&self, secret: &Secret) -> Result<Authority, String> {
        let data = secret.data.iter().flatten();
        let entries = data.map(|(name, ByteString(content))| (name.clone(), content.clone())).collect();
        Authority::from_entries(&entries, &self.trust_domain, SystemTime::now())
    }

    /// The Secret, and from where to watch it. Both by its name: that is all that we may see.
    async fn look(&self) -> Result<(Option<Secret>, String), kube::Error> {
        let list = self.secrets.list(&ListParams::default().fields(&self.selector())).await?;
        Ok((list.items.into_iter().next(), list.metadata.resource_version.unwrap_or_default()))
    }

    fn selector(&self) -> String {
        format!("metadata.name={}", self.name)
    }

    /// Makes a new root, unless somebody else has by now.
    async fn make(&self) -> Result<(), String> {
        let entries = Authority::generate(&self.trust_domain, SystemTime::now());
        let entries = entries.map_err(|error| error.to_string())?;
        let data = entries.into_iter().map(|(name, content)| (name, ByteString(content))).collect();
        let metadata = ObjectMeta { name: Some(self.name.to_string()), ..ObjectMeta::default() };
        let secret = Secret {
            metadata,
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data),
            ..Secret::default()
        };
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                info!(secret = %self, "a new root is made");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(kube::Error::Api(status)) => Err(format!("cannot be made: {}", status.message)),
            Err(error) => Err(format!("cannot be made: {error}")),
        }
    }
}

impl std::fmt::Display for CaSecret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
