//! Why a message has nothing for a destination, in words for its timeline and in one of a few for a metric.

use std::fmt;

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// It holds no observation.
    NoObservation,
    /// A pump event of a kind that says nothing of an infusion.
    OtherEvent,
    /// Of an infusion never heard of.
    UnknownInfusion,
    /// A later event, or phase of the alert, was told.
    Older,
    /// It tells of what was before the infusion told last, of which nothing is remembered.
    EarlierInfusion,
    /// A later one was told, which had a time ahead of its receipt.
    ClockAhead,
    /// Told before.
    Known,
    /// It changes nothing that is written.
    Unchanged,
    /// Keeping the vein open, which the site ignores.
    KeepVeinOpen,
    /// A pump's clock was set.
    ClockSet,
    /// A sign of life of a gateway.
    Watchdog,
}

impl Unsent {
    /// As the metric's label has it.
    pub fn label(self) -> &'static str {
        match self {
            Unsent::NoObservation => "no_observation",
            Unsent::OtherEvent => "other_event",
            Unsent::UnknownInfusion => "unknown_infusion",
            Unsent::Older => "older",
            Unsent::EarlierInfusion => "earlier_infusion",
            Unsent::ClockAhead => "clock_ahead",
            Unsent::Known => "known",
            Unsent::Unchanged => "unchanged",
            Unsent::KeepVeinOpen => "kvo",
            Unsent::ClockSet => "clock_set",
            Unsent::Watchdog => "watchdog",
        }
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsent::NoObservation => "it holds no observation",
            Unsent::OtherEvent => "this kind of pump event says nothing of an infusion",
            Unsent::UnknownInfusion => "no start of its infusion was told, and the event tells none",
            Unsent::Older => "something later was told of its infusion or alert, which it would take back",
            Unsent::EarlierInfusion => {
                "it tells of an infusion before the last one of its source, of which nothing is remembered: unless it was told before, mend the record by hand"
            }
            Unsent::ClockAhead => {
                "what was told last of its infusion or alert has a later time, which was ahead of its receipt: have the device's clock set, and the record compared by hand"
            }
            Unsent::Known => "it was told before",
            Unsent::Unchanged => "it changes nothing that is written",
            Unsent::KeepVeinOpen => "keeping the vein open is ignored here (kvo = \"ignore\")",
            Unsent::ClockSet => "the pump's clock was set, which is remembered alone",
            Unsent::Watchdog => "it is a sign of life, no alert",
        })
    }
}
