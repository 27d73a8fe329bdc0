//! `unmapped`: the codes that no table has, and as CSV to fill in and put back beside the table.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::{Common, Failure, Outcome, api::Api, block_on};
use crate::{
    delivery::UnmappedList,
    translate::{UnmappedCode, rows_to_fill_in},
};

#[derive(Args)]
pub(super) struct UnmappedArgs {
    /// Codes that came by this channel
    #[arg(long)]
    channel: Option<String>,
    /// Codes that this table lacks, such as mdc-to-flowsheet.csv or mdc-terms
    #[arg(long)]
    table: Option<String>,
    /// Print them as rows of the table: fill in the empty cells, save as NAME+more.csv beside NAME.csv
    #[arg(long)]
    csv: bool,
    /// Write them to this file instead, once they are had: a shell's `>` empties a file first, which the running engine may read
    #[arg(long, requires = "csv", value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn unmapped(common: &Common, args: &UnmappedArgs) -> Outcome {
    let api = Api::of(common)?;
    let named = [("channel", &args.channel), ("table", &args.table)];
    let pairs = named.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    let list = block_on(api.asked("/api/unmapped", pairs))?;
    if args.csv {
        let list: UnmappedList = serde_json::from_value(list)?;
        let rows = csv(&list.items)?;
        return match &args.output {
            Some(file) => write(file, &rows),
            None => {
                print!("{rows}");
                Ok(())
            }
        };
    }
    api.print_one(&list, shown);
    Ok(())
}

fn write(file: &Path, rows: &str) -> Outcome {
    let unwritten = |error| Failure::Failed(format!("{} cannot be written: {error}", file.display()));
    std::fs::write(file, rows).map_err(unwritten)?;
    // Behind the comments a line names the columns.
    let lines = rows.lines().filter(|line| !line.starts_with('#')).count();
    let count = super::count(lines.saturating_sub(1), "row");
    println!("{count} to fill in written to {}", file.display());
    Ok(())
}

fn csv(codes: &[UnmappedCode]) -> Result<String, Failure> {
    let mut tables: Vec<&str> = codes.iter().map(|code| &*code.table).collect();
    tables.sort_unstable();
    tables.dedup();
    match tables[..] {
        [] => Err(Failure::Failed("no code lacks a row".to_owned())),
        [table] => rows_to_fill_in(table, codes)
            .ok_or_else(|| Failure::Failed(format!("{table} is no table to fill in: {}", remedy(table)))),
        _ => Err(Failure::Failed(format!("codes of several tables; choose one with --table: {}", tables.join(", ")))),
    }
}

fn remedy(table: &str) -> &'static str {
    match table {
        "coding_systems" => "name the coding system in coding_systems of the destination",
        "identifier_systems" => "name the authority in identifier_systems of the destination",
        _ => "ask the sender to mend its codes",
    }
}

fn shown(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = items.iter().map(line).collect();
    match list["unlisted"].as_u64() {
        Some(0) | None => {}
        Some(times) => {
            let times = super::count(times, "time");
            lines.push(format!("{times} a code that is not listed: it may name a patient, or the list is full"))
        }
    }
    lines.join("\n")
}

fn line(code: &Value) -> String {
    let text = |key: &str| code[key].as_str().unwrap_or_default();
    let seen = format!("{} to {}, as in message {}", text("first_seen"), text("last_seen"), code["example"]);
    let named = [text("code"), text("text"), text("system")].join(" ");
    format!("{:>8}  {}  {}  {}  {seen}", code["count"].to_string(), text("channel"), text("table"), named.trim())
}
