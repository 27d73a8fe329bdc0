//! Events that contradict themselves or each other: a dose is right or absent, and nobody else's record is touched.

use super::{
    context,
    episodes::{Record, START, STOP, event, flow, volume},
    parse, settings,
};

fn total(volume: &str) -> String {
    format!("NM|157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC|1.1.2.8|{volume}|263762^MDC_DIM_MILLI_L^MDC|||||R")
}

const COMPLETE: &str = "197292^MDC_EVT_PUMP_DELIV_COMP^MDC";

/// What the administrations say they gave, the first begun first.
fn doses(events: &[String]) -> Vec<Option<String>> {
    let mut record = Record::default();
    events.iter().for_each(|event| _ = record.take(&settings(), event));
    record.kept().iter().map(|kept| kept["dosage"]["dose"]["value"].as_number().map(ToString::to_string)).collect()
}

fn refused(text: &str) -> String {
    super::apply(&settings(), &parse(text), context()).unwrap_err().to_string()
}

#[test]
fn an_event_that_is_withdrawn_or_names_two_begins_nothing() {
    let begun = event(0, START, &[&flow("10")]);
    for (flag, says) in [("W", "withdrawn"), ("D", "withdrawn"), ("X", "withdrawn")] {
        let text = begun.replace(&format!("|{START}||||||R"), &format!("|{START}||||||{flag}"));
        assert_ne!(text, begun);
        let refused = refused(&text);
        assert!(refused.starts_with("OBX[4]-5: ") && refused.contains(says), "{refused}");
    }
    let refused = refused(&begun.replace("197288^MDC_EVT_PUMP_DELIV_START", "197288^MDC_EVT_PUMP_DELIV_STOP"));
    assert!(refused.contains("two events"), "{refused}");
}

#[test]
fn of_two_patients_before_one_order_nobody_gets_anything() {
    let one = event(0, START, &[&flow("10")]);
    let two = one.replace("PV1|", "PID|||4712^^^H^MR\nPV1|");
    assert!(refused(&two).starts_with("PID[2]-3: the message has observations of two patients"));
    let same = one.replace("PV1|", "PID|||4711^^^H^MR\nPV1|");
    assert!(super::apply(&settings(), &parse(&same), context()).is_ok(), "told twice");
}

#[test]
fn what_is_glued_to_another_segment_is_not_left_out() {
    let whole = event(0, START, &[&flow("10"), &volume("0")]);
    for glue in ["", "|", "||", "|AMEAS^auto^MDC"] {
        assert!(refused(&whole.replace("\nOBX|9|", &format!("{glue}OBX|9|"))).contains("glued_segments"), "{glue}");
        let unnumbered = whole.replace("\nOBX|9|", &format!("{glue}OBX||"));
        assert!(refused(&unnumbered).contains("glued_segments"), "{glue}, no set id");
    }
    let words = whole.replace("|R\nOBX|9|", "|R|RAPID||\nOBX|9|");
    assert!(super::apply(&settings(), &parse(&words), context()).is_ok());
}

#[test]
fn a_volume_told_at_the_start_is_not_counted_into_the_run() {
    let run = |more: [&[&str]; 4]| {
        let [first, second, third, last] = more;
        doses(&[event(0, START, first), event(10, STOP, second), event(11, START, third), event(20, COMPLETE, last)])
    };
    let [five, eight] = [volume("5.0"), volume("8.3")];
    assert_eq!(run([&[&flow("10")], &[&five], &[&flow("10"), &five], &[&eight]]), [None]);
    let totals = [total("0"), total("5.0"), total("8.3")];
    let told = run([
        &[&flow("10"), &totals[0]],
        &[&five, &totals[1]],
        &[&flow("10"), &five, &totals[1]],
        &[&eight, &totals[2]],
    ]);
    assert_eq!(told, [Some("8.3".to_owned())], "the total tells it");
}

