//! What the wire's side knows of its clients, put into words.

use std::{collections::BTreeMap, sync::Arc};

use proto::{Name, Place, RenderError, Resource, TypeUrl, Version};
use xds::{Cache, Group, Notes, Open, Session, Snapshot, Standing, Why};

use super::{
    TYPES, Wanted, secrets,
    view::{
        ConfigDump, FleetConfig, FleetSync, Lack, ProxyRef, ProxySync, Rejected, ResourceDump, SyncDump,
        TypeSync, moment,
    },
};

/// What proxies of a group have said of what they rejected.
type Words = BTreeMap<(TypeUrl, Name, Version), String>;

/// Every waypoint, with its proxies.
pub(super) fn sync(cache: &Cache) -> SyncDump {
    let waypoints = fleets(cache).into_iter().map(|(group, proxies)| {
        let words = words(&proxies);
        let proxies = proxies.iter().map(|proxy| proxy.sync(&words)).collect();
        FleetSync { waypoint: group.to_string(), proxies }
    });
    SyncDump { waypoints: waypoints.collect() }
}

/// The resources of the waypoint that was asked for, or of the proxies. Nothing is meant if nothing is found.
pub(super) fn config(cache: &Cache, wanted: &Wanted) -> Result<ConfigDump, RenderError> {
    let fleets = fleets(cache);
    let of_waypoint = fleets.keys().any(|group| *group.0 == *wanted.of);
    let mut dump = ConfigDump::default();
    for (group, mut proxies) in fleets {
        let words = words(&proxies);
        if of_waypoint {
            if *group.0 != *wanted.of {
                continue;
            }
        } else {
            proxies.retain(|proxy| proxy.is_called(&wanted.of));
            if proxies.is_empty() {
                continue;
            }
        }
        let snapshot = cache.snapshot(&group).unwrap_or_else(|| Arc::new(Snapshot::empty()));
        let place = match proxies.as_slice() {
            [one] => one.place(),
            _ => Place::default(),
        };
        let mut resources = Vec::new();
        for (kind, type_url) in TYPES {
            if wanted.only.is_none_or(|only| only == type_url) {
                for mut resource in resources_of(&snapshot, type_url, kind, &proxies, &words) {
                    if let Some(found) = snapshot.get(type_url, &resource.name) {
                        describe(&mut resource, found, &place, wanted.bodies)?;
                    }
                    resources.push(resource);
                }
            }
        }
        let proxies = proxies.iter().map(Proxy::reference).collect();
        dump.waypoints.push(FleetConfig { waypoint: group.to_string(), proxies, resources });
    }
    Ok(dump)
}

/// The resources of one type that are published, and those that somebody still has to lose.
fn resources_of(
    snapshot: &Snapshot,
    type_url: TypeUrl,
    kind: &str,
    proxies: &[Proxy],
    words: &Words,
) -> Vec<ResourceDump> {
    let mut dumps = BTreeMap::<Name, ResourceDump>::new();
    let dump = |name: &Name, version: Option<Version>| ResourceDump {
        kind: kind.to_owned(),
        name: name.to_string(),
        version: version.map(|version| version.to_string()),
        wanted: 0,
        acknowledged: 0,
        lacking: Vec::new(),
        certificates: Vec::new(),
        body: None,
    };
    for resource in snapshot.resources().into_iter().filter(|resource| resource.type_url == type_url) {
        dumps.insert(resource.name.clone(), dump(&resource.name, Some(resource.version)));
    }
    for proxy in proxies {
        let Some(standing) = proxy.standing.iter().find(|standing| standing.type_url == type_url) else {
            continue;
        };
        for resource in proxy.open.look(|session| session.meant(type_url)) {
            if let Some(dump) = dumps.get_mut(&resource.name) {
                dump.wanted += 1;
                dump.acknowledged += 1;
            }
        }
        for lacking in &standing.lacking {
            let dump = dumps.entry(lacking.name.clone()).or_insert_with(|| dump(&lacking.name, None));
            if lacking.version.is_some() {
                dump.acknowledged = dump.acknowledged.saturating_sub(1);
            }
            let key = lacking.version.map(|version| (type_url, lacking.name.clone(), version));
            let said = key.filter(|_| lacking.why == Why::Rejected).and_then(|key| words.get(&key).cloned());
            dump.lacking.push(Lack {
                proxy: proxy.name().to_owned(),
                why: why(lacking.why).to_owned(),
                message: said.unwrap_or_default(),
            });
        }
    }
    dumps.into_values().collect()
}

