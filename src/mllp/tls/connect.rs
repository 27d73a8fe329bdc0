//! The calling side: which receiver is believed, and what is shown to it.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error,
    client::Resumption,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Fault, Fingerprint, authorities, chain, not_after, private_key, provider, unusable};

/// A connection to a receiver that proved itself.
pub(in crate::mllp) type Secured = TlsStream<TcpStream>;

/// Calls receivers over TLS.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// The last moment of the certificates shown, and of the authorities trusted.
    not_after: [Option<Timestamp>; 2],
    fingerprint: Fingerprint,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Connector {
    /// Made of the same.
    fn eq(&self, other: &Connector) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Connector {
    /// To the receiver `name`, whose certificate must be of `ca`, or else of an authority of the system; `identity` is the
    /// caller's certificate chain and then its key. All are PEM. The fault names the key to mend.
    pub fn new(name: &str, ca: Option<&str>, identity: Option<&str>) -> Result<Connector, Fault> {
        let host = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = ServerName::try_from(host).map_err(|_| {
            Fault::new(
                "server_name",
                "it is neither a DNS name nor an IP address",
                "write the name in the receiver's certificate",
            )
        })?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| unusable(&error))?;
        let builder = match ca {
            Some(pem) => builder.with_root_certificates(authorities("ca", pem)?),
            None => builder.with_platform_verifier().map_err(|error| {
                let what = format!("the system has no certificate authorities: {error}");
                Fault::new("ca", what, "install ca-certificates, or set `ca`")
            })?,
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let (cert, key) = (chain(pem)?, private_key(pem)?);
                builder.with_client_auth_cert(cert, key).map_err(|error| unusable(&error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Connector {
            connector: TlsConnector::from(Arc::new(config)),
            name: server,
            not_after: [identity.and_then(not_after), ca.and_then(not_after)],
            fingerprint: Fingerprint::of([Some(name), ca, identity]),
        })
    }

    /// The last moment of the certificates shown, and of the authorities trusted where those are the site's own.
    pub fn not_after(&self) -> [Option<Timestamp>; 2] {
        self.not_after
    }

    /// The handshake. An error says who must do what.
    pub(in crate::mllp) async fn connect(&self, stream: TcpStream) -> io::Result<Box<Secured>> {
        match self.connector.connect(self.name.clone(), stream).await {
            Ok(secured) => Ok(Box::new(secured)),
            Err(error) => Err(told(&error).map_or(error, io::Error::other)),
        }
    }
}

/// What a failed handshake means.
fn told(error: &io::Error) -> Option<String> {
    if let Some(refusal) = refusal_of_ours(error) {
        return Some(refusal);
    }
    let Some(tls) = rustls_error(error) else {
        return (error.kind() == io::ErrorKind::UnexpectedEof).then(|| {
            "the receiver ends the TLS handshake: ask who runs it whether it speaks TLS 1.2 or 1.3 there".to_owned()
        });
    };
    Some(match tls {
        Error::InvalidCertificate(why) => untrusted(why),
        Error::InvalidMessage(_) => {
            format!("the receiver speaks no TLS ({tls}): remove `tls`, or ask who runs it for its TLS port")
        }
        _ => format!("TLS fails: {tls}: ask who runs the receiver whether it speaks TLS 1.2 or 1.3"),
    })
}

fn untrusted(why: &CertificateError) -> String {
    let act = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is of no trusted authority: set `tls.ca` to the authority who runs the receiver names"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired: who runs the receiver must renew it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: set the clocks of both machines"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name: call the receiver by its name, or set `tls.server_name`"
        }
        CertificateError::Revoked => "it is revoked: who runs the receiver must renew it",
        _ => "who runs the receiver must have it issued again",
    };
    format!("the receiver's certificate is refused ({why}): {act}")
}

/// Whether an error says that the receiver does not take our certificate. TLS 1.3 tells that only after the handshake.
pub(in crate::mllp) fn refusal_of_ours(error: &io::Error) -> Option<String> {
    use AlertDescription as Alert;
    let Some(Error::AlertReceived(alert)) = rustls_error(error) else { return None };
    let of_certificates = matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
            | Alert::DecryptError
            | Alert::HandshakeFailure
    );
    of_certificates
        .then(|| format!("the receiver refuses the TLS connection ({alert:?}): check `tls.cert` with who runs it"))
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Reads away what waits in the socket, which is asked itself; how much of it was of the receiver's application.
/// `WouldBlock` where nothing waits, another error where the receiver has closed.
pub(in crate::mllp) fn throw_away(secured: &mut Secured, waste: &mut [u8]) -> io::Result<usize> {
    let (stream, session) = secured.get_mut();
    let socket = socket2::SockRef::from(&*stream);
    let mut length = 0;
    // What the runtime has read already comes first.
    if session.wants_read() && session.read_tls(&mut &*socket)? == 0 {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let state = session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    while length < state.plaintext_bytes_to_read() {
        match session.reader().read(waste)? {
            0 => break,
            read => length += read,
        }
    }
    if state.peer_has_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(length) }
}
