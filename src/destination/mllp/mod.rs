//! Delivery over MLLP: one connection a lane, one message outstanding, its answer matched by MSA-2.
//!
//! What must never happen: an answer taken for another message's. After a timeout or nonsense the connection is closed,
//! never used again. The verdict by MSA-1 (HL7 v2.6 ch. 2.9.2) and the first ERR-3.1 (table 0357):
//!
//! | MSA-1  | ERR-3.1 | verdict     | because |
//! |--------|---------|-------------|---------|
//! | AA, CA | any     | Accepted    | A commit accept settles: the receiver has taken charge of the message, and sending it again for want of an application ACK would make a repeat. |
//! | AR, CR | 207     | Unavailable | The receiver cannot take messages now (HL7's "reject for reasons unrelated to content"). |
//! | any but AA, CA | 207 with ERR-5.1 of 9001 to 9033 | Rejected | A pump's reason against an order (IHE PCD TF-2 3.3.4.4): it stays. |
//! | AR, CR | other   | Rejected    | Type, event, version or processing id not taken: the same bytes would be refused again. |
//! | AE, CE | 206,207 | Unavailable, the [`FAULTS_MAX`]th time Rejected | A locked record or an internal fault may pass, but a fault over one message must not stop the lane for ever. |
//! | AE, CE | other   | Rejected    | An error in the content. |
//!
//! Where the message asked for an application ACK too (MSH-16), that one comes later, does not match the message then
//! outstanding, and is skipped; with `answer = "application"` it is waited for and settles the message, also after a CA to a
//! message of original mode, whose sender waits for the application's word alone. It may be any message with an MSA, such as RRG^O16, and is itself acknowledged where it asks for that.

use futures_util::future::BoxFuture;

use super::{Destination, MllpSettings, Outgoing, Refusals, Sender, Verdict};
use crate::{
    hl7::{
        Header,
        ack::{Answer, Code},
    },
    mllp::{
        FS, VT,
        client::{Client, ExchangeError},
    },
    translate::Format,
};

/// AE or CE with a code that may pass: so many in a row for one message make a dead letter.
const FAULTS_MAX: u32 = 5;

/// An MLLP receiver.
pub(super) struct Mllp {
    settings: MllpSettings,
}

impl Mllp {
    pub(super) fn new(settings: MllpSettings) -> Mllp {
        Mllp { settings }
    }
}

impl Destination for Mllp {
    fn sender(&self, _lane: u16) -> Box<dyn Sender> {
        Box::new(Connection { settings: self.settings.clone(), client: None, refusals: Refusals::default() })
    }
}

/// One lane's connection.
struct Connection {
    settings: MllpSettings,
    /// Taken out while a message is outstanding, so that a dropped send drops the connection with it.
    client: Option<Client>,
    refusals: Refusals,
}

/// Nobody said what the application made of it: to the sender that is no success.
const UNANSWERED: &str = "committed (CA), and no application ACK within `timeout`: ask who runs the receiver whether it acted on the message; then discard it, or send it again";

impl Sender for Connection {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        Box::pin(self.exchange(outgoing))
    }
}

impl Connection {
    async fn exchange(&mut self, outgoing: &Outgoing) -> Verdict {
        if let Some(reason) = unsendable(outgoing) {
            return Verdict::rejected(reason);
        }
        let reused = self.client.take_if(|client| !client.is_closed());
        let was_reused = reused.is_some();
        self.client = None;
        let client = match reused {
            Some(client) => client,
            None => match self.connect().await {
                Ok(client) => client,
                Err(verdict) => return verdict,
            },
        };
        match self.outcome(client, outgoing).await {
            Ok(verdict) => verdict,
            // The receiver gave up the idle connection; that says nothing about whether it would take a new one.
            Err(_) if was_reused => match self.connect().await {
                Ok(client) => self.outcome(client, outgoing).await.unwrap_or_else(Verdict::unavailable),
                Err(verdict) => verdict,
            },
            Err(reason) => Verdict::unavailable(reason),
        }
    }

    async fn connect(&self) -> Result<Client, Verdict> {
        let MllpSettings { address, timeout, tls, .. } = &self.settings;
        let client = Client::connect(address, tls.as_ref(), *timeout).await;
        client.map_err(|error| Verdict::unavailable(format!("cannot connect to {address}: {error}")))
    }

