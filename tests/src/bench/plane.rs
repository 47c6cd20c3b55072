//! The control plane without its network: a mesh, its cache, and a simulated proxy for each waypoint.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use proto::TypeUrl;
use translate::{Audience, Change, Mesh, Settings};
use xds::{Cache, Group};

use super::proxy::{Heard, Proxy};

/// The listener that holds every service in the shape that we compare with.
const LISTENER: &str = "main_internal";

/// A mesh whose proxies have all of it.
pub(super) struct Plane {
    mesh: Mesh,
    cache: Cache,
    proxies: BTreeMap<Audience, Proxy>,
}

/// What a commit cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Rows of derived tables that were computed.
    pub(super) rows: usize,
    /// What all proxies together were sent.
    pub(super) heard: Heard,
    /// How many proxies were sent anything.
    pub(super) waypoints: usize,
    /// The time of `Mesh::commit`.
    pub(super) commit: Duration,
    /// The time from the change to the last acknowledgement, as far as it is ours: commit, publish,
    /// and our side of the streams.
    pub(super) delivered: Duration,
}

impl Plane {
    /// Starts with everything at once, and brings it to every proxy.
    pub(super) fn start(objects: Vec<Change>) -> Result<(Self, Cost)> {
        let mesh = Mesh::new(Settings::default());
        let mut plane = Self { mesh, cache: Cache::new(), proxies: BTreeMap::new() };
        let cost = plane.apply(objects)?;
        Ok((plane, cost))
    }

    /// Commits changes and brings them to the proxies. A waypoint that is new gets its proxy.
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> Result<Cost> {
        let start = Instant::now();
        let commit = self.mesh.commit(changes);
        let committed = start.elapsed();
        for (audience, delta) in &commit.resources {
            self.cache.publish(&group(audience), delta);
        }
        let published = start.elapsed();
        for audience in commit.waypoints.keys() {
            if !self.proxies.contains_key(audience) {
                let number = self.proxies.len() as u64;
                let proxy = Proxy::connect(&self.cache, &group(audience), number)?;
                self.proxies.insert(audience.clone(), proxy);
            }
        }
        let (mut heard, mut waypoints) = (Heard::default(), 0);
        // Everybody is asked, not those alone whom it concerns: silence is what we count.
        for proxy in self.proxies.values_mut() {
            let one = proxy.listen()?;
            waypoints += usize::from(one.bytes > 0);
            heard += one;
        }
        let rows = self.mesh.computed();
        Ok(Cost { rows, heard, waypoints, commit: committed, delivered: published + heard.busy })
    }

    /// What every waypoint would be sent together for any change if each had one listener with all
    /// routes and policies inline, in bytes: the sum of what is in our own resources.
    pub(super) fn inline_bytes(&self) -> Result<usize> {
        let mut bytes = 0;
        for audience in self.proxies.keys() {
            let snapshot = self.cache.snapshot(&group(audience)).context("a waypoint without resources")?;
            let listener =
                snapshot.get(TypeUrl::Listener, LISTENER).context("a waypoint without listener")?;
            let resources = snapshot.resources().into_iter();
            let routes = resources.filter(|resource| resource.type_url == TypeUrl::Route);
            bytes +=
                listener.body.plain().len() + routes.map(|route| route.body.plain().len()).sum::<usize>();
        }
        Ok(bytes)
    }
}

fn group(audience: &Audience) -> Group {
    Group(audience.to_string().into())
}
