//! What a policy says of trust domains, and what that means in a mesh with aliases of its own.
//!
//! Istio: a principal of the mesh's trust domain, or of `cluster.local`, stands for the same one in all
//! trust domains of the mesh; a trust domain of the mesh stands for all of them.

use std::sync::Arc;

use super::{Clause, Judgement, Rule, Source};
use crate::mesh::{
    mesh_config::Trust,
    pattern::{Pattern, quote},
};

/// A text of a policy that names a trust domain, or might.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Trusted {
    /// `principals`: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, with a star at one end.
    Principal(String),
    /// The same behind `spiffe://`, which no policy writes: it means nobody, unless those who are meant
    /// are the worse off for it.
    Uri { principal: String, refuses: bool },
    /// `trustDomains`: with at most one star.
    Domain(String),
}

impl Trusted {
    /// What it means as it is written.
    pub(crate) fn pattern(&self) -> Pattern {
        match self {
            Self::Uri { principal, refuses: true } => Self::Principal(principal.clone()).pattern(),
            // No trust domain ends with a colon.
            Self::Uri { refuses: false, .. } => Pattern::Exact("spiffe://spiffe://".to_owned()),
            Self::Principal(text) => match Pattern::of_istio(text) {
                Pattern::Exact(exact) => Pattern::Exact(format!("spiffe://{exact}")),
                Pattern::Prefix(prefix) => Pattern::Prefix(format!("spiffe://{prefix}")),
                Pattern::Suffix(suffix) => Pattern::Regex(format!("spiffe://.*{}", quote(&suffix))),
                // Presence of an identity; Envoy's own presence would count the dash that stands for none.
                Pattern::Present | Pattern::Regex(_) => Pattern::Prefix("spiffe://".to_owned()),
            },
            Self::Domain(text) => match text.split_once('*') {
                _ if text == "*" => Pattern::Prefix("spiffe://".to_owned()),
                None => Pattern::Prefix(format!("spiffe://{text}/")),
                Some((head, tail)) => {
                    Pattern::Regex(format!("spiffe://{}[^/]*{}/.*", quote(head), quote(tail)))
                }
            },
        }
    }

    /// What it means in a mesh of these trust domains: any of them. Never nothing.
    fn patterns(&self, trust: &Trust) -> Vec<Pattern> {
        let mut meant: Vec<Self> = match self {
            Self::Principal(text) | Self::Uri { principal: text, refuses: true } => {
                principals(text, trust).into_iter().map(Self::Principal).collect()
            }
            Self::Domain(text) if trust.domains().any(|domain| **domain == **text) => {
                trust.domains().map(|domain| Self::Domain(domain.to_string())).collect()
            }
            Self::Uri { .. } | Self::Domain(_) => vec![self.clone()],
        };
        meant.sort_unstable();
        meant.dedup();
        meant.iter().map(Self::pattern).collect()
    }
}

/// The principals that one stands for. Only a text of five segments names a trust domain for sure.
fn principals(text: &str, trust: &Trust) -> Vec<String> {
    let as_written = || vec![text.to_owned()];
    let Some((domain, rest)) = text.split_once('/').filter(|(_, rest)| rest.split('/').count() == 4) else {
        return as_written();
    };
    let is_ours = |of_mesh: &str| match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
        (Some(tail), _) => of_mesh.ends_with(tail),
        (None, Some(head)) => of_mesh.starts_with(head),
        (None, None) => of_mesh == domain,
    };
    if domain == "*" || !(domain == "cluster.local" || trust.domains().any(|of_mesh| is_ours(of_mesh))) {
        return as_written();
    }
    let in_each = trust.domains().map(|of_mesh| match domain.strip_prefix('*') {
        Some(tail) if of_mesh.ends_with(tail) => text.to_owned(),
        Some(_) | None => format!("{of_mesh}/{rest}"),
    });
    in_each.collect()
}

impl Judgement {
    /// Whether the trust domains of the mesh have a say in what it means.
    pub(crate) fn asks_for_trust(&self) -> bool {
        let sources = self.rules.iter().flat_map(|rule| rule.from.iter().flatten().chain(&rule.when_source));
        sources.flat_map(|clause| &clause.any).any(|test| matches!(test, Source::Trusted(_)))
    }

    /// The judgement with its meaning in a mesh of these trust domains.
    pub(crate) fn trusting(self: &Arc<Self>, trust: &Trust) -> Arc<Self> {
        if !self.asks_for_trust() {
            return Arc::clone(self);
        }
        let rules = self.rules.iter().map(|rule| Rule {
            from: rule.from.iter().map(|clauses| trusting(clauses, trust)).collect(),
            when_source: trusting(&rule.when_source, trust),
            ..rule.clone()
        });
        Arc::new(Self { rules: rules.collect(), ..Self::clone(self) })
    }
}

fn trusting(clauses: &[Clause<Source>], trust: &Trust) -> Vec<Clause<Source>> {
    let meant = |test: &Source| match test {
        Source::Trusted(text) => Source::Meant(text.patterns(trust)),
        Source::Identity(_)
        | Source::Meant(_)
        | Source::Ip(_)
        | Source::RemoteIp(_)
        | Source::DestinationIp(_)
        | Source::Header { .. }
        | Source::Metadata { .. }
        | Source::Claims(_) => test.clone(),
    };
    let clause =
        |clause: &Clause<Source>| Clause { any: clause.any.iter().map(meant).collect(), ..clause.clone() };
    clauses.iter().map(clause).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(text: &str, own: &str, aliases: &[&str]) -> Vec<String> {
        let aliases = aliases.iter().map(|alias| (*alias).into()).collect();
        let mut meant = principals(text, &Trust { own: own.into(), aliases });
        meant.sort();
        meant.dedup();
        meant
    }

    #[test]
    fn a_principal_of_the_mesh_is_meant_in_every_trust_domain_of_it() {
        let both = ["new/ns/a/sa/b", "old/ns/a/sa/b"];
        for of_mesh in ["new/ns/a/sa/b", "old/ns/a/sa/b", "cluster.local/ns/a/sa/b", "o*/ns/a/sa/b"] {
            assert_eq!(meant(of_mesh, "new", &["old"]), both, "{of_mesh}");
        }
        for other in ["elsewhere/ns/a/sa/b", "new/ns/a/*", "*/ns/a/sa/b", "*", "new/ns/a/sa/b/c", "new"] {
            assert_eq!(meant(other, "new", &["old"]), [other], "{other}");
        }
        assert_eq!(meant("*w/ns/a/sa/b", "new", &["old"]), ["*w/ns/a/sa/b", "old/ns/a/sa/b"]);
        assert_eq!(meant("new/ns/a/sa/*", "new", &["old"]), ["new/ns/a/sa/*", "old/ns/a/sa/*"]);
        assert_eq!(meant("cluster.local/ns/a/sa/b", "new", &[]), ["new/ns/a/sa/b"]);
    }

    #[test]
    fn a_trust_domain_of_the_mesh_is_all_of_them() {
        let trust = Trust { own: "new".into(), aliases: vec!["old".into()] };
        let patterns = |text: &str| Trusted::Domain(text.to_owned()).patterns(&trust);
        let prefix = |domain: &str| Pattern::Prefix(format!("spiffe://{domain}/"));
        assert_eq!(patterns("old"), [prefix("new"), prefix("old")]);
        assert_eq!(patterns("cluster.local"), [prefix("cluster.local")]);
        assert_eq!(patterns("n*"), [Pattern::Regex("spiffe://n[^/]*/.*".to_owned())]);
    }
}
