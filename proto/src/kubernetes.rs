//! The Kubernetes kinds that we read, and those that we make, under their own names.

pub use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{
            Container, ContainerPort, Namespace, Pod, PodCondition, PodSpec, PodStatus, Service,
            ServiceAccount, ServicePort, ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointSlice},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
