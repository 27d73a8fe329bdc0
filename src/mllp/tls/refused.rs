//! Why a handshake failed, as its metric names it, and who must do what. Never what the peer sent.

use std::io;

use rustls::{CertificateError, Error, InvalidMessage};

/// Why a peer was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::mllp) enum Refused {
    /// What it sent is no TLS, such as plain MLLP.
    NotTls,
    /// It did not finish in time.
    Timeout,
    /// It went away.
    Closed,
    /// It speaks no TLS 1.2 or 1.3, or has no suite in common with us.
    Incompatible,
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate is of another authority than `client_ca`, or its own.
    UnknownAuthority,
    /// Its certificate has ended, or has not begun.
    Expired,
    /// Its certificate names nobody of `allowed_clients`.
    NotAllowed,
    /// Its certificate is no good for another reason.
    Certificate,
    /// It does not take our certificate, or something else of ours.
    ByPeer,
    /// It broke the protocol.
    Protocol,
}

impl Refused {
    pub(super) fn of(error: &io::Error) -> Refused {
        let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match told {
            None => Refused::Closed,
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Refused::NotTls,
            Some(Error::PeerIncompatible(_)) => Refused::Incompatible,
            Some(Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)) => Refused::Incompatible,
            Some(Error::NoCertificatesPresented) => Refused::NoCertificate,
            Some(Error::InvalidCertificate(why)) => Refused::of_certificate(why),
            Some(Error::AlertReceived(_)) => Refused::ByPeer,
            Some(_) => Refused::Protocol,
        }
    }

    fn of_certificate(why: &CertificateError) -> Refused {
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Refused::UnknownAuthority,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Refused::Expired,
            CertificateError::ApplicationVerificationFailure => Refused::NotAllowed,
            _ => Refused::Certificate,
        }
    }

    /// The metric's `reason`.
    pub(in crate::mllp) fn reason(self) -> &'static str {
        match self {
            Refused::NotTls => "not_tls",
            Refused::Timeout => "timeout",
            Refused::Closed => "closed",
            Refused::Incompatible => "incompatible",
            Refused::NoCertificate => "no_certificate",
            Refused::UnknownAuthority => "unknown_authority",
            Refused::Expired => "expired",
            Refused::NotAllowed => "not_allowed",
            Refused::Certificate => "certificate",
            Refused::ByPeer => "by_peer",
            Refused::Protocol => "protocol",
        }
    }

    /// Who must do what.
    pub(in crate::mllp) fn remedy(self) -> &'static str {
        match self {
            Refused::NotTls => {
                "the peer speaks no TLS: switch TLS on at the gateway, or give it a listener without `tls`"
            }
            Refused::Timeout => "the peer did not finish its TLS handshake in time: see to the gateway and its line",
            Refused::Closed => {
                "the peer left amid its TLS handshake: where a gateway does, have it trust the authority of this listener's certificate"
            }
            Refused::Incompatible => "the gateway must speak TLS 1.2 or 1.3 with a suite of forward secrecy: update it",
            Refused::NoCertificate => "the gateway shows no certificate: give it one of this listener's `client_ca`",
            Refused::UnknownAuthority => {
                "the gateway's certificate is not of this listener's `client_ca`: give it one that is, or add its authority there"
            }
            Refused::Expired => {
                "the gateway's certificate has expired or is not valid yet: renew it, and set the clocks of both machines"
            }
            Refused::NotAllowed => {
                "the gateway's certificate has no name of `allowed_clients`: add its CN or DNS name there if it may send here"
            }
            Refused::Certificate => {
                "the gateway's certificate cannot be used: have it issued again, for client authentication"
            }
            Refused::ByPeer => {
                "the gateway refuses this listener: have it trust the authority of its certificate, and call it by a name in that"
            }
            Refused::Protocol => "what the peer sent is no right TLS: see to the gateway and what is between",
        }
    }
}
