//! Writes the objects that run waypoints, and keeps them as they should be.
//!
//! ```text
//!   Order ─► what should be ─┐
//!                            ├─► reconcile ─► apply, prune      writer.rs
//!   live.rs ─ what is ───────┘        └─► Hindrances, told when they change
//! ```
//!
//! Objects are found by the label that says that they are ours, and touched only if their Gateway owns them.
//! Nothing is written that is there already. What fails is tried again, later each time.

mod drift;
mod kinds;
mod live;
mod roots;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::Client;
use serde_json::Value;
use tokio::{
    sync::{
        mpsc::{Sender, UnboundedReceiver, channel},
        watch,
    },
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};
use translate::{Audience, Change, Hindrances, Installing, WaypointPlan};

pub use kinds::{Permission, permissions};

use self::{
    kinds::Made,
    live::{About, Live, News},
    roots::Roots,
    writer::{Trouble, Writer},
};
use crate::{
    backoff::rest,
    waypoint::{self, Template},
};

/// How soon what failed is tried again; each failure doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// And at most.
const RETRY_AT_MOST: Duration = Duration::from_mins(5);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// These objects are to run the proxies of that Gateway, and no others.
    Run(Audience, Vec<Value>),
    /// Whatever runs them stays as it is.
    Leave(Audience),
    /// It is no waypoint of ours any more: nothing of ours is to run it.
    End(Audience),
    /// The objects that should run them cannot be made, and this is why. What runs them stays as it is.
    Fail(Audience, String),
    /// These roots verify us, as PEM: pods of waypoints mount them.
    Roots(String),
}

impl Order {
    /// What follows from a commit for one Gateway.
    pub fn of(gateway: &Audience, plan: Option<&WaypointPlan>, template: &Template) -> Self {
        let Some(plan) = plan else { return Self::End(gateway.clone()) };
        match &plan.installing {
            Installing::Ours(installation) => {
                match waypoint::objects(gateway, plan, installation, template) {
                    Ok(objects) => Self::Run(gateway.clone(), objects),
                    Err(error) => Self::Fail(gateway.clone(), format!("its objects cannot be made: {error}")),
                }
            }
            Installing::Held | Installing::Others => Self::Leave(gateway.clone()),
        }
    }
}

/// Follows `orders` until nobody gives any more, and writes while it `leads`. What keeps a Gateway's objects
/// from being what they should be is sent to `told` each time that it changes.
pub async fn run(
    client: Client,
    mut orders: UnboundedReceiver<Order>,
    mut leads: watch::Receiver<bool>,
    told: Sender<Change>,
) {
    let (tell, mut news) = channel(256);
    let mut deployer = Deployer::new(Writer::new(client), told);
    // Empty while others lead.
    let mut followers = JoinSet::new();
    loop {
        let leading = *leads.borrow_and_update();
        if leading && followers.is_empty() {
            info!("we write the objects of waypoints");
            for kind in Made::ALL {
                followers.spawn(live::follow(deployer.writer.client(), kind, tell.clone()));
            }
        } else if !leading && !followers.is_empty() {
            followers.shutdown().await;
            while news.try_recv().is_ok() {}
            deployer.rest();
        }
        tokio::select! {
            changed = leads.changed() => if changed.is_err() {
                return;
            },
            order = orders.recv() => match order {
                None => return,
                Some(order) => deployer.take(order).await,
            },
            Some((kind, news)) = news.recv() => deployer.hear(kind, news),
            // Given up in the middle where leadership ends: whoever leads next looks at all of it.
            () = deployer.due() => tokio::select! {
                biased;
                _ = leads.wait_for(|leads| !leads) => {}
                () = deployer.reconcile_next() => {}
            },
        }
    }
}

/// What should be, what is, and when to look next.
struct Deployer {
    writer: Writer,
    told: Sender<Change>,
    wanted: BTreeMap<Audience, Vec<Value>>,
    live: Live,
    roots: Roots,
    /// Which Gateways are to be looked at, and when.
    due: BTreeMap<Audience, Instant>,
    failures: BTreeMap<Audience, u32>,
    hindrances: BTreeMap<Audience, Hindrances>,
}

