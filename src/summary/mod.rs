//! Summaries of continuous glucose by a schedule: what is due is made of the messages kept, and given to the store as a
//! message of its own, which then goes the way of every other one.
//!
//! What must never happen: a summary made twice, or one that was due and is not made, whatever stopped the engine. So a
//! summary's control id is of channel, name, patient and period alone, those that the store has are not made again, and what is done for
//! good is noted only once all of it is stored.

mod done;
mod gathered;
mod readings;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tracing::{info, warn};

use crate::{
    channel::{Channel, Due, Summary},
    clock::Clock,
    hl7::Message,
    metrics::Metrics,
    pcd::{
        self, Nomenclature,
        cgm::{self, CgmSummary, PatientNamed},
    },
    store::{Received, SearchKeys, Store, StoreError},
    translate::{SummaryHead, summary_message},
};
use done::Done;
use gathered::{Gathered, Patient};
pub use readings::Readings;

/// Between two looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the store could not tell or take something.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Missed ones that are made after a long stop.
const MISSED_MAX: usize = 31;

/// Makes what is due.
pub struct Summaries {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    nomenclature: Arc<ArcSwap<Nomenclature>>,
    /// Held from a look at the lanes until the store has what goes by them.
    channels: RwLock<Vec<Arc<Channel>>>,
    done: Done,
    /// What was received from then on is marked where it may tell of glucose.
    opened_at: Timestamp,
}

/// What became of the summary of one patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Made,
    /// An earlier making, which did not come to its end, had it stored.
    Before,
    TooFew,
    Ambiguous,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Made, Outcome::Before, Outcome::TooFew, Outcome::Ambiguous];

    fn label(self) -> &'static str {
        match self {
            Outcome::Made => "made",
            Outcome::Before => "made_before",
            Outcome::TooFew => "too_few",
            Outcome::Ambiguous => "ambiguous",
        }
    }
}

impl Summaries {
    /// With what `folder`, the store's, says is done.
    pub fn open(
        folder: &Path,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        nomenclature: Arc<ArcSwap<Nomenclature>>,
    ) -> Summaries {
        let (done, opened_at) = (Done::in_store(folder), clock.now());
        Summaries { opened_at, store, clock, metrics, nomenclature, channels: RwLock::default(), done }
    }

    /// Makes those of these channels from now on. When this returns the store has been given all that was routed by those before.
    pub fn set_channels(&self, channels: &[Arc<Channel>]) {
        *self.channels.write().unwrap_or_else(PoisonError::into_inner) = channels.to_vec();
    }

    /// Makes what is due when it is, until dropped.
    pub async fn keep_up(self: Arc<Self>) {
        let mut failing = false;
        loop {
            let made = self.make_due().await;
            if let Err(error) = &made
                && !failing
            {
                warn!(%error, "summaries are not made: the store is asked again every minute");
            }
            failing = made.is_err();
            tokio::time::sleep(if failing { RETRY_AFTER } else { LOOK_EVERY }).await;
        }
    }

    /// Makes all that is due by now, each channel's in the order they were due.
    pub async fn make_due(&self) -> Result<(), StoreError> {
        let channels = self.channels().clone();
        for channel in &channels {
            for summary in &channel.summaries {
                for due in self.due(channel, summary) {
                    self.make(channel, summary, &due).await?;
                    self.done.note(&channel.name, &summary.name, due.at.timestamp()).await;
                }
            }
        }
        Ok(())
    }

    /// Where nothing is known of earlier ones the last is made: its messages tell whether it was made before.
    fn due(&self, channel: &Channel, summary: &Summary) -> Vec<Due> {
        let now = self.clock.now();
        match self.done.of(&channel.name, &summary.name) {
            Some(made) => summary.due_after(made, now, MISSED_MAX),
            None => summary.last_due(now).into_iter().collect(),
        }
    }

    async fn make(&self, channel: &Arc<Channel>, summary: &Summary, due: &Due) -> Result<(), StoreError> {
        let marked_from = match cgm::is_sure(&self.nomenclature.load()) {
            true => Some(self.done.marked_from(self.opened_at).await),
            false => None,
        };
        let gathered = Gathered::of(&*self.store, channel, due.from, marked_from).await?;
        let mut counts = [0_u64; Outcome::ALL.len()];
        for patient in gathered.patients() {
            let Some(outcome) = self.make_one(channel, summary, due, patient, &gathered).await? else { continue };
            counts[outcome as usize] += 1;
            self.metrics.summaries.with_label_values(&[&*channel.name, outcome.label()]).inc();
        }
        let [made, made_before, too_few, ambiguous] = counts;
        info!(channel = %channel.name, summary = %summary.name, due = %due.at.timestamp(), made, made_before, too_few, ambiguous, "summaries made");
        Ok(())
    }

