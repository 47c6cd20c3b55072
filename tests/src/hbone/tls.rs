//! TLS for tunnels: version 1.3, ALPN `h2`, both sides with a certificate, the server known by its SPIFFE identity.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};

use crate::identity::{self, Authority, Identity};

/// The client's side: sends `identity` if there is one, and accepts only a server that is `expected`.
pub(super) fn client(trust: &Authority, identity: Option<&Identity>, expected: &str) -> Result<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = SpiffeServer {
        roots: trust.roots()?,
        expected: expected.to_owned(),
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
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

/// Accepts a server whose chain ends at our roots and whose only URI is the identity expected. Its
/// host name is not looked at, because workloads have none.
#[derive(Debug)]
struct SpiffeServer {
    roots: RootCertStore,
    expected: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SpiffeServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let uris = identity::uris(end_entity).map_err(|error| Error::General(error.to_string()))?;
        if uris == [self.expected.as_str()] {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("the server is {uris:?}, expected {:?}", self.expected)))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("tunnels speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
