//! Who a token is about: the issuer and the subject that it names.

use serde_json::{Map, Value};

use super::pattern::Text;

/// One value of `requestPrincipals` or `request.auth.principal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPrincipal {
    issuer: Text,
    subject: Text,
    /// The whole, `ISSUER/SUBJECT`, as the documentation has it. Only where a match refuses: there what
    /// is in doubt is refused.
    whole: Option<Text>,
}

impl RequestPrincipal {
    pub(crate) fn read(value: &str, refuses: bool) -> Self {
        let (issuer, subject) = apart(value);
        // A star of each part is meant to be one, although what comes after the first is no star.
        let whole = if value == "*/*" { Text::Present } else { Text::read(value) };
        Self { issuer, subject, whole: refuses.then_some(whole) }
    }

    pub(crate) fn holds(&self, claims: &Map<String, Value>) -> bool {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let (Some(issuer), Some(subject)) = (text("iss"), text("sub")) else { return false };
        let whole = || format!("{issuer}/{subject}");
        let apart = self.issuer.holds_filled(issuer) && self.subject.holds_filled(subject);
        // A star is not there for an issuer or a subject that nobody named.
        apart
            || match &self.whole {
                None => false,
                Some(text @ Text::Exact(_)) => text.holds(whole().as_bytes()),
                Some(text @ Text::Prefix(_)) => !subject.is_empty() && text.holds(whole().as_bytes()),
                Some(text @ Text::Suffix(_)) => !issuer.is_empty() && text.holds(whole().as_bytes()),
                Some(Text::Present) => !issuer.is_empty() && !subject.is_empty(),
            }
    }
}

/// Issuer and subject, apart at the last slash.
fn apart(value: &str) -> (Text, Text) {
    if value == "*" {
        return (Text::Present, Text::Present);
    }
    let exact = |text: &str| Text::Exact(text.to_owned());
    if let Some(rest) = value.strip_prefix('*') {
        return match rest.rsplit_once('/') {
            Some(("", subject)) => (Text::Present, exact(subject)),
            Some((issuer, subject)) => (Text::Suffix(issuer.to_owned()), exact(subject)),
            None => (Text::Present, Text::Suffix(rest.to_owned())),
        };
    }
    if let Some(rest) = value.strip_suffix('*') {
        return match rest.rsplit_once('/') {
            Some((issuer, "")) => (exact(issuer), Text::Present),
            Some((issuer, subject)) => (exact(issuer), Text::Prefix(subject.to_owned())),
            None => (Text::Prefix(rest.to_owned()), Text::Present),
        };
    }
    let (issuer, subject) = value.rsplit_once('/').unwrap_or((value, ""));
    (exact(issuer), exact(subject))
}
