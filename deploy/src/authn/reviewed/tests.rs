//! What is asked of the API server, how often, and what follows from its answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{FutureExt, future::join_all};
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use serde_json::json;
use translate::{Audience, Installing, WaypointPlan};

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// Vouches for every token as that of `ns/waypoint`, or for none, or says nothing.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
    says: Mutex<Option<bool>>,
}

impl Review for Arc<Fake> {
    async fn review(&self, _: &str, audience: &str) -> Result<TokenReviewStatus, Unanswered> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // Others come while this one is asked.
        tokio::task::yield_now().await;
        let authenticated = self.says.lock().ok_or(Unanswered)?;
        let username = Some("system:serviceaccount:ns:waypoint".to_owned());
        Ok(TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(vec![audience.to_owned()]),
            user: Some(UserInfo { username, ..UserInfo::default() }),
            error: None,
        })
    }
}

struct Rig {
    server: Arc<Fake>,
    accounts: Accounts,
    tokens: ReviewedTokens<Arc<Fake>>,
}

impl Rig {
    fn new(terms: Terms) -> Self {
        let (server, accounts) = (Arc::<Fake>::default(), Accounts::default());
        *server.says.lock() = Some(true);
        accounts.set(&gateway(), Some(&plan("waypoint")));
        let tokens = ReviewedTokens::new(Arc::clone(&server), "portolan", accounts.clone(), terms);
        Self { server, accounts, tokens }
    }

    async fn decide(&self, number: u32) -> Result<Client, Denied> {
        let payload = json!({"aud": ["portolan"], "exp": 60, "jti": number}).to_string();
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        self.tokens.decide(&Peer { token: Some(token), ..Peer::default() }, NOW).await
    }

    fn asked(&self) -> usize {
        self.server.asked.load(Ordering::Relaxed)
    }

    async fn look(&self) {
        let all: Vec<_> = self.tokens.shown.lock().values().cloned().collect();
        for shown in all {
            self.tokens.look_at(&shown).await.ok();
        }
    }
}

fn gateway() -> Audience {
    Audience { namespace: "ns".into(), name: "waypoint".into() }
}

fn plan(account: &str) -> WaypointPlan {
    WaypointPlan {
        service_account: account.into(),
        trust_domain_aliases: Vec::new(),
        anchors: Arc::default(),
        installing: Installing::Held,
    }
}

fn is_revoked(client: &mut Client) -> bool {
    client.revocation.revoked().now_or_never().is_some()
}

/// Answers that are never good for the next one.
const ZERO: Terms = Terms { good: Duration::ZERO, bad: Duration::ZERO, look: Duration::ZERO, most: 9 };

#[tokio::test]
async fn a_token_is_asked_about_once_however_many_show_it() {
    let rig = Rig::new(Terms::default());
    let clients = join_all((0..9).map(|_| rig.decide(1))).await;
    for client in clients {
        let client = client.unwrap();
        assert_eq!(client.groups, [Group("ns/waypoint".into())].into());
        assert_eq!(client.expires, Some(NOW + Duration::from_mins(1)));
    }
    assert_eq!(rig.asked(), 1);
    rig.decide(2).await.unwrap();
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn a_refused_token_is_not_asked_about_each_time() {
    let rig = Rig::new(Terms::default());
    *rig.server.says.lock() = Some(false);
    for _ in 0..3 {
        assert!(matches!(rig.decide(1).await, Err(Denied::Unauthenticated(_))));
    }
    assert_eq!(rig.asked(), 1);
    let rig = Rig::new(ZERO);
    *rig.server.says.lock() = Some(false);
    rig.decide(1).await.unwrap_err();
    *rig.server.says.lock() = Some(true);
    rig.decide(1).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_lets_nobody_in_and_ends_nothing() {
    let rig = Rig::new(ZERO);
    let mut open = rig.decide(1).await.unwrap();
    *rig.server.says.lock() = None;
    rig.look().await;
    assert!(!is_revoked(&mut open));
    for number in [1, 2] {
        assert!(matches!(rig.decide(number).await, Err(Denied::Undecided(_))));
    }
    *rig.server.says.lock() = Some(true);
    rig.look().await;
    rig.decide(1).await.unwrap();
    assert!(!is_revoked(&mut open));
}

#[tokio::test]
async fn what_is_not_good_any_more_ends_its_streams() {
    let rig = Rig::new(ZERO);
    let mut open = rig.decide(1).await.unwrap();
    rig.look().await;
    assert!(!is_revoked(&mut open));
    *rig.server.says.lock() = Some(false);
    rig.look().await;
    assert!(is_revoked(&mut open));
}

#[tokio::test]
async fn who_runs_the_waypoint_no_more_loses_its_streams_and_is_refused() {
    let rig = Rig::new(Terms::default());
    let mut open = rig.decide(1).await.unwrap();
    rig.accounts.set(&gateway(), Some(&plan("another")));
    rig.look().await;
    assert!(is_revoked(&mut open));
    assert!(matches!(rig.decide(1).await, Err(Denied::Forbidden(_))));
    rig.accounts.set(&gateway(), Some(&plan("waypoint")));
    assert!(!is_revoked(&mut rig.decide(1).await.unwrap()), "it was given back");
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn strangers_push_out_one_another_and_nobody_who_has_a_stream() {
    let rig = Rig::new(Terms { most: 3, ..Terms::default() });
    let open = rig.decide(0).await.unwrap();
    for number in 1..20 {
        drop(rig.decide(number).await.unwrap());
        assert!(rig.tokens.shown.lock().len() <= 3);
    }
    let asked = rig.asked();
    rig.decide(0).await.unwrap();
    assert_eq!(rig.asked(), asked, "it was forgotten");
    drop(open);
    rig.tokens.forget_unused(NOW + Duration::from_mins(1));
    assert!(rig.tokens.shown.lock().is_empty(), "they have expired");
}
