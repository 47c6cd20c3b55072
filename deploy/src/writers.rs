//! What writes to a cluster, and what the event loop tells it by. On a directory nothing does.

use std::{collections::BTreeMap, time::Duration};

use proto::Name;
use tokio::sync::{
    mpsc::{Sender, unbounded_channel},
    watch,
};
use translate::{Change, Settings};

use crate::{
    deployer,
    event_loop::{Orders, Outbox},
    events::Recorder,
    lease::{Candidate, Timing},
    metrics::Metrics,
    objects::{Cluster, Lives, Objects},
    place::Place,
    progress::Reports,
    replicas::{Replica, Rhythm},
    status,
    tasks::Tasks,
    waypoint::Template,
};

/// What whoever writes to a cluster needs besides it.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Where we are ourselves.
    pub place: Place,
    /// What the pods of waypoints are made with.
    pub template: Template,
    /// The Lease, in our namespace, of those replicas of which one writes.
    pub lease: Name,
    /// For how long a replica that is not heard of any more keeps others from writing.
    pub lease_duration: Duration,
}

/// How those who write are told what to write.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// For what follows from commits.
    pub(crate) outbox: Outbox,
    /// For the statuses that the source of objects shows.
    pub(crate) lives: Option<Lives>,
}

/// Starts everything that writes where the objects come from. What becomes of it is sent to `told`, and what
/// the other replicas say to `others`.
pub(crate) fn start(
    tasks: &mut Tasks,
    objects: &Objects,
    settings: &Settings,
    writing: Writing,
    metrics: &Metrics,
    told: Sender<Change>,
    others: Sender<BTreeMap<Name, Reports>>,
) -> Ways {
    let Cluster { client, .. } = match objects {
        Objects::Directory(_) => return Ways::default(),
        Objects::Cluster(cluster) => cluster.clone(),
    };
    let Writing { place, template, lease, lease_duration } = writing;
    let (lead, leads) = watch::channel(false);
    show(tasks, metrics, leads.clone());
    let timing = Timing::of(lease_duration);
    let (namespace, pod) = (&place.namespace, place.pod.as_deref());
    let replica = Replica::new(client.clone(), namespace, lease.clone(), pod, Rhythm::default());
    let candidate = Candidate::new(client.clone(), namespace, lease, pod, timing);
    let stop = tasks.stopping();
    tasks.spawn("election of a leader", async move {
        candidate.run(lead, stop).await;
        Ok(())
    });
    let (report, reports) = watch::channel(Reports::default());
    let (is_leading, stop) = (leads.clone(), tasks.stopping());
    tasks.spawn("exchange between replicas", async move {
        replica.run(is_leading, reports, others, stop).await;
        Ok(())
    });
    let pod = place.pod.as_deref().unwrap_or_default();
    let (recorder, teller) = Recorder::new(client.clone(), pod);
    tasks.spawn_forever("recorder of Events", async move {
        recorder.run().await;
        Ok(())
    });
    let (said, statuses) = unbounded_channel();
    let (look, lives) = unbounded_channel();
    let (complete, is_complete) = watch::channel(false);
    let inbox = status::Inbox { statuses, lives, leads: leads.clone(), complete: is_complete };
    let manager = status::field_manager(settings.revision.as_deref());
    let options = status::Options::new(settings.classes, Name::clone(&manager));
    let writing = status::run(client.clone(), options, inbox, Some(teller));
    tasks.spawn_forever("writer of statuses", async move { Ok(writing.await?) });
    let (to, orders) = unbounded_channel();
    tasks.spawn_forever("deployer", async move {
        deployer::run(client, orders, leads, told).await;
        Ok(())
    });
    let outbox = Outbox {
        orders: Some(Orders::new(template, to)),
        statuses: Some(said),
        complete: Some(complete),
        reports: Some(report),
        ..Outbox::default()
    };
    Ways { outbox, lives: Some(Lives { manager, to: look }) }
}

/// Shows in the metrics whether we lead, by a receiver of their own: as long as somebody has one of `leads`,
/// somebody may be writing.
fn show(tasks: &mut Tasks, metrics: &Metrics, mut leads: watch::Receiver<bool>) {
    let (tell, shown) = watch::channel(*leads.borrow());
    metrics.process.follow(shown);
    tasks.spawn_forever("leadership in the metrics", async move {
        while leads.changed().await.is_ok() {
            tell.send_replace(*leads.borrow_and_update());
        }
        Ok(())
    });
}
