//! Segments, fields and values, where content is not checked before the answer: what is odd is taken, since refusing what
//! real gateways send loses data, and what cannot be told apart is refused.

use super::super::case::Case;
use super::super::case::Expected::{Accept, Error};
use super::super::message::Draft;

pub(super) fn rows() -> Vec<Case> {
    [segments(), values(), text()].into_iter().flatten().collect()
}

fn segments() -> Vec<Case> {
    vec![
        Case::frame(61, "segments ended by LF", Accept, |draft| draft.text().replace('\r', "\n")),
        Case::frame(61, "segments ended by CR LF", Accept, |draft| draft.text().replace('\r', "\r\n")),
        Case::edit(62, "a blank line inside", "\rPV1", "\r\rPV1", Accept),
        Case::frame(63, "no CR at the end", Accept, |draft: &Draft| draft.text().trim_end().to_owned()),
        Case::edit(64, "a segment name of two characters", "\rPV1|", "\rP1|", Error(100)),
        Case::edit(64, "a segment name of four characters", "\rPV1|", "\rOBX1|", Error(100)),
        Case::edit(64, "a segment without name", "\rPV1|", "\r|||", Error(100)),
        Case::edit(65, "a second MSH", "\rPV1|", "\rMSH|^~\\&|X\rPV1|", Error(100)),
        Case::frame(65, "a second whole message", Error(100), |draft| draft.text().repeat(2)),
        Case::frame(67, "no OBR", Accept, |draft| without(&draft.text(), "OBR|")),
        Case::edit(67, "an OBX before the OBR", "\rOBR|", "\rOBX|9||1^A^MDC||||||||R\rOBR|", Accept),
        Case::frame(68, "no PID", Accept, |draft| without(&draft.text(), "PID|")),
        Case::edit(69, "PID-3 empty", "SPEC1^^^GENHOSP^MR", "", Accept),
        Case::edit(69, "two patients", "\rPV1|", "\rPID|||SPEC2^^^GENHOSP^MR\rPV1|", Accept),
        Case::edit(70, "an unknown Z segment", "\rPV1|", "\rZZZ|1|x\rPV1|", Accept),
    ]
}

/// The message without the segment that begins so.
pub(super) fn without(message: &str, beginning: &str) -> String {
    message.split_inclusive('\r').filter(|segment| !segment.starts_with(beginning)).collect()
}

fn values() -> Vec<Case> {
    let mut rows = vec![
        Case::edit(71, "OBX-5 with a value, OBX-2 empty", "|NM|", "||", Accept),
        Case::edit(73, "a number of 400 digits", "12.50", "7".repeat(400), Accept),
        Case::edit(73, "a number with a last zero", "12.50", "0.10", Accept),
        Case::edit(74, "OBX-2 of an unknown type", "|NM|", "|QQ|", Accept),
        Case::edit(75, "an unknown unit", "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM", "furlongs", Accept),
        Case::edit(75, "a number without unit", "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM", "", Accept),
        Case::edit(76, "an unknown code", "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "4294967295^NO_SUCH^MDC", Accept),
        Case::edit(77, "OBX-11 empty", "|||||R\r", "|||||\r", Accept),
        Case::edit(77, "OBX-11 unknown", "|||||R\r", "|||||Q\r", Accept),
        Case::edit(77, "OBX-11 W", "|||||R\r", "|||||W\r", Accept),
        Case::edit(77, "OBX-11 D", "|||||R\r", "|||||D\r", Accept),
        Case::edit(79, "OBX-14 ten years ahead", "|||||R\r", "|||||R|||20360102030405+0000\r", Accept),
        Case::edit(79, "OBX-14 out of order", "|||||R\r", "|||||R|||20200102030405+0000\r", Accept),
    ];
    for (what, value) in NO_NUMBERS {
        rows.push(Case::edit(72, what, "12.50", value, Accept));
    }
    for (what, time) in NO_TIMES {
        rows.push(Case::edit(78, what, "|||||R\r", format!("|||||R|||{time}\r"), Accept));
    }
    rows
}

/// What is no NM.
pub(super) const NO_NUMBERS: [(&str, &str); 5] = [
    ("a word as number", "FOO"),
    ("NaN as number", "NaN"),
    ("a number with an exponent", "1e9"),
    ("a number with a comma", "1,5"),
    ("a number with two signs", "--1"),
];

/// What is no DTM.
pub(super) const NO_TIMES: [(&str, &str); 4] = [
    ("month 13", "20261301"),
    ("30 February", "20260230"),
    ("an impossible zone", "20260102030405+9999"),
    ("letters as time", "yesterday"),
];

fn text() -> Vec<Case> {
    let mut rows = vec![
        Case::edit(80, "broken escapes", "2 West", "2\\X4\\ \\Q\\ West\\", Accept),
        Case::edit(80, "an escaped CR and a segment behind it", "2 West", "2\\X0D\\PID|||OTHER", Accept),
    ];
    for (what, value) in [
        ("NUL in a field", "2\0West"),
        ("ESC in a field", "2\x1b[31mWest"),
        ("01 in a field", "2\x01West"),
        ("1F in a field", "2\x1fWest"),
    ] {
        rows.push(Case::edit(81, what, "2 West", value, Error(102)));
    }
    for (what, value) in [
        ("a path", "../../etc/passwd"),
        ("a formula", "=cmd()"),
        ("a lookup", "${jndi:ldap://127.0.0.1/x}"),
        ("an entity", "<!ENTITY x SYSTEM \"file:///etc/passwd\">"),
        ("an address inside", "http://169.254.169.254/latest/"),
    ] {
        rows.push(Case::edit(83, what, "2 West", value, Accept));
    }
    rows
}
