//! What an operator may set. Fixed for the life of a process, so no derivation has to record reading it.
//!
//! What Istio's mesh configuration says and may change while we run is an input: `mesh::mesh_config`.

use proto::{Kind, Name, Object, ObjectRef};

use crate::{
    installation::DEFAULTS_LABELS,
    mesh::{class::Classes, mesh_config},
};

/// Where the proxies of a waypoint listen for tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On every address of the machine: each proxy has a network of its own, as a pod has.
    Everywhere,
    /// On the address that the Gateway asks for in `spec.addresses`, everywhere if it asks for none:
    /// the proxies share one machine.
    GatewayAddress,
}

/// Who tells of objects that others refer to by name, and that are not read otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// Whoever tells of all others, and before anything is committed: what was not told of is not there.
    #[default]
    Told,
    /// Whoever follows them one by one, from when [`Commit::config_maps`](crate::Commit::config_maps) asks for
    /// them: what was not told of may be there.
    Followed,
}

/// Which settings somebody gave: those hold whatever the mesh configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// [`Settings::trust_domain`].
    pub trust_domain: bool,
    /// [`Settings::root_namespace`].
    pub root_namespace: bool,
}

/// The settings of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mesh's trust domain: the host part of every SPIFFE identity in it.
    pub trust_domain: Name,
    /// The DNS suffix of Services, as in `web.default.svc.cluster.local`.
    pub cluster_domain: Name,
    /// The namespace of the mesh configuration. Its policies may govern a whole class of waypoints,
    /// unless the mesh configuration names another one for that.
    pub root_namespace: Name,
    /// Which mesh configuration is ours, where a mesh has several.
    pub revision: Option<Name>,
    /// What of it the mesh configuration must not change.
    pub pinned: Pinned,
    /// Which classes of waypoints are ours.
    pub classes: Classes,
    /// Where proxies listen.
    pub bind: Bind,
    /// Who tells of what is referred to by name.
    pub references: References,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            revision: None,
            pinned: Pinned::default(),
            classes: Classes::default(),
            bind: Bind::Everywhere,
            references: References::default(),
        }
    }
}

impl Settings {
    /// The object that holds the mesh configuration.
    pub fn mesh_config(&self) -> ObjectRef {
        ObjectRef {
            kind: Kind::ConfigMap,
            namespace: self.root_namespace.clone(),
            name: self
                .revision
                .as_ref()
                .map_or_else(|| "istio".into(), |name| format!("istio-{name}").into()),
        }
    }

    /// The name of our revision, as in `istio.io/rev`.
    pub fn own_revision(&self) -> Name {
        self.revision.clone().unwrap_or_else(|| "default".into())
    }

    /// The ConfigMaps that hold the defaults of classes: in that namespace, those with any of these labels.
    pub fn class_defaults(&self) -> (&Name, [&'static str; 2]) {
        (&self.root_namespace, DEFAULTS_LABELS)
    }

    /// Takes from the mesh configuration among `objects` what holds for the life of a process: the
    /// trust domain, unless somebody gave another one.
    #[must_use]
    pub fn adopting<'o>(mut self, objects: impl IntoIterator<Item = &'o Object>) -> Self {
        let ours = self.mesh_config();
        let ours = objects.into_iter().find(|object| object.reference() == ours);
        let asked = ours.and_then(|object| {
            if let Object::ConfigMap(config) = object { mesh_config::trust_domain(config) } else { None }
        });
        if let Some(asked) = asked.filter(|_| !self.pinned.trust_domain) {
            self.trust_domain = asked;
        }
        self
    }
}
