//! What a retransmission has in common with the message it repeats: all but MSH-7, MSH-10 and MSH-13, which its sender
//! gives anew (IHE PCD CP-157).
//!
//! What must never happen: two observations of equal value taken for one. A message that tells no time of its own but
//! MSH-7 is never called a retransmission, since a new value that equals the last looks just like one.

use std::ops::Range;

use crate::hl7::Message;

/// MSH fields that a retransmission has anew.
const ANEW: [usize; 3] = [7, 10, 13];
/// Where a message tells when what it reports happened, or which message it answers.
const OWN_TIMES: [(&str, usize); 4] = [("OBR", 7), ("OBX", 14), ("EVN", 2), ("MSA", 2)];

/// The ranges of the message's bytes that a retransmission repeats; `None` where nothing but MSH-7 tells when it happened.
pub fn retransmitted_parts(message: &Message) -> Option<Vec<Range<usize>>> {
    let told = |(id, field): &(&str, usize)| {
        let mut segments = message.segments().filter(|segment| segment.id() == *id);
        segments.any(|segment| !matches!(segment.field(*field).raw(), b"" | b"\"\""))
    };
    OWN_TIMES.iter().any(told).then(|| parts(message.as_bytes()))
}

fn parts(bytes: &[u8]) -> Vec<Range<usize>> {
    let start = bytes.windows(3).position(|three| three == b"MSH").unwrap_or_default();
    let header = bytes.get(start + 3..).unwrap_or_default();
    let length = header.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(header.len());
    let header = &header[..length];
    // MSH-n stands between separators n - 1 and n, the first of which is MSH-1 itself.
    let is_separator = |at: &usize| header.get(*at) == header.first();
    let separators: Vec<usize> = (0..length).filter(is_separator).map(|at| start + 3 + at).take(13).collect();
    let (mut parts, mut kept_from) = (Vec::with_capacity(ANEW.len() + 1), start);
    for field in ANEW {
        let Some(before) = separators.get(field - 2) else { break };
        parts.push(kept_from..before + 1);
        kept_from = separators.get(field - 1).copied().unwrap_or(start + 3 + length);
    }
    parts.push(kept_from..bytes.len());
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SENT: &str = "MSH|^~\\&|GW|W|EHR|H|20260301120000+0100|sec|ORU^R01^ORU_R01|17|P|2.6|5||AL|NE\r\
        OBR|1|||1^A^MDC|||20260301115900+0100\rOBX|1|NM|1^A^MDC|1.1.1.1|3||||||F\r";

    fn kept(text: &str) -> Option<String> {
        let message = Message::parse(text.to_owned().into_bytes()).unwrap();
        let parts = retransmitted_parts(&message)?;
        let kept: Vec<u8> = parts.into_iter().flat_map(|range| message.as_bytes()[range].to_vec()).collect();
        Some(String::from_utf8(kept).unwrap())
    }

    #[test]
    fn all_but_the_time_of_sending_the_control_id_and_the_sequence_number_is_kept() {
        let wanted = SENT.replace("|20260301120000+0100|sec", "||sec").replace("|17|P|2.6|5|", "||P|2.6||");
        assert_eq!(kept(SENT).unwrap(), wanted);
        let again = SENT.replace("120000", "120107").replace("|17|", "|MSG-18|").replace("|5|", "||");
        assert_eq!(kept(&again), kept(SENT));
    }

    #[test]
    fn a_short_header_ends_with_its_segment() {
        let rest = "OBR|1|||1^A^MDC|||20260301115900+0100|a|b|c|d|e|f\r";
        let header = "MSH|^~\\&|GW||||20260301120000+0100||ORU^R01^ORU_R01|17\r";
        let wanted = "MSH|^~\\&|GW||||||ORU^R01^ORU_R01|\r";
        assert_eq!(kept(&format!("{header}{rest}")).unwrap(), format!("{wanted}{rest}"));
    }

    #[test]
    fn any_other_difference_is_other_content() {
        for (from, to) in [("|3|", "|4|"), ("|GW|", "|GW2|"), ("115900", "115901"), ("|P|2.6", "|T|2.6")] {
            assert_ne!(kept(&SENT.replacen(from, to, 1)), kept(SENT), "{from}");
        }
    }

    #[test]
    fn a_message_that_tells_no_time_of_its_own_is_never_one() {
        assert_eq!(kept(&SENT.replace("20260301115900+0100", "")), None);
        assert_eq!(kept(&SENT.replace("20260301115900+0100", "\"\"")), None);
        let answer = "MSH|^~\\&|AC||||20260301120000+0100||ORA^R41^ORA_R41|18|P|2.6\rMSA|AA|17\r";
        assert!(kept(answer).is_some());
    }

    #[test]
    fn no_bytes_are_left_out_but_those_three_fields_wherever_the_header_begins() {
        let shifted = format!("\u{feff}{SENT}");
        assert_eq!(kept(&shifted), kept(SENT));
    }
}
