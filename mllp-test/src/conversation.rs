//! Whose each answer is: files are sent one at a time, and what comes is matched by MSA-2, since an application ACK may
//! come after the next message went out. A late answer must never be told as the next message's.

use crate::send::{Client, NoAnswer};
use crate::tls::ClientTls;
use crate::v2::{Ack, field, messages_in};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// An answer and the message it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The message it answers; `None` where none with that control id was sent.
    pub place: Option<String>,
    /// Another message was sent since.
    pub late: bool,
    /// What it says.
    pub ack: Ack,
}

/// Messages sent to one receiver, and the answers to them.
#[derive(Debug)]
pub struct Conversation {
    address: String,
    tls: Option<ClientTls>,
    ack_timeout: Duration,
    client: Client,
    sent: HashMap<Vec<u8>, Sent>,
    turn: Turn,
}

/// The message sent last.
#[derive(Debug, Default)]
struct Turn {
    number: usize,
    place: String,
    /// Whether its control id could be read.
    named: bool,
}

/// A message that was sent.
#[derive(Debug)]
struct Sent {
    place: String,
    turn: usize,
    /// It asks for an accept and an application ACK, both also where all is well.
    asks_for_both: bool,
    /// The answers to it so far.
    codes: Vec<String>,
}

impl Sent {
    /// An application ACK is due that has not come.
    fn is_owed(&self) -> bool {
        self.asks_for_both && self.codes.iter().any(|code| code == "CA") && self.codes.iter().all(|code| code == "CA")
    }
}

impl Conversation {
    /// Connects, over TLS where it is given.
    pub async fn begin(address: &str, tls: Option<ClientTls>, ack_timeout: Duration) -> Result<Conversation, NoAnswer> {
        let client = Client::connect_over(address, tls.as_ref(), ack_timeout).await?;
        Ok(Conversation {
            address: address.to_owned(),
            tls,
            ack_timeout,
            client,
            sent: HashMap::new(),
            turn: Turn::default(),
        })
    }

    /// Sends one message, or one batch, and tells what comes until its own answer is there; how many ACKs that has. After a
    /// fault the next message goes over another connection.
    pub async fn say(&mut self, place: &str, frame: &[u8], tell: &mut impl FnMut(Told)) -> Result<usize, NoAnswer> {
        self.note(place, frame);
        let answered = match self.client.send_frame(frame).await {
            Ok(()) => self.own(Instant::now() + self.ack_timeout, tell).await,
            Err(fault) => Err(fault),
        };
        if answered.is_err() {
            self.client = Client::connect_over(&self.address, self.tls.as_ref(), self.ack_timeout).await?;
        }
        answered
    }

    /// Waits for the application ACKs that are still due; the messages whose did not come in time.
    pub async fn end(mut self, tell: &mut impl FnMut(Told)) -> Vec<String> {
        let deadline = Instant::now() + self.ack_timeout;
        while self.sent.values().any(Sent::is_owed) {
            match self.client.answers_until(deadline).await {
                Ok(acks) => drop(self.take(acks, tell)),
                Err(_) => break,
            }
        }
        let mut owed: Vec<&Sent> = self.sent.values().filter(|sent| sent.is_owed()).collect();
        owed.sort_by_key(|sent| sent.turn);
        owed.into_iter().map(|sent| sent.place.clone()).collect()
    }

    fn note(&mut self, place: &str, frame: &[u8]) {
        self.turn = Turn { number: self.turn.number + 1, place: place.to_owned(), named: false };
        for message in messages_in(frame) {
            let asks = |number| matches!(field(&message, "MSH", number), Some(b"AL" | b"SU"));
            self.enter(field(&message, "MSH", 10), asks(15) && asks(16));
        }
        // A batch that is refused whole is answered by the control id of its own header, field 11 of either.
        ["FHS", "BHS"].into_iter().for_each(|header| self.enter(field(frame, header, 10), false));
    }

    fn enter(&mut self, control_id: Option<&[u8]>, asks_for_both: bool) {
        let Some(id) = control_id.map(<[u8]>::trim_ascii).filter(|id| !id.is_empty()) else { return };
        let Turn { number, place, named } = &mut self.turn;
        *named = true;
        let sent = Sent { place: place.clone(), turn: *number, asks_for_both, codes: Vec::new() };
        self.sent.insert(id.to_vec(), sent);
    }

    async fn own(&mut self, deadline: Instant, tell: &mut impl FnMut(Told)) -> Result<usize, NoAnswer> {
        loop {
            let acks = match self.client.answers_until(deadline).await {
                // Its time began when the message was sent, not with an answer to another one.
                Err(NoAnswer::Timeout(_)) => return Err(NoAnswer::Timeout(self.ack_timeout)),
                acks => acks?,
            };
            let count = acks.len();
            if self.take(acks, tell) {
                return Ok(count);
            }
        }
    }

    /// Tells the answers of one frame; whether they are those to the message sent last.
    fn take(&mut self, acks: Vec<Ack>, tell: &mut impl FnMut(Told)) -> bool {
        // A batch without acknowledgements names nobody.
        let mut is_own = acks.is_empty();
        for ack in acks {
            let told = self.told(ack);
            is_own |= !told.late && told.place.is_some();
            tell(told);
        }
        is_own
    }

