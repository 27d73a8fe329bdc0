//! Every metric of the engine, by its public name. Labels are channel, destination, code, outcome, reason, table and
//! use: never a patient's or a device's identifier.

mod devices;

pub use devices::DeviceMetrics;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds, from a durable write on a quiet disk to a minute's wait.
const SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

const OLDEST_OWED_ACK: &str = "Age of the message of the oldest owed application ACK.";
const OWED_ACKS_GIVEN_UP: &str = "Owed application ACKs given up, by time or by a person.";
const UNASSOCIATED: &str = "Messages with observations that identify no patient.";
const WRONG_PATIENT: &str = "Messages that withdraw observations of a wrong patient (OBX-11 W).";
const RETRANSMISSIONS: &str = "Messages with the content of an earlier one under another control id.";
const NONCONFORMING: &str = "Messages with a fault in their content, by table 0357.";
const REDELIVERED: &str = "Sends of a possible repeat that may have reached the receiver.";
const UNANSWERED: &str = "Transactions taken by their status alone: the answer tells of no entry.";
const LEFT_OUT: &str = "Messages sent without something that may be wrong, by why.";
const UNSENT: &str = "Messages with nothing to send, by why.";
const HELD_LANES: &str = "Lanes that stand at a refused message until the operator acts.";
const CERTIFICATE_EXPIRY: &str = "Seconds until a certificate of ours ends; negative once it has.";
const DESTINATION_UP: &str = "1 while the last attempt reached it, and before the first.";

