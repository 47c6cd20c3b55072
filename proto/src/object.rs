//! The one list of kinds we read, and how an object of each is read from JSON.

use std::{fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{Name, gateway, kubernetes, mesh_api};

/// Declares the kinds. A line is: variant, type, API group, versions we accept, plural, and
/// whether objects of the kind live in a namespace.
macro_rules! kinds {
    ($($kind:ident($ty:ty) = $group:literal [$($version:literal),+] $plural:literal $namespaced:literal,)+) => {
        /// A kind of object that we read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(
            #[doc = concat!("`", stringify!($kind), "` of the API group `", $group, "`.")]
            $kind,
        )+ }

        /// An object of one of the kinds that we read. Cheap to clone.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object { $(
            #[doc = concat!("A `", stringify!($kind), "`.")]
            $kind(Arc<$ty>),
        )+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The kind's name, as in `kind: Service`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)+ }
            }

            /// The API group; empty for the core group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$kind => $group,)+ }
            }

            /// The versions we accept, the preferred one first.
            pub const fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &[$($version),+],)+ }
            }

            /// The lower-case plural, as in an API path.
            pub const fn plural(self) -> &'static str {
                match self { $(Self::$kind => $plural,)+ }
            }

            /// Whether its objects live in a namespace.
            pub const fn namespaced(self) -> bool {
                match self { $(Self::$kind => $namespaced,)+ }
            }

            fn decode(self, value: Value, ignored: &mut Vec<String>) -> Result<Object, DecodeError> {
                match self { $(Self::$kind => Ok(Object::$kind(Arc::new(decode(value, ignored)?))),)+ }
            }
        }

        impl Object {
            /// Which kind it is.
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)+ }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.metadata,)+ }
            }
        }

        /// As the object of its kind is written.
        impl Serialize for Object {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$kind(object) => object.serialize(serializer),)+ }
            }
        }
    };
}

kinds! {
    Namespace(kubernetes::Namespace) = "" ["v1"] "namespaces" false,
    Service(kubernetes::Service) = "" ["v1"] "services" true,
    EndpointSlice(kubernetes::EndpointSlice) = "discovery.k8s.io" ["v1"] "endpointslices" true,
    Pod(kubernetes::Pod) = "" ["v1"] "pods" true,
    ConfigMap(mesh_api::ConfigMap) = "" ["v1"] "configmaps" true,
    GatewayClass(gateway::GatewayClass) = "gateway.networking.k8s.io" ["v1", "v1beta1"] "gatewayclasses" false,
    Gateway(gateway::Gateway) = "gateway.networking.k8s.io" ["v1", "v1beta1"] "gateways" true,
    HTTPRoute(gateway::HttpRoute) = "gateway.networking.k8s.io" ["v1", "v1beta1"] "httproutes" true,
    GRPCRoute(gateway::GrpcRoute) = "gateway.networking.k8s.io" ["v1"] "grpcroutes" true,
    TCPRoute(gateway::TcpRoute) = "gateway.networking.k8s.io" ["v1alpha2", "v1"] "tcproutes" true,
    TLSRoute(gateway::TlsRoute) = "gateway.networking.k8s.io" ["v1", "v1alpha3", "v1alpha2"] "tlsroutes" true,
    ReferenceGrant(gateway::ReferenceGrant) = "gateway.networking.k8s.io" ["v1", "v1beta1"] "referencegrants" true,
    ServiceEntry(mesh_api::ServiceEntry) = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "serviceentries" true,
    WorkloadEntry(mesh_api::WorkloadEntry) = "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] "workloadentries" true,
    AuthorizationPolicy(mesh_api::AuthorizationPolicy) = "security.istio.io" ["v1", "v1beta1"] "authorizationpolicies" true,
    RequestAuthentication(mesh_api::RequestAuthentication) = "security.istio.io" ["v1", "v1beta1"] "requestauthentications" true,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a kind without.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.namespaced() {
            write!(out, "{} {}/{}", self.kind.name(), self.namespace, self.name)
        } else {
            write!(out, "{} {}", self.kind.name(), self.name)
        }
    }
}

/// Why a JSON value is not an object of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `apiVersion` or `kind` is missing: not a Kubernetes object.
    #[error("{0} is missing; every manifest needs apiVersion, kind and metadata.name")]
    Missing(&'static str),
    /// A kind that Portolan does not read.
    #[error("kind {kind:?} of {api_version:?} is not read by Portolan")]
    UnknownKind {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
    /// A known kind in a version that Portolan does not read.
    #[error("{kind} {api_version:?} is not supported; use {expected:?}")]
    UnknownVersion {
        /// The kind's name.
        kind: &'static str,
        /// As written.
        api_version: String,
        /// What to write instead.
        expected: String,
    },
    /// A field does not have the shape that the API gives it.
    #[error("{path}: {message}")]
    Field {
        /// As in `spec.ports[0].port`.
        path: String,
        /// What was expected there.
        message: String,
    },
}

/// An object, and the fields of its manifest that its type does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub object: Object,
    /// As in `spec.rules[0].filter`; a misspelt field shows up here.
    pub ignored: Vec<String>,
}

