//! The documents of a manifest file, read as kubectl reads them.

use std::num::NonZeroUsize;

use serde_json::Value;
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Options};

/// A document of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Document {
    /// Its number in the file, from 1.
    pub(crate) number: NonZeroUsize,
    /// What it says; never null.
    pub(crate) content: Result<Value, SyntaxError>,
}

/// Why a document cannot be read at all.
#[derive(Debug, PartialEq)]
pub(crate) struct SyntaxError {
    /// The line in the file, from 1.
    pub(crate) line: u64,
    /// The column, from 1.
    pub(crate) column: u64,
    /// What is wrong there.
    pub(crate) message: String,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// YAML documents, separated by `---`.
    Yaml,
    /// JSON values, one after the other.
    Json,
}

/// Reads every document of `text`. Documents that hold nothing are counted and left out.
pub(crate) fn read(text: &str, syntax: Syntax) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let contents = match syntax {
        Syntax::Yaml => split(text).into_iter().map(|part| part.parse()).collect(),
        Syntax::Json => parse_json(text),
    };
    (1..)
        .filter_map(NonZeroUsize::new)
        .zip(contents)
        .filter(|(_, content)| !matches!(content, Ok(Value::Null)))
        .map(|(number, content)| Document { number, content })
        .collect()
}

/// The text of one YAML document.
struct Part<'a> {
    /// How many lines of the file come before it.
    lines_before: u64,
    text: &'a str,
}

/// Cuts a YAML stream into documents, each of which is then parsed alone: a mistake in one must not
/// hide the others. YAML forbids lines that begin with `---` or `...` within a document, even in
/// quoted and block scalars, so the cut is exact.
fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut offset) = (Some((0, 0)), 0);
    let mut close = |start: Option<(u64, usize)>, end| {
        let part = start.map(|(lines_before, start)| Part { lines_before, text: &text[start..end] });
        parts.extend(part.filter(|part| !part.is_preamble()));
    };
    for (line_number, line) in (0..).zip(text.split_inclusive('\n')) {
        let next = offset + line.len();
        if is_marker(line, "---") {
            close(start, offset);
            start = Some((line_number, offset));
        } else if is_marker(line, "...") {
            close(start, offset);
            start = Some((line_number + 1, next));
        }
        offset = next;
    }
    close(start, offset);
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

impl Part<'_> {
    /// Whether this is only what may stand before the `---` of a document: comments and directives.
    fn is_preamble(&self) -> bool {
        let is_silent = |line: &str| {
            line.starts_with('%') || matches!(line.trim_start().as_bytes().first(), None | Some(b'#'))
        };
        self.text.lines().all(is_silent)
    }

    fn parse(&self) -> Result<Value, SyntaxError> {
        serde_saphyr::from_str_with_options(self.text, options()).map_err(|error| {
            let location = error.location();
            SyntaxError {
                line: self.lines_before + location.map_or(1, |location| location.line()),
                column: location.map_or(1, |location| location.column()),
                message: DefaultMessageFormatter.format_message(error.without_snippet()).replace('\n', " "),
            }
        })
    }
}

/// kubectl reads YAML 1.1: `no` is a boolean and `0644` is octal. A key that stands twice is an error
/// here although kubectl takes the later one: in a policy, each reader would see another rule.
///
/// A file is at most 16 MiB, so what a document says itself needs no tight budget. What it says by
/// aliases does: nine lines of them can mean a billion values.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4_000_000,
            max_nodes: 2_000_000,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// After a mistake in a JSON file nobody can tell where the next value begins, so that one is the last.
fn parse_json(text: &str) -> Vec<Result<Value, SyntaxError>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.map(|value| value.map_err(|error| json_error(&error))).collect()
}