    /// `None` of a patient without readings.
    async fn make_one(
        &self,
        channel: &Arc<Channel>,
        summary: &Summary,
        due: &Due,
        patient: &Patient,
        gathered: &Gathered,
    ) -> Result<Option<Outcome>, StoreError> {
        let control_id = self.control_id(channel, summary, due, patient);
        if gathered.holds(&control_id) {
            return Ok(Some(Outcome::Before));
        }
        let authority = Some(patient.authority.as_str()).filter(|authority| !authority.is_empty());
        let named = PatientNamed { id: &patient.id, authority };
        let ids = patient.ids.iter().rev().copied();
        let channels = std::slice::from_ref(channel);
        let nomenclature = self.nomenclature.load_full();
        let found = Readings::read(&*self.store, channels, &nomenclature, ids, &named).await?;
        if found.readings.is_empty() {
            return Ok(None);
        }
        if found.authorities.len() > 1 {
            return Ok(Some(Outcome::Ambiguous));
        }
        let told = CgmSummary::of(found.readings, (due.from, due.to), None);
        let Some(message) = self.written(channel, &told, due, patient, &control_id).await? else {
            return Ok(Some(Outcome::TooFew));
        };
        self.give(channel, summary, message).await?;
        Ok(Some(Outcome::Made))
    }

    /// The summary as a message of the patient as they were named last.
    async fn written(
        &self,
        channel: &Channel,
        told: &CgmSummary,
        due: &Due,
        patient: &Patient,
        control_id: &str,
    ) -> Result<Option<Message>, StoreError> {
        let Some(newest) = patient.ids.first() else { return Ok(None) };
        let kept = match self.store.read(*newest).await {
            Err(StoreError::NotFound) => return Ok(None),
            kept => kept?,
        };
        let Ok(source) = channel.read(kept.message) else { return Ok(None) };
        let is_named = |named: &cgm::Named<'_>| patient.is_one_of(&named.identifiers);
        let Some(named) = cgm::patients(&source).find(is_named) else { return Ok(None) };
        let head = SummaryHead { pid: named.pid, control_id, channel: &channel.name, due: &due.at };
        Ok(summary_message(told, &head).and_then(|bytes| Message::parse(bytes).ok()))
    }

    /// Stores it, routed by the lanes in force.
    async fn give(&self, channel: &Channel, summary: &Summary, message: Message) -> Result<(), StoreError> {
        let given = {
            let channels = self.channels();
            let now = channels.iter().find(|one| one.name == channel.name);
            let read = channel.view(&message);
            let route = |to: &Arc<str>| now.and_then(|channel| channel.route_to(to, &read));
            self.store.append(Received {
                channel: channel.name.clone(),
                at: self.clock.now(),
                routes: summary.destinations.iter().filter_map(route).collect(),
                repeat: None,
                ack: None,
                keys: SearchKeys {
                    control_id: message.msh().raw_field(10).to_vec(),
                    patient: pcd::patient_keys(&read).into_iter().map(String::into_bytes).collect(),
                    device: vec![cgm::MARK.to_vec()],
                },
                findings: Vec::new(),
                message: message.bytes(),
            })
        };
        given.await.map(|_| ())
    }

    /// Of channel, summary, patient and period, so that the same is never made twice, under the store's key, so that no guess of
    /// the patient can be tested by it; MSH-10 has room for 20 characters.
    fn control_id(&self, channel: &Channel, summary: &Summary, due: &Due, patient: &Patient) -> String {
        let period = format!("{} {}", due.from, due.to);
        let parts = [&*channel.name, &*summary.name, &patient.id, &patient.authority, &period];
        format!("CGM{:016X}", self.store.pseudonym(&parts.map(str::as_bytes)))
    }

    fn channels(&self) -> RwLockReadGuard<'_, Vec<Arc<Channel>>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a device's clock may be ahead of ours: its reading may have been received before the moment it tells.
const CLOCK_AHEAD_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// From when on messages are looked at for readings from `from` on.
pub fn received_from(from: Timestamp) -> Option<Timestamp> {
    from.checked_sub(CLOCK_AHEAD_MAX).ok()
}

#[cfg(test)]
mod tests;
