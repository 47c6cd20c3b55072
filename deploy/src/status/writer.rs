//! The task that writes statuses: it hears what is said and what is live, and writes what differs, at a
//! bounded pace, while it leads.

use std::{collections::BTreeMap, time::Duration};

use ::watch::Live;
use kube::Client;
use proto::{Kind, Name, ObjectRef};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use translate::{Classes, status::Status};

pub use super::ledger::Timing;
use super::{
    classes::{OwnClasses, class},
    ledger::{Ledger, Work},
    pace::Pace,
    permissions,
    server::{self, Outcome, Server, apply, make_class},
};
use crate::{backoff::rest, events::Teller};

/// The field manager of all that we say in statuses, and of nothing else that we write: where an API server
/// does not tell a status from the rest, an apply of the one would take away the other. Each revision has
/// its own, or one would take away what another says of its own Gateways.
pub fn field_manager(revision: Option<&str>) -> Name {
    match revision {
        None => "portolan.dev/status".into(),
        Some(revision) => format!("portolan.dev/status-{revision}").into(),
    }
}

/// The rests after nobody answered, and after we were told that we may not: the first, and the longest.
const AWAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const FORBIDDEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// The verbs that we use.
const PATCH: &str = "patch";
const CREATE: &str = "create";

/// What is heard.
#[derive(Debug)]
pub struct Inbox {
    /// What is to be said of objects, as it moves; `None` for nothing more.
    pub statuses: UnboundedReceiver<(ObjectRef, Option<Status>)>,
    /// What the server shows, before what is said because of it; `None` for an object that is gone.
    pub lives: UnboundedReceiver<(ObjectRef, Option<Live>)>,
    /// Whether it is ours to write.
    pub leads: watch::Receiver<bool>,
    /// Whether everything that exists has been heard of, and all has been said of it. Before that nothing is
    /// written, for what is not said yet would be taken away.
    pub complete: watch::Receiver<bool>,
}

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// As whom: [`field_manager`].
    pub manager: Name,
    /// Which classes of waypoints are ours.
    pub classes: Classes,
    /// What is waited for.
    pub timing: Timing,
    /// How many writes are on their way at once.
    pub at_once: usize,
    /// How many writes there are in a second at most, and how many may be ahead of that.
    pub per_second: u32,
    /// See [`per_second`](Self::per_second).
    pub burst: u32,
}

impl Options {
    /// Ten thousand routes that are new take less than two minutes, and an API server that serves thousands of
    /// requests in a second does not notice.
    pub fn new(classes: Classes, manager: Name) -> Self {
        let timing = Timing {
            window: Duration::from_millis(200),
            lasting: Duration::from_secs(5),
            spacing: Duration::from_secs(1),
        };
        Self { manager, classes, timing, at_once: 8, per_second: 100, burst: 100 }
    }
}

