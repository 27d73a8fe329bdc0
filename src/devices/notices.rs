//! Log lines at silence and return, so few that a ward whose gateway fails does not fill the log. A device is told by its id:
//! what it calls itself is content.

use tracing::{info, warn};

use super::device::Changed;

/// Lines in a period.
const LINES_MAX: u32 = 20;
/// Milliseconds.
const PERIOD: i64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Notices {
    begun: i64,
    lines: u32,
    silent: u32,
    returned: u32,
}

impl Notices {
    pub(super) fn tell(&mut self, device: u64, channel: &str, changed: Changed, quiet: i64, passed: i64) {
        if !changed.fell_silent && !changed.returned {
            return;
        }
        self.tell_withheld(passed);
        let seconds = quiet / 1000;
        match (changed.returned, self.lines < LINES_MAX) {
            (true, true) => info!(%channel, device, "a silent device reports again"),
            (true, false) => self.returned += 1,
            (false, true) => warn!(%channel, device, seconds, "a device is silent"),
            (false, false) => self.silent += 1,
        }
        self.lines += 1;
    }

    /// At the end of a period, what was not told one by one.
    pub(super) fn tell_withheld(&mut self, passed: i64) {
        if passed - self.begun < PERIOD {
            return;
        }
        let Notices { silent, returned, .. } = std::mem::take(self);
        self.begun = passed;
        if silent + returned > 0 {
            warn!(silent, returned, "more devices fell silent or report again; `cannula devices` lists them");
        }
    }
}
