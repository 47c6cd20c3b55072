//! The tokens that proxies have shown, and what became of them: each is asked about once, and again every few
//! minutes while somebody uses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use tokio::{
    sync::{Mutex as Turn, Semaphore, watch},
    time::sleep,
};
use tracing::info;
use xds::{Client, Denied, Group, Peer, Revocation};

use super::{
    Accounts,
    claims::Claims,
    review::{self, Bearer, Review, Unanswered},
};
use crate::event_loop::group;

/// How many reviews are under way at a time, whoever shows tokens.
const AT_A_TIME: usize = 16;

/// How long answers hold.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// That a token is good: a deleted account loses its streams within this time and [`Terms::look`].
    pub good: Duration,
    /// That it is not.
    pub bad: Duration,
    /// How often to look which answers about tokens in use are to be renewed.
    pub look: Duration,
    /// How many tokens are remembered.
    pub most: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            good: Duration::from_mins(5),
            bad: Duration::from_secs(10),
            look: Duration::from_secs(15),
            most: 50_000,
        }
    }
}

/// Lets in whoever shows a good token of a service account that runs a waypoint.
///
/// The API server is asked once for each token, however many streams show it at a time. While a stream uses
/// it, it is asked again from time to time; when it says no, or the account runs the waypoint no more, the
/// stream ends. A server that does not answer lets nobody in and ends nothing.
pub struct ReviewedTokens<R> {
    server: R,
    audience: String,
    accounts: Accounts,
    terms: Terms,
    shown: Mutex<BTreeMap<Hash, Arc<Shown>>>,
    turns: Semaphore,
}

/// Of a token, so that looking one up tells nothing about the others by the time that it takes.
type Hash = [u8; 32];

/// A token that somebody has shown.
struct Shown {
    token: String,
    expires: SystemTime,
    /// Held while the server is asked: whoever shows the same token meanwhile waits for the answer.
    answer: Turn<Option<Answer>>,
}

struct Answer {
    since: Instant,
    verdict: Result<Good, Denied>,
}

struct Good {
    bearer: Bearer,
    /// What its streams were let in for.
    granted: BTreeSet<Group>,
    /// Ends them.
    revoke: watch::Sender<bool>,
}

impl<R: Review> ReviewedTokens<R> {
    /// Asks `server` about tokens for `audience`; `accounts` says what their bearers may have.
    pub fn new(server: R, audience: &str, accounts: Accounts, terms: Terms) -> Self {
        Self {
            server,
            audience: audience.to_owned(),
            accounts,
            terms,
            shown: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
        }
    }

    /// Who shows the token, and what it may have; else why nothing.
    pub(super) async fn decide(&self, peer: &Peer, now: SystemTime) -> Result<Client, Denied> {
        let Some(token) = &peer.token else {
            return Err(Denied::Unauthenticated(format!(
                "no bearer token was sent; start Envoy with the bootstrap of its Gateway and a projected token for {:?}",
                self.audience
            )));
        };
        let Claims { expires } = Claims::read(token, &self.audience, now).map_err(Denied::Unauthenticated)?;
        let shown = self.shown(token, expires)?;
        let mut answer = shown.answer.lock().await;
        let fresh = |answer: &Answer| {
            let term = if answer.verdict.is_ok() { self.terms.good } else { self.terms.bad };
            answer.since.elapsed() < term
        };
        if !answer.as_ref().is_some_and(fresh) {
            self.ask(&shown, &mut answer).await.map_err(|Unanswered| undecided())?;
        }
        match answer.as_mut().map(|answer| &mut answer.verdict) {
            Some(Ok(good)) => self.admit(good, expires),
            Some(Err(denied)) => Err(denied.clone()),
            None => Err(undecided()),
        }
    }

    /// Goes on for ever, and ends the streams of those who should not have them any more.
    pub async fn watch_over(&self) {
        loop {
            sleep(self.terms.look).await;
            self.forget_unused(SystemTime::now());
            let all: Vec<_> = self.shown.lock().values().cloned().collect();
            for shown in all {
                // A server that does not answer is asked about the others later.
                if let Err(Unanswered) = self.look_at(&shown).await {
                    break;
                }
            }
        }
    }

