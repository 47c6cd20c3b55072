//! Who the caller is: principals, namespaces, service accounts and trust domains of SPIFFE ids.

use super::pattern::Text;

const SCHEME: &str = "spiffe://";

/// What a caller has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Principal(Text),
    /// Pieces between stars.
    Namespace(Vec<String>),
    ServiceAccount {
        namespace: String,
        name: String,
    },
    TrustDomain(TrustDomain),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustDomain {
    Any,
    Exact(String),
    /// What is before the star and what is behind it.
    Around(String, String),
}

impl Who {
    pub(crate) fn holds(&self, peer: Option<&str>) -> bool {
        let Some(peer) = peer else { return false };
        let Some(name) = peer.strip_prefix(SCHEME) else {
            return matches!(self, Self::Namespace(pieces) if in_namespace(pieces, peer));
        };
        match self {
            Self::Principal(text) => text.holds(name.as_bytes()),
            Self::Namespace(pieces) => in_namespace(pieces, peer),
            Self::ServiceAccount { namespace, name: account } => is_account(name, namespace, account),
            Self::TrustDomain(TrustDomain::Any) => true,
            Self::TrustDomain(TrustDomain::Exact(domain)) => {
                name.strip_prefix(domain.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            Self::TrustDomain(TrustDomain::Around(head, tail)) => {
                let Some(rest) = name.strip_prefix(head.as_str()) else { return false };
                let tail = format!("{tail}/");
                let end = rest.find('/').map_or(rest.len(), |slash| slash + 1);
                (0..end).filter(|at| rest.is_char_boundary(*at)).any(|at| rest[at..].starts_with(&tail))
            }
        }
    }

    pub(crate) fn namespace(value: &str) -> Self {
        Self::Namespace(value.split('*').map(str::to_owned).collect())
    }

    /// `namespace/name`, or a name in the policy's namespace.
    pub(crate) fn service_account(value: &str, own: &str) -> Option<Self> {
        let (namespace, name) = value.split_once('/').unwrap_or((own, value));
        let wrong = |part: &str| part.is_empty() || part.contains(['/', '*']);
        let account = Self::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
        (!wrong(namespace) && !wrong(name) && value.len() <= 320).then_some(account)
    }

    pub(crate) fn trust_domain(value: &str) -> Option<Self> {
        let domain = match value.split_once('*') {
            Some(("", "")) => TrustDomain::Any,
            None => TrustDomain::Exact(value.to_owned()),
            Some((head, tail)) if !tail.contains('*') => {
                TrustDomain::Around(head.to_owned(), tail.to_owned())
            }
            Some(_) => return None,
        };
        Some(Self::TrustDomain(domain))
    }
}

/// `...` `/ns/` namespace `/` `...`, where stars of the namespace stand for anything.
fn in_namespace(pieces: &[String], peer: &str) -> bool {
    let mut pattern = vec![String::new()];
    pattern.extend(pieces.iter().cloned());
    let last = pattern.len() - 1;
    pattern[1] = format!("/ns/{}", pattern[1]);
    pattern[last] = format!("{}/", pattern[last]);
    pattern.push(String::new());
    // Everything between two pieces may be anything, the ends too: pieces in their order, leftmost first.
    let mut left = peer;
    pattern.iter().all(|piece| match left.find(piece.as_str()) {
        Some(at) => {
            left = &left[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// Segments between the two and behind them are allowed.
fn is_account(name: &str, namespace: &str, account: &str) -> bool {
    let marker = format!("/ns/{namespace}/");
    let starts = name.match_indices(&marker).filter(|(at, _)| *at > 0);
    let tail = format!("sa/{account}");
    starts.into_iter().any(|(at, _)| {
        let rest = &name[at + marker.len()..];
        rest.match_indices(&tail).any(|(at, _)| {
            let before = at == 0 || (at > 1 && rest[..at].ends_with('/'));
            let behind = &rest[at + tail.len()..];
            before && (behind.is_empty() || (behind.starts_with('/') && behind.len() > 1))
        })
    })
}

/// A principal under every name that its trust domain has.
pub(crate) fn aliases(value: &str, bundle: &[String]) -> Vec<String> {
    let segments: Vec<&str> = value.split('/').collect();
    let domain = segments[0];
    if segments.len() != 5 || domain == "*" || !(domain == "cluster.local" || one_of(domain, bundle)) {
        return vec![value.to_owned()];
    }
    let mut all: Vec<String> = Vec::new();
    for member in bundle {
        let kept = domain.strip_prefix('*').is_some_and(|tail| member.ends_with(tail));
        let named = if kept { value.to_owned() } else { format!("{member}{}", &value[domain.len()..]) };
        if !all.contains(&named) {
            all.push(named);
        }
    }
    all
}

fn one_of(domain: &str, bundle: &[String]) -> bool {
    let covers = |pattern: &str, text: &str| {
        pattern == "*"
            || pattern == text
            || pattern.strip_prefix('*').is_some_and(|tail| text.ends_with(tail))
            || pattern.strip_suffix('*').is_some_and(|head| text.starts_with(head))
    };
    bundle.iter().any(|member| covers(member, domain) || covers(domain, member))
}
