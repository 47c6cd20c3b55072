//! Service accounts with exactly the permissions that a test gives them.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::Cluster;
use crate::until;

/// How long a permission may take to be in force.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Cluster {
    /// Makes a service account without any permission.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<Account> {
        let account = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        let accounts = Api::<ServiceAccount>::namespaced(self.admin()?, namespace);
        accounts.create(&PostParams::default(), &account).await?;
        Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Gives `account` these permissions in the whole cluster, and waits until it has them.
    pub async fn grant(&self, account: &Account, rules: &[PolicyRule]) -> Result<()> {
        let name = format!("{}-{}", account.namespace, account.name);
        let role =
            ClusterRole { metadata: named(&name), rules: Some(rules.to_vec()), ..ClusterRole::default() };
        Api::all(self.admin()?).create(&PostParams::default(), &role).await?;
        let role_ref = role_ref("ClusterRole", &name);
        let binding = ClusterRoleBinding { metadata: named(&name), role_ref, subjects: account.subjects() };
        Api::all(self.admin()?).create(&PostParams::default(), &binding).await?;
        self.granted(account, rules, None).await
    }

    /// Gives `account` further permissions in the whole cluster, and waits until it has them.
    pub async fn grant_more(&self, account: &Account, rules: &[PolicyRule]) -> Result<()> {
        let existing = Api::<ClusterRole>::all(self.admin()?);
        let name = format!("{}-{}", account.namespace, account.name);
        let mut role = existing.get(&name).await?;
        role.rules.get_or_insert_default().extend_from_slice(rules);
        existing.replace(&name, &PostParams::default(), &role).await?;
        self.granted(account, rules, None).await
    }

    /// Gives `account` these permissions in `namespace` only, and waits until it has them.
    pub async fn grant_in(&self, account: &Account, namespace: &str, rules: &[PolicyRule]) -> Result<()> {
        let name = format!("{}-{}", account.namespace, account.name);
        let role = Role { metadata: named(&name), rules: Some(rules.to_vec()) };
        Api::namespaced(self.admin()?, namespace).create(&PostParams::default(), &role).await?;
        let role_ref = role_ref("Role", &name);
        let binding = RoleBinding { metadata: named(&name), role_ref, subjects: account.subjects() };
        Api::namespaced(self.admin()?, namespace).create(&PostParams::default(), &binding).await?;
        self.granted(account, rules, Some(namespace)).await
    }

    /// A token of `account`, good for `lifetime` (at least 10 minutes, says the server). Without an
    /// audience it is for the API server.
    pub async fn token(
        &self,
        account: &Account,
        audience: Option<&str>,
        lifetime: Duration,
    ) -> Result<String> {
        let spec = TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            expiration_seconds: Some(lifetime.as_secs().try_into()?),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts = Api::<ServiceAccount>::namespaced(self.admin()?, &account.namespace);
        let made = accounts.create_token_request(&account.name, &PostParams::default(), &request).await?;
        Ok(made.status.context("a token was asked for and none came")?.token)
    }

    /// A client that is `account`, for an hour.
    pub async fn client_of(&self, account: &Account) -> Result<Client> {
        self.client(&self.token(account, None, Duration::from_hours(1)).await?)
    }

    /// The server's authorizer learns of roles and bindings by watching them, a moment after they were made.
    async fn granted(&self, account: &Account, rules: &[PolicyRule], namespace: Option<&str>) -> Result<()> {
        let Some(rule) = rules.iter().find(|rule| rule.resources.is_some()) else { return Ok(()) };
        let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| list.first().cloned());
        let attributes = ResourceAttributes {
            group: first(&rule.api_groups),
            resource: first(&rule.resources),
            name: first(&rule.resource_names),
            verb: rule.verbs.first().cloned(),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..<_>::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let reviews = Api::<SelfSubjectAccessReview>::all(self.client_of(account).await?);
        until("a permission to be in force", PATIENCE, async || {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            Ok(answer.status.is_some_and(|status| status.allowed).then_some(()))
        })
        .await
    }
}

impl Account {
    // The shape that a binding has for it.
    #[allow(clippy::unnecessary_wraps, reason = "the field it is for is optional")]
    fn subjects(&self) -> Option<Vec<Subject>> {
        Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
            ..Subject::default()
        }])
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}
