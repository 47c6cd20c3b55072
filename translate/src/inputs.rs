//! The input tables: every object we know, lowered. All else is strictly derived from them.

use std::collections::BTreeSet;

use proto::{Kind, Name, Object, ObjectRef};

use crate::{
    change::{Audience, Change},
    derive::{Reads, Table, Touched},
    installation::{self, Hindrances, Missing, Parameters},
    mesh::{
        ca_certificates::Anchors,
        class::{self, Class, Classes},
        endpoint::{self, Slice},
        grant::{self, Grant},
        mesh_config::{self, MeshConfig, Normalization, RootNamespace, Said, Trust},
        name::{Key, Origin, ServiceKey},
        namespace::{self, Namespace},
        service::{self, Service},
        service_entry::{self, ServiceEntry},
        waypoint::{self, Candidate, Waypoint},
        workload::{self, Workload},
        workload_entry::{self, WorkloadEntry},
    },
    policy::{
        authentication::{self, Authentication, Fetched},
        authorization::{self, Authorization},
        extension_provider::Provider,
    },
    route::{grpc, http, rule::Route, tcp, tls},
    seen::{Proxies, Seen, Taken},
    settings::Settings,
};

pub(crate) struct Inputs {
    pub(crate) mesh_config: Table<Said>,
    pub(crate) trust: Table<Trust>,
    pub(crate) anchors: Table<Anchors>,
    pub(crate) root: Table<RootNamespace>,
    pub(crate) normalization: Table<Normalization>,
    pub(crate) providers: Table<Provider>,
    pub(crate) namespaces: Table<Namespace>,
    /// Services, and the hosts of the entries that have them.
    pub(crate) services: Table<Service>,
    pub(crate) entries: Table<ServiceEntry>,
    pub(crate) workload_entries: Table<WorkloadEntry>,
    pub(crate) slices: Table<Slice>,
    pub(crate) workloads: Table<Workload>,
    pub(crate) classes: Table<Class>,
    gateways: Table<Candidate>,
    /// The Gateways whose class is ours.
    pub(crate) waypoints: Table<Waypoint>,
    pub(crate) routes: Table<Route>,
    pub(crate) grants: Table<Grant>,
    pub(crate) authorizations: Table<Authorization>,
    pub(crate) authentications: Table<Authentication>,
    /// The keys of issuers that are not in a policy. Never fetched here, always told.
    pub(crate) keys: Table<Fetched>,
    /// What users want changed of the objects that run waypoints.
    pub(crate) parameters: Table<Parameters>,
    /// Why some of it cannot be told. Never found out here, always told.
    pub(crate) missing: Table<Missing>,
    /// What keeps those objects from being what they should. Never found out here, always told.
    pub(crate) hindrances: Table<Hindrances>,
    /// The proxies of each waypoint, where somebody has looked. For statuses only, as what follows is.
    pub(crate) proxies: Table<Proxies>,
    pub(crate) taken: Table<Taken>,
}

