//! What proxies made of what they were sent: an input like objects are, and of statuses only.

use std::sync::Arc;

use proto::{Name, TypeUrl, Version};

use crate::{change::Audience, derive::Row, mesh::name::Key};

/// Something that became known of the proxies of a waypoint. It holds for all of them, whichever
/// replica they are connected to: who tells it has added them up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// How many there are; `None` where nobody has looked, or the waypoint is gone.
    Proxies(Audience, Option<Proxies>),
    /// What they have of a resource; `None` where it is gone.
    ///
    /// Of route configurations and listeners it is always told once there are proxies, since statuses
    /// wait for them. They are sent last, so of all others it is enough to tell what was rejected.
    Taken(Audience, TypeUrl, Name, Option<Taken>),
}

/// The proxies of a waypoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Those that have had all of their configuration once. Only they are sent traffic.
    pub ready: u32,
    /// Those that are still given it for the first time.
    pub starting: u32,
}

/// What the proxies of a waypoint have of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The version that this speaks of. Of another one nobody has said anything yet.
    pub version: Version,
    /// How many of the ready ones have neither taken nor rejected it.
    pub waiting: u32,
    /// How many do not have it because one of them rejected it.
    pub rejected: u32,
    /// What a proxy said when it rejected it: one line, shortened, without anything that looks secret.
    pub words: Option<Arc<str>>,
}

impl Row for Proxies {
    const TABLE: &'static str = "proxies";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// What was rejected, by whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Everything that proxies of the waypoint rejected.
    Rejected(Key),
    /// The clusters, and endpoints, that were made from it, as [`maker`] reads it from their names.
    RejectedOf(Name),
}

impl Row for Taken {
    const TABLE: &'static str = "taken";
    type Key = (Key, TypeUrl, Name);
    type Bucket = Bucket;

    fn buckets((waypoint, type_url, name): &Self::Key, row: &Self) -> Vec<Bucket> {
        if row.rejected == 0 {
            return Vec::new();
        }
        let of = match type_url {
            TypeUrl::Cluster | TypeUrl::Endpoint => maker(name),
            TypeUrl::Secret
            | TypeUrl::Extension
            | TypeUrl::Listener
            | TypeUrl::ScopedRoute
            | TypeUrl::Route => None,
        };
        [Bucket::Rejected(waypoint.clone())]
            .into_iter()
            .chain(of.map(|of| Bucket::RejectedOf(of.into())))
            .collect()
    }
}

/// From what a cluster is made, in its name: `web.default.svc.cluster.local` in
/// `outbound|80||web.default.svc.cluster.local`, `HTTPRoute|default/web` in `merged|HTTPRoute|default/web|0`.
fn maker(cluster: &str) -> Option<&str> {
    if let Some(rule) = cluster.strip_prefix("merged|") {
        return rule.rsplit_once('|').map(|(route, _)| route);
    }
    let (_, host) = cluster.strip_prefix("outbound|")?.split_once("||")?;
    Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::name::{PortKey, RuleKey, RuleOf, ServiceKey};

    #[test]
    fn the_name_of_a_cluster_tells_from_what_it_is_made() {
        let waypoint = Key::new("default", "waypoint");
        let port = |service| PortKey::new(&waypoint, &service, 80).cluster_name("cluster.local");
        let service = port(ServiceKey::kubernetes("default", "web"));
        assert_eq!(maker(&service), Some("web.default.svc.cluster.local"));
        assert_eq!(maker(&port(ServiceKey::entry("default", "example.com"))), Some("example.com|default"));
        let route = Key::new("default", "web").reference(proto::Kind::HTTPRoute);
        let rule = RuleKey { waypoint, rule: RuleOf { route, index: 2 } };
        assert_eq!(maker(&rule.cluster_name()), Some("HTTPRoute|default/web"));
        assert_eq!(maker("connect_originate"), None);
    }
}