/// A request that has ended.
enum Ended {
    Write(Work, Outcome),
    Class(&'static str, Outcome),
}

/// Writes until nobody says anything any more. What somebody should hear of is told to `teller`.
pub async fn run(
    client: Client,
    options: Options,
    mut inbox: Inbox,
    teller: Option<Teller>,
) -> Result<(), JoinError> {
    let mut writer = Writer::new(client, options, teller);
    loop {
        // Asked before the rest is heard: all that was said before it became so is heard then.
        let open = *inbox.leads.borrow_and_update() && *inbox.complete.borrow_and_update();
        let now = Instant::now();
        while let Ok((object, live)) = inbox.lives.try_recv() {
            writer.ledger.see(&object, live, now);
        }
        while let Ok((object, status)) = inbox.statuses.try_recv() {
            writer.ledger.say(&object, status, now);
        }
        writer.open(open, now);
        writer.go_on(now);
        let next = writer.next(now);
        tokio::select! {
            changed = inbox.leads.changed() => if changed.is_err() { return Ok(()) },
            // Once it is so, nobody has to say so any more.
            Ok(()) = inbox.complete.changed() => {}
            heard = inbox.lives.recv() => match heard {
                Some((object, live)) => writer.ledger.see(&object, live, Instant::now()),
                None => return Ok(()),
            },
            said = inbox.statuses.recv() => match said {
                Some((object, status)) => writer.ledger.say(&object, status, Instant::now()),
                None => return Ok(()),
            },
            Some(ended) = writer.running.join_next() => match ended {
                Ok(ended) => writer.ended(ended, Instant::now()),
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error),
            },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

struct Writer {
    server: Server,
    options: Options,
    ledger: Ledger,
    classes: OwnClasses,
    pace: Pace,
    running: JoinSet<Ended>,
    open: bool,
    teller: Option<Teller>,
    /// Kinds whose statuses we may not write, until when that is not tried again.
    held: BTreeMap<Kind, Instant>,
    /// What we may not write, and how often it was tried.
    forbidden: BTreeMap<&'static str, u32>,
    /// Until when nobody is asked, because nobody answered.
    away: Option<Instant>,
    outages: u32,
}

impl Writer {
    fn new(client: Client, options: Options, teller: Option<Teller>) -> Self {
        let Options { classes, timing, per_second, burst, .. } = options;
        Self {
            server: Server { client, manager: Name::clone(&options.manager) },
            options,
            ledger: Ledger::new(classes, timing),
            classes: OwnClasses::new(classes),
            pace: Pace::new(per_second, burst, Instant::now()),
            running: JoinSet::new(),
            open: false,
            teller,
            held: BTreeMap::new(),
            forbidden: BTreeMap::new(),
            away: None,
            outages: 0,
        }
    }

    fn open(&mut self, open: bool, now: Instant) {
        if self.open == open {
            return;
        }
        self.open = open;
        if open {
            info!("we write the statuses of objects");
        } else {
            // Others write now, and what is on its way would be older than what they write.
            self.running.abort_all();
            self.classes.rest();
            (self.away, self.outages) = (None, 0);
            self.held.clear();
            self.forbidden.clear();
        }
        self.ledger.open(open, now);
    }

    /// Starts what can be started.
    fn go_on(&mut self, now: Instant) {
        if !self.open {
            return;
        }
        self.held.retain(|_, until| *until > now);
        self.away = self.away.filter(|until| *until > now);
        self.ledger.ripen(now);
        while self.away.is_none() && self.running.len() < self.options.at_once && self.pace.next(now) <= now {
            let Self { classes, ledger, server, held, running, .. } = self;
            let server = server.clone();
            if let Some(name) = classes.take(|class| ledger.is_there(class), now) {
                running.spawn(async move {
                    Ended::Class(name, make_class(&server, name, translate::CONTROLLER).await)
                });
            } else if let Some(work) = ledger.take(held, now) {
                running.spawn(async move {
                    let outcome = apply(&server, &work.object, &work.api, &work.body).await;
                    Ended::Write(work, outcome)
                });
            } else {
                return;
            }
            self.pace.spend(now);
        }
    }

    /// When there is something to do without hearing anything.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        if !self.open {
            return None;
        }
        let pace = self.pace.next(now);
        let class = self.classes.next().map(|at| at.max(pace));
        // With all hands full the next that is done wakes us.
        let is_free = self.running.len() < self.options.at_once;
        let line = self.ledger.has_work().then_some(pace);
        let work = line.into_iter().chain(class).min().filter(|_| is_free);
        let work = work.map(|at| at.max(self.away.unwrap_or(at)));
        work.into_iter().chain(self.ledger.next_due()).min()
    }

    fn ended(&mut self, ended: Ended, now: Instant) {
        match ended {
            Ended::Write(work, outcome) => {
                let Work { object, api, body: _, uid, news } = work;
                self.ledger.done(&object, &outcome, now);
                self.hear(&object, permissions::status(object.kind), PATCH, &outcome, now);
                let told = matches!(outcome, Outcome::Written(_) | Outcome::Refused(_));
                if let Some(teller) = self.teller.as_ref().filter(|_| told) {
                    let api_version = server::resource(object.kind, &api).api_version;
                    for one in news {
                        teller.tell(&object, &api_version, &uid, one);
                    }
                }
            }
            Ended::Class(name, outcome) => {
                self.classes.done(name, now);
                if let Outcome::Written(_) = &outcome {
                    info!(class = name, "the GatewayClass is made");
                }
                self.hear(&class(name), Kind::GatewayClass.plural(), CREATE, &outcome, now);
            }
        }
    }

    /// What holds for more than this one write, and what somebody should know.
    fn hear(
        &mut self,
        object: &ObjectRef,
        resource: &'static str,
        verb: &str,
        outcome: &Outcome,
        now: Instant,
    ) {
        match outcome {
            Outcome::Written(_) => {
                self.outages = 0;
                if self.forbidden.remove(resource).is_some() {
                    info!(resource, "what could not be written can be written");
                }
            }
            // It was answered.
            Outcome::Moved | Outcome::Gone => self.outages = 0,
            Outcome::Refused(why) => {
                self.outages = 0;
                warn!(%object, "the API server does not take its status, which is tried again when it changes: {why}");
            }
            Outcome::Failed(why) => {
                warn!(%object, "its status cannot be written, which is tried again: {why}");
            }
            Outcome::Forbidden(why) => {
                let times = self.forbidden.entry(resource).or_default();
                if *times == 0 {
                    let group = object.kind.group();
                    warn!(
                        "{resource} cannot be written: {why}; let our account {verb} {resource} of the API group {group:?}"
                    );
                }
                if verb == PATCH {
                    self.held.insert(object.kind, now + rest(FORBIDDEN, *times));
                }
                *times = times.saturating_add(1);
            }
            Outcome::Away(why, wait) => {
                if self.outages == 0 {
                    warn!("statuses cannot be written for now: {why}");
                }
                self.away = Some(now + wait.unwrap_or_else(|| rest(AWAY, self.outages)));
                self.outages = self.outages.saturating_add(1);
            }
        }
    }
}