/// The engine's metrics; made once and shared by reference.
pub struct Metrics {
    registry: Registry,
    /// `{channel}`: frames taken as messages, whatever their answer.
    pub messages_received: IntCounterVec,
    /// `{channel,code}`: answers written, by MSA-1.
    pub acks_sent: IntCounterVec,
    /// `{channel}`: application ACKs that are owed to senders.
    pub owed_acks: IntGaugeVec,
    /// `{channel}`: seconds since the message of the oldest owed application ACK was received.
    pub oldest_owed_ack_seconds: IntGaugeVec,
    /// `{channel}`: owed application ACKs given up, by time or by a person.
    pub owed_acks_given_up: IntCounterVec,
    /// `{channel}`: last byte of the message in to ACK written.
    pub ack_seconds: HistogramVec,
    /// `{channel}`: repeats by the sender, answered with the first answer and not stored again.
    pub repeats: IntCounterVec,
    /// `{channel,kind}`: messages with observations that identify no patient, by what they do name: unknown, location, nobody.
    pub unassociated: IntCounterVec,
    /// `{channel}`: messages that withdraw an observation because it was another patient's.
    pub wrong_patient: IntCounterVec,
    /// `{channel}`: messages with the content of an earlier one under another control id.
    pub retransmissions: IntCounterVec,
    /// `{channel}`: a control id used again for different content; stored as a new message.
    pub control_id_reuse: IntCounterVec,
    /// `{channel,reason}`: frames refused or unreadable.
    pub bad_frames: IntCounterVec,
    /// `{channel,condition}`: messages that cannot be read or attributed (rules H), by table 0357; counted where
    /// `conformance` is not `off`.
    pub nonconforming: IntCounterVec,
    /// `{channel,rule}`: messages that break a conformance rule; counted where `conformance` is not `off`.
    pub broken_rules: IntCounterVec,
    /// `{channel,quirk}`: messages with a quirk of their sender.
    pub quirks: IntCounterVec,
    /// `{channel,outcome}`: summaries by a schedule, a patient each: made, made_before, too_few, ambiguous.
    pub summaries: IntCounterVec,
    /// `{channel,limit}`: a limit that bit, such as connections or frame_timeout.
    pub limits_hit: IntCounterVec,
    /// `{channel,reason}`: TLS handshakes of peers that failed.
    pub tls_handshake_failures: IntCounterVec,
    /// `{channel,use}`: seconds until the certificates end that are shown to peers or trusted of them.
    pub certificate_expiry_seconds: IntGaugeVec,
    /// `{channel}`: open inbound connections.
    pub connections: IntGaugeVec,
    /// `{channel,destination}`: messages waiting for delivery.
    pub waiting: IntGaugeVec,
    /// `{channel,destination}`: age of the oldest waiting message, seconds.
    pub oldest_waiting_seconds: IntGaugeVec,
    /// `{channel,destination,outcome}`: accepted, rejected, unavailable, ambiguous, failed.
    pub attempts: IntCounterVec,
    /// `{channel,destination}`: transactions taken by their status alone, since the answer tells of no entry.
    pub unanswered_entries: IntCounterVec,
    /// `{channel,destination,reason}`: messages with nothing to send, by [`crate::translate::Unsent::label`].
    pub unsent: IntCounterVec,
    /// `{channel,destination,reason}`: messages sent without something that may be wrong, by the same labels.
    pub left_out: IntCounterVec,
    /// `{channel,destination}`: sends of a possible repeat that may have reached the receiver.
    pub redelivered: IntCounterVec,
    /// `{channel,destination}`: lanes that stand at a refused message until the operator acts.
    pub held_lanes: IntGaugeVec,
    /// `{channel,destination}`: stored to accepted.
    pub delivery_seconds: HistogramVec,
    /// `{channel,destination}`: dead letters waiting for a person.
    pub dead_letters: IntGaugeVec,
    /// `{channel,destination}`: requests that waited for their turn under `rate`.
    pub rate_waits: IntCounterVec,
    /// `{channel,destination,outcome}`: patients looked up: remembered, found, none, several, failed.
    pub patient_lookups: IntCounterVec,
    /// `{channel,destination,outcome}`: logins at token endpoints: succeeded, failed.
    pub logins: IntCounterVec,
    /// `{channel,destination}`: deliveries ended unsent by a person, of destinations no longer configured.
    pub given_up: IntCounterVec,
    /// `{channel,destination}`: 1 while the last attempt reached it, and before the first.
    pub destination_up: IntGaugeVec,
    /// `{channel,table}`: codes with no row in a table.
    pub unmapped: IntCounterVec,
    /// One group commit, write to fdatasync done.
    pub store_commit_seconds: Histogram,
    /// Messages in one group commit.
    pub store_batch_messages: Histogram,
    /// Bytes the store holds on disk.
    pub store_bytes: IntGauge,
    /// 1 while the store refuses new messages for want of space.
    pub store_full: IntGauge,
    /// 1 while the store cannot promise durability and nothing is acknowledged.
    pub store_failed: IntGauge,
    /// Times the store was opened anew in the running engine after a failed write or sync.
    pub store_reopened: IntCounter,
    /// Frames held in memory between reading and durable storage, bytes.
    pub in_flight_bytes: IntGauge,
    /// Configuration reloads refused.
    pub reload_failures: IntCounter,
    /// Devices, counted by channel.
    pub devices: DeviceMetrics,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let r = Registry::new();
        let build = gauges(&r, "build_info", "The running build.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let of_channel = |name: &str, help: &str| counters(&r, name, help, &["channel"]);
        let of_both = |name: &str, label: &str, help: &str| counters(&r, name, help, &["channel", label]);
        let to = &["channel", "destination"];
        let outcomes = &["channel", "destination", "outcome"];
        Ok(Metrics {
            messages_received: of_channel("messages_received_total", "Messages received.")?,
            acks_sent: of_both("acks_sent_total", "code", "Acknowledgements sent, by MSA-1.")?,
            owed_acks: gauges(&r, "owed_acks", "Application ACKs owed to senders.", &["channel"])?,
            oldest_owed_ack_seconds: gauges(&r, "oldest_owed_ack_seconds", OLDEST_OWED_ACK, &["channel"])?,
            owed_acks_given_up: of_channel("owed_acks_given_up_total", OWED_ACKS_GIVEN_UP)?,
            ack_seconds: histograms(&r, "ack_seconds", "Last byte in to ACK written.", &["channel"])?,
            repeats: of_channel("repeats_total", "Repeats by the sender.")?,
            unassociated: of_both("unassociated_total", "kind", UNASSOCIATED)?,
            wrong_patient: of_channel("wrong_patient_total", WRONG_PATIENT)?,
            retransmissions: of_channel("retransmissions_total", RETRANSMISSIONS)?,
            control_id_reuse: of_channel("control_id_reuse_total", "Control ids used again for other content.")?,
            bad_frames: of_both("bad_frames_total", "reason", "Frames refused or unreadable.")?,
            nonconforming: of_both("nonconforming_total", "condition", NONCONFORMING)?,
            broken_rules: of_both("broken_rules_total", "rule", "Messages that break a conformance rule.")?,
            quirks: of_both("quirks_total", "quirk", "Messages with a quirk of their sender.")?,
            summaries: of_both("summaries_total", "outcome", "Summaries due by a schedule, a patient each.")?,
            limits_hit: of_both("limits_hit_total", "limit", "Limits that bit.")?,
            tls_handshake_failures: of_both("tls_handshake_failures_total", "reason", "TLS handshakes that failed.")?,
            certificate_expiry_seconds: gauges(
                &r,
                "certificate_expiry_seconds",
                CERTIFICATE_EXPIRY,
                &["channel", "use"],
            )?,
            connections: gauges(&r, "connections", "Open inbound connections.", &["channel"])?,
            waiting: gauges(&r, "waiting", "Messages waiting for delivery.", to)?,
            oldest_waiting_seconds: gauges(&r, "oldest_waiting_seconds", "Age of the oldest waiting message.", to)?,
            attempts: counters(&r, "attempts_total", "Delivery attempts.", &["channel", "destination", "outcome"])?,
            unanswered_entries: counters(&r, "unanswered_entries_total", UNANSWERED, to)?,
            left_out: counters(&r, "left_out_total", LEFT_OUT, &["channel", "destination", "reason"])?,
            unsent: counters(&r, "unsent_total", UNSENT, &["channel", "destination", "reason"])?,
            redelivered: counters(&r, "redelivered_total", REDELIVERED, to)?,
            held_lanes: gauges(&r, "held_lanes", HELD_LANES, to)?,
            delivery_seconds: histograms(&r, "delivery_seconds", "Stored to accepted.", to)?,
            dead_letters: gauges(&r, "dead_letters", "Dead letters waiting.", to)?,
            rate_waits: counters(&r, "rate_waits_total", "Requests that waited for their turn under `rate`.", to)?,
            patient_lookups: counters(&r, "patient_lookups_total", "Patients looked up at a FHIR server.", outcomes)?,
            logins: counters(&r, "logins_total", "Logins at token endpoints.", outcomes)?,
            given_up: counters(&r, "given_up_total", "Deliveries ended unsent by a person.", to)?,
            destination_up: gauges(&r, "destination_up", DESTINATION_UP, to)?,
            unmapped: of_both("unmapped_total", "table", "Codes with no row in a table.")?,
            store_commit_seconds: histogram(&r, "store_commit_seconds", "One group commit.", SECONDS)?,
            store_batch_messages: histogram(&r, "store_batch_messages", "Messages in one group commit.", BATCH)?,
            store_bytes: gauge(&r, "store_bytes", "Bytes the store holds on disk.")?,
            store_full: gauge(&r, "store_full", "1 while the store refuses messages for want of space.")?,
            store_failed: gauge(&r, "store_failed", "1 while the store cannot promise durability.")?,
            store_reopened: counter(&r, "store_reopened_total", "Times the store was opened anew after a failure.")?,
            in_flight_bytes: gauge(&r, "in_flight_bytes", "Frames in memory not yet stored.")?,
            reload_failures: counter(&r, "reload_failures_total", "Configuration reloads refused.")?,
            devices: DeviceMetrics::new(&r)?,
            registry: r,
        })
    }

    /// The Prometheus text exposition of all metrics.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        String::from_utf8(out).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("cannula_{name}"), help)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::with_opts(opts(name, help))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let family = IntCounterVec::new(opts(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let family = IntGaugeVec::new(opts(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
    let family = HistogramVec::new(HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec()), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
