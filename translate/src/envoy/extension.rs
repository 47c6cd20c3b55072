//! Extensions of Envoy packed with their names, and the one place where configuration comes from: us.

use prost::{Message, Name};
use proto::envoy::{self, core, http_connection_manager as hcm, listener};

pub(crate) fn typed<T: Message + Name>(name: &str, message: &T) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(envoy::pack(message)) }
}

pub(crate) fn http_filter<T: Message + Name>(name: &str, message: &T) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(envoy::pack(message))),
        ..hcm::HttpFilter::default()
    }
}

pub(crate) fn network_filter<T: Message + Name>(name: &str, message: &T) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(envoy::pack(message))),
    }
}

pub(crate) fn listener_filter<T: Message + Name>(name: &str, message: &T) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(envoy::pack(message))),
        ..listener::ListenerFilter::default()
    }
}

pub(crate) fn transport_socket<T: Message + Name>(name: &str, message: &T) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(envoy::pack(message))),
    }
}

/// The stream that the configuration itself came by.
///
/// The timeout is a belt: what is asked for is always answered, but a resource that waits for ever
/// for another would hold back everything behind it.
pub(crate) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        initial_fetch_timeout: Some(envoy::seconds(5)),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..core::ConfigSource::default()
    }
}

/// The address of one of our internal listeners. `id` tells endpoints apart that share a listener.
pub(crate) fn internal_address(listener: &str, id: String) -> core::Address {
    core::Address {
        address: Some(core::address::Address::EnvoyInternalAddress(core::EnvoyInternalAddress {
            endpoint_id: id,
            address_name_specifier: Some(
                core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(listener.to_owned()),
            ),
        })),
    }
}

pub(crate) fn socket_address(address: std::net::SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(address.port()))),
            ..core::SocketAddress::default()
        })),
    }
}

/// A text with `%COMMANDS%`, as one string.
pub(crate) fn format(text: &str) -> core::SubstitutionFormatString {
    core::SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::TextFormatSource(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
            ..core::DataSource::default()
        })),
        ..core::SubstitutionFormatString::default()
    }
}

/// Metadata of several namespaces, each with string fields.
pub(crate) fn metadata<const N: usize>(namespaces: [(&str, envoy::Struct); N]) -> core::Metadata {
    let namespaces = namespaces.into_iter().filter(|(_, fields)| !fields.fields.is_empty());
    core::Metadata {
        filter_metadata: namespaces.map(|(name, fields)| (name.to_owned(), fields)).collect(),
        ..core::Metadata::default()
    }
}
