//! The listening side: whose certificate is shown, and who is let in.

use std::{fmt, io, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Fault, Fingerprint, Refused, authorities, certificate, chain, not_after, private_key, provider, unusable};

/// How long a refused peer may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a listener is made of, all of it PEM.
#[derive(Clone, Copy)]
pub struct Identity<'p> {
    /// The listener's certificate, with those between it and its authority.
    pub cert: &'p str,
    /// Its private key.
    pub key: &'p str,
    /// Whose certificates peers must show; none: they need show none.
    pub client_ca: Option<&'p str>,
    /// Names of which a peer's certificate must have one; none: any of `client_ca` will do.
    pub allowed_clients: &'p [String],
    /// For names in a peer's certificate, the sending applications it may send as; those names are allowed, too.
    pub senders: &'p [(String, Vec<String>)],
}

/// Takes peers in over TLS.
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
    /// The last moment of the listener's certificates, and of its peers' authorities.
    not_after: [Option<Timestamp>; 2],
    proves_peers: bool,
    senders: Arc<[(String, Vec<String>)]>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("proves_peers", &self.proves_peers).finish_non_exhaustive()
    }
}

impl PartialEq for Acceptor {
    /// Made of the same.
    fn eq(&self, other: &Acceptor) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Acceptor {
    /// The fault names the key to mend.
    pub fn new(identity: &Identity<'_>) -> Result<Acceptor, Fault> {
        let Identity { cert, key, client_ca, allowed_clients, senders } = *identity;
        let (chain, key_read) = (chain(cert)?, private_key(key)?);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| unusable(&error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => builder.with_client_cert_verifier(verifier(pem, allowed_clients, senders)?),
        };
        let mut config = builder.with_single_cert(chain, key_read).map_err(|error| unusable(&error))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let names = allowed_clients.iter().map(|name| Some(name.as_str()));
        let bound = senders.iter().flat_map(|(name, own)| {
            [None, Some(name.as_str())].into_iter().chain(own.iter().map(|own| Some(own.as_str())))
        });
        Ok(Acceptor {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            not_after: [not_after(cert), client_ca.and_then(not_after)],
            proves_peers: client_ca.is_some(),
            senders: senders.into(),
            fingerprint: Fingerprint::of([Some(cert), Some(key), client_ca].into_iter().chain(names).chain(bound)),
        })
    }

    /// The last moment of the listener's certificates, and of its peers' authorities.
    pub fn not_after(&self) -> [Option<Timestamp>; 2] {
        self.not_after
    }

    /// Peers must show a certificate.
    pub fn proves_peers(&self) -> bool {
        self.proves_peers
    }

    /// The sending applications that the peer's certificate lets it send as; none: any. One whose names cannot be read
    /// lets it send as nobody.
    pub(in crate::mllp) fn sends_as(&self, stream: &TlsStream<TcpStream>) -> Option<Arc<[String]>> {
        if self.senders.is_empty() {
            return None;
        }
        let own = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(facts) = own.and_then(|own| certificate::read(own)) else { return Some(Arc::default()) };
        let mut bound = self.senders.iter().filter(|(name, _)| facts.names.contains(name)).peekable();
        bound.peek()?;
        Some(bound.flat_map(|(_, own)| own.iter().cloned()).collect())
    }

    /// The handshake, after which the peer has proved what it must; at most `limit` long. A peer that is refused is told by
    /// an alert before the connection ends. `None`: it left without a byte, as a probe of the port does.
    pub(in crate::mllp) async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<Option<TlsStream<TcpStream>>, Refused> {
        let shaken = async {
            match stream.peek(&mut [0]).await {
                Ok(1..) => Some(self.acceptor.accept(stream).into_fallible().await),
                _ => None,
            }
        };
        match timeout(limit, shaken).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(peer))) => Ok(Some(peer)),
            Ok(Some(Err((error, stream)))) => {
                let refused = Refused::of(&error);
                let _ = timeout(FAREWELL, farewell(stream)).await;
                Err(refused)
            }
            Err(_) => Err(Refused::Timeout),
        }
    }
}

/// Closed at once, a connection with bytes unread is reset, and the alert may be lost with it.
async fn farewell(mut stream: TcpStream) -> io::Result<u64> {
    stream.shutdown().await?;
    let mut last = tokio::io::AsyncReadExt::take(stream, 1 << 20);
    tokio::io::copy(&mut last, &mut tokio::io::sink()).await
}

fn verifier(
    pem: &str,
    allowed: &[String],
    senders: &[(String, Vec<String>)],
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let roots = authorities("client_ca", pem)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).build();
    let verifier = verifier.map_err(|error| {
        Fault::new("client_ca", format!("the authority cannot be used: {error}"), "give the authority's certificates")
    })?;
    if allowed.is_empty() {
        return Ok(verifier);
    }
    let allowed = allowed.iter().chain(senders.iter().map(|(name, _)| name)).cloned().collect();
    Ok(Arc::new(Named { verifier, allowed }))
}

/// Of those whom the authority vouches for, the ones that are named.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(own, between, now)?;
        let named =
            certificate::read(own).is_some_and(|facts| facts.names.iter().any(|name| self.allowed.contains(name)));
        if named { Ok(verified) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
