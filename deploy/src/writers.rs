//! What writes to a cluster, and what the event loop tells it by. On a directory nothing does.

use tokio::sync::{
    mpsc::{Sender, unbounded_channel},
    watch,
};
use translate::Change;

use crate::{
    deployer,
    event_loop::{Orders, Outbox},
    objects::{Cluster, Objects},
    place::Place,
    tasks::Tasks,
    waypoint::Template,
};

/// Starts everything that writes where the objects come from. What becomes of it is sent to `told`.
pub(crate) fn start(
    tasks: &mut Tasks,
    objects: &Objects,
    _place: &Place,
    template: Template,
    told: Sender<Change>,
) -> Outbox {
    let Cluster { client, .. } = match objects {
        Objects::Directory(_) => return Outbox::default(),
        Objects::Cluster(cluster) => cluster.clone(),
    };
    // Whether we write: of several replicas one does.
    let (lead, leads) = watch::channel(true);
    let (to, orders) = unbounded_channel();
    tasks.spawn_forever("deployer", async move {
        let _lead = lead;
        deployer::run(client, orders, leads, told).await;
        Ok(())
    });
    Outbox { orders: Some(Orders { template, to }), statuses: None }
}