    /// The verdict, or why the message did not leave.
    async fn outcome(&mut self, mut client: Client, outgoing: &Outgoing) -> Result<Verdict, String> {
        let exchanged = client.exchange(&outgoing.body, &outgoing.control_id, self.settings.timeout).await;
        match exchanged {
            Ok(answer) if answer.code == Code::CA && self.awaits_application(outgoing) => {
                Ok(self.application_outcome(client, outgoing).await)
            }
            Ok(answer) => {
                self.client = Some(client);
                Ok(verdict(&answer, outgoing.id, &mut self.refusals))
            }
            Err(ExchangeError::NotSent(reason)) => Err(reason),
            Err(ExchangeError::Ambiguous(reason)) => Ok(Verdict::Ambiguous { reason }),
        }
    }
}

impl Connection {
    /// In original mode the one answer is the application's (HL7 v2.6 ch. 2.9.2): a CA there is none yet.
    fn awaits_application(&self, outgoing: &Outgoing) -> bool {
        let header = Header::read(&outgoing.body).0;
        let asked = [header.field(15), header.field(16)];
        self.settings.awaits_application && (asked == [b"", b""] || asked[1] == b"AL")
    }

    /// What became of a message that was committed. It is never sent again by itself for want of an application ACK, nor for a
    /// fault told by one: the receiver has it.
    async fn application_outcome(&mut self, mut client: Client, outgoing: &Outgoing) -> Verdict {
        let answer = client.application_answer(&outgoing.control_id, self.settings.timeout).await;
        let Ok(answer) = answer else {
            return Verdict::rejected(UNANSWERED);
        };
        self.client = Some(client);
        match verdict(&answer, outgoing.id, &mut Refusals::default()) {
            Verdict::Accepted { answer } => Verdict::Accepted { answer: format!("CA, {answer}") },
            Verdict::Rejected { reason } | Verdict::Unavailable { reason, .. } | Verdict::Ambiguous { reason } => {
                Verdict::rejected(format!("committed (CA), then {reason}"))
            }
        }
    }
}

/// Why no MLLP receiver can ever take these bytes.
fn unsendable(outgoing: &Outgoing) -> Option<&'static str> {
    if outgoing.format != Format::Hl7 {
        return Some("an MLLP destination takes HL7 v2 only: change the destination's translate");
    }
    if outgoing.control_id.is_empty() {
        return Some("MSH-10 is empty, so no answer could be matched: set it in a step");
    }
    if memchr::memchr2(VT, FS, &outgoing.body).is_some() {
        return Some("the message holds an MLLP framing byte (0B or 1C): remove it in a step");
    }
    None
}

/// The table above.
fn verdict(answer: &Answer, id: u64, refusals: &mut Refusals) -> Verdict {
    let code = answer.code.as_str();
    let [error, application] = [&answer.error_code, &answer.application_code].map(|told| {
        let code = told.as_deref();
        code.filter(|code| is_code(code))
    });
    let named = [("ERR-3", error), ("ERR-5", application)];
    let named = named.iter().filter_map(|(field, code)| Some(format!("{field} {}", (*code)?)));
    let reason = match named.collect::<Vec<_>>().join(" and ") {
        none if none.is_empty() => format!("answered {code}"),
        named => format!("answered {code} with {named}"),
    };
    match (answer.code, error) {
        (Code::AA | Code::CA, _) => Verdict::Accepted { answer: code.to_owned() },
        _ if application.is_some_and(is_pumps_reason) => Verdict::Rejected { reason },
        (Code::AR | Code::CR, Some("207")) => Verdict::unavailable(reason),
        (Code::AE | Code::CE, Some("206" | "207")) => refusals.another(id, FAULTS_MAX, reason),
        (Code::AR | Code::CR | Code::AE | Code::CE, _) => Verdict::Rejected { reason },
    }
}

fn is_pumps_reason(code: &str) -> bool {
    code.parse().is_ok_and(|code: u32| (9001..=9033).contains(&code))
}

/// ERR-3.1 and ERR-5.1 are shown only where they are codes: some receivers put free text there, and free text may quote the message.
fn is_code(code: &str) -> bool {
    (1..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
