//! The filter `trusted`: callers of a trust domain that is accepted, and no others. The handshake asks
//! the same, once for each connection; this asks every tunnel and every request, so that whoever is not
//! trusted any more is refused on connections that are open, too.
//!
//! It is a resource of its own that every connection manager names (ECDS): when it changes, nothing
//! drains, and no other resource changes with it.

use proto::{
    Name, TypeUrl,
    envoy::{core, http_connection_manager as hcm, http_rbac, matcher, rbac},
};

use super::{
    extension::{ads, typed},
    filter_state::PEER_PRINCIPAL,
};
use crate::{
    derive::Row,
    emit::Emit,
    mesh::{name::Key, pattern::Pattern},
    policy::authorization::string,
    settings::Settings,
};

/// The filter and its resource.
const NAME: &str = "trusted";

/// The trust domains whose identities a waypoint accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Trusted(pub(crate) Vec<Name>);

impl Row for Trusted {
    const TABLE: &'static str = "trusted";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for Trusted {
    const TYPE: TypeUrl = TypeUrl::Extension;
    type Message = core::TypedExtensionConfig;

    fn waypoint(key: &Key) -> &Key {
        key
    }

    fn name(_key: &Key, _settings: &Settings) -> String {
        NAME.to_owned()
    }

    fn emit(&self, _key: &Key, _settings: &Settings) -> core::TypedExtensionConfig {
        let policy = rbac::Policy {
            permissions: vec![rbac::Permission { rule: Some(rbac::permission::Rule::Any(true)) }],
            principals: self.0.iter().map(|domain| of_trust_domain(domain)).collect(),
            ..rbac::Policy::default()
        };
        typed(
            NAME,
            &http_rbac::Rbac {
                rules: Some(rbac::Rbac {
                    action: rbac::rbac::Action::Allow.into(),
                    policies: [("trusted".to_owned(), policy)].into(),
                    ..rbac::Rbac::default()
                }),
                ..http_rbac::Rbac::default()
            },
        )
    }
}

fn of_trust_domain(domain: &str) -> rbac::Principal {
    let uri = string(&Pattern::Prefix(format!("spiffe://{domain}/")), false);
    rbac::Principal {
        identifier: Some(rbac::principal::Identifier::FilterState(matcher::FilterStateMatcher {
            key: PEER_PRINCIPAL.to_owned(),
            matcher: Some(matcher::filter_state_matcher::Matcher::StringMatch(uri)),
        })),
    }
}

/// The filter where a connection manager has it. Until the resource is there, every request fails.
pub(crate) fn filter() -> hcm::HttpFilter {
    let source = core::ExtensionConfigSource {
        config_source: Some(ads()),
        type_urls: vec![<http_rbac::Rbac as prost::Name>::type_url()],
        ..core::ExtensionConfigSource::default()
    };
    hcm::HttpFilter {
        name: NAME.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::ConfigDiscovery(source)),
        ..hcm::HttpFilter::default()
    }
}
