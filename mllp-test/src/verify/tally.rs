//! Figures of a fault, summed over its cycles.

use serde::{Deserialize, Serialize};

/// What was done and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Cycles audited.
    pub cycles: u32,
    /// Faults injected.
    pub faults: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Of these neither delivered nor dead.
    pub lost: u64,
    /// Acknowledged and delivered after a later one of their sender.
    pub reordered: u64,
    /// Delivered and never sent, or delivered where they do not belong.
    pub phantom: u64,
    /// Delivered with other bytes.
    pub corrupt: u64,
    /// Answers that fit no message or the wrong one.
    pub ack_mismatch: u64,
    /// Deliveries of what was delivered already.
    pub repeats: u64,
    /// Sends that the engine itself counted as possible repeats.
    pub marked: u64,
    /// The most repeats in a cycle.
    pub repeats_max: u64,
    /// Dead letters.
    pub dead: u64,
    /// The longest until nothing waited any more, in milliseconds.
    pub drain_ms: u64,
    /// The longest start until ready, in milliseconds.
    pub start_ms: u64,
    /// The most resident memory.
    pub rss_bytes: u64,
    /// The most open files.
    pub open_files: u64,
}

impl Tally {
    /// What a report says of it: heading and figure, in the order of the columns.
    pub fn figures(&self, wanted: u32) -> [(&'static str, String); 10] {
        [
            ("Cycles", format!("{} of {wanted}", self.cycles)),
            ("Faults", self.faults.to_string()),
            ("Acknowledged", self.acked.to_string()),
            ("Lost", self.lost.to_string()),
            ("Reordered", self.reordered.to_string()),
            ("Phantom", self.phantom.to_string()),
            ("Corrupt", self.corrupt.to_string()),
            ("ACK mismatch", self.ack_mismatch.to_string()),
            ("Repeats (max a cycle)", format!("{} ({})", self.repeats, self.repeats_max)),
            ("Drain", format!("{:.1} s", self.drain_ms as f64 / 1000.0)),
        ]
    }

    /// Adds the figures of other cycles.
    pub fn add(&mut self, other: &Tally) {
        self.cycles += other.cycles;
        self.faults += other.faults;
        self.acked += other.acked;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.phantom += other.phantom;
        self.corrupt += other.corrupt;
        self.ack_mismatch += other.ack_mismatch;
        self.repeats += other.repeats;
        self.marked += other.marked;
        self.dead += other.dead;
        self.repeats_max = self.repeats_max.max(other.repeats_max);
        self.drain_ms = self.drain_ms.max(other.drain_ms);
        self.start_ms = self.start_ms.max(other.start_ms);
        self.rss_bytes = self.rss_bytes.max(other.rss_bytes);
        self.open_files = self.open_files.max(other.open_files);
    }
}