/// Adds what it says, but for what is secret.
fn describe(
    dump: &mut ResourceDump,
    resource: &Resource,
    place: &Place,
    bodies: bool,
) -> Result<(), RenderError> {
    if resource.type_url == TypeUrl::Secret {
        let mut body = proto::render_any(&resource.to_any(&Place::default()))?;
        dump.certificates = secrets::redact(&mut body);
        dump.body = bodies.then_some(body);
    } else if bodies {
        dump.body = Some(proto::render_any(&resource.to_any(place))?);
    }
    Ok(())
}

/// A proxy as it is at this moment.
struct Proxy {
    open: Arc<Open>,
    notes: Notes,
    standing: Vec<Standing>,
}

fn fleets(cache: &Cache) -> BTreeMap<Group, Vec<Proxy>> {
    let mut fleets: BTreeMap<Group, Vec<Proxy>> =
        cache.groups().into_iter().map(|group| (group, Vec::new())).collect();
    for open in cache.streams().all() {
        let (notes, standing) = (open.notes(), open.look(Session::standing));
        let group = open.stream().group.clone();
        fleets.entry(group).or_default().push(Proxy { open, notes, standing });
    }
    fleets
}

fn words(proxies: &[Proxy]) -> Words {
    let said = proxies.iter().flat_map(|proxy| &proxy.notes.rejections);
    said.map(|((type_url, name), rejection)| {
        ((*type_url, Name::clone(name), rejection.version), rejection.message.clone())
    })
    .collect()
}

const fn why(why: Why) -> &'static str {
    match why {
        Why::Unsent => "unsent",
        Why::Unanswered => "unanswered",
        Why::Rejected => "rejected",
    }
}

impl Proxy {
    /// Its own name for itself: the last part of its node's id, `waypoint~NAMESPACE/GATEWAY~NAME`.
    fn name(&self) -> &str {
        let id = &self.open.node().id;
        let name = id.rsplit('~').next().unwrap_or(id);
        if name.is_empty() { &self.open.stream().client } else { name }
    }

    fn reference(&self) -> ProxyRef {
        ProxyRef { name: self.name().to_owned(), stream: self.open.stream().number }
    }

    /// Whether it is meant by `NAME`, or by `NAMESPACE/NAME`, where the namespace is its waypoint's.
    fn is_called(&self, text: &str) -> bool {
        let group = &self.open.stream().group.0;
        let namespace = group.split_once('/').map_or("", |(namespace, _)| namespace);
        match text.split_once('/') {
            Some((said, name)) => said == namespace && name == self.name(),
            None => text == self.name(),
        }
    }

    fn place(&self) -> Place {
        self.open.node().place.clone()
    }

    fn sync(&self, words: &Words) -> ProxySync {
        let Place { region, zone, sub_zone } = self.place();
        let types = TYPES.into_iter().filter_map(|(kind, type_url)| {
            let standing = self.standing.iter().find(|standing| standing.type_url == type_url)?;
            standing.asked.then(|| self.of_type(kind, standing, words))
        });
        ProxySync {
            proxy: self.reference(),
            client: self.open.stream().client.to_string(),
            address: self.open.address().map(|address| address.to_string()),
            agent: self.open.node().agent.clone(),
            region: region.to_string(),
            zone: zone.to_string(),
            node: sub_zone.to_string(),
            connected: moment(self.open.since()),
            behind_since: self.notes.behind.map(moment),
            synced_at: self.notes.up_to_date.map(moment),
            types: types.collect(),
        }
    }

    fn of_type(&self, kind: &str, standing: &Standing, words: &Words) -> TypeSync {
        let count = |why: Why| standing.lacking.iter().filter(|lacking| lacking.why == why).count();
        let rejected = standing.lacking.iter().filter_map(|lacking| {
            let version = lacking.version.filter(|_| lacking.why == Why::Rejected)?;
            let own = self.notes.rejections.get(&(standing.type_url, lacking.name.clone()));
            let own = own.filter(|own| own.version == version);
            let said = words.get(&(standing.type_url, lacking.name.clone(), version)).cloned();
            Some(Rejected {
                name: lacking.name.to_string(),
                version: version.to_string(),
                message: said.unwrap_or_else(|| "a proxy that has left rejected it".to_owned()),
                since: own.map(|own| moment(own.at)),
            })
        });
        TypeSync {
            kind: kind.to_owned(),
            resources: standing.meant,
            unsent: count(Why::Unsent),
            unanswered: count(Why::Unanswered),
            rejected: rejected.collect(),
        }
    }
}
