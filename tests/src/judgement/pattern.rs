//! The forms that a value can take: the wildcard of strings, templates of paths, blocks of addresses.

use std::net::IpAddr;

/// `*`, `*suffix`, `prefix*` or exactly this. There is no escape, and one star counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Present,
    Suffix(String),
    Prefix(String),
    Exact(String),
}

impl Text {
    pub(crate) fn read(value: &str) -> Self {
        if value == "*" {
            Self::Present
        } else if let Some(rest) = value.strip_prefix('*') {
            Self::Suffix(rest.to_owned())
        } else if let Some(rest) = value.strip_suffix('*') {
            Self::Prefix(rest.to_owned())
        } else {
            Self::Exact(value.to_owned())
        }
    }

    /// Whether it holds for a value that is there.
    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Exact(text) => value == text.as_bytes(),
        }
    }

    /// As `holds`, with the case of ASCII letters left out.
    pub(crate) fn holds_in_any_case(&self, value: &[u8]) -> bool {
        let lower = |text: &str| text.to_ascii_lowercase();
        let folded = match self {
            Self::Present => Self::Present,
            Self::Suffix(text) => Self::Suffix(lower(text)),
            Self::Prefix(text) => Self::Prefix(lower(text)),
            Self::Exact(text) => Self::Exact(lower(text)),
        };
        folded.holds(&value.to_ascii_lowercase())
    }

    /// As `holds`, where `*` asks for a value that says something.
    pub(crate) fn holds_filled(&self, value: &str) -> bool {
        self.holds(value.as_bytes()) && (*self != Self::Present || !value.is_empty())
    }
}

/// What a path has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathForm {
    Text(Text),
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    /// `{*}`: at least one character, no slash.
    Segment,
    /// `{**}`: anything, nothing too.
    Rest,
}

impl PathForm {
    /// Nothing if the value is none that the API takes.
    pub(crate) fn read(value: &str) -> Option<Self> {
        if !value.contains("{*}") && !value.contains("{**}") {
            return (!value.contains(['{', '}'])).then(|| Self::Text(Text::read(value)));
        }
        let mut rest_seen = false;
        for segment in value.trim_matches('/').split('/') {
            let operator = matches!(segment, "{*}" | "{**}");
            if operator && rest_seen {
                return None;
            }
            rest_seen |= segment == "{**}";
            let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
            if !operator && (segment.is_empty() || !segment.bytes().all(literal)) {
                return None;
            }
        }
        let mut pieces = Vec::new();
        let mut left = value;
        while let Some(at) = left.find('{') {
            pieces.push(Piece::Literal(left[..at].to_owned()));
            let (piece, length) =
                if left[at..].starts_with("{**}") { (Piece::Rest, 4) } else { (Piece::Segment, 3) };
            pieces.push(piece);
            left = &left[at + length..];
        }
        pieces.push(Piece::Literal(left.to_owned()));
        Some(Self::Template(pieces))
    }

    pub(crate) fn holds(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.holds_filled(path),
            Self::Template(pieces) => follows(pieces, path),
        }
    }
}

fn follows(pieces: &[Piece], path: &str) -> bool {
    let Some((first, others)) = pieces.split_first() else { return path.is_empty() };
    match first {
        Piece::Literal(text) => path.strip_prefix(text.as_str()).is_some_and(|rest| follows(others, rest)),
        Piece::Segment => {
            let end = path.find('/').unwrap_or(path.len());
            let mut ends = path[..end].char_indices().map(|(at, char)| at + char.len_utf8());
            ends.any(|at| follows(others, &path[at..]))
        }
        Piece::Rest => {
            let starts = path.char_indices().map(|(at, _)| at).chain([path.len()]);
            starts.into_iter().any(|at| follows(others, &path[at..]))
        }
    }
}

/// A block of addresses, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    address: IpAddr,
    length: u32,
}

impl Block {
    /// As Go reads it: no leading zeros; bits below the block are allowed and mean nothing.
    pub(crate) fn read(value: &str) -> Option<Self> {
        let (address, length) = match value.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (value, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some("0") => 0,
            Some(length) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit()) && !length.starts_with('0');
                length.parse().ok().filter(|length| digits && *length <= whole)?
            }
        };
        Some(Self { address, length })
    }

    pub(crate) fn holds(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let drop = 32 - self.length;
                u64::from(block.to_bits()) >> drop == u64::from(address.to_bits()) >> drop
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let drop = 128 - self.length;
                let kept = |bits: u128| bits.checked_shr(drop).unwrap_or(0);
                kept(block.to_bits()) == kept(address.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A port: a number, or where a mistake must not open anything, a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Number(u16),
    Named(String),
}

impl Port {
    pub(crate) fn read(value: &str) -> Option<Self> {
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if digits {
            return value.parse().ok().map(Self::Number);
        }
        let is_name = value.bytes().all(named)
            && value.bytes().any(|byte| byte.is_ascii_lowercase())
            && !value.starts_with('-')
            && !value.ends_with('-')
            && value.len() < 64;
        is_name.then(|| Self::Named(value.to_owned()))
    }
}
