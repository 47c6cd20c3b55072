//! Without a cluster: whoever shows a token that we minted for the proxies of one waypoint.

use std::time::SystemTime;

use xds::{Client, Denied, Peer, Revocation};

use crate::{
    event_loop::group,
    identity::token::{TokenClaims, TokenKey},
};

/// Lets in whoever shows a token of ours, to the configuration of the gateway that the token names.
#[derive(Debug)]
pub struct BearerTokens {
    key: TokenKey,
}

impl BearerTokens {
    /// Lets in the bearers of tokens that `key` has minted.
    pub fn new(key: TokenKey) -> Self {
        Self { key }
    }

    pub(super) fn decide(&self, peer: &Peer, now: SystemTime) -> Result<Client, Denied> {
        let missing = "no bearer token was sent; start Envoy with what `portolan bootstrap` prints";
        let token = peer.token.as_deref().ok_or_else(|| Denied::Unauthenticated(missing.to_owned()))?;
        let TokenClaims { gateway, expires } =
            self.key.verify(token, now).map_err(|error| Denied::Unauthenticated(error.to_string()))?;
        // The token is all we know of a proxy, so those of one waypoint share a name.
        let groups = [group(&gateway)].into();
        let revocation = Revocation::default();
        Ok(Client { groups, name: gateway.to_string(), expires: Some(expires), revocation })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use translate::Audience;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn decide(lifetime: u64, change: impl FnOnce(String) -> Option<String>) -> Result<Client, Denied> {
        let state = tempfile::tempdir().unwrap();
        let key = TokenKey::open(state.path()).unwrap();
        let gateway = Audience { namespace: "default".into(), name: "waypoint".into() };
        let token = key.mint(&gateway, NOW + Duration::from_secs(lifetime)).as_str().to_owned();
        BearerTokens::new(key).decide(&Peer { token: change(token), ..Peer::default() }, NOW)
    }

    #[test]
    fn the_token_decides_which_gateway_and_until_when() {
        let client = decide(60, Some).unwrap();
        assert_eq!(client.groups, [xds::Group("default/waypoint".into())].into());
        assert_eq!(client.expires, Some(NOW + Duration::from_mins(1)));
    }

    #[test]
    fn a_missing_an_expired_and_a_forged_token_get_nothing() {
        let refused = [decide(60, |_| None), decide(0, Some), decide(60, |token| Some(token + "A"))];
        for verdict in refused {
            assert!(matches!(verdict, Err(Denied::Unauthenticated(_))), "{verdict:?}");
        }
    }
}
