//! Continuous glucose monitoring: the readings of a patient's messages, and their summary over a period by the
//! international consensus (Battelino et al., Diabetes Care 2019;42:1593).
//!
//! What must never happen: a reading of another patient counted, one moment counted twice, or a figure told where there
//! were no readings for it. What was left out is counted by reason, so that nobody takes a gap for good control.

mod mark;
mod patients;
mod reading;
mod summary;

pub use mark::{MARK, is_sure, may_tell};
pub use patients::{Named, patients};
pub use reading::{Bound, Glucose, GlucoseUnit, LeftOut, MG_DL_PER_MMOL_L, PatientNamed, Reading, read};
pub use summary::{CgmSummary, RangeShares};
