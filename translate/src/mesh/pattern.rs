//! Strings and regular expressions that users write, in the forms that Envoy matches.

use regex_syntax::ast::{self, Ast};

/// How a string is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Any value at all, as long as there is one.
    Present,
    /// An expression of RE2 over the whole string.
    Regex(String),
}

impl Pattern {
    /// Istio's grammar: `*` alone, else `*` in front, else `*` at the end, else the very string.
    /// There is no escape, and a star elsewhere is a star.
    pub(crate) fn of_istio(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(text.to_owned())
        }
    }
}

/// The longest expression that is taken from a user, in bytes.
pub(crate) const LONGEST_REGEX: usize = 1024;

/// Quotes a user's text for RE2. Every such text goes through here.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\.+*?()|[]{}^$-#&~".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// Whether RE2 takes the expression, or why not.
///
/// Parsed by Rust's own reader, which knows everything RE2 knows and a little more; what it knows
/// more is refused, so that Envoy never refuses the resource that the expression is in.
pub(crate) fn check_regex(regex: &str) -> Result<(), String> {
    if regex.len() > LONGEST_REGEX {
        return Err(format!("the expression is longer than {LONGEST_REGEX} bytes"));
    }
    let parsed = ast::parse::Parser::new().parse(regex).map_err(|error| error.kind().to_string())?;
    ast::visit(&parsed, Re2 { size: 0 })
}

struct Re2 {
    /// A lower bound for the size of the compiled program: repetitions multiply.
    size: u64,
}

impl ast::Visitor for Re2 {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), String> {
        self.size += 1;
        match node {
            Ast::Flags(flags) => refuse_flags(&flags.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => refuse_flags(flags),
                ast::GroupKind::CaptureName { .. } | ast::GroupKind::CaptureIndex(_) => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                ast::AssertionKind::WordBoundaryStart
                | ast::AssertionKind::WordBoundaryEnd
                | ast::AssertionKind::WordBoundaryStartAngle
                | ast::AssertionKind::WordBoundaryEndAngle
                | ast::AssertionKind::WordBoundaryStartHalf
                | ast::AssertionKind::WordBoundaryEndHalf => {
                    Err("RE2 has no half word boundaries".to_owned())
                }
            },
            Ast::ClassUnicode(_) => Err("classes by Unicode property are not supported".to_owned()),
            Ast::Literal(literal) => check_literal(literal),
            Ast::Repetition(repetition) => self.check_repetition(repetition),
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassPerl(_)
            | Ast::ClassBracketed(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err("RE2 has no &&, -- or ~~ in classes".to_owned())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), String> {
        match item {
            ast::ClassSetItem::Bracketed(_) => {
                Err("RE2 has no class inside a class; write \\[ for a bracket".to_owned())
            }
            ast::ClassSetItem::Unicode(_) => Err("classes by Unicode property are not supported".to_owned()),
            ast::ClassSetItem::Literal(literal) => check_literal(literal),
            ast::ClassSetItem::Range(range) => {
                check_literal(&range.start).and_then(|()| check_literal(&range.end))
            }
            ast::ClassSetItem::Empty(_)
            | ast::ClassSetItem::Ascii(_)
            | ast::ClassSetItem::Perl(_)
            | ast::ClassSetItem::Union(_) => Ok(()),
        }
    }
}

impl Re2 {
    fn check_repetition(&mut self, repetition: &ast::Repetition) -> Result<(), String> {
        let most = match &repetition.op.kind {
            ast::RepetitionKind::Range(
                ast::RepetitionRange::Exactly(count) | ast::RepetitionRange::AtLeast(count),
            ) => *count,
            ast::RepetitionKind::Range(ast::RepetitionRange::Bounded(_, most)) => *most,
            ast::RepetitionKind::ZeroOrOne
            | ast::RepetitionKind::ZeroOrMore
            | ast::RepetitionKind::OneOrMore => 1,
        };
        // RE2 itself stops at 1000; nested counts multiply, and the limit that the bootstrap sets
        // for a compiled program is 32768.
        self.size = self.size.saturating_mul(u64::from(most.max(1)));
        if most > 100 || self.size > 10_000 {
            return Err("repeats too much; keep counts at 100 or less and do not nest them".to_owned());
        }
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err("RE2 refuses a repetition of a repetition; use a group".to_owned());
        }
        Ok(())
    }
}

