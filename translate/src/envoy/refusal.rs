//! What Envoy would not take, asked of each policy's part before anything of it is published.
//!
//! Reading a policy keeps out every value that is known to be refused. This is the net below: Envoy
//! rejects a whole resource for one value that breaks its constraints, and with it the policies of
//! everybody else on that port.

use proto::{constraints, envoy::Any};

/// The first value that breaks one of Envoy's own constraints, and which. `None`: Envoy takes it.
pub(crate) fn refusal(packed: &Any) -> Option<String> {
    match constraints::violations(&packed.type_url, &packed.value) {
        Ok(found) => found.first().map(ToString::to_string),
        // What cannot be checked is not sent either.
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proto::envoy::{core, pack, rbac, route};

    use super::refusal;

    #[test]
    fn a_value_that_breaks_a_constraint_is_named() {
        let header = |name: &str| route::HeaderMatcher { name: name.to_owned(), ..Default::default() };
        assert_eq!(refusal(&pack(&header("x-role"))), None);
        let broken = refusal(&pack(&header("x\nrole"))).unwrap_or_default();
        assert!(broken.starts_with("name: \"x\\nrole\" has to match"), "{broken}");
    }

    #[test]
    fn constraints_of_messages_in_messages_and_in_what_is_packed_count() {
        let policy = rbac::Policy { permissions: Vec::new(), principals: Vec::new(), ..Default::default() };
        let broken = refusal(&pack(&policy)).unwrap_or_default();
        assert_eq!(broken, "permissions: has 0 items and needs 1");
        let rules = rbac::Rbac { policies: [("p".to_owned(), policy)].into(), ..Default::default() };
        let inside = refusal(&pack(&rules)).unwrap_or_default();
        assert_eq!(inside, "policies[\"p\"].permissions: has 0 items and needs 1");
        let packed = core::TypedExtensionConfig { name: "n".to_owned(), typed_config: Some(pack(&rules)) };
        let packed = refusal(&pack(&packed)).unwrap_or_default();
        assert_eq!(packed, "typed_config.policies[\"p\"].permissions: has 0 items and needs 1");
    }

    #[test]
    fn one_of_several_that_has_to_be_set_is_missed() {
        let broken = refusal(&pack(&rbac::Permission::default())).unwrap_or_default();
        assert_eq!(broken, "rule: has to be set");
    }
}
