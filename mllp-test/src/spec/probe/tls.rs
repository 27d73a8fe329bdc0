//! TLS. What is no TLS, what is too old and who is not known gets no answer of MLLP; a known peer in another's name gets
//! a rejection. Old versions are asked for by a ClientHello made by hand, since no TLS library speaks them any more.

use super::super::case::{Expected, due};
use super::super::escaped::escaped;
use super::super::hello::client_hello;
use super::super::message::{Mode, good};
use super::super::{Ids, Options, Tls};
use super::{Probe, Unproved, needed, seen, skip};
use crate::frame::{Deframer, framed};
use crate::tls::ClientTls;
use crate::v2::Ack;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const NEEDED: &str = "needs a listener with TLS: --tls";
const ALERT: u8 = 21;

pub(super) fn probes() -> Vec<Probe> {
    let old = |what, sent, check| Probe { row: 29, what, sent, expected: "a TLS alert or a close", check };
    vec![
        Probe {
            row: 27,
            what: "plain MLLP where TLS is",
            sent: "the good message",
            expected: "a TLS alert or a close, no answer",
            check: |options, ids| Box::pin(plain(options, ids)),
        },
        Probe {
            row: 28,
            what: "no client certificate",
            sent: "a TLS handshake without certificate, the good message",
            expected: "a TLS alert or a close, no answer",
            check: |options, ids| Box::pin(unnamed(options, ids)),
        },
        Probe {
            row: 28,
            what: "certificates that must be refused",
            sent: "a TLS handshake with each --tls-bad, the good message",
            expected: "a TLS alert or a close, no answer",
            check: |options, ids| Box::pin(refused(options, ids)),
        },
        old("TLS 1.0", "a ClientHello of TLS 1.0", |options, _| Box::pin(too_old(options, 0x0301, &OLD))),
        old("TLS 1.1", "a ClientHello of TLS 1.1", |options, _| Box::pin(too_old(options, 0x0302, &OLD))),
        old("suites without encryption", "a ClientHello of TLS 1.2 with NULL and EXPORT suites", |options, _| {
            Box::pin(too_old(options, 0x0303, &NULL_AND_EXPORT))
        }),
        Probe {
            row: 30,
            what: "another sender's name",
            sent: "a TLS handshake with --tls-cert, the message of a sender not bound to it",
            expected: "AR or CR with ERR-3 207, the connection kept",
            check: |options, ids| Box::pin(other_sender(options, ids)),
        },
    ]
}

/// Suites that a server of those versions would take.
const OLD: [u16; 6] = [0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035];
const NULL_AND_EXPORT: [u16; 6] = [0x0001, 0x0002, 0x003B, 0xC006, 0xC010, 0x0003];

fn tls(options: &Options) -> Result<Tls, Unproved> {
    needed(&options.tls, NEEDED)
}

async fn plain(options: &Options, ids: Ids) -> Result<String, Unproved> {
    refusal(options, &framed(good(&ids.good("0")).as_bytes())).await
}

async fn too_old(options: &Options, version: u16, suites: &[u16]) -> Result<String, Unproved> {
    refusal(options, &client_hello(version, suites)).await
}

/// Whatever comes for these bytes before the close must be an alert.
async fn refusal(options: &Options, bytes: &[u8]) -> Result<String, Unproved> {
    let address = tls(options)?.address;
    let talk = async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        // A reset is a close.
        let _ = stream.read_to_end(&mut answer).await;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(options.ack_timeout, talk).await;
    let answer = answer.map_err(|_| format!("not closed within {:?}", options.ack_timeout))?;
    match answer.map_err(|fault| fault.to_string())?.as_slice() {
        [] => Ok("closed".to_owned()),
        [ALERT, ..] => Ok("a TLS alert, closed".to_owned()),
        other => Err(Unproved::Fault(format!("answered {}", escaped(other)))),
    }
}

