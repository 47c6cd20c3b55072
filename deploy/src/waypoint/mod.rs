//! The Kubernetes objects that run the proxies of a waypoint: what they are, without a cluster.
//!
//! Whose they are, what they are called and what users want changed follows from the mesh
//! ([`translate::Installation`]); the rest is here. Writing them somewhere is another matter.

mod autoscaling;
mod bootstrap;
mod deployment;
mod metadata;
mod service;

use std::{collections::BTreeMap, num::NonZeroU16};

use proto::RenderError;
use serde_json::Value;
use translate::{Audience, Installation, Part, WaypointPlan};

use crate::proxy::{Endpoint, FileError};

pub use metadata::{CONTROLLER, FIELD_MANAGER, GATEWAY_NAME, MANAGED, MANAGED_LABEL};

/// The ConfigMap, in every namespace that has waypoints, that holds the root certificate of ours.
pub const ROOT_CONFIG_MAP: &str = "portolan-ca-root-cert";
/// The key of it that does.
pub const ROOT_KEY: &str = "root-cert.pem";

/// What holds for the objects of every waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The image of Envoy.
    pub image: String,
    /// Where proxies reach us.
    pub xds: Endpoint,
    /// Whom the tokens of proxies are for: us.
    pub audience: String,
}

/// The image of Envoy unless another is asked for.
pub const IMAGE: &str = "envoyproxy/envoy:distroless-v1.40.0";
/// The audience of tokens unless another is asked for.
pub const AUDIENCE: &str = "portolan";

/// The port of our Service.
pub(crate) const PORT: NonZeroU16 = NonZeroU16::MIN.saturating_add(15_009);

impl Template {
    /// Where proxies reach our Service if `namespace` is ours.
    pub fn service(namespace: &str) -> Endpoint {
        Endpoint { host: format!("portolan.{namespace}.svc"), port: PORT }
    }
}

/// Why objects cannot be made: never a user's mistake.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A message of Envoy's cannot be printed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A file that names a secret cannot be printed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value cannot be printed.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// One waypoint whose objects are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waypoint<'a> {
    pub(crate) gateway: &'a Audience,
    pub(crate) service_account: &'a str,
    pub(crate) installation: &'a Installation,
    pub(crate) template: &'a Template,
}

/// The objects that run the proxies of `gateway`, in the order in which they are to be written; none
/// that users patched away.
pub fn objects(
    gateway: &Audience,
    plan: &WaypointPlan,
    installation: &Installation,
    template: &Template,
) -> Result<Vec<Value>, MakeError> {
    let service_account = &plan.service_account;
    let waypoint = Waypoint { gateway, service_account, installation, template };
    let boot = bootstrap::bootstrap(&waypoint)?;
    let mut parts = BTreeMap::new();
    for part in Part::ALL {
        let base = match part {
            Part::ServiceAccount if !installation.makes_service_account => continue,
            Part::ServiceAccount => metadata::service_account(&waypoint),
            Part::Deployment => deployment::deployment(&waypoint, &bootstrap::digest(&boot)),
            Part::Service => service::service(&waypoint),
            Part::HorizontalPodAutoscaler => autoscaling::autoscaler(&waypoint),
            Part::PodDisruptionBudget => autoscaling::disruption_budget(&waypoint),
        };
        if let Some(object) = patched(part, base, installation) {
            parts.insert(part, object);
        }
    }
    let grace = parts.get(&Part::Deployment).and_then(deployment::grace);
    let mut objects = Vec::new();
    if parts.contains_key(&Part::Deployment) {
        objects.push(bootstrap::config_map(&waypoint, &boot, grace)?);
    }
    objects.extend(parts.into_values());
    Ok(objects)
}

/// What the patches make of an object; one that is taken away stays away.
fn patched(part: Part, base: Value, installation: &Installation) -> Option<Value> {
    let mut patches = installation.patches.iter().filter_map(|patches| patches.get(&part));
    let fixed = Fixed::of(part, &base);
    let mut object = patches.try_fold(base, |object, patch| patch.apply(Some(object)))?;
    fixed.restore(&mut object);
    Some(object)
}

/// What ties the objects of a waypoint together. A patch that names any of it is refused; one that takes
/// away what is around it does not take this.
struct Fixed(Vec<(Vec<&'static str>, Value)>);

impl Fixed {
    fn of(part: Part, base: &Value) -> Self {
        let labels = [GATEWAY_NAME, MANAGED_LABEL];
        let mut paths = vec![
            vec!["apiVersion"],
            vec!["kind"],
            vec!["metadata", "name"],
            vec!["metadata", "namespace"],
            vec!["metadata", "ownerReferences"],
        ];
        paths.extend(labels.map(|label| vec!["metadata", "labels", label]));
        match part {
            Part::Deployment => {
                paths.push(vec!["spec", "selector"]);
                paths.extend(labels.map(|label| vec!["spec", "template", "metadata", "labels", label]));
            }
            Part::PodDisruptionBudget => paths.push(vec!["spec", "selector"]),
            Part::ServiceAccount | Part::Service | Part::HorizontalPodAutoscaler => {}
        }
        let value = |path: &[&'static str]| path.iter().try_fold(base, |value, field| value.get(field));
        let fixed = paths.into_iter().filter_map(|path| value(&path).cloned().map(|value| (path, value)));
        Self(fixed.collect())
    }

    fn restore(self, object: &mut Value) {
        for (path, value) in self.0 {
            let mut place = &mut *object;
            for field in path {
                // What is on the way is a map, or gone: a patch that makes something else of it is refused.
                place = &mut place[field];
            }
            *place = value;
        }
    }
}
