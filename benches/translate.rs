//! A pump report of 22 OBX to a FHIR transaction: what a delivery costs before anything is sent.

// The macros of criterion make public items without documentation.
#![allow(missing_docs, clippy::expect_used)]

use std::{hint::black_box, sync::Arc};

use cannula::{
    hl7::Message,
    pcd::{self, Nomenclature},
    translate::{Context, PcdToFhir, Plan, nothing_remembered},
};
use criterion::{Criterion, criterion_group, criterion_main};

fn translate(c: &mut Criterion) {
    let message = Message::parse(report()).expect("the sample parses");
    let mut settings = PcdToFhir::new(Nomenclature::built_in());
    settings.identifier_systems.insert("H".to_owned(), "https://hospital.example/mrn".to_owned());
    let plan = Plan::PcdToFhir(settings);
    let received_at = "2026-03-01T11:00:05Z".parse().expect("a time");
    let context = Context { id: 7, received_at, origins: false };
    c.bench_function("pcd-to-fhir, 22 OBX", |b| {
        b.iter(|| plan.apply(black_box(&message), context, &nothing_remembered).expect("a bundle"))
    });
    let traced = Context { origins: true, ..context };
    c.bench_function("pcd-to-fhir, 22 OBX, with origins", |b| {
        b.iter(|| plan.apply(black_box(&message), traced, &nothing_remembered).expect("a bundle"))
    });
    c.bench_function("device keys, 22 OBX", |b| b.iter(|| pcd::device_keys(black_box(&message))));
    let rules = pcd::tolerance::Rules::default();
    c.bench_function("quirks of a clean message, 22 OBX", |b| b.iter(|| rules.met(black_box(&message))));
    let tables: Arc<Nomenclature> = Nomenclature::built_in();
    c.bench_function("containment tree, 22 OBX", |b| {
        b.iter(|| pcd::Report::read(black_box(&message), &tables).rows.len())
    });
}

fn report() -> String {
    let mut text = String::from(
        "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||20260301120000+0100||ORU^R01^ORU_R01|C1|P|2.6|||AL|NE||UNICODE UTF-8\rPID|||4711^^^H^MR||Muster^Maria^^^^^L\rPV1||I|3W^12^1\rOBR|1|O1^CPOE|F1|2222^Drug^L|||20260301115900+0100\rOBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||^^ACDE480000002001^EUI-64\rOBX|2||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\rOBX|3||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\r",
    );
    for n in 4..=22 {
        text.push_str(&format!("OBX|{n}|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.{n}|5.6{n}|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R\r"));
    }
    text
}

criterion_group!(benches, translate);
criterion_main!(benches);
