//! O1 to O10: an answer that is wrong, late, double, no answer, negative, too long, or only the first of two.

use super::super::message::Mode;
use super::Stage;
use crate::frame::framed;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// A poison message may be sent so often before the sender goes on.
const TRIES_MAX: usize = 20;

/// One row.
pub(super) struct Row {
    pub(super) number: u8,
    pub(super) what: &'static str,
    pub(super) answered: &'static str,
    pub(super) expected: &'static str,
    pub(super) check: Check,
}

type Check = for<'s, 'o> fn(&'s mut Stage<'o>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 's>>;

const AGAIN: &str =
    "ignored; once the sender's timeout is over the connection closed and the same MSH-10 sent over a new one";

pub(super) const ROWS: [Row; 12] = [
    Row {
        number: 1,
        what: "an answer to another control id",
        answered: "AA or CA with another MSA-2",
        expected: AGAIN,
        check: |stage| Box::pin(wrong_control_id(stage)),
    },
    Row {
        number: 2,
        what: "the answer of the message before, late",
        answered: "AA or CA with the last message's MSA-2",
        expected: AGAIN,
        check: |stage| Box::pin(stale(stage)),
    },
    Row {
        number: 3,
        what: "two answers",
        answered: "AA or CA and AE or CE at once; to the next message nothing",
        expected: "the first wins; the second is not taken for the next message's",
        check: |stage| Box::pin(double(stage)),
    },
    Row {
        number: 4,
        what: "an answer without frame",
        answered: "a good answer without VT, FS and CR",
        expected: AGAIN,
        check: |stage| Box::pin(bare(stage)),
    },
    Row {
        number: 4,
        what: "garbage in a frame",
        answered: "a frame of no HL7",
        expected: AGAIN,
        check: |stage| Box::pin(garbage(stage)),
    },
    Row {
        number: 5,
        what: "an answer without MSA",
        answered: "MSH alone",
        expected: AGAIN,
        check: |stage| Box::pin(without_msa(stage)),
    },
    Row {
        number: 6,
        what: "AE or CE",
        answered: "AE or CE with ERR-3 102, each time",
        expected: "sent again 20 times at most; then the next message",
        check: |stage| Box::pin(refused(stage, "E", "102")),
    },
    Row {
        number: 7,
        what: "AR or CR about the message",
        answered: "AR or CR with ERR-3 200, each time",
        expected: "sent again 20 times at most; then the next message",
        check: |stage| Box::pin(refused(stage, "R", "200")),
    },
    Row {
        number: 7,
        what: "AR or CR about the receiver",
        answered: "AR or CR with ERR-3 207, once",
        expected: "the same message again, and no other before",
        check: |stage| Box::pin(unready(stage)),
    },
    Row { number: 8, what: "no answer", answered: "nothing", expected: AGAIN, check: |stage| Box::pin(silent(stage)) },
    Row {
        number: 9,
        what: "an answer of more than 64 KiB",
        answered: "a frame of 70,000 bytes and no end",
        expected: "the connection closed and the same MSH-10 sent over a new one",
        check: |stage| Box::pin(endless(stage)),
    },
    Row {
        number: 10,
        what: "the accept ACK of two answers",
        answered: "CA, and no application ACK",
        expected: "not sent again",
        check: |stage| Box::pin(half_answered(stage)),
    },
];

async fn wrong_control_id(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    let other = [&message.control_id[..], b"-OTHER"].concat();
    stage.answer(&message, &framed(&message.ack_to(&other, "A", ""))).await;
    stage.repeated(&message).await
}

async fn stale(stage: &mut Stage<'_>) -> Result<(), String> {
    let before = stage.fresh().await?;
    stage.accept(&before).await;
    let message = stage.fresh().await?;
    stage.answer(&message, &framed(&before.ack("A", ""))).await;
    stage.repeated(&message).await
}

async fn double(stage: &mut Stage<'_>) -> Result<(), String> {
    let first = stage.fresh().await?;
    let both = [&framed(&first.ack("A", ""))[..], &framed(&first.ack("E", "102"))].concat();
    stage.answer(&first, &both.into()).await;
    stage.last = Some(first.clone());
    stage.feed(Mode::Enhanced).await?;
    let second = stage.message(stage.options.patience).await?;
    if second.control_id == first.control_id {
        return Err("the message was sent again though its first answer took it".to_owned());
    }
    stage.repeated(&second).await
}

async fn bare(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    stage.answer(&message, &message.ack("A", "").into()).await;
    stage.repeated(&message).await
}

async fn garbage(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    stage.answer(&message, &framed(b"\x01\x02 ok ok ok")).await;
    stage.repeated(&message).await
}

async fn without_msa(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    let ack = message.ack("A", "");
    let msh = ack.split_inclusive(|byte| *byte == b'\r').next().unwrap_or_default().to_vec();
    stage.answer(&message, &framed(&msh)).await;
    stage.repeated(&message).await
}

async fn refused(stage: &mut Stage<'_>, outcome: &str, error: &str) -> Result<(), String> {
    let poison = stage.fresh().await?;
    // There must be something to go on to.
    stage.feed(Mode::Enhanced).await?;
    let mut message = poison.clone();
    for _ in 0..TRIES_MAX {
        stage.answer(&message, &framed(&message.ack(outcome, error))).await;
        message = stage.message(stage.options.sender_timeout + stage.options.patience).await?;
        if message.control_id != poison.control_id {
            stage.accept(&message).await;
            return Ok(());
        }
    }
    Err(format!("the message was sent {TRIES_MAX} times and more: one message stops all others"))
}

async fn unready(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    stage.feed(Mode::Enhanced).await?;
    stage.answer(&message, &framed(&message.ack("R", "207"))).await;
    let again = stage.message(stage.options.sender_timeout + stage.options.patience).await?;
    if again.control_id != message.control_id {
        return Err("another message came before this one, which was not taken".to_owned());
    }
    stage.accept(&again).await;
    let next = stage.next_new().await?;
    stage.accept(&next).await;
    Ok(())
}

async fn silent(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    stage.repeated(&message).await
}

async fn endless(stage: &mut Stage<'_>) -> Result<(), String> {
    let message = stage.fresh().await?;
    let long = [b"\x0b", &message.ack("A", "")[..], &[b'x'; 70_000]].concat();
    stage.answer(&message, &Bytes::from(long)).await;
    stage.repeated(&message).await
}

async fn half_answered(stage: &mut Stage<'_>) -> Result<(), String> {
    let draft = stage.draft(Mode::Enhanced);
    stage.feed_text(&draft.asking("AL", "AL")).await?;
    let message = stage.next_new().await?;
    stage.accept(&message).await;
    match stage.message(stage.options.sender_timeout * 3).await {
        Ok(again) if again.control_id == message.control_id => {
            Err("the message was sent again though the receiver had committed to it".to_owned())
        }
        Ok(next) => {
            stage.accept(&next).await;
            Ok(())
        }
        Err(_) => Ok(()),
    }
}
