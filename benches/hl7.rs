//! Reading a device report of about 4 KiB with 22 OBX: the whole field index, the routing fields alone, and for
//! reference the index by a loop over bytes, the text check, some lookups by path, and hl7-parser. Then the ACK for it.

use std::hint::black_box;

use bytes::Bytes;
use cannula::hl7::{
    Header, Message, Path,
    ack::{self, Code},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn report() -> String {
    let mut report = [
        r"MSH|^~\&|PUMP^0012210000000001^EUI-64|4W|EHR|HOSP|20260314092629+0000||ORU^R01^ORU_R01|17|P|2.6|||AL|NE||UNICODE UTF-8|||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO",
        "PID|1||42^^^HOSP^MR||Doe^Jane^^^^^L||19520314|F",
        "PV1||I|4W^12^A",
        "OBR|1|7^X^12^EUI-64|8^X^12^EUI-64|69985^MDC_DEV_PUMP_INFUS_VMD^MDC|||20260314092629+0000",
    ]
    .join("\r");
    for n in 1..=22 {
        report.push_str(&format!(
            "\rOBX|{n}|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.{n}|12.5|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R|||20260314092629+0000||||0012210000000001^^0012210000000001^EUI-64"
        ));
    }
    report + "\r"
}

/// The index as the obvious loop makes it.
fn byte_loop(bytes: &[u8]) -> (Vec<(u32, u32, u32)>, Vec<u32>) {
    let (mut segments, mut separators) = (Vec::with_capacity(32), Vec::with_capacity(bytes.len() / 8));
    let (mut start, mut first) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'|' => separators.push(at as u32),
            b'\r' | b'\n' => {
                if at > start {
                    segments.push((start as u32, at as u32, first));
                }
                (start, first) = (at + 1, separators.len() as u32);
            }
            _ => {}
        }
    }
    (segments, separators)
}

fn reading(c: &mut Criterion) {
    let text = report();
    let bytes = Bytes::from(text.clone());
    let mut group = c.benchmark_group("hl7");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("index", |b| b.iter(|| Message::parse(black_box(&bytes).clone())));
    group.bench_function("index_byte_loop", |b| b.iter(|| byte_loop(black_box(&bytes))));
    group.bench_function("index_hl7_parser", |b| {
        b.iter(|| hl7_parser::Message::parse(black_box(&text)).map(|message| message.segments().count()))
    });
    group.bench_function("routing_fields", |b| {
        b.iter(|| {
            let (header, error) = Header::read(black_box(&bytes));
            (header.field(10).len(), header.component(9, 2).len(), error)
        })
    });
    let message = Message::parse(bytes.clone()).unwrap_or_else(|error| panic!("the sample is no message: {error}"));
    group.bench_function("check_text", |b| b.iter(|| black_box(&message).check_text()));
    group.bench_function("every_component", |b| b.iter(|| components(black_box(&message))));
    let paths = ["MSH-3.2", "PID-3.1", "OBX[22]-5"].map(|path| path.parse::<Path>());
    group.bench_function("three_paths", |b| {
        b.iter(|| paths.iter().flatten().filter_map(|path| black_box(&message).first_text(path)).count())
    });
    group.bench_function("path_of_text", |b| b.iter(|| black_box("OBX(OBX-3.1=157784)[2]-5.1").parse::<Path>()));
    let at = "2026-03-14T09:26:30Z".parse().unwrap_or_default();
    let (header, _) = Header::read(&bytes);
    group.bench_function("ack", |b| b.iter(|| ack::build(black_box(&header), Code::CA, &[], at, "4711")));
    group.finish();
}

fn components(message: &Message) -> usize {
    let fields = message.segments().flat_map(|segment| (1..=segment.field_count()).map(move |n| segment.field(n)));
    fields.flat_map(|field| field.repetitions()).map(|repetition| repetition.components().count()).sum()
}

criterion_group!(benches, reading);
criterion_main!(benches);
