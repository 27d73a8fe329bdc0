//! OBX-4: the containment tree, and the device systems at its roots (A22, A23, A29; IHE PCD TF-2 B.8.1 to B.8.4).

use std::collections::HashSet;

use super::{Reading, Told, header::is_eui64, reading::Row};
use crate::pcd::{Containment, Level, Transaction};

pub(super) fn places(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| row.place.is_none()) {
        match row.raw(4) {
            b"" => told.error(row.obx, 4, 101, "OBX-4 is empty; send MDS.VMD.channel.metric"),
            _ => told.error(row.obx, 4, 102, "OBX-4 is not four to six numbers with dots between them"),
        }
    }
    for group in reading.rows.chunk_by(|a, b| a.group == b.group) {
        unique(group, told);
        order(group, told);
    }
}

fn unique(group: &[Row<'_>], told: &mut Told<'_>) {
    let mut seen = HashSet::with_capacity(group.len());
    for row in group {
        if row.place.is_some_and(|place| !seen.insert(place)) {
            told.error(row.obx, 4, 205, "OBX-4 stands twice in one OBR group");
        }
    }
}

/// Depth first, as in a dictionary; or all devices first and then the others, each so ordered.
fn order(group: &[Row<'_>], told: &mut Told<'_>) {
    let placed = || group.iter().filter(|row| row.place.is_some());
    if placed().is_sorted_by_key(|row| row.place) || placed().is_sorted_by_key(|row| (!row.is_device, row.place)) {
        return;
    }
    let behind = placed().zip(placed().skip(1)).find(|(before, row)| row.place < before.place);
    if let Some((_, row)) = behind {
        told.warning(row.obx, 4, 100, "the rows are not in the order of OBX-4");
    }
}

pub(super) fn ancestors(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut devices: HashSet<Containment> = HashSet::with_capacity(reading.rows.len());
    // No example of an alert tells the devices it is in, and its place need not be that of a report.
    let alert = matches!(reading.transaction, Transaction::Pcd04 | Transaction::Pcd05);
    for row in &reading.rows {
        let Some(place) = row.place else { continue };
        let mut above = place.above().filter(|up| up.levels() <= DEVICE_LEVELS);
        if row.is_device {
            devices.insert(place.key());
        } else if above.any(|up| !devices.contains(&up)) {
            match alert {
                true => told.warning(row.obx, 4, 100, "the device of an alert is not described in the message"),
                false => told.error(row.obx, 4, 100, "a device that OBX-4 says the row is in does not stand before it"),
            }
        }
    }
}

/// MDS, VMD and channel.
const DEVICE_LEVELS: usize = 3;

pub(super) fn equipment(reading: &Reading<'_>, told: &mut Told<'_>) {
    let clock = reading.rows_of(67975, b"MDC_ATTR_TIME_ABS").next().is_some();
    for row in reading.rows.iter().filter(|row| row.is_device) {
        if row.place.is_none_or(|place| place.level() != Level::Mds) {
            continue;
        }
        let field = row.obx.field(18);
        let typed = |repetition: crate::hl7::Repetition<'_>| {
            repetition.component(4).raw() == b"EUI-64" && is_eui64(repetition.component(3).raw().trim_ascii())
        };
        if field
            .repetitions()
            .all(|repetition| repetition.component(1).is_empty() && repetition.component(3).is_empty())
        {
            told.error(row.obx, 18, 101, "OBX-18 of a device system is empty; send its EUI-64");
        } else if !field.repetitions().any(typed) {
            told.warning(row.obx, 18, 103, "OBX-18 of a device system has no EUI-64");
        }
        if !clock {
            told.warning(row.obx, 0, 101, "a device system does not tell its clock (MDC_ATTR_TIME_ABS)");
        }
    }
}
