//! The readings of one patient out of messages that are kept.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    channel::Channel,
    hl7::Message,
    pcd::{
        Nomenclature,
        cgm::{self, LeftOut, PatientNamed, Reading},
    },
    store::{Sequence, Store, StoreError},
};

/// Readings in the order they were received.
#[derive(Default)]
pub struct Readings {
    /// Those that count.
    pub readings: Vec<Reading>,
    /// Rows that do not.
    pub left_out: LeftOut,
    /// Messages that were read.
    pub messages: usize,
    /// Under which authorities the patient was named.
    pub authorities: BTreeSet<String>,
}

impl Readings {
    /// Of the messages `ids`, oldest first, each as its channel reads it.
    pub async fn read(
        store: &dyn Store,
        channels: &[Arc<Channel>],
        nomenclature: &Nomenclature,
        ids: impl Iterator<Item = Sequence>,
        patient: &PatientNamed<'_>,
    ) -> Result<Readings, StoreError> {
        let mut found = Readings::default();
        for id in ids {
            let Some((channel, bytes)) = kept(store, id).await? else { continue };
            let own = channels.iter().find(|own| own.name == channel);
            let message = own.map_or_else(|| Message::parse(bytes.clone()), |own| own.read(bytes.clone()));
            let Ok(message) = message else { continue };
            found.messages += 1;
            let Readings { readings, authorities, left_out, .. } = &mut found;
            readings.extend(cgm::read(&message, nomenclature, patient, authorities, left_out));
            tokio::task::yield_now().await;
        }
        Ok(found)
    }
}

/// A message with its channel. None where its time to be kept ran out meanwhile, or a store that is well cannot read it.
pub(super) async fn kept(store: &dyn Store, id: Sequence) -> Result<Option<(Arc<str>, bytes::Bytes)>, StoreError> {
    match store.read(id).await {
        Ok(kept) => Ok(Some((kept.summary.channel, kept.message))),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => match error {
            StoreError::Closed => Err(error),
            _ => store.health().map(|()| None),
        },
    }
}