fn check_literal(literal: &ast::Literal) -> Result<(), String> {
    match literal.kind {
        ast::LiteralKind::Verbatim
        | ast::LiteralKind::Meta
        | ast::LiteralKind::Superfluous
        | ast::LiteralKind::HexFixed(ast::HexLiteralKind::X)
        | ast::LiteralKind::HexBrace(ast::HexLiteralKind::X) => Ok(()),
        ast::LiteralKind::Special(ref kind) => match kind {
            ast::SpecialLiteralKind::Space => Err("RE2 has no escaped space".to_owned()),
            ast::SpecialLiteralKind::Bell
            | ast::SpecialLiteralKind::FormFeed
            | ast::SpecialLiteralKind::Tab
            | ast::SpecialLiteralKind::LineFeed
            | ast::SpecialLiteralKind::CarriageReturn
            | ast::SpecialLiteralKind::VerticalTab => Ok(()),
        },
        ast::LiteralKind::Octal => Err("octal escapes are not supported; use \\x".to_owned()),
        ast::LiteralKind::HexFixed(ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong)
        | ast::LiteralKind::HexBrace(ast::HexLiteralKind::UnicodeShort | ast::HexLiteralKind::UnicodeLong) => {
            Err("RE2 has no \\u; use \\x{...}".to_owned())
        }
    }
}

fn refuse_flags(flags: &ast::Flags) -> Result<(), String> {
    for item in &flags.items {
        match item.kind {
            ast::FlagsItemKind::Negation
            | ast::FlagsItemKind::Flag(
                ast::Flag::CaseInsensitive
                | ast::Flag::MultiLine
                | ast::Flag::DotMatchesNewLine
                | ast::Flag::SwapGreed,
            ) => {}
            ast::FlagsItemKind::Flag(ast::Flag::Unicode | ast::Flag::CRLF | ast::Flag::IgnoreWhitespace) => {
                return Err("RE2 knows the flags i, m, s and U only".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes_is_taken_and_what_it_refuses_is_refused() {
        for good in [
            "/v[0-9]+/.*",
            "(?i)abc",
            r"\d{1,3}\.\d",
            "^a|b$",
            r"[^/]+",
            r"(?P<name>x)",
            r"\x{41}",
            "[[:alpha:]]+",
            "a.c",
        ] {
            assert_eq!(check_regex(good), Ok(()), "{good}");
        }
        for bad in [
            "(",
            "a(?=b)",
            r"(a)\1",
            "(?x) a",
            "[a&&b]",
            "[a[b]]",
            r"\p{Greek}",
            "a{1001}",
            "(a{99}){99}{99}",
            "a**",
            r"\u0041",
            r"\b{start}a",
        ] {
            assert!(check_regex(bad).is_err(), "{bad}");
        }
        assert!(check_regex(&"a".repeat(LONGEST_REGEX + 1)).is_err());
    }

    #[test]
    fn a_quoted_text_matches_itself_only() {
        let text = r"a.b*c[d]{e}(f)|g^h$i\j-k#l&m~n+o?";
        assert_eq!(check_regex(&quote(text)), Ok(()));
        assert_eq!(quote("a.b"), r"a\.b");
    }

    #[test]
    fn a_star_counts_only_at_the_ends() {
        assert_eq!(Pattern::of_istio("*"), Pattern::Present);
        assert_eq!(Pattern::of_istio("*foo*"), Pattern::Suffix("foo*".into()));
        assert_eq!(Pattern::of_istio("a*"), Pattern::Prefix("a".into()));
        assert_eq!(Pattern::of_istio("a*b"), Pattern::Exact("a*b".into()));
        assert_eq!(Pattern::of_istio(""), Pattern::Exact(String::new()));
    }
}
