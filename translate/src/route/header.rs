//! What may stand in a header, as HTTP says and Envoy insists.

/// A token of RFC 9110: the name of a header, a method, the name of a cookie.
pub(crate) fn is_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=256).contains(&name.len()) && name.bytes().all(token)
}

/// Text of one line, and not none at all.
pub(crate) fn is_value(value: &str) -> bool {
    (1..=4096).contains(&value.len()) && !value.chars().any(|letter| letter.is_control() && letter != '\t')
}

/// A DNS name without wildcards, in lower case.
pub(crate) fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
