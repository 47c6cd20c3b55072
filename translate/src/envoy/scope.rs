//! Scopes: from what callers dial to the route configuration of the port behind it.

use proto::{
    TypeUrl,
    envoy::{ScopedRouteConfiguration, http_connection_manager as hcm, route},
};

use super::{dispatch, extension::ads};
use crate::{
    bind::addressed::Addressed,
    bindings::Bindings,
    derive::{Reads, Row},
    emit::Emit,
    mesh::name::{ANY_PORT, Dialled, Key, PortKey, ScopeKey},
    settings::Settings,
};

/// What a dialled address leads to. Its key is its name, always: Envoy loses a scope whose key moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Port(PortKey),
    /// To the blocks of the waypoint, which tell where it leads.
    Blocks,
}

impl Scope {
    /// Two services that claim one address are a mistake; the older one has it. A pod has its address
    /// only if no service claims it.
    pub(crate) fn of(
        reads: &Reads,
        addressed: Addressed<'_>,
        bindings: &Bindings,
        ScopeKey { waypoint, dialled }: &ScopeKey,
    ) -> Option<Self> {
        let Bindings { waypoint_of, block_ports, .. } = bindings;
        let (ip, port) = match dialled {
            Dialled::At(address) => (address.ip(), address.port()),
            Dialled::Host(ip) => (*ip, ANY_PORT),
            Dialled::Within(service, port) => {
                let key = PortKey::new(waypoint, service, *port);
                return block_ports.get(reads, &key).is_some().then_some(Self::Port(key));
            }
            Dialled::Elsewhere => return (block_ports.count(reads, waypoint) > 0).then_some(Self::Blocks),
        };
        let bound = addressed.at(reads, ip).filter(|(service, row)| {
            row.port(port).is_some()
                && waypoint_of.get(reads, service).is_some_and(|to| to.is_served_by(waypoint))
        });
        let (service, _) =
            bound.min_by_key(|(service, row)| (service.origin, row.created, (*service).clone()))?;
        Some(Self::Port(PortKey::new(waypoint, service, port)))
    }

    pub(crate) const fn port(&self) -> Option<&PortKey> {
        match self {
            Self::Port(port) => Some(port),
            Self::Blocks => None,
        }
    }
}

/// The key of a scope, as tunnels carry it.
pub(crate) fn key(dialled: &Dialled) -> String {
    match dialled {
        Dialled::At(address) => address.to_string(),
        Dialled::Host(ip) => ip.to_string(),
        // No address has a slash.
        Dialled::Within(service, port) => format!("{service}:{port}"),
        Dialled::Elsewhere => dispatch::BLOCKS.to_owned(),
    }
}

impl Row for Scope {
    const TABLE: &'static str = "scope";
    type Key = ScopeKey;
    type Bucket = ();

    fn buckets(_key: &ScopeKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for Scope {
    const TYPE: TypeUrl = TypeUrl::ScopedRoute;
    type Message = ScopedRouteConfiguration;

    fn waypoint(key: &ScopeKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &ScopeKey, _settings: &Settings) -> String {
        self::key(&key.dialled)
    }

    fn emit(&self, key: &ScopeKey, _settings: &Settings) -> ScopedRouteConfiguration {
        let name = self::key(&key.dialled);
        ScopedRouteConfiguration {
            name: name.clone(),
            route_configuration_name: match self {
                Self::Port(port) => port.route_name(),
                Self::Blocks => dispatch::BLOCKS.to_owned(),
            },
            key: Some(route::scoped_route_configuration::Key {
                fragments: vec![route::scoped_route_configuration::key::Fragment {
                    r#type: Some(route::scoped_route_configuration::key::fragment::Type::StringKey(name)),
                }],
            }),
            ..ScopedRouteConfiguration::default()
        }
    }
}

/// Chooses the scope by a header. All connection managers name the same scopes, so there is one
/// subscription for them together.
pub(crate) fn by_header(header: &str) -> hcm::http_connection_manager::RouteSpecifier {
    use hcm::scoped_routes::{self, scope_key_builder};
    let extract = scope_key_builder::fragment_builder::HeaderValueExtractor {
        name: header.to_owned(),
        extract_type: Some(scope_key_builder::fragment_builder::header_value_extractor::ExtractType::Index(
            0,
        )),
        ..Default::default()
    };
    hcm::http_connection_manager::RouteSpecifier::ScopedRoutes(hcm::ScopedRoutes {
        name: "waypoint".to_owned(),
        scope_key_builder: Some(scoped_routes::ScopeKeyBuilder {
            fragments: vec![scope_key_builder::FragmentBuilder {
                r#type: Some(scope_key_builder::fragment_builder::Type::HeaderValueExtractor(extract)),
            }],
        }),
        rds_config_source: Some(ads()),
        config_specifier: Some(scoped_routes::ConfigSpecifier::ScopedRds(hcm::ScopedRds {
            scoped_rds_config_source: Some(ads()),
            ..hcm::ScopedRds::default()
        })),
    })
}
