//! The forms in which a command prints its result.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For reading.
    Yaml,
    /// For programs.
    Json,
}

/// How a list of things is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// For reading: a line each.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

impl Shape {
    /// The document that is asked for, unless it is a table.
    pub(super) const fn format(self) -> Option<Format> {
        match self {
            Self::Table => None,
            Self::Json => Some(Format::Json),
            Self::Yaml => Some(Format::Yaml),
        }
    }
}

impl Format {
    /// Prints `result` as one document that ends with a line break.
    pub(super) fn print(self, result: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
        let text = match self {
            Self::Yaml => serde_saphyr::to_string(result).map_err(io::Error::other)?,
            Self::Json => serde_json::to_string_pretty(result)?,
        };
        writeln!(out, "{}", text.trim_end_matches('\n'))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Strings that a careless printer turns into something else.
    fn tricky() -> Value {
        json!({
            "star": "*", "yes": "yes", "number": "15008", "null": "null", "empty": "", "octal": "0755",
            "colon": "a: b", "hash": "a #b", "brace": "{name: x}", "percent": "%REQ(:AUTHORITY)%",
            "lines": "one\ntwo\n", "long": "word ".repeat(60), "tab": "a\tb", "space": " a ",
            "none": {}, "nothing": [], "list": [{"a": 1, "b": [true, null]}, []], "float": 1.5,
        })
    }

    fn printed(format: Format) -> String {
        let mut out = Vec::new();
        format.print(&tricky(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_reads_back_as_what_was_printed() {
        assert_eq!(serde_json::from_str::<Value>(&printed(Format::Json)).unwrap(), tricky());
    }

    #[test]
    fn yaml_reads_back_as_what_was_printed() {
        let yaml = printed(Format::Yaml);
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), tricky(), "{yaml}");
    }
}