fn json_error(error: &serde_json::Error) -> SyntaxError {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let place = format!(" at line {line} column {column}");
    SyntaxError {
        line: line as u64,
        column: column as u64,
        message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Value {
        let documents = read(text, Syntax::Yaml);
        let [Document { content: Ok(value), .. }] = documents.as_slice() else {
            panic!("not one good document: {documents:?}")
        };
        value.clone()
    }

    fn numbers(text: &str) -> Vec<(usize, bool)> {
        let documents = read(text, Syntax::Yaml);
        documents.iter().map(|document| (document.number.get(), document.content.is_ok())).collect()
    }

    #[test]
    fn scalars_come_out_as_kubectl_sees_them() {
        let cases = [
            ("no", json!(false)),
            ("off", json!(false)),
            ("n", json!(false)),
            ("Yes", json!(true)),
            ("on", json!(true)),
            ("\"no\"", json!("no")),
            ("norway", json!("norway")),
            ("80", json!(80)),
            ("'80'", json!("80")),
            ("-1", json!(-1)),
            ("0644", json!(420)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1.10", json!(1.1)),
            ("22:22", json!("22:22")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("2026-01-02", json!("2026-01-02")),
            ("2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
            ("~", json!(null)),
            ("", json!(null)),
            ("|\n  a\n  b\n", json!("a\nb\n")),
            (">-\n  a\n  b\n", json!("a b")),
        ];
        for (written, expected) in cases {
            assert_eq!(yaml(&format!("x: {written}")), json!({ "x": expected }), "x: {written}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        let value = yaml("base: &b {a: 1, b: 2}\nmine:\n  <<: *b\n  b: 3\nsame: *b\n");
        assert_eq!(value["mine"], json!({"a": 1, "b": 3}));
        assert_eq!(value["same"], json!({"a": 1, "b": 2}));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let level = |level: usize| {
            let below = if level == 0 { "x".to_owned() } else { format!("*a{}", level - 1) };
            format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "))
        };
        let bomb: String = (0..9).map(level).collect();
        assert_eq!(numbers(&bomb), [(1, false)]);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        assert_eq!(numbers(&"[".repeat(100_000)), [(1, false)]);
        let json = read(&"[".repeat(100_000), Syntax::Json);
        assert!(matches!(json.as_slice(), [Document { content: Err(_), .. }]), "{json:?}");
    }

    #[test]
    fn one_anchor_may_be_used_often() {
        let uses: Vec<_> = (0..500).map(|n| format!("u{n}: *labels")).collect();
        assert_eq!(numbers(&format!("labels: &labels {{app: web}}\n{}\n", uses.join("\n"))), [(1, true)]);
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert_eq!(numbers("action: DENY\naction: ALLOW\n"), [(1, false)]);
    }

    #[test]
    fn documents_are_counted_as_yaml_counts_them() {
        assert_eq!(numbers("# first comment\n---\na: 1\n---\nb: 2\n---\n"), [(1, true), (2, true)]);
        assert_eq!(numbers("a: 1\n---\n# nothing here\n---\nb: 2\n"), [(1, true), (3, true)]);
        assert_eq!(numbers("%YAML 1.1\n---\na: 1\n...\n# between\n---\nb: 2\n"), [(1, true), (2, true)]);
        assert_eq!(numbers("a: 1\r\n---\r\nb: 2\r\n"), [(1, true), (2, true)]);
        assert_eq!(numbers("--- {a: 1}\n---\tb\n"), [(1, true), (2, true)]);
        assert_eq!(numbers("a: |\n  ---\n  b\nc: ---\n"), [(1, true)]);
        assert_eq!(numbers("\u{feff}a: 1\n"), [(1, true)]);
        assert_eq!(numbers(""), []);
    }

    #[test]
    fn a_mistake_is_placed_in_the_file_and_hides_no_other_document() {
        let documents = read("a: 1\n---\nb: 2\nc: [1\n---\nd: 4\n", Syntax::Yaml);
        assert_eq!(numbers("a: 1\n---\nb: 2\nc: [1\n---\nd: 4\n"), [(1, true), (2, false), (3, true)]);
        let Err(error) = &documents[1].content else { panic!("document 2 was read") };
        assert!((4..=5).contains(&error.line), "{error:?}");
        assert!(!error.message.contains("line"), "{error:?}");
    }

    #[test]
    fn a_tab_as_indentation_names_its_line_and_column() {
        let documents = read("a: 1\n---\nb:\n\tc: 2\n", Syntax::Yaml);
        let Err(error) = &documents[1].content else { panic!("document 2 was read") };
        assert_eq!(error.line, 4, "{error:?}");
    }

    #[test]
    fn json_values_follow_one_another_until_a_mistake() {
        let documents = read("{\"a\": 1}\n{\"b\": 2} {\"c\":\n x}", Syntax::Json);
        assert_eq!(documents[0].content, Ok(json!({"a": 1})));
        assert_eq!(documents[1].content, Ok(json!({"b": 2})));
        let expected = SyntaxError { line: 3, column: 2, message: "expected value".to_owned() };
        assert_eq!(documents[2].content, Err(expected));
        assert_eq!(documents.len(), 3);
    }
}
