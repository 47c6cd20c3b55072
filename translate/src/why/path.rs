//! What becomes of a request's path before anything looks at it, as Envoy normalizes paths.

use crate::mesh::mesh_config::Normalization;

/// Characters besides the controls that a path holds escaped only.
const ESCAPED: &[u8] = b" \"<>^`{|}";

/// The path that policies, routes and backends see, with its query.
pub(super) fn normalized(path: &str, how: Normalization) -> String {
    let (bare, rest) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let bare = match how {
        Normalization::None => return path.to_owned(),
        Normalization::Base | Normalization::MergeSlashes => bare.to_owned(),
        Normalization::DecodeAndMergeSlashes => ["%2F", "%2f", "%5C", "%5c"]
            .iter()
            .fold(bare.to_owned(), |bare, escape| bare.replace(escape, "/")),
    };
    let mut bare = without_dots(&escaped(&bare.replace('\\', "/")));
    if how >= Normalization::MergeSlashes {
        let mut before = ' ';
        bare.retain(|letter| std::mem::replace(&mut before, letter) != '/' || letter != '/');
    }
    bare + rest
}

/// Undoes the escapes of characters that need none, and escapes those that need it.
fn escaped(path: &str) -> String {
    let mut done = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let code = after.get(..2).filter(|_| *byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let meant = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let meant = meant.and_then(|code| Some((code, u8::from_str_radix(code, 16).ok()?)));
        if let Some((code, meant)) = meant {
            rest = &after[2..];
            if meant.is_ascii_alphanumeric() || b"-._~".contains(&meant) {
                done.push(char::from(meant));
            } else {
                done.extend(["%", code]);
            }
        } else if byte.is_ascii_graphic() && !ESCAPED.contains(byte) {
            done.push(char::from(*byte));
        } else {
            done.extend(["%", &format!("{byte:02X}")]);
        }
    }
    done
}

/// Without segments of one or two dots. Parameters of such a segment do not make it another one.
fn without_dots(path: &str) -> String {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let mut kept = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match segment.split(';').next() {
            Some("..") => {
                kept.pop();
            }
            Some(".") => {}
            Some(_) | None => {
                kept.push(*segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_envoy_makes_of_them() {
        use Normalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
        for (how, path, seen) in [
            (None, "/a/../b", "/a/../b"),
            (Base, "/a/../b", "/b"),
            (Base, "/a/./b/..", "/a/"),
            (Base, "/../..", "/"),
            (Base, "/a/%2e%2E/b", "/b"),
            (Base, "/a/..;x/b?q=/../c", "/b?q=/../c"),
            (Base, "\\a\\b", "/a/b"),
            (Base, "/%61%2Fb", "/a%2Fb"),
            (Base, "/a b|\u{fc}%zz", "/a%20b%7C%C3%BC%zz"),
            (Base, "/a//b", "/a//b"),
            (MergeSlashes, "/a//b///", "/a/b/"),
            (MergeSlashes, "/a//..//b", "/a/b"),
            (DecodeAndMergeSlashes, "/a%2f%5Cb//c", "/a/b/c"),
            (DecodeAndMergeSlashes, "/a%2F..%2Fb", "/b"),
        ] {
            assert_eq!(normalized(path, how), seen, "{path} {how:?}");
        }
    }
}
