//! The proxies of one waypoint, and what each of them lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use proto::{Delta, Name, TypeUrl, Version};
use translate::{Audience, Change, Proxies, Seen, Taken};
use xds::Group;

use super::{
    is_awaited,
    others::Moments,
    report::{Elsewhere, Replica, share},
};

/// A resource of the waypoint.
pub(super) type Key = (TypeUrl, Name);

#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// From when on it means something that there is no proxy; `None` while there is no such waypoint.
    heard: Option<Instant>,
    /// By the number of their stream.
    pub(super) proxies: BTreeMap<u64, Proxy>,
    /// What other replicas tell of theirs.
    pub(super) replicas: BTreeMap<Name, Replica>,
    pub(super) moments: Moments,
    /// What statuses wait for, and what was rejected.
    pub(super) resources: BTreeMap<Key, Sent>,
    /// Those that somebody does not have: few, so that nothing needs to look at all of them.
    pub(super) lacking: BTreeSet<Key>,
    /// Of which the mesh has not been told.
    pub(super) changed: BTreeSet<Key>,
    /// What the mesh was told of how many there are.
    told: Option<Proxies>,
}

#[derive(Debug)]
pub(super) struct Proxy {
    client: Name,
    ready: bool,
    /// Its stream has ended, and it counts until then.
    until: Option<Instant>,
}

/// A resource as it was published last.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) version: Version,
    /// The first snapshot with it.
    pub(super) snapshot: u64,
    /// Who has not answered.
    waiting: BTreeSet<u64>,
    /// Who does not have it, and what the first of them said.
    rejected: BTreeSet<u64>,
    words: Option<Arc<str>>,
}

impl Proxy {
    pub(super) fn new(client: Name) -> Self {
        Self { client, ready: false, until: None }
    }
}

impl Sent {
    /// One that is known for having been rejected.
    pub(super) fn only_rejected(version: Version) -> Self {
        Self { version, snapshot: 0, waiting: BTreeSet::new(), rejected: BTreeSet::new(), words: None }
    }

    fn is_lacked(&self) -> bool {
        !self.waiting.is_empty() || !self.rejected.is_empty()
    }

    /// What our own proxies have of it.
    pub(super) fn taken(&self, proxies: &BTreeMap<u64, Proxy>) -> Taken {
        let counted = |number: &&u64| proxies.get(number).is_some_and(|proxy| proxy.ready);
        Taken {
            version: self.version,
            waiting: count(self.waiting.iter().filter(counted).count()),
            rejected: count(self.rejected.len()),
            words: self.words.clone().filter(|_| !self.rejected.is_empty()),
        }
    }
}

impl Fleet {
    pub(super) fn is_wanted(&self) -> bool {
        self.heard.is_some()
    }

    pub(super) fn want(&mut self, heard: Instant) {
        self.heard = Some(heard);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.heard.is_none() && self.proxies.is_empty()
    }

    /// Whether that is to be told: what changes is known to the mesh, but not what is no longer rejected.
    pub(super) fn publish(&mut self, delta: &Delta, snapshot: u64) -> bool {
        let mut moved = false;
        for resource in &delta.set {
            let key = (resource.type_url, Name::clone(&resource.name));
            if self.resources.get(&key).is_some_and(|sent| sent.version == resource.version) {
                continue;
            }
            if is_awaited(resource.type_url) {
                let sent = Sent {
                    version: resource.version,
                    snapshot,
                    waiting: self.proxies.keys().copied().collect(),
                    rejected: BTreeSet::new(),
                    words: None,
                };
                if sent.is_lacked() {
                    self.lacking.insert(key.clone());
                } else {
                    self.lacking.remove(&key);
                }
                self.moments.published ^= share(key.0, &key.1, resource.version);
                // The mesh knows by itself that nobody has it, unless there is nobody to have it.
                if let Some(old) = self.resources.insert(key.clone(), sent) {
                    self.moments.published ^= share(key.0, &key.1, old.version);
                }
            } else {
                moved |= self.drop_resource(&key);
            }
        }
        for key in &delta.removed {
            moved |= self.drop_resource(key);
        }
        self.moments.note(snapshot);
        moved
    }

    fn drop_resource(&mut self, key: &Key) -> bool {
        self.lacking.remove(key);
        let Some(sent) = self.resources.remove(key) else { return false };
        if is_awaited(key.0) {
            self.moments.published ^= share(key.0, &key.1, sent.version);
        }
        self.changed.insert(key.clone())
    }

    pub(super) fn forget(&mut self) {
        self.heard = None;
        self.lacking.clear();
        self.replicas.clear();
        self.moments = Moments::default();
        self.changed.extend(std::mem::take(&mut self.resources).into_keys());
    }

    pub(super) fn acked(&mut self, proxy: u64, type_url: TypeUrl, resources: &[(Name, Version)]) -> bool {
        let mut moved = false;
        for (name, version) in resources {
            let key = (type_url, Name::clone(name));
            let Some(sent) = self.resources.get_mut(&key).filter(|sent| sent.version == *version) else {
                continue;
            };
            if sent.waiting.remove(&proxy) | sent.rejected.remove(&proxy) {
                if !sent.is_lacked() {
                    self.lacking.remove(&key);
                }
                self.changed.insert(key);
                moved = true;
            }
        }
        moved
    }

    pub(super) fn rejected(
        &mut self,
        proxy: u64,
        type_url: TypeUrl,
        resources: &[(Name, Version)],
        words: &str,
    ) -> bool {
        let mut moved = false;
        for (name, version) in resources {
            let key = (type_url, Name::clone(name));
            if !self.resources.contains_key(&key) && !is_awaited(type_url) {
                self.resources.insert(key.clone(), Sent::only_rejected(*version));
            }
            let Some(sent) = self.resources.get_mut(&key).filter(|sent| sent.version == *version) else {
                continue;
            };
            sent.waiting.remove(&proxy);
            sent.rejected.insert(proxy);
            sent.words.get_or_insert_with(|| words.into());
            self.lacking.insert(key.clone());
            self.changed.insert(key);
            moved = true;
        }
        moved
    }