#[test]
fn a_total_that_went_on_while_it_stood_still_shows_a_run_that_was_lost() {
    let run = |resumed: &str, end: &str| {
        let nothing = volume("0");
        doses(&[
            event(0, START, &[&flow("10"), &nothing, &total("0")]),
            event(10, STOP, &[&volume("5"), &total("5")]),
            event(11, START, &[&flow("10"), &nothing, &total(resumed)]),
            event(20, COMPLETE, &[&volume("4"), &total(end)]),
        ])
    };
    assert_eq!(run("5", "9"), [Some("9".to_owned())]);
    assert_eq!(run("7", "11"), [None]);
}

#[test]
fn a_run_that_is_told_after_the_end_leaves_no_dose() {
    let [start, stop] = [event(0, START, &[&flow("10")]), event(10, STOP, &[&volume("5")])];
    let [again, end] = [event(30, START, &[&flow("10")]), event(40, COMPLETE, &[&volume("4")])];
    let late = [event(20, START, &[&flow("10")]), event(25, STOP, &[&volume("2")])];
    let in_time = [start, stop, again, end];
    assert_eq!(doses(&in_time), [Some("9".to_owned())]);
    assert_eq!(doses(&[&in_time[..], &late].concat()), [None]);
    assert_eq!(doses(&[&in_time[..], &in_time].concat()), [Some("9".to_owned())], "a replay tells nothing new");
}

#[test]
fn two_volumes_of_one_source_in_one_message_are_none() {
    let of = |rows: &[&str]| doses(&[event(0, START, &[&flow("10")]), event(10, COMPLETE, rows)]);
    assert_eq!(of(&[&volume("5"), &volume("5")]), [Some("5".to_owned())]);
    assert_eq!(of(&[&volume("5"), &volume("7")]), [None]);
}

#[test]
fn nothing_given_at_a_new_rate_is_not_believed_of_a_pump_that_may_count_anew() {
    const RATE: &str = "0^MDC_EVT_PUMP_PATIENT_PARAMETER_CHANGE^MDC";
    let run = |more: &[&str]| {
        let rate = flow("20");
        let rows = [&[&*rate], more].concat();
        doses(&[event(0, START, &[&flow("10"), &total("0")]), event(10, RATE, &rows)])
    };
    assert_eq!(run(&[&volume("0")]), [None, None]);
    assert_eq!(run(&[&volume("0"), &total("0")])[0], Some("0".to_owned()), "both say so");
}

#[test]
fn what_ran_unnamed_does_not_become_a_drug_by_the_next_start() {
    let unnamed = |text: String| text.replace("|3616^Norepinephrine^99FORM|", "||").replace("|O1^H|", "||");
    let events = [
        unnamed(event(0, START, &[&flow("10")])),
        unnamed(event(10, STOP, &[&volume("5")])),
        event(11, START, &[&flow("10")]),
        event(20, COMPLETE, &[&volume("2")]),
    ];
    assert_eq!(doses(&events), [Some("5".to_owned()), Some("2".to_owned())]);
}

#[test]
fn a_volume_in_two_units_or_that_is_a_text_is_no_dose() {
    let of = |row: &str| doses(&[event(0, START, &[&flow("10")]), event(10, COMPLETE, &[row])]);
    assert_eq!(of(&volume("5")), [Some("5".to_owned())]);
    assert_eq!(of(&volume("5").replace("MDC_DIM_MILLI_L^MDC|||||R", "MDC_DIM_MILLI_L^MDC^L^L^UCUM|||||R")), [None]);
    assert_eq!(of(&volume("5").replace("NM|", "ST|")), [None]);
}

fn dose(volume: &str) -> Option<String> {
    Some(volume.to_owned())
}

const BOLUS: &str =
    "CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.3|^pump-program-delivery-mode-bolus||||||R";
const USUAL: &str =
    "CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.3|^pump-program-delivery-mode-continuous||||||R";