impl Object {
    /// Reads an object. A namespaced one without a namespace is in `default`, as kubectl has it.
    pub fn decode(mut value: Value) -> Result<Decoded, DecodeError> {
        let (kind, version) = kind_of(&value)?;
        if !kind.versions().contains(&version) {
            return Err(kind.unknown_version(&value));
        }
        if value["metadata"]["name"].is_null() {
            return Err(DecodeError::Missing("metadata.name"));
        }
        if kind.namespaced() && value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = "default".into();
        }
        let mut ignored = Vec::new();
        let object = kind.decode(value, &mut ignored)?;
        ignored.retain(|path| path != "apiVersion" && path != "kind" && !path.starts_with("status"));
        Ok(Decoded { object, ignored })
    }

    /// Who it is.
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        let namespace = if self.kind().namespaced() { metadata.namespace.as_deref() } else { None };
        ObjectRef {
            kind: self.kind(),
            namespace: namespace.unwrap_or_default().into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
        }
    }
}

impl ObjectRef {
    /// Reads who a manifest claims to be, even if the rest of it cannot be read or its version is
    /// one that we do not support.
    pub fn of_manifest(value: &Value) -> Option<Self> {
        let (kind, _version) = kind_of(value).ok()?;
        let metadata = &value["metadata"];
        let namespace =
            if kind.namespaced() { metadata["namespace"].as_str().unwrap_or("default") } else { "" };
        Some(Self { kind, namespace: namespace.into(), name: metadata["name"].as_str()?.into() })
    }
}

/// The kind that a manifest names, and the version it is written in, supported or not.
fn kind_of(value: &Value) -> Result<(Kind, &str), DecodeError> {
    let api_version = value["apiVersion"].as_str().ok_or(DecodeError::Missing("apiVersion"))?;
    let name = value["kind"].as_str().ok_or(DecodeError::Missing("kind"))?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name && kind.group() == group);
    let kind = kind.ok_or_else(|| DecodeError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: name.to_owned(),
    })?;
    Ok((kind, version))
}

impl Kind {
    fn unknown_version(self, value: &Value) -> DecodeError {
        let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let preferred = self.versions().first().copied().unwrap_or_default();
        let group = self.group();
        let expected = if group.is_empty() { preferred.to_owned() } else { format!("{group}/{preferred}") };
        DecodeError::UnknownVersion { kind: self.name(), api_version, expected }
    }
}

/// Whether `value` has the shape of a `T`: the fields that `T` does not know, or which field is wrong.
pub fn check<T: serde::de::DeserializeOwned>(value: Value) -> Result<Vec<String>, DecodeError> {
    let mut unknown = Vec::new();
    decode::<T>(value, &mut unknown)?;
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    Ok(unknown)
}

/// Prints `path` as a reader would write it: `spec.rules[0].filters`.
fn field_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => match field_path(parent).as_str() {
            "" => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field_path(parent)
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: Value, ignored: &mut Vec<String>) -> Result<T, DecodeError> {
    let mut track = serde_path_to_error::Track::new();
    let paths = serde_path_to_error::Deserializer::new(value, &mut track);
    serde_ignored::deserialize(paths, |path| ignored.push(field_path(&path))).map_err(
        |error: serde_json::Error| DecodeError::Field {
            path: track.path().to_string(),
            message: error.to_string(),
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_type_names_its_field() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"ports": [{"port": 80}, {"port": "http"}]},
        });
        let error = Object::decode(service).unwrap_err();
        assert!(matches!(&error, DecodeError::Field { path, .. } if path == "spec.ports[1].port"), "{error}");
    }

    #[test]
    fn a_misspelt_field_is_reported() {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"rules": [{"backendRef": []}]},
        });
        let decoded = Object::decode(route).unwrap();
        assert_eq!(decoded.ignored, ["spec.rules[0].backendRef"]);
        assert_eq!(decoded.object.reference().to_string(), "HTTPRoute default/r");
    }

    #[test]
    fn a_manifest_of_an_unsupported_version_still_says_who_it_is() {
        let policy = json!({"apiVersion": "security.istio.io/v2", "kind": "AuthorizationPolicy", "metadata": {"name": "p"}});
        let reference = ObjectRef::of_manifest(&policy).map(|reference| reference.to_string());
        assert_eq!(reference.as_deref(), Some("AuthorizationPolicy default/p"));
    }

    #[test]
    fn an_unknown_version_says_which_to_use() {
        let policy = json!({"apiVersion": "security.istio.io/v2", "kind": "AuthorizationPolicy", "metadata": {"name": "p"}});
        let error = Object::decode(policy).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AuthorizationPolicy \"security.istio.io/v2\" is not supported; use \"security.istio.io/v1\""
        );
    }
}
