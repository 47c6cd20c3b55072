//! What is known of the process itself: what it is, since when, whether it writes, and until when its
//! certificates are good.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Registry,
};
use tokio::sync::watch;

use super::shown;

type Seconds = Gauge<f64, AtomicU64>;

/// What is known of the process.
pub(crate) struct Process {
    certificates: Seconds,
    authority: Seconds,
    leadership: Leadership,
}

/// Whether this replica writes, looked up when somebody asks. Not shown where nobody writes anything.
#[derive(Clone, Debug, Default)]
struct Leadership(Arc<OnceLock<watch::Receiver<bool>>>);

impl Process {
    pub(super) fn new(page: &mut Registry) -> Self {
        page.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let start =
            shown(page, "start_time_seconds", "When the process began, since 1970", Seconds::default());
        start.set(since_1970(SystemTime::now()));
        let leadership = Leadership::default();
        page.register_collector(Box::new(leadership.clone()));
        Self {
            leadership,
            certificates: shown(
                page,
                "certificate_expiry_seconds",
                "When the next certificate of a waypoint or of ourselves expires, since 1970",
                Seconds::default(),
            ),
            authority: shown(
                page,
                "ca_expiry_seconds",
                "When the certificate of the authority expires, since 1970",
                Seconds::default(),
            ),
        }
    }
    /// Shows whether this replica writes. Only the first call counts.
    pub(crate) fn follow(&self, leads: watch::Receiver<bool>) {
        self.leadership.0.set(leads).ok();
    }

    /// Takes in until when certificates are good: the first of them to expire, and the authority's.
    pub(crate) fn expire(&self, certificate: SystemTime, authority: SystemTime) {
        self.certificates.set(since_1970(certificate));
        self.authority.set(since_1970(authority));
    }
}

impl Collector for Leadership {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(leads) = self.0.get() else { return Ok(()) };
        let gauge = ConstGauge::new(i64::from(*leads.borrow()));
        let help = "Whether this replica writes statuses and the objects of waypoints";
        gauge.encode(encoder.encode_descriptor("leader", help, None, gauge.metric_type())?)
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
