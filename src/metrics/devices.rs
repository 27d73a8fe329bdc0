//! Metrics of devices, summed up by channel.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::{counters, gauges};

/// Seconds a clock is off, from what nobody minds to a wrong day.
const SKEW: &[f64] = &[1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1_800.0, 3_660.0, 7_260.0, 86_400.0];

/// Metrics of devices.
pub struct DeviceMetrics {
    /// `{channel,state}`: devices by learning, reporting and silent.
    pub devices: IntGaugeVec,
    /// `{channel}`: times a device fell silent.
    pub silences: IntCounterVec,
    /// `{channel}`: times numbers were missing in a device's or a sender's sequence.
    pub gaps: IntCounterVec,
    /// `{channel}`: messages missing in those gaps when they were told.
    pub missing: IntCounterVec,
    /// `{channel}`: numbers that came again.
    pub repeats: IntCounterVec,
    /// `{channel}`: observations later than usual for their device.
    pub late: IntCounterVec,
    /// `{channel}`: messages older than one before them.
    pub out_of_order: IntCounterVec,
    /// `{channel}`: times a device's clock was set.
    pub clock_sets: IntCounterVec,
    /// `{channel}`: how far clocks are off, either way, once for each observation in time.
    pub clock_skew_seconds: HistogramVec,
}

impl DeviceMetrics {
    pub(super) fn new(registry: &Registry) -> Result<DeviceMetrics, prometheus::Error> {
        let of_channel = |name: &str, help: &str| counters(registry, name, help, &["channel"]);
        let skew = HistogramOpts::new("cannula_device_clock_skew_seconds", "How far devices' clocks are off.");
        let clock_skew_seconds = HistogramVec::new(skew.buckets(SKEW.to_vec()), &["channel"])?;
        registry.register(Box::new(clock_skew_seconds.clone()))?;
        Ok(DeviceMetrics {
            devices: gauges(registry, "devices", "Devices heard, by state.", &["channel", "state"])?,
            silences: of_channel("device_silences_total", "Times a device fell silent.")?,
            gaps: of_channel("device_gaps_total", "Times numbers were missing in a sequence of messages.")?,
            missing: of_channel("device_missing_total", "Messages missing in sequences.")?,
            repeats: of_channel("device_repeats_total", "Numbers that came again.")?,
            late: of_channel("device_late_total", "Observations later than usual for their device.")?,
            out_of_order: of_channel("device_out_of_order_total", "Messages older than one before them.")?,
            clock_sets: of_channel("device_clock_sets_total", "Times a device's clock was set.")?,
            clock_skew_seconds,
        })
    }
}
