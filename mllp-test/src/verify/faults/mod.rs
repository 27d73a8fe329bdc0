//! The fault matrix. Each file holds a group of faults; each is listed here once.

mod backlog;
mod clock;
mod damage;
mod disk;
mod everything;
mod fhir;
mod full;
mod limits;
mod line;
mod medium;
mod operator;
mod peers;
mod power;
mod process;
mod reload;
mod shim;
mod source;

pub(super) use process::UNDER_KILLS;

use super::Fault;

const GROUPS: &[&[Fault]] = &[
    process::FAULTS,
    peers::FAULTS,
    backlog::FAULTS,
    clock::FAULTS,
    reload::FAULTS,
    everything::FAULTS,
    source::FAULTS,
    operator::FAULTS,
    fhir::FAULTS,
    power::FAULTS,
    full::FAULTS,
    limits::FAULTS,
    medium::FAULTS,
    disk::FAULTS,
    damage::FAULTS,
];

/// Every fault, in the order of the matrix.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    let mut all: Vec<&Fault> = GROUPS.iter().flat_map(|group| group.iter()).collect();
    all.sort_by_key(|fault| fault.id[1..].parse::<u32>().unwrap_or(u32::MAX));
    all.into_iter()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::collections::HashSet;

    #[test]
    fn each_fault_has_an_id_of_its_own_and_says_what_it_does() {
        let mut ids = HashSet::new();
        for fault in super::all() {
            assert!(ids.insert(fault.id), "{} is there twice", fault.id);
            assert!(fault.id.starts_with(['F', 'I']) && !fault.what.is_empty(), "{}", fault.id);
            assert!((1..=50).contains(&fault.group) && fault.release >= fault.quick, "{}", fault.id);
        }
    }
}