    /// The proxy has all that there was at that snapshot, but for what was rejected, be it by another.
    pub(super) fn up_to_date(&mut self, proxy: u64, snapshot: u64, rejected: &[Key]) -> bool {
        // A stream that has ended says nothing any more.
        let Some(reader) = self.proxies.get_mut(&proxy).filter(|proxy| proxy.until.is_none()) else {
            return false;
        };
        let newly = !std::mem::replace(&mut reader.ready, true);
        let mut moved = newly;
        if newly {
            let client = reader.client.clone();
            self.has_returned(&client);
        }
        let rejected: BTreeSet<&Key> = rejected.iter().collect();
        let concerned: Vec<Key> = self.lacking.iter().chain(rejected.iter().copied()).cloned().collect();
        for key in concerned {
            let Some(sent) = self.resources.get_mut(&key) else { continue };
            if sent.snapshot > snapshot {
                // It counts from now on, and lacks this.
                moved |= newly && sent.waiting.contains(&proxy) && self.changed.insert(key);
                continue;
            }
            let did = (sent.waiting.remove(&proxy), sent.rejected.remove(&proxy));
            let does = rejected.contains(&key) && sent.rejected.insert(proxy);
            if did != (false, does) {
                self.lack(&key);
                moved |= self.changed.insert(key);
            }
        }
        moved
    }

    /// Notes whether anybody lacks the resource.
    fn lack(&mut self, key: &Key) {
        if self.resources.get(key).is_some_and(Sent::is_lacked) {
            self.lacking.insert(key.clone());
        } else {
            self.lacking.remove(key);
        }
    }

    /// The oldest stream of that client that has ended is taken to be continued.
    fn has_returned(&mut self, client: &Name) {
        let ended = |proxy: &Proxy| proxy.until.is_some() && proxy.client == *client;
        let before = self.proxies.iter().find(|(_, proxy)| ended(proxy)).map(|(number, _)| *number);
        if let Some(number) = before {
            self.drop_proxy(number);
        }
    }

    /// Whether the proxy counts for a while longer.
    pub(super) fn gone(&mut self, proxy: u64, until: Instant) -> bool {
        match self.proxies.get_mut(&proxy) {
            Some(counted) if counted.ready => {
                counted.until = Some(until);
                true
            }
            Some(_) | None => {
                self.drop_proxy(proxy);
                false
            }
        }
    }

    fn drop_proxy(&mut self, proxy: u64) {
        self.proxies.remove(&proxy);
        for key in self.lacking.clone() {
            let Some(sent) = self.resources.get_mut(&key) else { continue };
            if sent.waiting.remove(&proxy) | sent.rejected.remove(&proxy) {
                self.lack(&key);
                self.changed.insert(key);
            }
        }
    }

    /// How many we serve ourselves: ready, and starting.
    pub(super) fn own(&self) -> (usize, usize) {
        let ready = self.proxies.values().filter(|proxy| proxy.ready).count();
        (ready, self.proxies.len() - ready)
    }

    /// Tells the mesh whatever it does not know.
    pub(super) fn tell(&mut self, group: &Group, now: Instant, told: &mut Vec<Change>) {
        let over = |proxy: &Proxy| proxy.until.is_some_and(|until| until <= now);
        let over: Vec<u64> =
            self.proxies.iter().filter(|(_, proxy)| over(proxy)).map(|(number, _)| *number).collect();
        for proxy in over {
            self.drop_proxy(proxy);
        }
        let Some((namespace, name)) = group.0.split_once('/') else { return };
        let waypoint = Audience { namespace: namespace.into(), name: name.into() };
        let (ready, starting) = self.proxies_everywhere();
        let proxies = Proxies { ready: count(ready), starting: count(starting) };
        let heard = self.heard.is_some_and(|heard| ready > 0 || heard <= now);
        let had_some = self.told.is_some_and(|told| told.ready > 0);
        let proxies = if self.is_wanted() { heard.then_some(proxies).or(self.told) } else { None };
        if proxies != self.told {
            told.push(Change::Seen(Seen::Proxies(waypoint.clone(), proxies)));
            self.told = proxies;
        }
        if ready > 0 && !had_some {
            // Nobody needed to know before.
            self.changed.extend(self.resources.keys().cloned());
        }
        // What is gone is told in any case, so that it is forgotten.
        for key in std::mem::take(&mut self.changed) {
            // One that nobody rejects any more is as if it had never been.
            let taken = self.resources.get(&key).map(|sent| {
                let Elsewhere { waiting, rejected, words } = self.elsewhere(&key, sent);
                let mut taken = sent.taken(&self.proxies);
                taken.waiting = taken.waiting.saturating_add(waiting);
                taken.rejected = taken.rejected.saturating_add(rejected);
                taken.words = taken.words.or_else(|| words.map(Into::into));
                taken
            });
            let taken = taken.filter(|taken| is_awaited(key.0) || taken.rejected > 0);
            if taken.is_none() {
                self.resources.remove(&key);
            }
            if taken.is_none() || ready > 0 {
                let (type_url, name) = key;
                told.push(Change::Seen(Seen::Taken(waypoint.clone(), type_url, name, taken)));
            }
        }
    }
}

/// As it is told.
pub(super) fn count(proxies: usize) -> u32 {
    u32::try_from(proxies).unwrap_or(u32::MAX)
}
