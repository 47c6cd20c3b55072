//! The identity of a workload: its SPIFFE ID.

use std::fmt;

use proto::Name;

use super::IdentityError;

/// The identity of a service account, `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
///
/// Its parts hold no character that has a meaning in a URI. Otherwise an account named `a/sa/b` could
/// be taken for another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: Name,
    namespace: Name,
    service_account: Name,
}

impl SpiffeId {
    /// The identity of `service_account` in `namespace`.
    pub fn new(trust_domain: &Name, namespace: &Name, service_account: &Name) -> Result<Self, IdentityError> {
        Ok(Self {
            trust_domain: plain("trust domain", trust_domain)?,
            namespace: plain("namespace", namespace)?,
            service_account: plain("service account", service_account)?,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(out, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

/// `name`, if it means nothing but itself in a URI and in a path. `what` says what it names.
pub(super) fn plain(what: &'static str, name: &Name) -> Result<Name, IdentityError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.bytes().all(is_plain) && !name.starts_with('.') && !name.is_empty() {
        return Ok(Name::clone(name));
    }
    Err(IdentityError::Name { what, name: name.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_printed_as_spiffe_has_it() {
        let id = SpiffeId::new(&"cluster.local".into(), &"webapp".into(), &"web".into()).unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/webapp/sa/web");
    }

    #[test]
    fn no_name_can_forge_another_identity() {
        for name in ["", ".", "..", "a/sa/b", "a%2Fb", "a?b", "a#b", "ä", "a b", "a\0"] {
            SpiffeId::new(&"td".into(), &"ns".into(), &name.into()).unwrap_err();
            SpiffeId::new(&"td".into(), &name.into(), &"sa".into()).unwrap_err();
            SpiffeId::new(&name.into(), &"ns".into(), &"sa".into()).unwrap_err();
        }
    }
}