    fn told(&mut self, ack: Ack) -> Told {
        let id = ack.control_id.trim_ascii();
        if let Some(sent) = self.sent.get_mut(id) {
            sent.codes.push(ack.code.clone());
            return Told { place: Some(sent.place.clone()), late: sent.turn < self.turn.number, ack };
        }
        // Where the receiver, or this side, could not read the control id, it is the one that waits.
        let is_own = id.is_empty() || !self.turn.named;
        Told { place: is_own.then(|| self.turn.place.clone()), late: false, ack }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::frame::{Deframer, framed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn message(id: &str, msh_15: &str, msh_16: &str) -> Vec<u8> {
        format!("MSH|^~\\&|GW|W|||20260102030405+0000||ORU^R01|{id}|P|2.6|||{msh_15}|{msh_16}\r").into_bytes()
    }

    async fn put(stream: &mut TcpStream, code: &str, id: &str) {
        let ack = format!("MSH|^~\\&|||||20260102||ACK|1|P|2.6\rMSA|{code}|{id}\r");
        stream.write_all(&framed(ack.as_bytes())).await.unwrap();
    }

    /// A receiver that gives, for each message it reads, the next of `answers`: codes and control ids.
    async fn receiver(answers: Vec<Vec<(&'static str, &'static str)>>) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut frames = Deframer::new(1 << 20);
            for answers in answers {
                while frames.next_message().unwrap().is_none() {
                    assert_ne!(stream.read_buf(&mut frames.buffer).await.unwrap(), 0);
                }
                for (code, id) in answers {
                    put(&mut stream, code, id).await;
                }
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        (address, task)
    }

    fn shown(told: &[Told]) -> Vec<String> {
        let of = |told: &Told| {
            let late = if told.late { " late" } else { "" };
            format!("{} {}{late}", told.place.as_deref().unwrap_or("-"), told.ack.code)
        };
        told.iter().map(of).collect()
    }

    #[tokio::test]
    async fn a_late_application_ack_is_told_with_its_own_message_and_the_next_one_waits_for_its_own() {
        let answers = vec![vec![("CA", "1")], vec![("AA", "1"), ("CA", "2")], vec![("AE", "3"), ("AR", "2")]];
        let (address, receiver) = receiver(answers).await;
        let mut conversation = Conversation::begin(&address, None, PATIENCE).await.unwrap();
        let mut told = Vec::new();
        let mut tell = |one| told.push(one);
        conversation.say("a", &message("1", "AL", "AL"), &mut tell).await.unwrap();
        conversation.say("b", &message("2", "AL", "AL"), &mut tell).await.unwrap();
        conversation.say("c", &message("3", "", ""), &mut tell).await.unwrap();
        assert_eq!(conversation.end(&mut tell).await, [""; 0]);
        assert_eq!(shown(&told), ["a CA", "a AA late", "b CA", "c AE", "b AR late"]);
        receiver.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_names_nobody_is_the_waiting_ones_and_one_that_names_another_is_no_answer() {
        let answers = vec![vec![("AE", "")], vec![("AA", "X")], vec![("AA", "OTHER"), ("AA", "2")]];
        let (address, receiver) = receiver(answers).await;
        let mut conversation = Conversation::begin(&address, None, PATIENCE).await.unwrap();
        let mut told = Vec::new();
        let mut tell = |one| told.push(one);
        conversation.say("a", &message("1", "", ""), &mut tell).await.unwrap();
        conversation.say("b", b"no message", &mut tell).await.unwrap();
        conversation.say("c", &message("2", "", ""), &mut tell).await.unwrap();
        assert_eq!(shown(&told), ["a AE", "b AA", "- AA", "c AA"]);
        drop(conversation);
        receiver.await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_is_answered_by_its_messages_or_as_a_whole_by_its_header() {
        let (address, receiver) = receiver(vec![vec![("AA", "1")], vec![("AE", "F1")]]).await;
        let mut conversation = Conversation::begin(&address, None, PATIENCE).await.unwrap();
        let batch = [b"FHS|^~\\&|GW|||||||| F1\r", &message("1", "", "")[..], b"FTS|1\r"].concat();
        for _ in 0..2 {
            assert_eq!(conversation.say("a", &batch, &mut |told| assert!(!told.late)).await.unwrap(), 1);
        }
        drop(conversation);
        receiver.await.unwrap();
    }

    #[tokio::test]
    async fn an_application_ack_that_was_asked_for_and_does_not_come_is_named() {
        let (address, receiver) = receiver(vec![vec![("CA", "1")], vec![("CA", "2")], vec![("CE", "3")]]).await;
        let mut conversation = Conversation::begin(&address, None, PATIENCE).await.unwrap();
        conversation.say("a", &message("1", "AL", "AL"), &mut drop).await.unwrap();
        conversation.say("b", &message("2", "AL", "NE"), &mut drop).await.unwrap();
        conversation.say("c", &message("3", "AL", "AL"), &mut drop).await.unwrap();
        conversation.ack_timeout = Duration::from_millis(50);
        assert_eq!(conversation.end(&mut drop).await, ["a"]);
        receiver.await.unwrap();
    }
}