impl Inputs {
    /// Nothing but the mesh configuration that holds until there is one.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut inputs = Self {
            mesh_config: Table::default(),
            trust: Table::default(),
            anchors: Table::default(),
            root: Table::default(),
            normalization: Table::default(),
            providers: Table::default(),
            namespaces: Table::default(),
            services: Table::default(),
            entries: Table::default(),
            workload_entries: Table::default(),
            slices: Table::default(),
            workloads: Table::default(),
            classes: Table::default(),
            gateways: Table::default(),
            waypoints: Table::default(),
            routes: Table::default(),
            grants: Table::default(),
            authorizations: Table::default(),
            authentications: Table::default(),
            keys: Table::default(),
            parameters: Table::default(),
            missing: Table::default(),
            hindrances: Table::default(),
            proxies: Table::default(),
            taken: Table::default(),
        };
        inputs.configure(None, settings, &mut Touched::default());
        inputs
    }

    /// The trust domains besides our own.
    pub(crate) fn aliases(&self, reads: &Reads) -> &[Name] {
        self.trust.get(reads, &()).map(|trust| trust.aliases.as_slice()).unwrap_or_default()
    }

    /// Every trust domain whose identities are accepted, the own one first.
    pub(crate) fn accepted(&self, reads: &Reads) -> Vec<Name> {
        let ours = self.trust.get(reads, &()).into_iter().flat_map(|trust| trust.domains());
        let mut accepted: Vec<Name> = ours.cloned().collect();
        let vouched_for = self.anchors.get(reads, &()).into_iter().flat_map(|anchors| anchors.0.keys());
        accepted.extend(vouched_for.filter(|domain| !accepted.contains(domain)).cloned().collect::<Vec<_>>());
        accepted
    }

    /// Puts the mesh configuration in force, or none.
    fn configure(&mut self, config: Option<MeshConfig>, settings: &Settings, touched: &mut Touched) {
        let said = config.is_some();
        let MeshConfig { trust, anchors, root, normalization, mut providers, said: what } =
            config.unwrap_or_else(|| MeshConfig::absent(settings));
        self.trust.set(touched, (), Some(trust));
        self.anchors.set(touched, (), Some(anchors));
        self.root.set(touched, (), Some(root));
        self.normalization.set(touched, (), Some(normalization));
        let names: BTreeSet<Name> =
            self.providers.untracked().keys().chain(providers.keys()).cloned().collect();
        for name in names {
            let provider = providers.remove(&name);
            self.providers.set(touched, name, provider);
        }
        self.mesh_config.set(touched, (), said.then_some(what));
    }

    /// Lowers what changed into the tables. Of several changes of one object the last counts.
    pub(crate) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        settings: &Settings,
        touched: &mut Touched,
    ) {
        self.begin();
        let mut contested = BTreeSet::new();
        for change in changes {
            let reference = match &change {
                Change::Set(object) => object.reference(),
                Change::Remove(reference) => reference.clone(),
                Change::Keys(source, fetched) => {
                    self.keys.set(touched, source.clone(), fetched.clone());
                    continue;
                }
                Change::Hindered(waypoint, hindrances) => {
                    let Audience { namespace, name } = waypoint;
                    let key = Key { namespace: namespace.clone(), name: name.clone() };
                    let row = Some(hindrances.clone()).filter(|row| !row.0.is_empty());
                    self.hindrances.set(touched, key, row);
                    continue;
                }
                Change::Missing(object, missing) => {
                    self.missing.set(touched, Key::of(object), missing.clone());
                    continue;
                }
                Change::Seen(seen) => {
                    self.see(seen.clone(), touched);
                    continue;
                }
            };
            contested.extend(self.hosts(&reference, settings));
            match change {
                Change::Set(object) => self.set(&object, settings, touched),
                Change::Remove(reference) => self.remove(&reference, settings, touched),
                Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => {}
            }
            contested.extend(self.hosts(&reference, settings));
        }
        for host in contested {
            let declared = self.declared(&host);
            self.services.set(touched, host, declared);
        }
        self.admit(settings.classes, touched);
    }

    /// Decides anew which Gateways are waypoints of ours, where they or their classes have changed.
    fn admit(&mut self, classes: Classes, touched: &mut Touched) {
        let reads = Reads::default();
        let of_classes = self.classes.changed().iter();
        let of_classes = of_classes.flat_map(|class| self.gateways.bucket(&reads, class));
        let mut keys: BTreeSet<Key> = of_classes.map(|(key, _)| key.clone()).collect();
        keys.extend(self.gateways.changed().iter().cloned());
        for key in keys {
            let gateway = self.gateways.get(&reads, &key);
            let waypoint = gateway.and_then(|gateway| {
                let class = self.classes.get(&reads, gateway.class());
                gateway.admitted(class.map(|class| &**class), classes)
            });
            self.waypoints.set(touched, key, waypoint);
        }
    }

    fn see(&mut self, seen: Seen, touched: &mut Touched) {
        match seen {
            Seen::Proxies(waypoint, proxies) => self.proxies.set(touched, waypoint.into(), proxies),
            Seen::Taken(waypoint, type_url, name, taken) => {
                self.taken.set(touched, (waypoint.into(), type_url, name), taken);
            }
        }
    }

    /// The hosts of entries that the object declares, or has from them if it is a Service.
    fn hosts(&self, object: &ObjectRef, settings: &Settings) -> Vec<ServiceKey> {
        match object.kind {
            Kind::ServiceEntry => {
                let entry = self.entries.untracked().get(&Key::of(object));
                entry.into_iter().flat_map(|entry| entry.services.keys().cloned()).collect()
            }
            Kind::Service => {
                let service = ServiceKey::from(Key::of(object));
                vec![ServiceKey::entry(&service.namespace, &service.host(&settings.cluster_domain))]
            }
            Kind::Namespace
            | Kind::EndpointSlice
            | Kind::Pod
            | Kind::ConfigMap
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::HTTPRoute
            | Kind::GRPCRoute
            | Kind::TCPRoute
            | Kind::TLSRoute
            | Kind::ReferenceGrant
            | Kind::WorkloadEntry
            | Kind::AuthorizationPolicy
            | Kind::RequestAuthentication => Vec::new(),
        }
    }

    /// Who has a host of a namespace: its Service, if that is the Service's own name, else the
    /// oldest entry.
    fn declared(&self, host: &ServiceKey) -> Option<Service> {
        let reads = Reads::default();
        let mut same = self.services.bucket(&reads, &service::Bucket::Host(host.name.clone()));
        if same.any(|(key, _)| key.origin == Origin::Kubernetes && key.namespace == host.namespace) {
            return None;
        }
        let entries = self.entries.bucket(&reads, host);
        let (_, oldest) = entries.min_by_key(|(key, entry)| (entry.created, (*key).clone()))?;
        oldest.services.get(host).cloned()
    }

    fn begin(&mut self) {
        let Self {
            mesh_config,
            trust,
            anchors,
            root,
            normalization,
            providers,
            namespaces,
            services,
            entries,
            workload_entries,
            slices,
            workloads,
            classes,
            gateways,
            waypoints,
            routes,
            grants,
            authorizations,
            authentications,
            keys,
            parameters,
            missing,
            hindrances,
            proxies,
            taken,
        } = self;
        mesh_config.begin();
        trust.begin();
        anchors.begin();
        root.begin();
        normalization.begin();
        providers.begin();
        namespaces.begin();
        services.begin();
        entries.begin();
        workload_entries.begin();
        slices.begin();
        workloads.begin();
        classes.begin();
        gateways.begin();
        waypoints.begin();
        routes.begin();
        grants.begin();
        authorizations.begin();
        authentications.begin();
        keys.begin();
        parameters.begin();
        missing.begin();
        hindrances.begin();
        proxies.begin();
        taken.begin();
    }

    fn set(&mut self, object: &Object, settings: &Settings, touched: &mut Touched) {
        let reference = object.reference();
        let key = Key::of(&reference);
        match object {
            Object::Namespace(object) => {
                self.namespaces.set(touched, reference.name, Some(namespace::lower(object)));
            }
            Object::Service(object) => {
                let key = ServiceKey::from(key);
                let row = service::lower(&key, object, settings);
                self.services.set(touched, key, Some(row));
            }
            Object::ServiceEntry(object) => {
                let row = service_entry::lower(&key, object);
                self.entries.set(touched, key, Some(row));
            }
            Object::WorkloadEntry(object) => {
                self.workload_entries.set(touched, key, Some(workload_entry::lower(object)));
            }
            Object::EndpointSlice(object) => self.slices.set(touched, key, endpoint::lower(object)),
            Object::Pod(object) => self.workloads.set(touched, key, workload::lower(object)),
            Object::ConfigMap(object) => {
                if reference == settings.mesh_config() {
                    self.configure(Some(mesh_config::lower(object, settings)), settings, touched);
                } else {
                    let row = installation::lower_parameters(&key, object, settings);
                    self.parameters.set(touched, key, Some(row));
                }
            }
            Object::GatewayClass(object) => {
                self.classes.set(touched, reference.name, Some(class::lower(object)));
            }
            Object::Gateway(object) => self.gateways.set(touched, key, Some(waypoint::lower(object))),
            Object::HTTPRoute(object) => self.routes.set(touched, reference, Some(http::lower(object))),
            Object::GRPCRoute(object) => self.routes.set(touched, reference, Some(grpc::lower(object))),
            Object::TCPRoute(object) => self.routes.set(touched, reference, Some(tcp::lower(object))),
            Object::TLSRoute(object) => self.routes.set(touched, reference, Some(tls::lower(object))),
            Object::ReferenceGrant(object) => self.grants.set(touched, key, Some(grant::lower(object))),
            Object::AuthorizationPolicy(object) => {
                self.authorizations.set(touched, key, Some(authorization::lower(object)));
            }
            Object::RequestAuthentication(object) => {
                self.authentications.set(touched, key, Some(authentication::lower(object)));
            }
        }
    }

    fn remove(&mut self, reference: &ObjectRef, settings: &Settings, touched: &mut Touched) {
        let key = Key::of(reference);
        match reference.kind {
            Kind::Namespace => self.namespaces.set(touched, reference.name.clone(), None),
            Kind::Service => self.services.set(touched, key.into(), None),
            Kind::ServiceEntry => self.entries.set(touched, key, None),
            Kind::WorkloadEntry => self.workload_entries.set(touched, key, None),
            Kind::EndpointSlice => self.slices.set(touched, key, None),
            Kind::Pod => self.workloads.set(touched, key, None),
            Kind::ConfigMap => {
                if *reference == settings.mesh_config() {
                    self.configure(None, settings, touched);
                } else {
                    self.parameters.set(touched, key, None);
                }
            }
            Kind::GatewayClass => self.classes.set(touched, reference.name.clone(), None),
            Kind::Gateway => self.gateways.set(touched, key, None),
            Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
                self.routes.set(touched, reference.clone(), None);
            }
            Kind::ReferenceGrant => self.grants.set(touched, key, None),
            Kind::AuthorizationPolicy => self.authorizations.set(touched, key, None),
            Kind::RequestAuthentication => self.authentications.set(touched, key, None),
        }
    }
}
