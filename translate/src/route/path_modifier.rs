//! What a rewrite or a redirect makes of a path.

use proto::envoy::matcher;

use super::matches::PathMatch;
use crate::mesh::pattern::quote;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathModifier {
    Full(String),
    /// Instead of the prefix that was matched; without a slash at the end, so empty for `/`.
    Prefix(String),
}

/// How Envoy does it.
pub(crate) enum PathChange {
    Full(String),
    /// Instead of the whole prefix that Envoy's route matches.
    Prefix(String),
    Regex(matcher::RegexMatchAndSubstitute),
}

/// What replaces a whole path or a prefix.
pub(crate) fn lower(path: Option<&str>, prefix: bool) -> Result<PathModifier, String> {
    let path = path.ok_or_else(|| "say what replaces the path".to_owned())?;
    check(path)?;
    Ok(match prefix {
        true => PathModifier::Prefix(path.trim_end_matches('/').to_owned()),
        false if path.is_empty() => PathModifier::Full("/".to_owned()),
        false => PathModifier::Full(path.to_owned()),
    })
}

/// A path that a user may ask for.
fn check(path: &str) -> Result<(), String> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains(['?', '#']);
    if plain && path.len() <= 1024 && (path.is_empty() || path.starts_with('/')) {
        Ok(())
    } else {
        Err(format!("{path:?} is not a path that starts with a slash and has neither query nor blanks"))
    }
}

impl PathModifier {
    pub(crate) const fn replaces_prefix(&self) -> bool {
        match self {
            Self::Full(_) => false,
            Self::Prefix(_) => true,
        }
    }

    /// For requests that this match found. `None` for what cannot be: a prefix where none was matched.
    pub(crate) fn change(&self, found: &PathMatch) -> Option<PathChange> {
        match (self, found) {
            (Self::Full(path), _) => Some(PathChange::Full(path.clone())),
            // The prefix of all paths ends with the slash that every path begins with.
            (Self::Prefix(new), PathMatch::Prefix(old)) if old.is_empty() => {
                Some(PathChange::Prefix(format!("{new}/")))
            }
            // Cutting a prefix off must leave exactly one slash, with and without a rest of the path.
            (Self::Prefix(new), PathMatch::Prefix(old)) if new.is_empty() => {
                Some(PathChange::Regex(substitute(format!("^{}/?", quote(old)), "/")))
            }
            (Self::Prefix(new), PathMatch::Prefix(_)) => Some(PathChange::Prefix(new.clone())),
            (Self::Prefix(_), PathMatch::Exact(_) | PathMatch::Regex(_)) => None,
        }
    }
}

/// Of a path without its query; what stands for itself in the substitution is `new`.
pub(crate) fn substitute(regex: String, new: &str) -> matcher::RegexMatchAndSubstitute {
    matcher::RegexMatchAndSubstitute {
        pattern: Some(matcher::RegexMatcher { regex, ..matcher::RegexMatcher::default() }),
        substitution: new.replace('\\', "\\\\"),
    }
}
