//! Which messages may tell of glucose, noted when they are stored, so that a summary need not read all the others.
//!
//! What must never happen: a message that has a reading and no mark. So whatever may hold one has it, by the bytes alone.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;

use super::{
    super::Nomenclature,
    reading::{GLUCOSE_ISF, LOINC},
};

/// Among the device identities of a message that may tell of glucose, or is a summary of it. No device has a control character
/// in its name.
pub const MARK: &[u8] = b"\x01glucose";

/// In every identifier of glucose that the engine brings along.
const NAME: &[u8] = b"GLU";

/// One pass over the message for all of them; `None`, which marks everything, on a processor it is not made for.
static WORDS: LazyLock<Option<Searcher>> = LazyLock::new(|| {
    let number = GLUCOSE_ISF.to_string().into_bytes();
    Searcher::new([NAME.to_vec(), number].into_iter().chain(LOINC.iter().map(|loinc| loinc.to_vec())))
});

/// Whether the message, as received, may tell of glucose.
pub fn may_tell(received: &[u8]) -> bool {
    WORDS.as_ref().is_none_or(|words| words.find(received).is_some())
}

/// Whether all that reads as glucose by these tables is marked: a site may have given it a name of its own.
pub fn is_sure(tables: &Nomenclature) -> bool {
    let marked = |name: &str| name.as_bytes().windows(NAME.len()).any(|part| part == NAME);
    let names = tables.term(GLUCOSE_ISF).map(|term| [vec![&*term.refid], tables.aliases(term)].concat());
    names.unwrap_or_default().into_iter().all(marked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whatever_may_hold_a_reading_is_marked() {
        for row in [
            "160212^MDC_CONC_GLU_ISF^MDC",
            "160212",
            "29140^MDC_CONC_GLU_ISF^MDC",
            "0^MDC_CONC_GLU_ISF^MDC",
            "99504-3^Zucker^LN",
            "X^Y^L^105272-9^Zucker^LN",
        ] {
            assert!(may_tell(format!("MSH|^~\\&|\rOBX|1|NM|{row}||5\r").as_bytes()), "{row}");
        }
        assert!(!may_tell(b"MSH|^~\\&|\rOBX|1|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC||80\r"));
    }

    #[test]
    fn a_name_of_a_sites_own_is_not_sure() {
        assert!(is_sure(&Nomenclature::built_in()));
        let own = b"cf_code,refid,partition,term,kind,source\n160212,MDCX_ZUCKER,2,29140,metric,site\n";
        assert!(!is_sure(&Nomenclature::with_files(&[("mdc-terms.csv", own)]).unwrap()));
    }
}
