//! Who a client is, and which group it may follow.

use std::{collections::BTreeSet, fmt, future::Future, net::SocketAddr, time::SystemTime};

use proto::envoy;
use tokio::sync::watch;
use tonic::Status;

use crate::Group;

/// The field of `node.metadata` in which a client says which gateway it is.
const CLAIM: &str = "GATEWAY";

/// An authenticated client. Nothing in it comes from what the client says of itself.
#[derive(Clone, Debug)]
pub struct Client {
    /// Whose resources it may have. One of them is what it gets: the one that it says it is.
    pub groups: BTreeSet<Group>,
    /// Its name in logs and in limits, for example a service account or a pod.
    pub name: String,
    /// When its credential ends. Its streams end then; it returns with a new one.
    pub expires: Option<SystemTime>,
    /// Whether its credential is taken back before that. Its streams end then too.
    pub revocation: Revocation,
}

/// Tells that a credential is not good any more, although it has not expired.
#[derive(Clone, Debug, Default)]
pub struct Revocation(Option<watch::Receiver<bool>>);

impl Revocation {
    /// The credential is taken back when `true` is sent, and never once the sender is gone.
    pub fn by(revoked: watch::Receiver<bool>) -> Self {
        Self(Some(revoked))
    }

    /// Waits until it is taken back. Safe to cancel.
    pub async fn revoked(&mut self) {
        if let Some(revoked) = &mut self.0
            && revoked.wait_for(|revoked| *revoked).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// What is known of a client before it is authenticated.
#[derive(Clone, Default)]
pub struct Peer {
    /// The bearer token of the `authorization` metadata.
    pub token: Option<String>,
    /// The client's certificate chain as DER, its own certificate first. Verified by TLS, if the
    /// server's configuration asks for client certificates; otherwise empty.
    pub certificates: Vec<Vec<u8>>,
    /// Where it connects from.
    pub address: Option<SocketAddr>,
}

/// Why a client gets nothing. The text is told to the client, so it must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It did not prove who it is. gRPC `UNAUTHENTICATED`.
    #[error("{0}")]
    Unauthenticated(String),
    /// It is known, and may not have this. gRPC `PERMISSION_DENIED`.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be decided now. gRPC `UNAVAILABLE`: the client tries again.
    #[error("{0}")]
    Undecided(String),
}

/// Decides who a client is.
pub trait Authenticate: Send + Sync + 'static {
    /// The client that `peer` is, or why it gets nothing. Called once for every stream, before
    /// anything is read from it.
    fn authenticate(&self, peer: &Peer) -> impl Future<Output = Result<Client, Denied>> + Send;
}

impl fmt::Debug for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Peer")
            .field("token", &self.token.as_ref().map(|_| "[redacted]"))
            .field("certificates", &self.certificates.len())
            .field("address", &self.address)
            .finish()
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated(message) => Self::unauthenticated(message),
            Denied::Forbidden(message) => Self::permission_denied(message),
            Denied::Undecided(message) => Self::unavailable(message),
        }
    }
}

/// The group that a stream's first request claims: a client must say which gateway it takes itself
/// for, and be entitled to it. The claim chooses among what its credential is for and adds nothing to
/// that; a wrong one is a misconfiguration that would otherwise show as another gateway's traffic.
pub(crate) fn claimed_group(
    node: Option<&envoy::core::Node>,
    groups: &BTreeSet<Group>,
) -> Result<Group, Denied> {
    match node.and_then(claim) {
        Some(claimed) => groups.iter().find(|group| *claimed == *group.0).cloned().ok_or_else(|| {
            let entitled: Vec<_> = groups.iter().map(|group| format!("{:?}", &*group.0)).collect();
            Denied::Forbidden(format!(
                "node.metadata.{CLAIM} is {:?}, but this credential is for {}; correct one of them",
                claimed.chars().take(200).collect::<String>(),
                entitled.join(" and ")
            ))
        }),
        None => Err(Denied::Forbidden(format!(
            "node.metadata.{CLAIM} is missing; the stream's first request must have it as \"namespace/name\""
        ))),
    }
}

/// Checks what a stream's first request says of the client's build: an Envoy that is too old would leave
/// out what it does not know of a message, and with it maybe a condition of a policy.
pub(crate) fn check_version(node: Option<&envoy::core::Node>) -> Result<(), Denied> {
    let (major, minor, patch) = envoy::OLDEST;
    let Some(found) = node.and_then(build_version) else {
        return Err(Denied::Forbidden(format!(
            "node.user_agent_build_version is missing; Envoy {major}.{minor}.{patch} or newer sends it"
        )));
    };
    if found < envoy::OLDEST {
        return Err(Denied::Forbidden(format!(
            "Envoy {}.{}.{} would leave out what it does not know of a policy; start {major}.{minor}.{patch} or newer",
            found.0, found.1, found.2
        )));
    }
    Ok(())
}

/// Which version it is built as, by its own word.
pub(crate) fn build_version(node: &envoy::core::Node) -> Option<(u32, u32, u32)> {
    use envoy::core::node::UserAgentVersionType::UserAgentBuildVersion;
    let Some(UserAgentBuildVersion(build)) = &node.user_agent_version_type else { return None };
    let version = build.version.as_ref()?;
    Some((version.major_number, version.minor_number, version.patch))
}

fn claim(node: &envoy::core::Node) -> Option<&str> {
    let field = node.metadata.as_ref()?.fields.get(CLAIM)?;
    let Some(envoy::value::Kind::StringValue(claimed)) = &field.kind else { return None };
    Some(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let peer = Peer { token: Some("s3cret".to_owned()), ..Peer::default() };
        assert!(!format!("{peer:?}").contains("s3cret"), "{peer:?}");
    }

    #[test]
    fn a_claim_must_be_there_and_chooses_among_what_the_credential_is_for() {
        let groups: BTreeSet<_> = ["ns/gateway", "ns/second"].map(|name| Group(name.into())).into();
        let node = |metadata| envoy::core::Node { metadata, ..envoy::core::Node::default() };
        let claims = |name| node(Some(envoy::string_struct([("GATEWAY", name)])));
        for name in ["ns/gateway", "ns/second"] {
            assert_eq!(claimed_group(Some(&claims(name)), &groups), Ok(Group(name.into())));
        }
        for refused in [Some(&claims("ns/other")), Some(&claims("")), Some(&node(None)), None] {
            assert!(matches!(claimed_group(refused, &groups), Err(Denied::Forbidden(_))));
        }
    }

    #[test]
    fn a_build_that_is_too_old_or_does_not_say_is_refused() {
        use envoy::core::node::UserAgentVersionType::{UserAgentBuildVersion, UserAgentVersion};
        let node = |said| envoy::core::Node { user_agent_version_type: said, ..envoy::core::Node::default() };
        let built = |major_number, minor_number, patch| {
            let version = Some(envoy::SemanticVersion { major_number, minor_number, patch });
            node(Some(UserAgentBuildVersion(envoy::core::BuildVersion { version, metadata: None })))
        };
        for taken in [built(1, 40, 0), built(1, 40, 3), built(1, 41, 0), built(2, 0, 0)] {
            assert_eq!(check_version(Some(&taken)), Ok(()));
        }
        let silent = node(None);
        let vague = node(Some(UserAgentVersion("1.40.0".to_owned())));
        for refused in [&built(1, 39, 9), &built(0, 99, 0), &built(0, 0, 0), &silent, &vague] {
            assert!(matches!(check_version(Some(refused)), Err(Denied::Forbidden(_))), "{refused:?}");
        }
    }
}
