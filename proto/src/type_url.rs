//! The resource types of our discovery service, in the order in which they are sent.

use std::fmt;

/// One variant for each resource type.
///
/// The order matters: what a resource refers to comes before it, so that adding in this order and
/// removing in the reverse never leaves a reference to something that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig` (ECDS): a filter that listeners name.
    Extension,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoint,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS).
    ScopedRoute,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
}

impl TypeUrl {
    /// Every type, in sending order.
    pub const ALL: [Self; 7] = [
        Self::Secret,
        Self::Extension,
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::ScopedRoute,
        Self::Route,
    ];

    /// The URL that names the type on the wire, `type.googleapis.com/` and the message's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::ScopedRoute => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of that URL, if it is one of ours.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == url)
    }

    /// The short name, as in `Cluster` or `ScopedRoute`.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Extension => "Extension",
            Self::Cluster => "Cluster",
            Self::Endpoint => "Endpoint",
            Self::Listener => "Listener",
            Self::ScopedRoute => "ScopedRoute",
            Self::Route => "Route",
        }
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.short())
    }
}
