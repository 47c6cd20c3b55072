//! A waypoint's certificate, and whom it trusts, as Envoy's secrets.

use std::{collections::BTreeSet, iter::once, sync::Arc};

use proto::{
    Name, Resource, TypeUrl, Version,
    envoy::{core, matcher, pack, tls},
};
use rapidhash::v3::rapidhash_v3;
use translate::Anchors;

use super::Leaf;

/// Whose identities a proxy accepts.
#[derive(Clone, Copy, Debug)]
pub struct Trusts<'t> {
    /// Our own trust domain.
    pub own: &'t Name,
    /// Our own root, as PEM: it vouches for our own trust domain and for its aliases.
    pub root_pem: &'t str,
    /// Those aliases.
    pub aliases: &'t [Name],
    /// Who else vouches, and for which trust domains.
    pub anchors: &'t Anchors,
}

/// The secrets of a proxy: `default`, its own certificate and key; `CALLERS`, whom its listeners accept;
/// and `ROOTCA`, whom it accepts where it calls. They come and go while we run, and a secret that changes
/// drains no connection.
///
/// The version follows from the certificates alone. A hash of the key would tell something about it
/// to whoever may read versions.
pub fn secrets(leaf: &Leaf, trusts: Trusts<'_>) -> Vec<Resource> {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(inline(leaf.chain_pem())),
        private_key: Some(inline(leaf.key_pem())),
        ..tls::TlsCertificate::default()
    };
    vec![
        secret("default", leaf.chain_pem(), tls::secret::Type::TlsCertificate(certificate)),
        trusts.callers(),
        trusts.called(),
    ]
}

impl Trusts<'_> {
    /// A bundle of roots for each trust domain. Envoy looks up the caller's, so that no root vouches for
    /// an identity of a trust domain that it is not for.
    fn callers(&self) -> Resource {
        let domains: BTreeSet<&Name> = self.of_mesh().chain(self.anchors.0.keys()).collect();
        let mut says = String::new();
        let mut trust_domains = Vec::new();
        for domain in domains {
            let bundle = self.bundle(domain);
            says.extend([domain, "\n", bundle.as_str()]);
            trust_domains.push(tls::spiffe_cert_validator_config::TrustDomain {
                name: domain.to_string(),
                trust_bundle: Some(inline(&bundle)),
                ..tls::spiffe_cert_validator_config::TrustDomain::default()
            });
        }
        let config =
            tls::SpiffeCertValidatorConfig { trust_domains, ..tls::SpiffeCertValidatorConfig::default() };
        let validation = tls::CertificateValidationContext {
            custom_validator_config: Some(core::TypedExtensionConfig {
                name: "envoy.tls.cert_validator.spiffe".to_owned(),
                typed_config: Some(pack(&config)),
            }),
            ..tls::CertificateValidationContext::default()
        };
        secret("CALLERS", &says, tls::secret::Type::ValidationContext(validation))
    }

    /// One list of roots for all whom we call, who are of the mesh: so only those that vouch for all of
    /// its trust domains. The listener says which trust domain is our own.
    fn called(&self) -> Resource {
        let everywhere = |root: &&Arc<str>| self.of_mesh().all(|domain| self.vouches(root, domain));
        let own = self.anchors.0.get(self.own).into_iter().flatten();
        let roots: Vec<&str> = once(self.root_pem).chain(own.filter(everywhere).map(AsRef::as_ref)).collect();
        let roots = roots.join("\n");
        let validation = tls::CertificateValidationContext {
            trusted_ca: Some(inline(&roots)),
            match_typed_subject_alt_names: self.aliases.iter().map(|alias| of_trust_domain(alias)).collect(),
            ..tls::CertificateValidationContext::default()
        };
        let aliases = self.aliases.iter().map(AsRef::as_ref);
        let says: Vec<&str> = once(roots.as_str()).chain(aliases).collect();
        secret("ROOTCA", &says.join("\n"), tls::secret::Type::ValidationContext(validation))
    }

    fn of_mesh(&self) -> impl Iterator<Item = &Name> {
        once(self.own).chain(self.aliases)
    }

    fn bundle(&self, domain: &Name) -> String {
        let own = self.of_mesh().any(|of_mesh| of_mesh == domain).then_some(self.root_pem);
        let others = self.anchors.0.get(domain).into_iter().flatten().map(AsRef::as_ref);
        own.into_iter().chain(others).collect::<Vec<_>>().join("\n")
    }

    fn vouches(&self, root: &Arc<str>, domain: &Name) -> bool {
        self.anchors.0.get(domain).is_some_and(|roots| roots.contains(root))
    }
}

fn of_trust_domain(trust_domain: &str) -> tls::SubjectAltNameMatcher {
    let prefix = matcher::string_matcher::MatchPattern::Prefix(format!("spiffe://{trust_domain}/"));
    tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(prefix),
            ..matcher::StringMatcher::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    }
}

/// `says` is all that is in the secret and no secret itself.
fn secret(name: &str, says: &str, content: tls::secret::Type) -> Resource {
    let version = Version(rapidhash_v3(says.as_bytes()));
    let secret = tls::Secret { name: name.to_owned(), r#type: Some(content) };
    Resource::new(TypeUrl::Secret, name, version, &secret)
}

fn inline(pem: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::InlineString(pem.to_owned());
    core::DataSource { specifier: Some(specifier), ..core::DataSource::default() }
}
