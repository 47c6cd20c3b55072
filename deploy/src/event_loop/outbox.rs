//! What follows from commits for those who write to a cluster. On a directory nobody does.

use std::collections::BTreeMap;

use proto::ObjectRef;
use tokio::sync::{mpsc::UnboundedSender, watch};
use translate::{Audience, Change, WaypointPlan, status::Status};

use crate::{authn::Accounts, deployer::Order, progress::Reports, waypoint::Template};

/// To whom the loop tells what follows from its commits. All without a bound, for the loop must not wait:
/// what it sends follows from its own commits.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the deployer.
    pub orders: Option<Orders>,
    /// To whoever writes statuses: those that moved, `None` where nothing is said of an object any more.
    pub statuses: Option<UnboundedSender<(ObjectRef, Option<Status>)>>,
    /// To the same, that all that can be said of what exists has been sent.
    pub complete: Option<watch::Sender<bool>>,
    /// Where the door looks up which waypoints an account runs.
    pub accounts: Option<Accounts>,
    /// To the source: which ConfigMaps are to be followed, and which are not any more.
    pub wanted: Option<UnboundedSender<BTreeMap<ObjectRef, bool>>>,
    /// To the other replicas: what our proxies have.
    pub reports: Option<watch::Sender<Reports>>,
}

/// The way to the deployer.
#[derive(Debug)]
pub struct Orders {
    /// What holds for the objects of every waypoint.
    pub template: Template,
    /// To whom they go.
    pub to: UnboundedSender<Order>,
    /// The roots that it was told.
    roots: String,
}

impl Orders {
    /// Nothing was told yet.
    pub fn new(template: Template, to: UnboundedSender<Order>) -> Self {
        Self { template, to, roots: String::new() }
    }
}

impl Outbox {
    /// Tells that all that follows from what exists has been sent.
    pub(super) fn complete(&self) {
        if let Some(complete) = &self.complete {
            complete.send_replace(true);
        }
    }

    /// Shows what the source says, before it is committed.
    pub(super) fn show(&self, changes: &[Change]) {
        if let Some(accounts) = &self.accounts {
            accounts.see(changes);
        }
    }

    /// Says what our proxies have.
    pub(super) fn report(&self, reports: &Reports) {
        if let Some(to) = &self.reports {
            to.send_if_modified(|told| {
                let moved = told != reports;
                if moved {
                    told.clone_from(reports);
                }
                moved
            });
        }
    }

    /// Says which roots verify us.
    pub(super) fn trust(&mut self, roots: &str) {
        if let Some(Orders { to, roots: told, .. }) = &mut self.orders
            && told != roots
        {
            roots.clone_into(told);
            to.send(Order::Roots(roots.to_owned())).ok();
        }
    }

    /// Sends what follows from a commit. Whoever listened is gone only when everything is about to end.
    pub(super) fn post(
        &self,
        waypoints: &BTreeMap<Audience, Option<WaypointPlan>>,
        statuses: BTreeMap<ObjectRef, Option<Status>>,
        config_maps: BTreeMap<ObjectRef, bool>,
    ) {
        if let Some(to) = self.wanted.as_ref().filter(|_| !config_maps.is_empty()) {
            to.send(config_maps).ok();
        }
        if let Some(Orders { template, to, .. }) = &self.orders {
            for (gateway, plan) in waypoints {
                to.send(Order::of(gateway, plan.as_ref(), template)).ok();
            }
        }
        if let Some(accounts) = &self.accounts {
            for (gateway, plan) in waypoints {
                accounts.set(gateway, plan.as_ref());
            }
        }
        if let Some(to) = &self.statuses {
            for moved in statuses {
                to.send(moved).ok();
            }
        }
    }
}
