//! The same content where the receiver checks it before its answer: a fault is told at once, with its code.

use super::super::case::Expected::{Accept, Error};
use super::super::case::{Case, Listener};
use super::content::{NO_NUMBERS, NO_TIMES, without};

pub(super) fn rows() -> Vec<Case> {
    let mut rows = vec![
        Case::edit(54, "strict: MSH-7 that is no time", "20260102030405+0000||ORU", "yesterday||ORU", Error(102)),
        Case::frame(67, "strict: no OBR", Error(100), |draft| without(&draft.text(), "OBR|")),
        Case::edit(67, "strict: an OBX before the OBR", "\rOBR|", "\rOBX|9||1^A^MDC||||||||R\rOBR|", Error(100)),
        Case::frame(68, "strict: no PID", Error(100), |draft| without(&draft.text(), "PID|")),
        Case::edit(69, "strict: PID-3 empty", "SPEC1^^^GENHOSP^MR", "", Error(101)),
        Case::edit(69, "strict: two patients", "\rPV1|", "\rPID|||SPEC2^^^GENHOSP^MR\rPV1|", Error(198)),
        Case::edit(70, "strict: an unknown Z segment", "\rPV1|", "\rZZZ|1|x\rPV1|", Accept),
        Case::edit(71, "strict: OBX-5 with a value, OBX-2 empty", "|NM|", "||", Error(101)),
        Case::edit(73, "strict: a number of 400 digits", "12.50", "7".repeat(400), Accept),
        Case::edit(74, "strict: OBX-2 of an unknown type", "|NM|", "|QQ|", Error(103)),
        Case::edit(75, "strict: a number without unit", UNIT, "", Error(103)),
        Case::edit(77, "strict: OBX-11 empty", "|||||R\r", "|||||\r", Error(101)),
        Case::edit(77, "strict: OBX-11 unknown", "|||||R\r", "|||||Q\r", Error(103)),
        Case::edit(77, "strict: OBX-11 W", "|||||R\r", "|||||W\r", Accept),
        Case::edit(77, "strict: OBX-11 D", "|||||R\r", "|||||D\r", Accept),
        Case::edit(79, "strict: OBX-14 ten years ahead", "|||||R\r", "|||||R|||20360102030405+0000\r", Accept),
        Case::edit(80, "strict: broken escapes", "2 West", "2\\X4\\ \\Q\\ West\\", Accept),
    ];
    for (what, value) in NO_NUMBERS {
        rows.push(Case::edit(72, what, "12.50", value, Error(102)));
    }
    for (what, time) in NO_TIMES {
        rows.push(Case::edit(78, what, "|||||R\r", format!("|||||R|||{time}\r"), Error(102)));
    }
    rows.into_iter().map(|row| row.on(Listener::Strict)).collect()
}

const UNIT: &str = "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM";
