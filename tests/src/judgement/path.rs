//! What becomes of a path before any policy sees it.

/// `pathNormalization` of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Normalization {
    /// As it came.
    None,
    /// By RFC 3986: dot segments, backslashes, needless escapes.
    #[default]
    Base,
    /// And runs of slashes become one.
    MergeSlashes,
    /// And escaped slashes are slashes first.
    DecodeAndMergeSlashes,
}

/// The path that policies, routes and backends see.
pub fn normalized(path: &str, how: Normalization) -> String {
    if how == Normalization::None {
        return path.to_owned();
    }
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (bare, query) = path.split_at(end);
    let mut bare = bare.to_owned();
    if how == Normalization::DecodeAndMergeSlashes {
        for (escape, char) in [("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\")] {
            bare = bare.replace(escape, char);
        }
    }
    let mut bare = without_dots(&escapes(&bare.replace('\\', "/")));
    if how >= Normalization::MergeSlashes {
        while bare.contains("//") {
            bare = bare.replace("//", "/");
        }
    }
    bare + query
}

/// Escapes of characters that need none are undone, and characters that need one get it.
fn escapes(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut done = String::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let escaped =
            escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                done.push(char::from(byte));
                at += 2;
            }
            Some(_) => {
                done.push_str(&path[at..at + 3]);
                at += 2;
            }
            None if byte <= b' ' || byte >= 0x7f || b"\"<>^`{|}".contains(&byte) => {
                done.extend(["%", &format!("{byte:02X}")]);
            }
            None => done.push(char::from(byte)),
        }
        at += 1;
    }
    done
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // A dot segment with parameters is one still.
        let dots = segment.split(';').next().unwrap_or_default();
        match dots {
            "." | ".." => {
                if dots == ".." {
                    kept.pop();
                }
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