impl Deployer {
    fn new(writer: Writer, told: Sender<Change>) -> Self {
        Self {
            writer,
            told,
            wanted: BTreeMap::new(),
            live: Live::default(),
            roots: Roots::default(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
            hindrances: BTreeMap::new(),
        }
    }

    async fn take(&mut self, order: Order) {
        let gateway = match order {
            Order::Roots(roots) => {
                self.roots.say(roots);
                let all = self.wanted.keys().map(|gateway| (gateway.clone(), Instant::now()));
                self.due.extend(all);
                return;
            }
            Order::Run(gateway, objects) => {
                self.roots.need(&gateway, objects.first().and_then(live::owner));
                self.wanted.insert(gateway.clone(), objects);
                gateway
            }
            Order::Leave(gateway) => {
                self.wanted.remove(&gateway);
                self.due.remove(&gateway);
                // Whatever it was, it is not for us to mend any more.
                self.tell(gateway, Hindrances::default()).await;
                return;
            }
            Order::Fail(gateway, why) => {
                self.wanted.remove(&gateway);
                self.due.remove(&gateway);
                self.tell(gateway, Hindrances([why].into())).await;
                return;
            }
            Order::End(gateway) => {
                // Its owner takes them along if it is gone; if it has another class now, we do.
                self.roots.release(&gateway);
                self.wanted.insert(gateway.clone(), Vec::new());
                gateway
            }
        };
        self.failures.remove(&gateway);
        self.due.insert(gateway, Instant::now());
    }

    fn hear(&mut self, kind: Made, news: News) {
        if let News::Gone(object) = &news {
            self.writer.forget(object);
        }
        for about in self.live.take(kind, news) {
            let gateways = match about {
                About::Gateway(gateway) => vec![gateway],
                About::Namespace(namespace) => self.roots.gateways_in(&namespace).cloned().collect(),
            };
            for gateway in gateways {
                if self.wanted.contains_key(&gateway) {
                    // What others do wrong again and again must not make us faster than a failure does.
                    self.due.entry(gateway).or_insert_with(Instant::now);
                }
            }
        }
        if self.live.is_complete() {
            let idle = self.wanted.keys().filter(|gateway| !self.due.contains_key(*gateway)).cloned();
            let unseen: Vec<_> = idle.filter(|gateway| self.live.is_news_to(gateway)).collect();
            self.due.extend(unseen.into_iter().map(|gateway| (gateway, Instant::now())));
        }
    }

    /// Others write now: what we know of the world is soon not true any more.
    fn rest(&mut self) {
        self.live = Live::default();
        self.due = self.wanted.keys().map(|gateway| (gateway.clone(), Instant::now())).collect();
        self.failures.clear();
    }

    /// Waits until there is something to do. Nothing is done before all that exists is known.
    async fn due(&self) {
        match self.due.values().min() {
            Some(at) if self.live.is_complete() => sleep_until(*at).await,
            Some(_) | None => std::future::pending().await,
        }
    }

    async fn reconcile_next(&mut self) {
        let now = Instant::now();
        let next = self.due.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at);
        let Some(gateway) = next.map(|(gateway, _)| gateway.clone()) else { return };
        self.due.remove(&gateway);
        let Some(objects) = self.wanted.get(&gateway).cloned() else { return };
        let (hindered, again) = self.reconcile(&gateway, &objects).await;
        if again {
            let failures = self.failures.entry(gateway.clone()).or_default();
            let wait = rest((RETRY, RETRY_AT_MOST), *failures);
            *failures += 1;
            self.due.insert(gateway.clone(), now + wait);
        } else {
            self.failures.remove(&gateway);
            if objects.is_empty() {
                self.wanted.remove(&gateway);
            }
        }
        self.tell(gateway, Hindrances(hindered)).await;
    }

    /// Brings what is nearer to what should be. What hinders it, and whether to try again without being told.
    async fn reconcile(&mut self, gateway: &Audience, objects: &[Value]) -> (BTreeSet<String>, bool) {
        let mut hindered = BTreeSet::new();
        let mut again = false;
        let mut kept = BTreeSet::new();
        let roots = self.roots.config_map(&gateway.namespace).filter(|_| !objects.is_empty());
        for object in roots.iter().chain(objects) {
            let Some(key) = live::key(object) else { continue };
            let outcome = self.writer.make(object, self.live.get(&key)).await;
            match outcome {
                Ok(Some(written)) => {
                    debug!(%gateway, object = %key, "written");
                    self.live.put(key.clone(), written);
                }
                Ok(None) => {}
                // It is not what was seen any more: the next look finds out what it is.
                Err(Trouble::Moved) => again = true,
                Err(Trouble::Foreign) if roots::is(&key) => {
                    again = true;
                    hindered.insert(format!(
                        "{key} is not ours and is left alone; remove it, for proxies verify us by what we put there"
                    ));
                }
                Err(trouble) => {
                    again = true;
                    hindered.insert(format!("{key} {trouble}"));
                }
            }
            kept.insert(key);
        }
        let owner = objects.first().and_then(live::owner);
        let roots = roots::key(&gateway.namespace);
        let unused =
            self.live.get(&roots).filter(|_| self.roots.gateways_in(&gateway.namespace).next().is_none());
        let unused = unused.map(|object| (roots, object.clone()));
        for (key, object) in self.live.of(gateway).into_iter().chain(unused) {
            // A Gateway of the same name that was there before had objects too, and takes them along.
            let ours = owner.is_none() || owner == live::owner(&object);
            if kept.contains(&key) || !ours {
                continue;
            }
            if let Err(trouble) = self.writer.prune(&key, &object).await {
                again = true;
                hindered.insert(format!("{key} is not wanted any more and {trouble}"));
            } else {
                info!(%gateway, object = %key, "taken away");
                self.live.forget(&key);
            }
        }
        (hindered, again)
    }

    async fn tell(&mut self, gateway: Audience, hindrances: Hindrances) {
        let before = self.hindrances.get(&gateway);
        if before.is_none_or(|before| before.0.is_empty()) && hindrances.0.is_empty()
            || before == Some(&hindrances)
        {
            return;
        }
        for hindrance in &hindrances.0 {
            info!(%gateway, hindrance, "a waypoint is not run as it should be");
        }
        self.hindrances.insert(gateway.clone(), hindrances.clone());
        // Whoever listened is gone only when everything is about to end.
        self.told.send(Change::Hindered(gateway, hindrances)).await.ok();
    }
}
