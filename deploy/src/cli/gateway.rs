//! `NAMESPACE/NAME` on the command line.

use translate::Audience;

/// Reads the name of a waypoint's Gateway.
pub(super) fn parse(text: &str) -> Result<Audience, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(Audience { namespace: namespace.into(), name: name.into() })
        }
        Some(_) | None => {
            Err("write the Gateway's namespace and name, as kubectl shows them: default/waypoint".to_owned())
        }
    }
}

/// Whether Kubernetes would take this as a name (RFC 1123 subdomain). The name becomes part of a path,
/// so this is also what keeps it inside the state directory.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_a_namespace_and_a_name() {
        assert_eq!(parse("default/way.point-1").unwrap().to_string(), "default/way.point-1");
    }

    #[test]
    fn nothing_that_leaves_the_state_directory_is_a_gateway() {
        for text in ["", "waypoint", "/waypoint", "default/", "../x", "default/..", "a/b/c", "a/B", "a/-b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