#[test]
fn a_volume_withdrawn_or_told_otherwise_after_the_end_leaves_no_dose() {
    let flagged = |row: String, flag: &str| format!("{}{flag}", row.strip_suffix('R').unwrap());
    let begun = [event(0, START, &[&flow("10"), &volume("0")]), event(10, COMPLETE, &[&volume("20")])];
    let then = |minute, code, row: &str| doses(&[&begun[..], &[event(minute, code, &[row])]].concat());
    assert_eq!(then(10, COMPLETE, &volume("20")), [dose("20")], "a repeat");
    for (minute, code) in [(10, COMPLETE), (11, COMPLETE), (11, STOP)] {
        assert_eq!(then(minute, code, &volume("20")), [dose("20")]);
        assert_eq!(then(minute, code, &flagged(volume("20"), "W")), [None]);
        assert_eq!(then(minute, code, &flagged(volume("20"), "D")), [None]);
        assert_eq!(then(minute, code, &flagged(volume("15"), "C")), [None]);
    }
    let both = |minute, code, run: &str, sum: &str| event(minute, code, &[&volume(run), &total(sum)]);
    let counted = [both(0, START, "0", "100"), both(10, COMPLETE, "20", "120"), both(10, COMPLETE, "15", "115")];
    assert_eq!(doses(&counted), [dose("15")], "both counts tell the same");
    let late = [event(12, STOP, &[&volume("20")]), event(10, COMPLETE, &[&flagged(volume("20"), "W")])];
    assert_eq!(doses(&[&begun[..], &late].concat()), [None], "after another stop");
}

#[test]
fn a_bolus_whose_volume_is_withdrawn_has_no_dose() {
    let begun = [
        event(0, START, &[&flow("10"), &volume("0"), USUAL]),
        event(5, START, &[&volume("0"), BOLUS]),
        event(6, COMPLETE, &[&volume("4"), BOLUS]),
    ];
    assert_eq!(doses(&begun), [None, dose("4")]);
    let withdrawn = event(6, COMPLETE, &[&volume("4").replace("|R", "|W"), BOLUS]);
    assert_eq!(doses(&[&begun[..], &[withdrawn]].concat()), [None, None]);
}

#[test]
fn a_total_that_went_on_after_a_bolus_shows_a_run_that_was_lost() {
    let of =
        |minute, code, run: &str, sum: &str, mode| event(minute, code, &[&flow("10"), &volume(run), &total(sum), mode]);
    let given = |before: &str, after: &str, resumed: &str, end: &str| {
        doses(&[
            of(0, START, "0", "414", USUAL),
            of(10, STOP, "6", "420", USUAL),
            of(11, START, "0", before, BOLUS),
            of(12, STOP, "5", after, BOLUS),
            of(20, START, "0", resumed, USUAL),
            of(30, COMPLETE, "2", end, USUAL),
        ])
    };
    assert_eq!(given("420", "425", "425", "427"), [dose("8"), dose("5")]);
    assert_eq!(given("420", "420", "420", "422"), [dose("8"), dose("5")], "which counts no bolus");
    assert_eq!(given("420", "425", "473", "475"), [None, dose("5")], "after it");
    assert_eq!(given("468", "473", "473", "475"), [None, dose("5")], "before it");
}

#[test]
fn what_ends_for_another_patient_while_the_first_ones_is_paused_is_no_dose() {
    let of = |patient: &str, text: String| text.replace("|4711^^^H^MR", &format!("|{patient}^^^H^MR"));
    let [start, stop] = [event(0, START, &[&flow("10")]), event(10, STOP, &[&volume("3")])];
    let other = of("4712", event(30, COMPLETE, &[&volume("9")]));
    let mut given = doses(&[start.clone(), stop.clone(), other.clone()]);
    given.sort();
    assert_eq!(given, [None, dose("3")]);
    let own = of("4712", event(20, START, &[&flow("10")]));
    assert_eq!(doses(&[start.clone(), stop.clone(), own, other.clone()]), [dose("3"), dose("9")]);
    let third = [of("4713", event(20, START, &[&flow("10")])), of("4713", event(25, COMPLETE, &[&volume("1")]))];
    let mut given = doses(&[&[start, stop], &third[..], &[other]].concat());
    given.sort();
    assert_eq!(given, [None, dose("1"), dose("3")], "paused still");
}

