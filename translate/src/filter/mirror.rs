//! RequestMirror: a copy of a share of the requests goes to another backend, whose answers nobody hears.

use proto::{
    envoy::{core, percent, route},
    gateway::httproutes::{
        HttpRouteRulesFiltersRequestMirror, HttpRouteRulesFiltersRequestMirrorBackendRef,
        HttpRouteRulesFiltersRequestMirrorFraction,
    },
};

use super::{Place, Reading, RuleFilter};
use crate::{
    mesh::name::{PortKey, ServiceKey},
    route::backend::{self, BackendRef, Fields},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestMirror {
    pub(crate) backend: BackendRef,
    /// Where the copies end, once the backend is looked up.
    pub(crate) to: Option<(ServiceKey, u16)>,
    share: Fraction,
}

/// In one of the steps that Envoy counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fraction {
    Hundredths(u32),
    Millionths(u32),
}

const MILLION: i64 = 1_000_000;

impl Fraction {
    fn lower(
        percent: Option<i32>,
        spec: Option<&HttpRouteRulesFiltersRequestMirrorFraction>,
    ) -> Option<Self> {
        match (percent, spec) {
            (None, None) => Some(Self::Hundredths(100)),
            (Some(percent), None) => {
                Some(Self::Hundredths(u32::try_from(percent).ok().filter(|percent| *percent <= 100)?))
            }
            (None, Some(HttpRouteRulesFiltersRequestMirrorFraction { denominator, numerator })) => {
                let (numerator, denominator) = (i64::from(*numerator), i64::from(denominator.unwrap_or(100)));
                if denominator < 1 || !(0..=denominator).contains(&numerator) {
                    return None;
                }
                if 100 % denominator == 0 {
                    return Some(Self::Hundredths(u32::try_from(numerator * (100 / denominator)).ok()?));
                }
                let nearest = (numerator * MILLION + denominator / 2) / denominator;
                Some(Self::Millionths(u32::try_from(nearest).ok()?))
            }
            (Some(_), Some(_)) => None,
        }
    }

    fn emit(self) -> percent::FractionalPercent {
        use percent::fractional_percent::DenominatorType;
        let (numerator, denominator) = match self {
            Self::Hundredths(numerator) => (numerator, DenominatorType::Hundred),
            Self::Millionths(numerator) => (numerator, DenominatorType::Million),
        };
        percent::FractionalPercent { numerator, denominator: denominator.into() }
    }
}

impl RequestMirror {
    /// The same, once its backend was found.
    pub(crate) fn ending_at(&self, service_port: (ServiceKey, u16)) -> Self {
        Self { to: Some(service_port), ..self.clone() }
    }
}

impl RuleFilter for RequestMirror {
    type Spec = HttpRouteRulesFiltersRequestMirror;
    const REPEATS: bool = true;

    fn lower(spec: &Self::Spec, reading: &mut Reading<'_>) -> Option<Self> {
        let HttpRouteRulesFiltersRequestMirror { backend_ref, fraction, percent } = spec;
        let Some(share) = Fraction::lower(*percent, fraction.as_ref()) else {
            reading.invalid("", "use one of percent, 0 to 100, and fraction, from 0 to 1");
            return None;
        };
        let HttpRouteRulesFiltersRequestMirrorBackendRef { group, kind, name, namespace, port } = backend_ref;
        let fields = Fields {
            filters: Vec::new(),
            group: group.as_deref(),
            kind: kind.as_deref(),
            name,
            namespace: namespace.as_deref(),
            port: *port,
            weight: None,
        };
        let backend = backend::lower_one(fields, reading.namespace, &reading.at.field("backendRef"));
        Some(Self { backend, to: None, share })
    }

    fn emit(&self, route: &mut route::Route, place: &Place<'_>) {
        let Some(route::route::Action::Route(action)) = &mut route.action else { return };
        let Some((service, port)) = &self.to else { return };
        let cluster = PortKey::new(&place.key.waypoint, service, *port);
        action.request_mirror_policies.push(route::route_action::RequestMirrorPolicy {
            cluster: cluster.cluster_name(&place.settings.cluster_domain),
            runtime_fraction: Some(core::RuntimeFractionalPercent {
                default_value: Some(self.share.emit()),
                ..core::RuntimeFractionalPercent::default()
            }),
            ..route::route_action::RequestMirrorPolicy::default()
        });
    }
}
