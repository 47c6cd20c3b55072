//! Whether a text is like a pattern, as Envoy finds it. Nothing that is emitted depends on this: it is
//! for whoever asks why.

use std::{cell::RefCell, collections::BTreeMap};

use regex::Regex;
use regex_syntax::ast::{self, Ast};

use super::pattern::Pattern;

/// Compares, and keeps the expressions that it has compiled.
#[derive(Debug, Default)]
pub(crate) struct Expressions(RefCell<BTreeMap<String, Option<Regex>>>);

impl Expressions {
    /// Whether the whole value is like the pattern. Envoy looks at the case of letters in expressions
    /// always.
    pub(crate) fn holds(&self, pattern: &Pattern, value: &[u8], any_case: bool) -> bool {
        let folded = |text: &[u8]| if any_case { text.to_ascii_lowercase() } else { text.to_vec() };
        match pattern {
            Pattern::Exact(text) => folded(value) == folded(text.as_bytes()),
            Pattern::Prefix(text) => folded(value).starts_with(&folded(text.as_bytes())),
            Pattern::Suffix(text) => folded(value).ends_with(&folded(text.as_bytes())),
            Pattern::Present => self.matches(".+", value),
            Pattern::Regex(regex) => self.matches(regex, value),
        }
    }

    /// RE2 matches text in UTF-8, and nothing else.
    fn matches(&self, regex: &str, value: &[u8]) -> bool {
        let Ok(value) = std::str::from_utf8(value) else { return false };
        let mut known = self.0.borrow_mut();
        if !known.contains_key(regex) {
            known.insert(regex.to_owned(), compile(regex));
        }
        known.get(regex).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(value))
    }
}

/// `None` for what is no expression; nothing such is emitted.
fn compile(regex: &str) -> Option<Regex> {
    Regex::new(&format!(r"\A(?:{})\z", as_re2(regex)?)).ok()
}

/// RE2 knows only ASCII where Rust knows all of Unicode: what digits, spaces and letters of words are.
fn as_re2(regex: &str) -> Option<String> {
    let parsed = ast::parse::Parser::new().parse(regex).ok()?;
    let mut written = regex.to_owned();
    let classes = ast::visit(&parsed, Classes::default()).ok()?;
    // From the end, so that the places of the others stay.
    for (start, end, class) in classes.into_iter().rev() {
        written.replace_range(start..end, class);
    }
    Some(written)
}

/// The places of such classes and what they are to RE2, in their order.
#[derive(Default)]
struct Classes(Vec<(usize, usize, &'static str)>);

impl Classes {
    fn note(&mut self, class: &ast::ClassPerl) {
        let written = match (&class.kind, class.negated) {
            (ast::ClassPerlKind::Digit, false) => "[0-9]",
            (ast::ClassPerlKind::Digit, true) => "[^0-9]",
            (ast::ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
            (ast::ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
            (ast::ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ast::ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span.start.offset, class.span.end.offset, written));
    }
}

impl ast::Visitor for Classes {
    type Output = Vec<(usize, usize, &'static str)>;
    type Err = ();

    fn finish(self) -> Result<Self::Output, ()> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), ()> {
        if let Ast::ClassPerl(class) = node {
            self.note(class);
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), ()> {
        if let ast::ClassSetItem::Perl(class) = item {
            self.note(class);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_the_whole_text_as_re2_does() {
        let known = Expressions::default();
        let holds = |regex: &str, value: &str| {
            known.holds(&Pattern::Regex(regex.to_owned()), value.as_bytes(), false)
        };
        assert!(holds("/v[0-9]+", "/v12") && !holds("/v[0-9]+", "/v12/") && !holds("/v[0-9]+", "x/v1"));
        assert!(holds("a|bc", "bc") && !holds("a|bc", "ac"));
        assert!(holds(r"\d\w\s[\d.]", "1a .") && !holds(r"\d", "\u{663}") && !holds(r"\w", "\u{fc}"));
        assert!(holds("a.c", "a\u{fc}c") && holds(r"[^\d]\D", "\u{663}\u{663}"));
        assert!(!holds("a$", "a\n") && !holds(".", "\n"));
    }

    #[test]
    fn presence_asks_for_something() {
        let known = Expressions::default();
        assert!(known.holds(&Pattern::Present, b"x", false) && !known.holds(&Pattern::Present, b"", false));
        assert!(known.holds(&Pattern::Suffix("LOCAL".into()), b"a.local", true));
        assert!(!known.holds(&Pattern::Suffix("LOCAL".into()), b"a.local", false));
    }
}
