//! What stands in the record after a course, held against what was truly given.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{super::*, check_r4, context, parse},
    pump::{Piece, Said},
};
use crate::translate::{NOTE_BYTES_MAX, Remembered};

/// An administration as the server keeps it.
pub(super) struct Kept {
    pub resource: Value,
    pub pump: u8,
    /// The pump says what is a bolus.
    says_mode: bool,
    /// Time of the last event that told of it.
    pub told: i64,
}

#[derive(Default)]
pub(super) struct Record {
    remembered: Remembered,
    pub kept: BTreeMap<String, Kept>,
    messages: usize,
}

impl Record {
    pub fn take(&mut self, settings: &PcdToFhir, said: &Said) {
        self.take_at(settings, said, context());
    }

    pub fn take_at(&mut self, settings: &PcdToFhir, said: &Said, context: Context) {
        self.messages += 1;
        let message = parse(&said.text(self.messages));
        let recall = |episode: &[u8]| self.remembered.recall(episode);
        let translated = apply(settings, &message, context, &recall).unwrap();
        let notes = translated.episodes.iter().filter_map(|change| change.note.as_ref());
        let longest = notes.map(|note| note.len()).max().unwrap_or_default();
        assert!(longest < NOTE_BYTES_MAX / 2, "{longest}");
        self.remembered.change(&translated.episodes);
        if !translated.is_sent() {
            return;
        }
        let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
        check_r4(&bundle);
        let resources = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
        for resource in resources.filter(|resource| resource["resourceType"] == "MedicationAdministration") {
            let subject = resource["subject"]["reference"].as_str().unwrap();
            assert!(subject.ends_with(&format!("P{}", said.patient)), "{subject}");
            let name = resource["identifier"][0]["value"].as_str().unwrap().to_owned();
            let kept =
                Kept { resource: resource.clone(), pump: said.pump, says_mode: said.mode.is_some(), told: said.at };
            if let Some(before) = self.kept.insert(name.clone(), kept) {
                let same = |part: &str| assert_eq!(before.resource[part], resource[part], "{part} became another's");
                same("subject");
                assert_eq!(before.pump, said.pump);
                let kept = self.kept.get_mut(&name).unwrap();
                (kept.told, kept.says_mode) = (kept.told.max(before.told), kept.says_mode || before.says_mode);
            }
        }
    }
}

impl Kept {
    pub fn status(&self) -> &str {
        self.resource["status"].as_str().unwrap()
    }

    /// In thousandths.
    pub fn dose(&self) -> Option<i64> {
        let dose = self.resource["dosage"]["dose"]["value"].as_number()?.to_string();
        let (whole, part) = dose.split_once('.').unwrap_or((&dose, ""));
        Some(whole.parse::<i64>().unwrap() * 1000 + format!("{part:0<3}").parse::<i64>().unwrap())
    }

    pub fn rate(&self) -> Option<String> {
        Some(self.resource["dosage"]["rateQuantity"]["value"].as_number()?.to_string())
    }

    pub fn time(&self, part: &str) -> Option<i64> {
        let time: jiff::Timestamp = self.resource["effectivePeriod"][part].as_str()?.parse().unwrap();
        let begin: jiff::Timestamp = "2026-03-01T10:00:00+01:00".parse().unwrap();
        Some(time.as_second() - begin.as_second())
    }

    pub fn patient(&self) -> u8 {
        let reference = self.resource["subject"]["reference"].as_str().unwrap();
        reference.rsplit('P').next().unwrap().parse().unwrap()
    }

    pub fn drug(&self) -> u8 {
        let code = self.resource["medicationCodeableConcept"]["coding"][0]["code"].as_str().unwrap();
        code[1..].parse().unwrap()
    }

    fn is_bolus(&self) -> bool {
        self.resource["dosage"]["text"] == "bolus"
    }

    /// What was truly given by it, as far as it was told of.
    pub fn pieces<'t>(&self, truth: &'t [Piece]) -> Vec<&'t Piece> {
        let (start, end) = (self.time("start"), self.time("end").unwrap_or(self.told));
        let own = |piece: &&Piece| self.is_of(piece) && (!self.says_mode || piece.bolus == self.is_bolus());
        let within = |piece: &&Piece| start.is_none_or(|start| piece.start >= start) && piece.end <= end;
        truth.iter().filter(own).filter(within).collect()
    }

    /// Same pump, patient and drug.
    pub fn is_of(&self, piece: &Piece) -> bool {
        (piece.pump, piece.patient, piece.drug) == (self.pump, self.patient(), self.drug())
    }

    /// The dose is the sum of some of what was truly given by it.
    pub fn is_sum(&self, truth: &[Piece]) -> bool {
        let Some(dose) = self.dose() else { return true };
        let mut sums = std::collections::BTreeSet::from([0]);
        for piece in self.pieces(truth) {
            let more: Vec<i64> = sums.iter().map(|sum| sum + piece.volume).filter(|sum| *sum <= dose).collect();
            sums.extend(more);
        }
        sums.contains(&dose)
    }

    pub fn given(&self, truth: &[Piece]) -> i64 {
        self.pieces(truth).iter().map(|piece| piece.volume).sum()
    }

    pub fn describe(&self) -> String {
        let Kept { pump, told, .. } = self;
        let (start, end) = (self.time("start"), self.time("end"));
        format!(
            "pump {pump} patient {} drug {} {start:?} to {end:?}, told {told}: {} {:?} at {:?}",
            self.patient(),
            self.drug(),
            self.status(),
            self.dose(),
            self.rate()
        )
    }
}
