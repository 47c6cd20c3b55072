//! The core Kubernetes kinds we read, under their own names.

pub use k8s_openapi::{
    api::{
        core::v1::{
            Container, ContainerPort, Namespace, Pod, PodCondition, PodSpec, PodStatus, Service, ServicePort,
            ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