async fn unnamed(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let Tls { address, unnamed, .. } = tls(options)?;
    let unnamed = needed(&unnamed, "needs the authorities of the receiver's certificate: --tls-ca FILE")?;
    unanswered(options, &address, &unnamed, &ids.good("0")).await
}

async fn refused(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let Tls { address, bad, .. } = tls(options)?;
    if bad.is_empty() {
        return skip(
            "needs certificates to be refused: expired, of another CA, revoked, of another name: --tls-bad FILE",
        );
    }
    for (number, (name, client)) in bad.iter().enumerate() {
        let id = ids.good(&number.to_string());
        let seen = unanswered(options, &address, client, &id).await;
        seen.map_err(|unproved| match unproved {
            Unproved::Fault(fault) => Unproved::Fault(format!("{name}: {fault}")),
            skip => skip,
        })?;
    }
    Ok(format!("{} refused", bad.len()))
}

async fn unanswered(options: &Options, address: &str, client: &ClientTls, id: &str) -> Result<String, Unproved> {
    let answers = over_tls(options, address, client, &framed(good(id).as_bytes()), 1).await?;
    if answers.is_empty() {
        Ok("no answer".to_owned())
    } else {
        Err(Unproved::Fault("the message was answered".to_owned()))
    }
}

async fn other_sender(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let Tls { address, good: client, .. } = tls(options)?;
    let client =
        needed(&client, "needs a certificate bound to the sender PUMP_GATEWAY: --tls-cert FILE --tls-key FILE")?;
    let draft = ids.draft("0", Mode::Enhanced);
    let other = framed(draft.with("PUMP_GATEWAY", "OTHER_GATEWAY").as_bytes());
    let frames = [&other[..], &framed(good(&ids.good("0")).as_bytes())].concat();
    let answers = over_tls(options, &address, &client, &frames, 2).await?;
    let [first, second] = answers.as_slice() else {
        return Err(Unproved::Fault(format!("{} answers where 2 are due", answers.len())));
    };
    due(&draft, Expected::Reject(207)).judge(first)?;
    match Ack::read(second) {
        Some(ack) if ack.is_positive() => Ok(seen(std::slice::from_ref(first), "the bound sender taken")),
        _ => Err(Unproved::Fault("the bound sender's message was not taken".to_owned())),
    }
}

/// Sends the bytes over TLS; the answers until so many came, or the receiver closed, also instead of a handshake.
async fn over_tls(
    options: &Options,
    address: &str,
    client: &ClientTls,
    bytes: &[u8],
    wanted: usize,
) -> Result<Vec<Bytes>, Unproved> {
    let mut came = Vec::new();
    let talk = async {
        let stream = TcpStream::connect(address).await.map_err(|fault| format!("cannot connect: {fault}"))?;
        let mut stream = match client.secure(address, stream).await {
            Ok(stream) => stream,
            Err(fault) if is_refusal(&fault) => return Ok(()),
            Err(fault) => return Err(format!("the receiver's TLS is not taken here: {fault}")),
        };
        // One that was refused already takes no bytes.
        let _ = stream.write_all(bytes).await;
        let mut answers = Deframer::new(1 << 20);
        while came.len() < wanted {
            match answers.next_message() {
                Ok(Some(answer)) => came.push(answer),
                Ok(None) if matches!(stream.read_buf(&mut answers.buffer).await, Ok(1..)) => {}
                _ => break,
            }
        }
        Ok(())
    };
    match timeout(options.ack_timeout, talk).await {
        Ok(talked) => talked?,
        Err(_) => Err(format!("neither answered nor closed within {:?}", options.ack_timeout))?,
    }
    Ok(came)
}

/// Whether the receiver ended the handshake, by an alert or a close, and not this side for what the receiver showed.
fn is_refusal(fault: &std::io::Error) -> bool {
    let of_tls = fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    of_tls.is_none_or(|fault| matches!(fault, rustls::Error::AlertReceived(_)))
}
