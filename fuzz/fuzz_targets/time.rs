//! Any text is an HL7 time, kept as sent, or refused.
#![no_main]

use cannula::hl7::{Precision, Time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(time) = Time::parse(text) else { return };
    assert_eq!(time.as_str(), text);
    assert!(time.fhir_date_time(Some(0)).is_some());
    assert!(time.timestamp(Some(0)).is_none() || time.precision() >= Precision::Day);
    if let Some(at) = time.timestamp(None) {
        assert!(Time::parse(&Time::format(at)).is_ok());
    }
});
