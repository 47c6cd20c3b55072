//! The input tables: every object we know, lowered. All else is strictly derived from them.

use proto::{Kind, Object, ObjectRef};

use crate::{
    change::Change,
    derive::{Table, Touched},
    mesh::{
        endpoint::{self, Slice},
        grant::{self, Grant},
        name::Key,
        namespace::{self, Namespace},
        service::{self, Service},
        waypoint::{self, Waypoint},
        workload::{self, Workload},
    },
    policy::authorization::{self, Authorization},
    route::{grpc, http, rule::Route, tcp},
    settings::Settings,
};

#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) namespaces: Table<Namespace>,
    pub(crate) services: Table<Service>,
    pub(crate) slices: Table<Slice>,
    pub(crate) workloads: Table<Workload>,
    pub(crate) waypoints: Table<Waypoint>,
    pub(crate) routes: Table<Route>,
    pub(crate) grants: Table<Grant>,
    pub(crate) authorizations: Table<Authorization>,
}

impl Inputs {
    /// Lowers what changed into the tables. Of several changes of one object the last counts.
    pub(crate) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        settings: &Settings,
        touched: &mut Touched,
    ) {
        self.begin();
        for change in changes {
            match change {
                Change::Set(object) => self.set(&object, settings, touched),
                Change::Remove(reference) => self.remove(&reference, touched),
            }
        }
    }

    fn begin(&mut self) {
        let Self { namespaces, services, slices, workloads, waypoints, routes, grants, authorizations } =
            self;
        namespaces.begin();
        services.begin();
        slices.begin();
        workloads.begin();
        waypoints.begin();
        routes.begin();
        grants.begin();
        authorizations.begin();
    }

    fn set(&mut self, object: &Object, settings: &Settings, touched: &mut Touched) {
        let reference = object.reference();
        let key = Key::of(&reference);
        match object {
            Object::Namespace(object) => {
                self.namespaces.set(touched, reference.name, Some(namespace::lower(object)));
            }
            Object::Service(object) => self.services.set(touched, key.into(), Some(service::lower(object))),
            Object::EndpointSlice(object) => self.slices.set(touched, key, endpoint::lower(object)),
            Object::Pod(object) => self.workloads.set(touched, key, workload::lower(object)),
            Object::Gateway(object) => self.waypoints.set(touched, key, waypoint::lower(object)),
            Object::HTTPRoute(object) => self.routes.set(touched, reference, Some(http::lower(object))),
            Object::GRPCRoute(object) => self.routes.set(touched, reference, Some(grpc::lower(object))),
            Object::TCPRoute(object) => self.routes.set(touched, reference, Some(tcp::lower(object))),
            Object::ReferenceGrant(object) => self.grants.set(touched, key, Some(grant::lower(object))),
            Object::AuthorizationPolicy(object) => {
                self.authorizations.set(touched, key, Some(authorization::lower(object, settings)));
            }
        }
    }

    fn remove(&mut self, reference: &ObjectRef, touched: &mut Touched) {
        let key = Key::of(reference);
        match reference.kind {
            Kind::Namespace => self.namespaces.set(touched, reference.name.clone(), None),
            Kind::Service => self.services.set(touched, key.into(), None),
            Kind::EndpointSlice => self.slices.set(touched, key, None),
            Kind::Pod => self.workloads.set(touched, key, None),
            Kind::Gateway => self.waypoints.set(touched, key, None),
            Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute => {
                self.routes.set(touched, reference.clone(), None);
            }
            Kind::ReferenceGrant => self.grants.set(touched, key, None),
            Kind::AuthorizationPolicy => self.authorizations.set(touched, key, None),
        }
    }
}
