//! TLS as applications speak it, inside tunnels: a server that tells by which name it was asked for, and
//! clients that ask for any name or none and trust everyone.

use std::{fmt, sync::Arc};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What a client hears first: whom it got to, and the name that was asked for.
pub type Greeting = (String, Option<String>);

/// The server's side of a handshake, with a certificate that nobody signed.
pub(crate) async fn accept<S>(stream: S) -> Result<server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let certified = rcgen::generate_simple_self_signed(["backend.example".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
    Ok(TlsAcceptor::from(Arc::new(config)).accept(stream).await?)
}

/// Tells the client who `name` is and what it asked for.
pub(crate) async fn greet<S>(stream: &mut server::TlsStream<S>, name: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
    stream.write_all(format!("{name} {asked}\n").as_bytes()).await?;
    Ok(stream.flush().await?)
}

/// Asks for `name`, or for none, and hears the greeting.
pub async fn connect<S>(stream: S, name: Option<&str>) -> Result<(client::TlsStream<S>, Greeting)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = ServerName::try_from(name.unwrap_or("none.invalid").to_owned())?;
    let connector = TlsConnector::from(Arc::new(config(name.is_some())?));
    let mut stream = connector.connect(asked, stream).await?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8(line)?;
    let (server, asked) = line.trim_end_matches('\n').split_once(' ').context("not a greeting")?;
    Ok((stream, (server.to_owned(), (!asked.is_empty()).then(|| asked.to_owned()))))
}

/// The first bytes of a client that asks for `name`.
pub fn hello(name: &str) -> Result<Vec<u8>> {
    let asked = ServerName::try_from(name.to_owned())?;
    let mut client = rustls::ClientConnection::new(Arc::new(config(true)?), asked)?;
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

fn config(names: bool) -> Result<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    // Who answers is what the tests ask, so the certificate may be anyone's.
    let anyone = verifier(|_, _, _| Ok(()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    config.enable_sni = names;
    Ok(config)
}

/// Judges a server by its certificate, what came with it and the time, and not by its host name. That it
/// has the certificate's key is checked for everybody.
pub(crate) fn verifier<F>(judges: F) -> Arc<dyn ServerCertVerifier>
where
    F: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime) -> Result<(), Error> + Send + Sync + 'static,
{
    Arc::new(Verifier { judges, provider: crypto::ring::default_provider() })
}

struct Verifier<F> {
    judges: F,
    provider: CryptoProvider,
}

impl<F> ServerCertVerifier for Verifier<F>
where
    F: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime) -> Result<(), Error> + Send + Sync,
{
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.judges)(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
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

impl<F> fmt::Debug for Verifier<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}