#[test]
fn two_volumes_of_one_source_at_two_places_are_none() {
    let of = |more: &str| {
        let other = volume(more).replace("|1.1.2.7|", "|1.1.2.9|");
        doses(&[event(0, START, &[&flow("10")]), event(10, COMPLETE, &[&volume("5"), &other])])
    };
    assert_eq!((of("5"), of("77")), (vec![dose("5")], vec![None]));
}

#[test]
fn a_count_that_may_go_on_from_the_run_before_is_no_dose() {
    let run = |first: &str, resumed: &[&str], last: &[&str]| {
        let rate = flow("10");
        let resumed = [&[&*rate], resumed].concat();
        let begun = [event(0, START, &[&rate]), event(10, STOP, &[&volume(first), &total("3")])];
        doses(&[&begun[..], &[event(11, START, &resumed), event(20, COMPLETE, last)]].concat())
    };
    assert_eq!(run("3", &[], &[&volume("12")]), [None]);
    assert_eq!(run("3", &[], &[&volume("3")]), [None]);
    assert_eq!(run("3", &[], &[&volume("2")]), [dose("5")], "it is less");
    assert_eq!(run("3", &[&volume("0")], &[&volume("12")]), [dose("15")], "it told so");
    assert_eq!(run("3", &[&total("3")], &[&volume("12"), &total("15")]), [dose("15")], "the total tells it");
    let rates = |resumed: &[&str]| {
        let start = event(11, START, &[&[&*flow("20")], resumed].concat());
        let [begun, stop] = [event(0, START, &[&flow("10")]), event(10, STOP, &[&volume("3")])];
        doses(&[begun, stop, start, event(20, COMPLETE, &[&volume("12")])])
    };
    assert_eq!(rates(&[]), [dose("3"), None]);
    assert_eq!(rates(&[&volume("0")]), [dose("3"), dose("12")]);
}

#[test]
fn a_start_that_comes_late_is_held_against_what_was_told_at_the_stop() {
    let run = |at_start: [&str; 2], given: &str, end: &str| {
        let stop = event(10, STOP, &[&volume(given), &total(end)]);
        let [begun, counted] = at_start;
        doses(&[stop, event(0, START, &[&flow("10"), &volume(begun), &total(counted)])])
    };
    assert_eq!(run(["0", "100"], "5", "105"), [dose("5")]);
    assert_eq!(run(["0", "100"], "5", "120"), [None]);
    assert_eq!(run(["3", "100"], "5", "105"), [None]);
}

#[test]
fn more_than_was_to_be_infused_is_no_dose() {
    let wanted =
        |volume: &str| format!("NM|157884^MDC_VOL_FLUID_TBI^MDC|1.1.2.5|{volume}|263762^MDC_DIM_MILLI_L^MDC|||||R");
    let of = |all: &str, at_end: &str, given: &str| {
        let end = event(10, COMPLETE, &[&volume(given), &wanted(at_end)]);
        doses(&[event(0, START, &[&flow("10"), &volume("0"), &wanted(all)]), end])
    };
    assert_eq!(of("50", "50", "55.0"), [dose("55.0")]);
    assert_eq!(of("50", "50", "55.1"), [None]);
    assert_eq!(of("50", "100", "90"), [dose("90")], "it was set anew");
    assert_eq!(of("50", "0", "40"), [dose("40")]);
    assert_eq!(of("0", "0", "40"), [dose("40")], "without a limit");
    assert_eq!(of("50", "0", "500"), [None]);
}
