//! What a verified token says about who asks: `requestPrincipals` and the `request.auth` conditions.
//!
//! Claims are asked where Envoy's token filter left them. A request without a token has none, so it
//! satisfies no value and every `not` form.

use proto::envoy::{matcher, rbac};
use serde_json::{Map, Value as Json};

use super::{
    Source,
    matcher::string,
    source::{Place, bounded},
};
use crate::{
    mesh::{expression::Expressions, pattern::Pattern},
    policy::authentication::{METADATA, PAYLOAD},
};

/// One claim that has to have a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    /// The names that lead to it.
    path: Vec<String>,
    value: Pattern,
    /// Whether a list with such an item will do.
    or_list: bool,
}

/// `requestPrincipals` and `request.auth.principal`: `ISSUER/SUBJECT`, with a star at one end.
///
/// As Istio has it, the last slash is the one between the two, so a subject with a slash of its own
/// is never meant and a star reaches over no slash. A value that refuses matches what the
/// documentation says it means as well: the two joined by a slash, compared as one text.
pub(super) fn request_principal(place: &Place<'_>, text: &str) -> Result<Source, String> {
    bounded(text)?;
    let mut ways = vec![as_istio(text)];
    if place.refuses {
        ways.extend(as_documented(text));
    }
    ways.dedup();
    Ok(Source::Claims(ways))
}

fn as_istio(text: &str) -> Vec<Claim> {
    let (issuer, subject) = text.rsplit_once('/').map_or((text, None), |(iss, sub)| (iss, Some(sub)));
    let exact = |text: &str| Pattern::Exact(text.to_owned());
    match (issuer, subject) {
        ("*", None) => both(Pattern::Present, Pattern::Present),
        (text, None) => match Pattern::of_istio(text) {
            suffix @ Pattern::Suffix(_) => both(Pattern::Present, suffix),
            prefix @ Pattern::Prefix(_) => both(prefix, Pattern::Present),
            whole @ (Pattern::Exact(_) | Pattern::Present | Pattern::Regex(_)) => both(whole, exact("")),
        },
        (issuer, Some(subject)) if issuer.starts_with('*') => both(Pattern::of_istio(issuer), exact(subject)),
        (issuer, Some(subject)) if subject.ends_with('*') => {
            let subject = subject.strip_suffix('*').unwrap_or_default();
            let subject =
                if subject.is_empty() { Pattern::Present } else { Pattern::Prefix(subject.to_owned()) };
            both(exact(issuer), subject)
        }
        (issuer, Some(subject)) => both(exact(issuer), exact(subject)),
    }
}

/// Every way to read the text as an issuer, a slash and a subject.
fn as_documented(text: &str) -> Vec<Vec<Claim>> {
    let exact = |text: &str| Pattern::Exact(text.to_owned());
    let slashes: Vec<_> = text.match_indices('/').map(|(at, _)| (&text[..at], &text[at + 1..])).collect();
    match Pattern::of_istio(text) {
        Pattern::Exact(_) => {
            slashes.into_iter().map(|(issuer, subject)| both(exact(issuer), exact(subject))).collect()
        }
        // The star may end within the issuer, or within the subject.
        Pattern::Prefix(prefix) => {
            let split =
                slashes.into_iter().map(|(issuer, subject)| both(exact(issuer), Pattern::of_istio(subject)));
            split.chain([both(Pattern::Prefix(prefix), Pattern::Present)]).collect()
        }
        Pattern::Suffix(suffix) if suffix == "/*" => vec![both(Pattern::Present, Pattern::Present)],
        Pattern::Suffix(suffix) => {
            let split =
                slashes.into_iter().map(|(issuer, subject)| both(Pattern::of_istio(issuer), exact(subject)));
            split.chain([both(Pattern::Present, Pattern::Suffix(suffix))]).collect()
        }
        Pattern::Present | Pattern::Regex(_) => Vec::new(),
    }
}

/// Both are text and never lists: Envoy takes no token where they are something else.
fn both(issuer: Pattern, subject: Pattern) -> Vec<Claim> {
    [("iss", issuer), ("sub", subject)]
        .map(|(name, value)| Claim { path: vec![name.to_owned()], value, or_list: false })
        .into()
}

/// The claim that the key of a condition is about, by the names that lead to it.
pub(super) fn claim_key(key: &str) -> Option<Result<Vec<String>, String>> {
    match key {
        "request.auth.audiences" => return Some(Ok(vec!["aud".to_owned()])),
        "request.auth.presenter" => return Some(Ok(vec!["azp".to_owned()])),
        _ => {}
    }
    let brackets = key.strip_prefix("request.auth.claims")?;
    let wrong =
        || format!("{key:?} is not a key as in request.auth.claims[iss] or request.auth.claims[a][b]");
    let Some(inside) = brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return Some(Err(wrong()));
    };
    let names: Vec<&str> = inside.split("][").collect();
    // A name may hold brackets, and then it is one name.
    let names = if names.iter().any(|name| name.contains(['[', ']'])) { vec![inside] } else { names };
    if names.iter().any(|name| bounded(name).is_err()) {
        return Some(Err(wrong()));
    }
    Some(Ok(names.into_iter().map(str::to_owned).collect()))
}

