//! `cgm-summary`: a patient's continuous glucose over a period, from the running engine.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Failure, Outcome, api::Api, block_on, count, terminal};
use crate::pcd::cgm::MG_DL_PER_MMOL_L;

#[derive(Args)]
pub(super) struct CgmSummaryArgs {
    /// Patient identifier (PID-3.1); `-` reads it from standard input, so that it is in no process list
    #[arg(long)]
    patient: String,
    /// Its assigning authority (PID-3.4), where one identifier means several patients
    #[arg(long)]
    authority: Option<String>,
    /// Measured at or after, such as 2026-01-05T00:00:00Z
    #[arg(long)]
    from: Timestamp,
    /// Measured before
    #[arg(long)]
    to: Timestamp,
    /// Only messages of this channel
    #[arg(long)]
    channel: Option<String>,
    /// Minutes between two readings of the sensor; without it, as its readings tell
    #[arg(long, value_name = "MINUTES")]
    interval: Option<u32>,
    /// Print a FHIR transaction by the CGM profiles instead, for the patient of this identifier system
    #[arg(long, value_name = "SYSTEM")]
    fhir: Option<String>,
}

pub(super) fn cgm_summary(common: &Common, args: CgmSummaryArgs) -> Outcome {
    let patient = match args.patient.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?.trim().to_owned(),
        patient => patient.to_owned(),
    };
    let asked = json!({
        "patient": patient, "authority": args.authority, "from": args.from, "to": args.to, "channel": args.channel,
        "interval_minutes": args.interval, "fhir_system": args.fhir,
    });
    let api = Api::of(common)?;
    block_on(async {
        let summary = api.told("/api/cgm-summary", asked).await?;
        match args.fhir {
            Some(_) => println!("{}", terminal::json(&summary["fhir"])),
            None if !common.json && summary["messages"] == 0 => return Err(Failure::Failed(UNKNOWN.to_owned())),
            None => api.print_one(&summary, text),
        }
        Ok(())
    })
}

/// A table of nothing would look like a patient without readings.
const UNKNOWN: &str = "no message of such a patient is kept from the period on: check the identifier (PID-3.1), --authority, --channel and \
                       how long messages are kept (store.retain)";

fn text(summary: &Value) -> String {
    let counted = |key: &str, what| count(summary[key].as_u64().unwrap_or_default(), what);
    if summary["readings"] == 0 {
        let mut lines = vec![format!("no glucose reading counts in {} of the patient", counted("messages", "message"))];
        lines.extend(left_out(summary));
        return lines.join("\n");
    }
    let number = |key: &str| summary[key].as_f64();
    let with = |value: Option<f64>, unit: &str| value.map_or("-".to_owned(), |value| format!("{value:.1} {unit}"));
    let range = |key: &str| with(summary["ranges"][key].as_f64(), "%");
    let molar = |key: &str| number(key).map_or(String::new(), |mg| format!(" ({:.1} mmol/L)", mg / MG_DL_PER_MMOL_L));
    let mut lines = vec![
        format!("period            {} to {}", words(&summary["from"]), words(&summary["to"])),
        format!("readings          {}, every {}", summary["readings"], counted("interval_minutes", "minute")),
        format!("mean              {}{}", with(number("mean_mg_per_dl"), "mg/dL"), molar("mean_mg_per_dl")),
        format!("SD                {}{}", with(number("sd_mg_per_dl"), "mg/dL"), molar("sd_mg_per_dl")),
        format!("CV                {}", with(number("cv_percent"), "%")),
        format!("GMI               {}", with(number("gmi_percent"), "%")),
        format!("very high  > 250  {}", range("very_high")),
        format!("high   181 - 250  {}", range("high")),
        format!("in range 70 - 180 {}", range("in_range")),
        format!("low      54 - 69  {}", range("low")),
        format!("very low    < 54  {}", range("very_low")),
        format!("days worn         {}", summary["days_worn"]),
        format!("sensor active     {}", with(number("sensor_active_percent"), "%")),
    ];
    lines.extend(left_out(summary));
    if summary["sufficient"] != true {
        lines.push("too little to judge by: the consensus asks for 14 days with 70 % of their readings".to_owned());
    }
    lines.join("\n")
}

/// What did not count, or not as a number.
fn left_out(summary: &Value) -> impl Iterator<Item = String> {
    let left_out = summary["left_out"].as_object().into_iter().flatten();
    let left_out = left_out.map(|(why, count)| (format!("left out: {}", why.replace('_', " ")), count));
    let noted = [("repeats", "of a moment that had one"), ("beyond_scale", "beyond the sensor's scale")];
    let noted = noted.map(|(key, what)| (what.to_owned(), &summary[key]));
    let told = noted.into_iter().chain(left_out).filter_map(|(what, count)| Some((what, count.as_u64()?)));
    told.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count:<17} {what}"))
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_was_left_out_and_whether_it_is_enough_to_judge_by() {
        let mut summary = json!({
            "from": "2026-03-01T00:00:00Z", "to": "2026-03-15T00:00:00Z", "readings": 4000, "interval_minutes": 5.0,
            "mean_mg_per_dl": 145.0, "sd_mg_per_dl": 50.0, "cv_percent": 34.48, "gmi_percent": 6.778,
            "ranges": { "very_low": 1.0, "low": 3.0, "in_range": 70.0, "high": 20.0, "very_high": 6.0 },
            "days_worn": 14, "sensor_active_percent": 99.2, "sufficient": true, "repeats": 0, "beyond_scale": 2,
            "left_out": { "without_value": 0, "unit": 7 },
        });
        let told = text(&summary);
        for part in [
            "145.0 mg/dL (8.0 mmol/L)",
            "GMI               6.8 %",
            "70.0 %",
            "2                 beyond",
            "7                 left out: unit",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert!(!told.contains("too little") && !told.contains("without value"), "{told}");
        let nothing = json!({ "readings": 0, "messages": 3, "left_out": { "unit": 3 } });
        assert_eq!(
            text(&nothing),
            "no glucose reading counts in 3 messages of the patient\n3                 left out: unit"
        );
        summary["sufficient"] = json!(false);
        summary["ranges"] = Value::Null;
        summary["mean_mg_per_dl"] = Value::Null;
        let told = text(&summary);
        assert!(told.contains("too little") && told.contains("in range 70 - 180 -"), "{told}");
    }
}
