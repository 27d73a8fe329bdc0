//! Which messages of a channel are of which patient, and which summaries it has.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{readings::kept, received_from};
use crate::{
    channel::Channel,
    hl7::Message,
    pcd::cgm::{self, MARK},
    store::{Query, Sequence, Store, StoreError},
    translate::is_cgm_summary,
};

/// Messages of a query.
const PAGE: usize = 1_000;

/// A patient of the channel.
pub(super) struct Patient {
    /// The best of the identifiers of their newest message.
    pub id: String,
    /// Who assigned it; empty where that is not said.
    pub authority: String,
    /// Their messages, newest first.
    pub ids: Vec<Sequence>,
}

impl Patient {
    pub fn is_one_of(&self, identifiers: &[(String, String)]) -> bool {
        identifiers.iter().any(|(id, authority)| (id, authority) == (&self.id, &self.authority))
    }
}

/// What a channel received from the start of a period on: eight bytes a message, and a patient's identifiers.
#[derive(Default)]
pub(super) struct Gathered {
    patients: Vec<Patient>,
    by_identifier: HashMap<(String, String), usize>,
    summaries: HashSet<Vec<u8>>,
}

impl Gathered {
    /// Everything received from then on: readings may come long after they were made. Of what was received from `marked_from`
    /// on only what may tell of glucose is read.
    pub async fn of(
        store: &dyn Store,
        channel: &Channel,
        from: Timestamp,
        marked_from: Option<Timestamp>,
    ) -> Result<Gathered, StoreError> {
        let query = Query {
            channel: Some(channel.name.to_string()),
            from: received_from(from),
            limit: PAGE,
            ..Query::default()
        };
        let marked = Query { device: Some(MARK.to_vec()), from: query.from.max(marked_from), ..query.clone() };
        let before = marked_from.is_none_or(|marked| query.from.is_none_or(|from| from < marked));
        let unmarked = Query { to: marked_from, ..query };
        let mut gathered = Gathered::default();
        if marked_from.is_some() {
            gathered.take(store, channel, marked).await?;
        }
        if before {
            gathered.take(store, channel, unmarked).await?;
            // What was received at the very moment from which messages are marked is found by both.
            for patient in &mut gathered.patients {
                patient.ids.sort_unstable_by(|one, other| other.cmp(one));
                patient.ids.dedup();
            }
        }
        Ok(gathered)
    }

    /// What the query finds, newest first.
    async fn take(&mut self, store: &dyn Store, channel: &Channel, mut query: Query) -> Result<(), StoreError> {
        loop {
            let page = store.find(query.clone()).await?;
            for found in &page {
                let Some((_, bytes)) = kept(store, found.id).await? else { continue };
                if let Ok(message) = channel.read(bytes) {
                    self.add(found.id, &message);
                }
                tokio::task::yield_now().await;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            query.cursor = page.last().map(|found| found.id);
        }
    }

    pub fn patients(&self) -> impl Iterator<Item = &Patient> {
        self.patients.iter()
    }

    /// Whether a summary of this control id is stored.
    pub fn holds(&self, control_id: &str) -> bool {
        self.summaries.contains(control_id.as_bytes())
    }

    fn add(&mut self, id: Sequence, message: &Message) {
        if is_cgm_summary(message) {
            self.summaries.insert(message.msh().raw_field(10).to_vec());
            return;
        }
        for named in cgm::patients(message) {
            let known = named.identifiers.iter().find_map(|identifier| self.by_identifier.get(identifier).copied());
            let place = known.unwrap_or_else(|| self.admit(&named.identifiers[0]));
            named.identifiers.into_iter().for_each(|identifier| {
                self.by_identifier.entry(identifier).or_insert(place);
            });
            let ids = &mut self.patients[place].ids;
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
    }

    fn admit(&mut self, (id, authority): &(String, String)) -> usize {
        self.patients.push(Patient { id: id.clone(), authority: authority.clone(), ids: Vec::new() });
        self.patients.len() - 1
    }
}
