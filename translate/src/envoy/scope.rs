//! Scopes: from an address that callers dial to the route configuration of the port behind it.

use proto::{
    TypeUrl,
    envoy::{ScopedRouteConfiguration, http_connection_manager as hcm, route},
};

use super::extension::ads;
use crate::{
    derive::Row,
    emit::Emit,
    mesh::name::{AddressKey, Key, PortKey},
    settings::Settings,
};

/// What an address leads to. Its key is its name, always: Envoy loses a scope whose key moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) port: PortKey,
}

impl Row for Scope {
    const TABLE: &'static str = "scope";
    type Key = AddressKey;
    type Bucket = ();

    fn buckets(_key: &AddressKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for Scope {
    const TYPE: TypeUrl = TypeUrl::ScopedRoute;
    type Message = ScopedRouteConfiguration;

    fn waypoint(key: &AddressKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &AddressKey, _settings: &Settings) -> String {
        key.address.to_string()
    }

    fn emit(&self, key: &AddressKey, _settings: &Settings) -> ScopedRouteConfiguration {
        let authority = key.address.to_string();
        ScopedRouteConfiguration {
            name: authority.clone(),
            route_configuration_name: self.port.route_name(),
            key: Some(route::scoped_route_configuration::Key {
                fragments: vec![route::scoped_route_configuration::key::Fragment {
                    r#type: Some(route::scoped_route_configuration::key::fragment::Type::StringKey(
                        authority,
                    )),
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
