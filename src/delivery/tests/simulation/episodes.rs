//! What destinations remember in the simulation: of each sender, how many of its messages were accepted and a sum over them
//! in order, so that one that was forgotten, remembered twice or out of turn is told from what it should be.

use bytes::Bytes;

use crate::{
    delivery::tests::bench::Translation,
    hl7::Message,
    translate::{Context, EpisodeChange, Format, Recall, Translated},
};

/// The episode of one sender.
pub(super) fn episode(sender: u32) -> Vec<u8> {
    format!("G{sender}").into_bytes()
}

/// The note once `id` is accepted too; of different lengths, as notes are, and as short beside the simulated segments as real
/// ones are beside real segments.
pub(super) fn noted(before: Option<&[u8]>, id: u64) -> Bytes {
    let number = |at: usize| {
        let bytes = before.and_then(|note| note.get(at..at + 8)?.first_chunk::<8>().copied());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let (count, sum) = (number(0) + 1, (number(8) ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let filler = vec![0; (id as usize % 7) * 4];
    [&count.to_le_bytes(), &sum.to_le_bytes(), filler.as_slice()].concat().into()
}

/// The message as it is, and its sender's episode changed.
pub(super) fn as_it_is(message: &Message, context: Context, recall: &Recall<'_>) -> Translation {
    let control_id = message.text(message.msh().field(10).raw()).into_owned();
    let episode = control_id.split('-').next().unwrap_or_default().as_bytes().to_vec();
    let note = Some(noted(recall(&episode).as_deref(), context.id));
    let episodes = vec![EpisodeChange { episode: episode.into(), note, open: true }];
    Ok(Translated {
        body: message.bytes(),
        format: Format::Hl7,
        unsent: None,
        doubt: None,
        unmapped: vec![],
        origins: vec![],
        episodes,
    })
}
