//! TLS for tunnels: version 1.3, ALPN `h2`, both sides with a certificate, the server known by its SPIFFE identity.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto,
    pki_types::{CertificateDer, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};

use crate::{
    identity::{self, Authority, Identity},
    tls::verifier,
};

/// The client's side: sends `identity` if there is one, and accepts only a server that is `expected`.
pub(super) fn client(trust: &Authority, identity: Option<&Identity>, expected: &str) -> Result<ClientConfig> {
    let (roots, expected) = (trust.roots()?, expected.to_owned());
    let verifier = verifier(move |end_entity, intermediates, now| {
        is_expected(&roots, &expected, (end_entity, intermediates), now)
    });
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(Identity { chain, key }) => config.with_client_auth_cert(chain.clone(), key.clone_key())?,
        None => config.with_no_client_auth(),
    };
    // Resumed sessions would hide a rotated certificate.
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The server's side: demands a certificate of the mesh.
pub(super) fn server(trust: &Authority, identity: &Identity) -> Result<ServerConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trust.roots()?), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .context("the server's certificate does not fit its key")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Whether a chain ends at our roots and its only URI is the identity expected.
fn is_expected(
    roots: &RootCertStore,
    expected: &str,
    (end_entity, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    now: UnixTime,
) -> Result<(), Error> {
    let certificate = ParsedCertificate::try_from(end_entity)?;
    let algorithms = crypto::ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
    let uris = identity::uris(end_entity).map_err(|error| Error::General(error.to_string()))?;
    if uris == [expected] {
        return Ok(());
    }
    Err(Error::General(format!("the server is {uris:?}, expected {expected:?}")))
}
