//! TLS of gateways and sinks, where a test asks for it: a stream that may have it, and what each side shows and trusts.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A connection, plain or over TLS.
#[derive(Debug)]
pub enum Stream {
    /// Plain.
    Plain(TcpStream),
    /// Over TLS.
    Secured(Box<TlsStream<TcpStream>>),
}

/// A certificate and its key, both PEM.
#[derive(Clone, Copy)]
pub struct Pair<'p> {
    /// The chain, its owner's first.
    pub cert: &'p str,
    /// The private key.
    pub key: &'p str,
}

/// What a calling side trusts and shows.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

/// What a listening side shows and trusts.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl ClientTls {
    /// Trusts the authorities `ca` and shows `own`.
    pub fn new(ca: &str, own: Option<Pair<'_>>) -> io::Result<ClientTls> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?.with_root_certificates(authorities(ca)?);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(chain(own.cert)?, key(own.key)?).map_err(io::Error::other)?,
        };
        Ok(ClientTls(TlsConnector::from(Arc::new(config))))
    }

    /// The same, from files.
    pub fn read(ca: &Path, own: Option<(&Path, &Path)>) -> io::Result<ClientTls> {
        let own = own.map(|(cert, key)| Ok::<_, io::Error>((text(cert)?, text(key)?))).transpose()?;
        ClientTls::new(&text(ca)?, own.as_ref().map(|(cert, key)| Pair { cert, key }))
    }

    /// The handshake with the server at `address`, whose certificate must be for its host.
    pub async fn secure(&self, address: &str, stream: TcpStream) -> io::Result<Stream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Stream::Secured(Box::new(self.0.connect(name, stream).await?.into())))
    }
}

impl ServerTls {
    /// Shows `own`; clients must have a certificate of `client_ca`, where it is given.
    pub fn new(own: Pair<'_>, client_ca: Option<&str>) -> io::Result<ServerTls> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities(ca)?.into(), provider());
                builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
            }
        };
        let config = builder.with_single_cert(chain(own.cert)?, key(own.key)?).map_err(io::Error::other)?;
        Ok(ServerTls(TlsAcceptor::from(Arc::new(config))))
    }

    /// The same, from files.
    pub fn read(cert: &Path, key: &Path, client_ca: Option<&Path>) -> io::Result<ServerTls> {
        let (cert, key, ca) = (text(cert)?, text(key)?, client_ca.map(text).transpose()?);
        ServerTls::new(Pair { cert: &cert, key: &key }, ca.as_deref())
    }

    /// The handshake with whoever called.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        Ok(Stream::Secured(Box::new(self.0.accept(stream).await?.into())))
    }
}

/// Connects, over TLS where it is given.
pub async fn connect(address: &str, tls: Option<&ClientTls>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => tls.secure(address, stream).await,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn text(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file).map_err(|fault| io::Error::new(fault.kind(), format!("{}: {fault}", file.display())))
}

fn authorities(pem: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(roots)
}

fn chain(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(io::Error::other("no certificate in PEM form where one must be")),
    }
}

fn key(pem: &str) -> io::Result<PrivateKeyDer<'static>> {
    let unreadable = |_| io::Error::other("no unencrypted private key in PEM form where one must be");
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(…)")
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(…)")
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Secured(secured) => Pin::new(secured).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secured(secured) => Pin::new(secured).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secured(secured) => Pin::new(secured).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secured(secured) => Pin::new(secured).poll_shutdown(context),
        }
    }
}
