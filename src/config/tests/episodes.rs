//! What is told over several messages must come in order.

use super::*;
use crate::translate::{Alerts, Infusions, Plan};

const EHR: &str = "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\n\
    url = \"http://127.0.0.1:8080/fhir\"\n";

#[test]
fn infusions_and_alerts_are_not_given_to_lanes_that_would_pass_each_other() {
    let faults = |rest: &str| channel_faults(&format!("{EHR}{rest}"));
    let fault = faults("order = \"PV1-3.1\"\nlanes = 8\n");
    assert!(fault.iter().any(|fault| fault.contains("pump events and alerts of one device would pass each other")));
    for one_each in ["pump_events = \"administration\"\nalerts = \"refuse\"", "alerts = \"final\""] {
        assert_eq!(faults(&format!("order = \"PV1-3.1\"\nlanes = 8\n[destination.fhir]\n{one_each}\n")).len(), 1);
    }
    for right in [
        "order = \"PV1-3.1\"\n",
        "order = \"device\"\nlanes = 8\n",
        "order = \"patient\"\nlanes = 8\n",
        "order = \"PV1-3.1\"\nlanes = 8\n[destination.fhir]\nalerts = \"refuse\"\n",
    ] {
        channel(&format!("{EHR}{right}"));
    }
}

#[test]
fn a_site_chooses_what_becomes_of_infusions_and_alerts() {
    let mapping = |rest: &str| match &channel(&format!("{EHR}[destination.fhir]\n{rest}")).destinations[0].plan {
        Plan::PcdToFhir(mapping) => (mapping.infusions.clone(), mapping.alerts),
        _ => panic!("it is sent as FHIR"),
    };
    assert_eq!(mapping(""), (Infusions::default(), Alerts::Observation));
    let chosen = mapping(
        "pump_events = \"administration\"\nrate_change = \"update\"\nkvo = \"ignore\"\nrequire_drug = true\npause_max = \"90m\"\nalerts = \"final\"\n",
    );
    let pause_max = std::time::Duration::from_secs(90 * 60);
    let infusions =
        Infusions { written: true, rate_segments: false, kvo_segments: false, require_drug: true, pause_max };
    assert_eq!(chosen, (infusions, Alerts::Final));
}
