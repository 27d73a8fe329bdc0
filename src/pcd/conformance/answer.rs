//! Acknowledgements, alert status and infusion orders (D01, D02, B09; IHE PCD TF-2 B.2, B.3, 3.3.4.4; CP-150, CP-159).
//!
//! What an answer should have been asked for as, and whether its control id is that of a message sent, only both sides
//! together can tell: not looked for here.

use super::{
    Reading, Told,
    contradiction::AMOUNTS,
    reading::{part, raw},
};
use crate::{
    hl7::{Segment, ack::Code},
    pcd::Transaction,
};

pub(super) fn acknowledgement(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(msa) = reading.segments("MSA").next() else {
        // Whether an alert status needs one is B09's.
        if reading.transaction != Transaction::Pcd05 {
            told.absent("MSA", "an acknowledgement needs an MSA");
        }
        return;
    };
    let code = Code::parse(raw(msa, 1).trim_ascii());
    if code.is_none() {
        told.error(msa, 1, 103, "MSA-1 is none of CA, CE, CR, AA, AE and AR");
    }
    if raw(msa, 2).is_empty() {
        told.error(msa, 2, 101, "MSA-2 is empty; send MSH-10 of the message that is acknowledged");
    }
    for n in [3, 6].into_iter().filter(|n| !raw(msa, *n).is_empty()) {
        told.error(msa, n, 102, "MSA-3 and MSA-6 are not used; tell errors in ERR");
    }
    let refused = code.is_some_and(|code| !code.is_positive());
    if refused && reading.segments("ERR").next().is_none() {
        told.absent("ERR", "a refusal needs an ERR");
    }
    for err in reading.segments("ERR") {
        error_segment(err, told);
    }
}

fn error_segment(err: Segment<'_>, told: &mut Told<'_>) {
    if !raw(err, 1).is_empty() {
        told.error(err, 1, 102, "ERR-1 is not used; send place and code in ERR-2 and ERR-3");
    }
    if part(err, 3, 1).is_empty() {
        told.error(err, 3, 101, "ERR-3 is empty; send a code of table 0357");
    }
    if raw(err, 4).is_empty() {
        told.error(err, 4, 101, "ERR-4 is empty; send the severity");
    }
}

pub(super) fn alert_status(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(msa) = reading.segments("MSA").next() else {
        return told.tell(
            super::Severity::Warning,
            || super::Place::named("MSA", 1, 0),
            100,
            "an alert status needs an MSA",
        );
    };
    if raw(msa, 2).is_empty() {
        told.warning(msa, 2, 101, "MSA-2 does not name MSH-10 of the alert");
    }
    for n in [7, 8].into_iter().filter(|n| !raw(msa, *n).is_empty()) {
        told.warning(msa, n, 102, "MSA-7 and MSA-8 are not used; leave them empty");
    }
}

pub(super) fn order(reading: &Reading<'_>, told: &mut Told<'_>) {
    match reading.segments("ORC").next() {
        None => told.absent("ORC", "an infusion order needs an ORC"),
        Some(orc) if raw(orc, 9).is_empty() => told.error(orc, 9, 101, "ORC-9 is empty; send when it was ordered"),
        Some(_) => {}
    }
    if reading.segments("RXG").next().is_none() {
        told.absent("RXG", "an infusion order needs an RXG");
    }
    for rxg in reading.segments("RXG") {
        for n in [4, 5].into_iter().filter(|n| raw(rxg, *n).is_empty()) {
            told.error(rxg, n, 101, "RXG has not drug and amount");
        }
        for (amount, unit) in AMOUNTS {
            if raw(rxg, amount).is_empty() != raw(rxg, unit).is_empty() {
                told.error(rxg, unit, 101, "an amount of RXG and its unit do not come together");
            }
        }
    }
    match reading.segments("RXR").next() {
        None => told.absent("RXR", "an infusion order needs an RXR"),
        Some(rxr) if !matches!(part(rxr, 4, 1), b"IV" | b"IVPB") => {
            told.error(rxr, 4, 103, "RXR-4 is not IV or IVPB");
        }
        Some(_) => {}
    }
    let pump = reading.rows_of(69_986, b"MDC_DEV_PUMP_INFUS_VMD").next();
    match pump {
        None => told.absent("OBX", "no row names the pump (69986, with OBX-18)"),
        Some(row) if row.raw(18).is_empty() => told.error(row.obx, 18, 101, "OBX-18 does not name the pump"),
        Some(_) => {}
    }
}
