//! What a client says in a rejection, made fit to be logged and shown.

/// How much of it is kept, in characters.
const SHOWN: usize = 300;

/// How much of it is looked at, in bytes. Envoy may print a whole resource, of megabytes.
const READ: usize = 16 * 1024;

/// Fields whose value may be a key, a token or a password.
const SECRET_FIELDS: [&str; 6] =
    ["inline_bytes", "inline_string", "inlineBytes", "inlineString", "private_key", "password"];

const REDACTED: &str = "[redacted]";

/// One line of at most about 300 characters, without anything that looks like a secret: values of
/// fields that carry inline data, PEM blocks, and long runs of base64.
pub(crate) fn redact(message: &str) -> String {
    let message = &message[..message.floor_char_boundary(READ)];
    let mut out = String::new();
    let mut rest = message;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("-----BEGIN") {
            out.push_str(REDACTED);
            rest = after_pem(rest);
        } else if let Some(field) = SECRET_FIELDS.iter().find(|field| rest.starts_with(**field)) {
            out.push_str(field);
            rest = &rest[field.len()..];
            if let Some((between, after)) = quoted_value(rest) {
                out.push_str(between);
                out.push_str(REDACTED);
                rest = after;
            }
        } else if let Some(length) = encoded_run(rest) {
            out.push_str(REDACTED);
            rest = &rest[length..];
        } else if next.is_ascii_alphanumeric() {
            // A whole word at once, so that a run is only ever recognized from its beginning.
            let word = rest.find(|c: char| !is_encoded(c)).unwrap_or(rest.len()).max(1);
            let word =
                SECRET_FIELDS.iter().filter_map(|field| rest[..word].find(field)).min().unwrap_or(word);
            out.push_str(&rest[..word]);
            rest = &rest[word..];
        } else {
            out.push(if next.is_control() { ' ' } else { next });
            rest = &rest[next.len_utf8()..];
        }
    }
    shorten(&out)
}

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What follows a PEM block; nothing, if it does not end.
fn after_pem(text: &str) -> &str {
    let Some(end) = text.find("-----END") else { return "" };
    let tail = &text[end + "-----END".len()..];
    tail.find("-----").map_or("", |dashes| &tail[dashes + "-----".len()..])
}

/// The text between a field's name and its quoted value, and what follows the value. The value may
/// be cut off; then everything is part of it.
fn quoted_value(text: &str) -> Option<(&str, &str)> {
    // In JSON the field's own closing quote comes first.
    let value = text.trim_start_matches('\\').strip_prefix(['"', '\'']).unwrap_or(text);
    let value = value.trim_start().trim_start_matches([':', '=']).trim_start().trim_start_matches('\\');
    let mark = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let before = &text[..text.len() - value.len()];
    let value = &value[mark.len_utf8()..];
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        if c == mark && !escaped {
            return Some((before, &value[at + c.len_utf8()..]));
        }
        escaped = c == '\\' && !escaped;
    }
    Some((before, ""))
}

/// How long the run of base64 or hexadecimal is that `text` begins with, if it is as long as a key.
/// Names of clusters are long too, but have dots, dashes or bars in them, or no digits.
fn encoded_run(text: &str) -> Option<usize> {
    let run = text.find(|c: char| !is_encoded(c)).unwrap_or(text.len());
    let run_text = &text[..run];
    let mixed = run_text.contains(|c: char| c.is_ascii_digit())
        && run_text.contains(|c: char| c.is_ascii_alphabetic());
    (run >= 40 && mixed).then_some(run)
}

fn is_encoded(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_survives() {
        let said = "Error adding/updating cluster(s) outbound|9080||reviews.bookinfo.svc.cluster.local: unknown extension 'envoy.foo'";
        assert_eq!(redact(said), said);
    }

    #[test]
    fn a_dumped_secret_does_not() {
        let said = "Proto constraint validation failed (Secret.Name: too short): name: \"default\" tls_certificate {\n  \
             private_key {\n    inline_string: \"MIIE \\\"quoted\\\" abc\"\n  }\n password { inline_bytes: \"\\001\\002\" } } end";
        assert_eq!(
            redact(said),
            "Proto constraint validation failed (Secret.Name: too short): name: \"default\" tls_certificate { \
             private_key { inline_string: [redacted] } password { inline_bytes: [redacted] } } end"
        );
    }

    #[test]
    fn a_value_that_is_cut_off_is_a_value() {
        assert_eq!(redact("bad: inline_bytes: \"abcdef"), "bad: inline_bytes: [redacted]");
        assert_eq!(redact("{\"inlineString\":\"abc\"}"), "{\"inlineString\":[redacted]}");
    }

    #[test]
    fn pem_and_long_runs_are_never_shown() {
        let pem = "x -----BEGIN PRIVATE KEY-----\nMIIB\nabc=\n-----END PRIVATE KEY----- y";
        assert_eq!(redact(pem), "x [redacted] y");
        assert_eq!(redact("x -----BEGIN PRIVATE KEY-----\nMIIB"), "x [redacted]");
        let run = format!("token {} end", "aB3".repeat(20));
        assert_eq!(redact(&run), "token [redacted] end");
    }

    #[test]
    fn a_message_is_one_short_line() {
        let shown = redact(&"words and\nmore ".repeat(10_000));
        assert_eq!(shown.chars().count(), SHOWN + 1);
        assert!(!shown.contains('\n'));
        assert_eq!(redact(&"é".repeat(20_000)).chars().count(), SHOWN + 1);
    }
}