/// A value of a condition on a claim: the claim is that text, or a list with it.
pub(super) fn claim(path: &[String], text: &str) -> Result<Source, String> {
    bounded(text)?;
    let claim = Claim { path: path.to_vec(), value: Pattern::of_istio(text), or_list: true };
    Ok(Source::Claims(vec![vec![claim]]))
}

/// The condition that one of `ways` holds with all of its claims.
pub(super) fn identifier(ways: &[Vec<Claim>]) -> rbac::principal::Identifier {
    use rbac::principal::Identifier;
    let set = |ids: Vec<Identifier>| rbac::principal::Set {
        ids: ids.into_iter().map(|id| rbac::Principal { identifier: Some(id) }).collect(),
    };
    let mut ways = ways.iter().map(|claims| {
        let mut claims = claims.iter().map(metadata).collect::<Vec<_>>();
        match (claims.pop(), claims.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                claims.push(last);
                Identifier::AndIds(set(claims))
            }
            // Nothing that has to hold holds.
            (None, _) => Identifier::Any(true),
        }
    });
    match (ways.next(), ways.len()) {
        (Some(only), 0) => only,
        (first, _) => Identifier::OrIds(set(first.into_iter().chain(ways).collect())),
    }
}

impl Claim {
    /// Whether a token with these claims says so.
    pub(super) fn is_said(&self, claims: Option<&Map<String, Json>>, expressions: &Expressions) -> bool {
        let like = |said: &Json| {
            said.as_str().is_some_and(|said| expressions.holds(&self.value, said.as_bytes(), false))
        };
        claims.and_then(|claims| self.said(claims)).is_some_and(|said| match said {
            Json::Array(list) => self.or_list && list.iter().any(like),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => like(said),
        })
    }

    /// What a token says where the claims of a test look.
    pub(super) fn found(asked: &[Self], claims: &Map<String, Json>) -> String {
        let found = asked.iter().map(|claim| {
            let said = claim.said(claims).map_or_else(|| "nothing".to_owned(), Json::to_string);
            format!("{} {said}", claim.path.join("."))
        });
        found.collect::<Vec<_>>().join(", ")
    }

    fn said<'c>(&self, claims: &'c Map<String, Json>) -> Option<&'c Json> {
        let (first, rest) = self.path.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |said, name| said.as_object()?.get(name))
    }
}

fn metadata(claim: &Claim) -> rbac::principal::Identifier {
    use matcher::{
        list_matcher, metadata_matcher::PathSegment, metadata_matcher::path_segment, value_matcher,
    };
    let text = || matcher::ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(string(&claim.value, false))),
    };
    let value = if claim.or_list {
        let item = Box::new(text());
        let list = matcher::ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(item)) };
        let list = value_matcher::MatchPattern::ListMatch(Box::new(list));
        let list = matcher::ValueMatcher { match_pattern: Some(list) };
        let either = matcher::OrMatcher { value_matchers: vec![list, text()] };
        matcher::ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(either)) }
    } else {
        text()
    };
    let names = [PAYLOAD].into_iter().chain(claim.path.iter().map(String::as_str));
    rbac::principal::Identifier::SourcedMetadata(rbac::SourcedMetadata {
        metadata_matcher: Some(matcher::MetadataMatcher {
            filter: METADATA.to_owned(),
            path: names
                .map(|name| PathSegment { segment: Some(path_segment::Segment::Key(name.to_owned())) })
                .collect(),
            value: Some(value),
            invert: false,
        }),
        metadata_source: rbac::MetadataSource::Dynamic.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_split_at_its_last_slash() {
        use Pattern::{Exact, Prefix, Present, Suffix};
        let exact = |text: &str| Exact(text.to_owned());
        for (text, issuer, subject) in [
            ("https://i.example/alice", exact("https://i.example"), exact("alice")),
            ("issuer", exact("issuer"), exact("")),
            ("i/x/y", exact("i/x"), exact("y")),
            ("*", Present, Present),
            ("*/alice", Present, exact("alice")),
            ("*.example/alice", Suffix(".example".into()), exact("alice")),
            ("*ice", Present, Suffix("ice".into())),
            ("i/*", exact("i"), Present),
            ("i/al*", exact("i"), Prefix("al".into())),
            ("iss*", Prefix("iss".into()), Present),
            ("*/*", Present, exact("*")),
        ] {
            assert_eq!(as_istio(text), both(issuer, subject), "{text}");
        }
    }

    #[test]
    fn brackets_lead_to_a_claim() {
        let names = |names: &[&str]| Some(Ok(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(claim_key("request.auth.claims[a][b]"), names(&["a", "b"]));
        assert_eq!(claim_key("request.auth.claims[https://x.io/roles]"), names(&["https://x.io/roles"]));
        assert_eq!(claim_key("request.auth.claims[a[b]]"), names(&["a[b]"]));
        assert_eq!(claim_key("request.auth.claims[a]x[b]"), names(&["a]x[b"]));
        assert_eq!(claim_key("request.auth.presenter"), names(&["azp"]));
        assert_eq!(claim_key("request.headers[a]"), None);
        for wrong in ["", "a", "[]", "[a][]", "[][a]", "[a", "[a]b"] {
            assert!(claim_key(&format!("request.auth.claims{wrong}")).unwrap().is_err(), "{wrong}");
        }
    }
}
