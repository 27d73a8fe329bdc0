//! What was corrected, for a server on which a repeat of the first value would take the correction's place.
//!
//! What must never happen: a value that was corrected, or withdrawn, is back because its first message came again. A correction
//! is told from an older one by when its message was made.

use super::{Output, Translation, bundle::Write, memory};
use crate::{fhir::Identifier, hl7::Time};

/// Whether the destination took a later word of this than the message has. What takes the place of another is remembered.
pub(super) fn is_outdated(
    translation: &Translation<'_>,
    identifier: &Identifier<'_>,
    write: Write,
    output: &mut Output<'_>,
) -> bool {
    if !translation.settings.creates_overwrite {
        return false;
    }
    let name = memory::name("corrected", &[identifier.system.as_deref().unwrap_or_default(), &identifier.value]);
    let corrected: Option<i64> = memory::read(translation.recall, &name);
    if write == Write::Create {
        return corrected.is_some();
    }
    let made = made(translation);
    if corrected.is_some_and(|corrected| made < corrected) {
        return true;
    }
    output.episodes.push(memory::write(&name, &made, false));
    false
}

/// MSH-7, in nanoseconds.
fn made(translation: &Translation<'_>) -> i64 {
    let sent = translation.message.text(translation.msh.field(7).component(1).raw());
    let made = Time::parse(sent.trim()).ok().and_then(|time| time.timestamp(translation.offset));
    made.and_then(|made| i64::try_from(made.as_nanosecond()).ok()).unwrap_or_default()
}
