//! The private key of a SMART client: signs assertions, and tells its public half for registration.
//!
//! What must never happen: the private key, or a part of it, in an error or in what is printed. rustls reads and uses
//! the key, as it does those of TLS; what JWA wants in another form than TLS is brought into it here.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    SignatureScheme,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a coordinate of P-384, and of each half of a signature.
const P384_BYTES: usize = 48;
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// A key for RS384 or ES384, which its kind decides.
pub struct SigningKey {
    key: Arc<dyn sign::SigningKey>,
    public: Public,
    kid: String,
}

/// The public key's numbers, big-endian.
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P384 { x: Vec<u8>, y: Vec<u8> },
}

impl SigningKey {
    /// Reads a PEM private key: RSA of 2048 bits or more, or EC P-384. `kid`, where not given, is the key's RFC 7638
    /// thumbprint. The error says what to do.
    pub fn read(pem: &str, kid: Option<&str>) -> Result<SigningKey, String> {
        let unreadable = || "no private key in PEM form, unencrypted; make one with `openssl genpkey`".to_owned();
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let unfit = || "the key is neither RSA of at least 2048 bits nor EC P-384; make one of these".to_owned();
        let key = ring::sign::any_supported_type(&der).map_err(|_| unfit())?;
        let public = key.public_key().as_deref().and_then(Public::of_spki).ok_or_else(unfit)?;
        let kid = kid.map_or_else(|| public.thumbprint(), str::to_owned);
        Ok(SigningKey { key, public, kid })
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// JWA's name of the algorithm.
    pub(super) fn algorithm(&self) -> &'static str {
        match self.public {
            Public::Rsa { .. } => "RS384",
            Public::P384 { .. } => "ES384",
        }
    }

    /// The signature as RFC 7518 has it.
    pub(super) fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        let (scheme, is_ecdsa) = match self.public {
            Public::Rsa { .. } => (SignatureScheme::RSA_PKCS1_SHA384, false),
            Public::P384 { .. } => (SignatureScheme::ECDSA_NISTP384_SHA384, true),
        };
        let signature = self.key.choose_scheme(&[scheme])?.sign(text).ok()?;
        if is_ecdsa { fixed(&signature) } else { Some(signature) }
    }

    /// The public half as a JWK (RFC 7517), to be registered with the EHR.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.public.members();
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk["key_ops"] = json!(["verify"]);
        jwk["kid"] = json!(self.kid);
        jwk
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.algorithm(), self.kid)
    }
}

impl Public {
    /// From a SubjectPublicKeyInfo (RFC 5280).
    fn of_spki(spki: &[u8]) -> Option<Public> {
        let (_algorithm, rest) = der(SEQUENCE, der(SEQUENCE, spki)?.0)?;
        // The first byte of a BIT STRING counts the bits unused in its last one.
        let key = der(BIT_STRING, rest)?.0.strip_prefix(&[0])?;
        if let Some((numbers, _)) = der(SEQUENCE, key) {
            let (n, rest) = der(INTEGER, numbers)?;
            let (e, _) = der(INTEGER, rest)?;
            return Some(Public::Rsa { n: unpadded(n).to_vec(), e: unpadded(e).to_vec() });
        }
        let point = key.strip_prefix(&[4]).filter(|point| point.len() == 2 * P384_BYTES)?;
        let (x, y) = point.split_at(P384_BYTES);
        Some(Public::P384 { x: x.to_vec(), y: y.to_vec() })
    }

    /// The members that RFC 7638 hashes, in its order.
    fn members(&self) -> Value {
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        match self {
            Public::Rsa { n, e } => json!({ "e": text(e), "kty": "RSA", "n": text(n) }),
            Public::P384 { x, y } => json!({ "crv": "P-384", "kty": "EC", "x": text(x), "y": text(y) }),
        }
    }

    fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.members().to_string()))
    }
}

/// An ASN.1 ECDSA signature as its two numbers, of fixed length, one after the other.
fn fixed(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, rest) = der(INTEGER, der(SEQUENCE, signature)?.0)?;
    let (s, _) = der(INTEGER, rest)?;
    let mut fixed = Vec::with_capacity(2 * P384_BYTES);
    for number in [unpadded(r), unpadded(s)] {
        fixed.resize(fixed.len() + P384_BYTES.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    Some(fixed)
}

/// The content of the DER value of tag `tag` that `bytes` begin with, and what follows it.
fn der(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (length, rest) = rest.split_at_checked((length & 0x7F).into())?;
    let length = length.iter().try_fold(0usize, |all, byte| Some(all.checked_mul(256)? | usize::from(*byte)))?;
    rest.split_at_checked(length)
}

fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros.min(number.len().saturating_sub(1))..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of RFC 7638 section 3.1.
    #[test]
    fn a_key_without_a_name_is_called_by_its_thumbprint() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let number = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
        let key = Public::Rsa { n: number(n), e: number("AQAB") };
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_short_half_of_a_signature_is_filled_up_and_a_long_one_refused() {
        let signature = [&[0x30, 8, 2, 1, 5, 2, 3, 0, 0x81, 7][..]].concat();
        let read = fixed(&signature).unwrap();
        assert_eq!((read.len(), read[47], &read[94..]), (96, 5, &[0x81, 7][..]));
        let long = [&[0x30, 54, 2, 49][..], &[1; 49], &[2, 1, 1]].concat();
        assert_eq!(fixed(&long), None);
        for cut in 0..signature.len() {
            assert_eq!(fixed(&signature[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_is_no_fit_key_is_refused_and_never_shown() {
        let text = include_str!("../../../../tests/keys/rsa-2048.pem");
        assert!(SigningKey::read(text, None).is_ok());
        let torn = text.replacen("MII", "AAA", 1);
        let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
        let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        for pem in [torn.as_str(), public, "hunter2", "", &p256] {
            let fault = SigningKey::read(pem, None).unwrap_err();
            assert!(fault.contains("openssl") || fault.contains("P-384"), "{fault}");
            assert!(!fault.contains("hunter2"));
        }
        assert!(!format!("{:?}", SigningKey::read(text, None)).contains("MII"));
    }
}