    async fn look_at(&self, shown: &Shown) -> Result<(), Unanswered> {
        let mut answer = shown.answer.lock().await;
        let Some(Answer { since, verdict: Ok(good) }) = &mut *answer else { return Ok(()) };
        if good.revoke.is_closed() {
            return Ok(());
        }
        let entitled = self.accounts.gateways(&good.bearer).unwrap_or_default();
        if !good.granted.is_subset(&entitled.iter().map(group).collect()) {
            let Bearer { namespace, account, .. } = &good.bearer;
            info!(account = %format!("{namespace}/{account}"), "an account runs a waypoint no more; its streams end");
            good.end();
        }
        if since.elapsed() < self.terms.good {
            return Ok(());
        }
        self.ask(shown, &mut answer).await
    }

    /// Asks the server, and takes in what it says. Without an answer, what was known stays.
    async fn ask(&self, shown: &Shown, answer: &mut Option<Answer>) -> Result<(), Unanswered> {
        let _turn = self.turns.acquire().await.map_err(|_| Unanswered)?;
        let status = self.server.review(&shown.token, &self.audience).await?;
        let before = answer.take().and_then(|answer| answer.verdict.ok());
        let verdict = match (review::bearer(status, &self.audience), before) {
            (Ok(bearer), Some(good)) if good.bearer == bearer => Ok(good),
            (Ok(bearer), before) => {
                before.iter().for_each(Good::revoked);
                Ok(Good { bearer, granted: BTreeSet::new(), revoke: watch::Sender::new(false) })
            }
            (Err(why), before) => {
                if let Some(good) = before {
                    let Bearer { namespace, account, .. } = &good.bearer;
                    info!(account = %format!("{namespace}/{account}"), "its streams end: {why}");
                    good.revoked();
                }
                Err(Denied::Unauthenticated(why))
            }
        };
        *answer = Some(Answer { since: Instant::now(), verdict });
        Ok(())
    }

    fn admit(&self, good: &mut Good, expires: SystemTime) -> Result<Client, Denied> {
        let gateways = self.accounts.gateways(&good.bearer).map_err(Denied::Forbidden)?;
        let groups: BTreeSet<Group> = gateways.iter().map(group).collect();
        if good.revoke.is_closed() {
            good.granted.clear();
        }
        good.granted.extend(groups.iter().cloned());
        let Bearer { namespace, account, pod } = &good.bearer;
        let name = format!("{namespace}/{}", pod.as_ref().unwrap_or(account));
        let revocation = Revocation::by(good.revoke.subscribe());
        Ok(Client { groups, name, expires: Some(expires), revocation })
    }

    fn shown(&self, token: &str, expires: SystemTime) -> Result<Arc<Shown>, Denied> {
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let mut all = self.shown.lock();
        if !all.contains_key(&hash) && all.len() >= self.terms.most {
            // Whoever has a stream keeps it: strangers only push out one another.
            all.retain(|_, shown| shown.in_use());
            if all.len() >= self.terms.most {
                return Err(Denied::Undecided(
                    "too many proxies at a time; try again, or another replica".to_owned(),
                ));
            }
        }
        let shown = || Arc::new(Shown { token: token.to_owned(), expires, answer: Turn::default() });
        Ok(Arc::clone(all.entry(hash).or_insert_with(shown)))
    }

    fn forget_unused(&self, now: SystemTime) {
        let Terms { good, bad, .. } = self.terms;
        self.shown
            .lock()
            .retain(|_, shown| shown.expires > now && (shown.in_use() || shown.is_remembered(good, bad)));
    }
}

impl Shown {
    /// Whether a stream lives by it, or somebody waits for an answer.
    fn in_use(self: &Arc<Self>) -> bool {
        let streams = |answer: &Answer| answer.verdict.as_ref().is_ok_and(|good| !good.revoke.is_closed());
        self.answer.try_lock().map_or(true, |answer| answer.as_ref().is_some_and(streams))
            || Arc::strong_count(self) > 1
    }

    fn is_remembered(&self, good: Duration, bad: Duration) -> bool {
        let holds =
            |answer: &Answer| answer.since.elapsed() < if answer.verdict.is_ok() { good } else { bad };
        self.answer.try_lock().map_or(true, |answer| answer.as_ref().is_some_and(holds))
    }
}

impl Good {
    /// Ends the streams that there are; those that come are looked at anew.
    fn end(&mut self) {
        self.revoked();
        self.revoke = watch::Sender::new(false);
        self.granted.clear();
    }

    fn revoked(&self) {
        self.revoke.send_replace(true);
    }
}

fn undecided() -> Denied {
    Denied::Undecided("the API server does not say now whose token this is; try again".to_owned())
}

impl<R> fmt::Debug for ReviewedTokens<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { audience, terms, .. } = self;
        let mut out = out.debug_struct("ReviewedTokens");
        out.field("audience", audience).field("terms", terms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
