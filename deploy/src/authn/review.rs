//! What the API server says of a token.

use std::{future::Future, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use parking_lot::Mutex;
use proto::Name;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::deployer::Permission;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// In `status.user.extra`: the pod that the token is bound to (Kubernetes 1.13 and newer).
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Whoever a token was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) namespace: Name,
    pub(super) account: Name,
    /// The pod that the token is bound to.
    pub(super) pod: Option<Name>,
}

/// There is no answer now. Nothing follows from it for the token.
#[derive(Debug)]
pub struct Unanswered;

/// Whom we ask about tokens.
pub trait Review: Send + Sync + 'static {
    /// What it says of `token`, as one for `audience`.
    fn review(
        &self,
        token: &str,
        audience: &str,
    ) -> impl Future<Output = Result<TokenReviewStatus, Unanswered>> + Send;
}

/// The API server of a cluster. Says once that it does not answer, and once that it does again.
pub struct ApiServer {
    reviews: Api<TokenReview>,
    wrong: Mutex<Option<String>>,
}

/// What the account needs that asks.
pub fn permissions() -> Vec<Permission> {
    vec![Permission { group: "authentication.k8s.io", resource: "tokenreviews", verbs: &["create"] }]
}

impl ApiServer {
    /// That of the cluster of `client`.
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), wrong: Mutex::new(None) }
    }

    fn tell(&self, wrong: Option<String>) {
        let mut told = self.wrong.lock();
        if *told == wrong {
            return;
        }
        if let Some(wrong) = &wrong {
            warn!("the API server does not say whose tokens those of proxies are: {wrong}");
        } else {
            info!("the API server says again whose tokens those of proxies are");
        }
        *told = wrong;
    }
}

impl Review for ApiServer {
    async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, Unanswered> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { metadata: ObjectMeta::default(), spec, status: None };
        let wrong = match timeout(PATIENCE, self.reviews.create(&PostParams::default(), &review)).await {
            Ok(Ok(TokenReview { status: Some(status), .. })) => {
                self.tell(None);
                return Ok(status);
            }
            Ok(Ok(_)) => "its answer has no status".to_owned(),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => format!(
                "{}; let our service account create tokenreviews.authentication.k8s.io, as the chart's ClusterRole does",
                status.message
            ),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        self.tell(Some(wrong));
        Err(Unanswered)
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ApiServer")
    }
}

/// Whose token it is by the server's word; else why it is nobody's.
pub(super) fn bearer(status: TokenReviewStatus, audience: &str) -> Result<Bearer, String> {
    let TokenReviewStatus { audiences, authenticated, error, user } = status;
    if authenticated != Some(true) {
        let why = error.filter(|error| !error.is_empty()).unwrap_or_else(|| "it does not say why".to_owned());
        return Err(format!(
            "the API server does not accept the token: {why}; it may be of another cluster, or its service account or pod is gone"
        ));
    }
    // One that knows nothing of audiences would accept a token that is meant for others.
    if !audiences.unwrap_or_default().iter().any(|it| it == audience) {
        return Err(format!("the API server does not say that the token is for {audience:?}"));
    }
    let user = user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let Some((namespace, account)) = account.filter(|(namespace, account)| {
        !namespace.is_empty() && !account.is_empty() && !account.contains(':')
    }) else {
        return Err(format!("the token is that of {name:?}, and proxies run as service accounts"));
    };
    let pod = user.extra.unwrap_or_default().remove(POD_NAME).and_then(|values| values.into_iter().next());
    let pod = pod.filter(|pod| !pod.is_empty()).map(Name::from);
    Ok(Bearer { namespace: namespace.into(), account: account.into(), pod })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(name: &str, audiences: &[&str]) -> TokenReviewStatus {
        let user = UserInfo { username: Some(name.to_owned()), ..UserInfo::default() };
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(audiences.iter().map(|it| (*it).to_owned()).collect()),
            user: Some(user),
            error: None,
        }
    }

    #[test]
    fn a_service_account_is_known_by_its_namespace_and_name_and_its_pod() {
        let mut status = status("system:serviceaccount:ns:waypoint", &["portolan"]);
        if let Some(user) = &mut status.user {
            user.extra = Some([(POD_NAME.to_owned(), vec!["waypoint-1".to_owned()])].into());
        }
        let expected =
            Bearer { namespace: "ns".into(), account: "waypoint".into(), pod: Some("waypoint-1".into()) };
        assert_eq!(bearer(status, "portolan"), Ok(expected));
    }

    #[test]
    fn who_is_not_vouched_for_as_a_service_account_for_us_is_nobody() {
        let name = "system:serviceaccount:ns:waypoint";
        let denied = TokenReviewStatus { authenticated: Some(false), ..status(name, &["portolan"]) };
        let silent = TokenReviewStatus { authenticated: None, ..status(name, &["portolan"]) };
        let unaware = TokenReviewStatus { audiences: None, ..status(name, &[]) };
        let mut wrong = vec![denied, silent, unaware, status(name, &["other"])];
        for name in
            ["", "admin", "system:serviceaccount:", "system:serviceaccount:ns", "system:serviceaccount::a"]
        {
            wrong.push(status(name, &["portolan"]));
        }
        for status in wrong {
            assert!(bearer(status.clone(), "portolan").is_err(), "{status:?}");
        }
    }
}
