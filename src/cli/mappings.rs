//! `mappings export`: the whole mapping in force, for those who must approve it.

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};

use super::{Common, Failure, Outcome};
use crate::{
    config::{self, InForce},
    destination::Settings,
    translate::{MAPPING_COLUMNS, MappingRow},
};

#[derive(Subcommand)]
pub(super) enum MappingsAction {
    /// Write codes, units, flags, statuses, systems, site tables and choices, each row with its source
    #[command(
        after_help = "Example: cannula mappings export > mapping.csv\n         cannula mappings export --format xlsx --to mapping.xlsx"
    )]
    Export(ExportArgs),
}

#[derive(Args)]
pub(super) struct ExportArgs {
    /// One table for a program or a comparison (without --json what is written), or a workbook with a sheet for each part
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
    /// Only what this channel's destinations choose, beside what holds for all
    #[arg(long)]
    channel: Option<String>,
    /// File to write; without it CSV or JSON is printed
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    Csv,
    Xlsx,
}

pub(super) fn mappings(common: &Common, action: &MappingsAction) -> Outcome {
    let MappingsAction::Export(args) = action;
    if common.json && args.format.is_some() {
        return Err(Failure::Failed("--json is a form of its own: leave out --format".to_owned()));
    }
    let is_workbook = args.format == Some(ExportFormat::Xlsx);
    if is_workbook && args.to.is_none() {
        return Err(Failure::Failed("a workbook needs a file: add --to mapping.xlsx".to_owned()));
    }
    let rows = rows(common, args)?;
    let bytes = match is_workbook {
        _ if common.json => json(&rows)?,
        true => workbook(&rows)?,
        false => csv(&rows)?,
    };
    match &args.to {
        Some(file) => {
            std::fs::write(file, bytes).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
        }
        None => Ok(std::io::stdout().write_all(&bytes)?),
    }
}

fn rows(common: &Common, args: &ExportArgs) -> Result<Vec<MappingRow>, Failure> {
    let config = common.load()?;
    let wanted = |name: &str| args.channel.as_ref().is_none_or(|channel| channel == name);
    if let Some(name) = args.channel.as_ref().filter(|name| !config.channels.iter().any(|known| *known.name == ***name))
    {
        let names: Vec<&str> = config.channels.iter().map(|channel| &*channel.name).collect();
        return Err(Failure::Failed(format!("no channel {name:?}; there are {}", names.join(", "))));
    }
    let mut rows = MappingRow::of_nomenclature(&config.nomenclature);
    for channel in config.channels.iter().filter(|channel| wanted(&channel.name)) {
        let held = config::in_force(&config.channels_dir.join(format!("{}.toml", channel.name)));
        let before = rows.len();
        for destination in &channel.destinations {
            let (channel, name) = (&*channel.name, &*destination.name);
            rows.extend(MappingRow::of_destination(channel, name, &destination.plan));
            if let Settings::Fhir(server) = &destination.settings {
                let choices = server.write.choices().into_iter();
                rows.extend(choices.map(|(key, value)| MappingRow::of_choice(channel, name, key, &value)));
            }
        }
        let own = rows.split_off(before);
        rows.extend(with_all_keys(&channel.name, own, &held));
    }
    Ok(rows)
}

/// A channel's rows: its choices with who made each, and a row for every key that is none of them yet.
fn with_all_keys(channel: &str, mut rows: Vec<MappingRow>, held: &[InForce]) -> Vec<MappingRow> {
    let is_of = |row: &MappingRow, key: &InForce| {
        let of_mapping = key.key.strip_prefix("fhir.").and_then(|key| key.split('.').next());
        row.part == "settings"
            && row.destination == key.destination
            && !key.destination.is_empty()
            && (of_mapping == Some(&*row.code) || key.key == row.code)
    };
    for row in &mut rows {
        if let Some(key) = held.iter().find(|key| is_of(row, key)) {
            row.source.clone_from(&key.by);
        }
    }
    let further = held.iter().filter(|key| !key.key.starts_with("step.") && !rows.iter().any(|row| is_of(row, key)));
    let further: Vec<MappingRow> = further
        .map(|key| MappingRow {
            part: "settings",
            channel: channel.to_owned(),
            destination: key.destination.clone(),
            code: key.key.clone(),
            name: key.name.clone(),
            to_code: key.value.clone(),
            source: key.by.clone(),
            ..MappingRow::default()
        })
        .collect();
    rows.extend(further);
    rows
}

fn csv(rows: &[MappingRow]) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(MAPPING_COLUMNS)?;
    for row in rows {
        writer.write_record(row.cells().map(|cell| inert(cell).into_owned()))?;
    }
    writer.into_inner().map_err(|error| Failure::Failed(error.to_string()))
}

/// An object for each row, by the names of the columns; cells that are empty are left out.
fn json(rows: &[MappingRow]) -> Result<Vec<u8>, serde_json::Error> {
    let object = |row: &MappingRow| -> serde_json::Value {
        let filled = MAPPING_COLUMNS.into_iter().zip(row.cells()).filter(|(_, cell)| !cell.is_empty());
        filled.map(|(column, cell)| (column.to_owned(), cell.into())).collect::<serde_json::Map<_, _>>().into()
    };
    let mut bytes = serde_json::to_vec_pretty(&rows.iter().map(object).collect::<Vec<_>>())?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A spreadsheet program computes what begins as a formula does; behind an apostrophe it is text.
fn inert(cell: &str) -> std::borrow::Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}").into() } else { cell.into() }
}

/// A sheet for each part, with the columns that it fills.
fn workbook(rows: &[MappingRow]) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let mut parts: Vec<&'static str> = Vec::new();
    for row in rows {
        if !parts.contains(&row.part) {
            parts.push(row.part);
        }
    }
    for part in parts {
        let own: Vec<[&str; 12]> = rows.iter().filter(|row| row.part == part).map(MappingRow::cells).collect();
        sheet(workbook.add_worksheet().set_name(part)?, &own)?;
    }
    workbook.save_to_buffer()
}

fn sheet(sheet: &mut Worksheet, rows: &[[&str; 12]]) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold();
    let filled = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let columns: Vec<usize> = (1..MAPPING_COLUMNS.len()).filter(filled).collect();
    for (at, &column) in (0_u16..).zip(&columns) {
        sheet.write_string_with_format(0, at, MAPPING_COLUMNS[column], &bold)?;
        for (line, row) in (1_u32..).zip(rows) {
            sheet.write_string(line, at, row[column])?;
        }
    }
    let last =
        (u32::try_from(rows.len()).unwrap_or(u32::MAX), u16::try_from(columns.len()).unwrap_or(1).saturating_sub(1));
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofilter(0, 0, last.0, last.1)?;
    sheet.autofit();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pcd::Nomenclature;

    #[test]
    fn a_table_has_every_row_and_no_cell_that_a_spreadsheet_would_compute() {
        let mut rows = MappingRow::of_nomenclature(&Nomenclature::built_in());
        rows.push(MappingRow { part: "settings", code: "=1+1".to_owned(), ..MappingRow::default() });
        let bytes = csv(&rows).unwrap_or_default();
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        assert_eq!(reader.headers().unwrap(), &MAPPING_COLUMNS[..]);
        let read: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!((read.len(), &read[read.len() - 1][3]), (rows.len(), "'=1+1"));
    }

    #[test]
    fn as_json_every_row_is_an_object_of_its_filled_cells() {
        let rows = [MappingRow { part: "settings", code: "=1+1".to_owned(), ..MappingRow::default() }];
        let told: serde_json::Value = serde_json::from_slice(&json(&rows).unwrap()).unwrap();
        assert_eq!(told, serde_json::json!([{ "part": "settings", "code": "=1+1" }]));
    }

    #[test]
    fn a_workbook_is_a_real_one_with_a_sheet_for_each_part() {
        let rows = MappingRow::of_nomenclature(&Nomenclature::built_in());
        let bytes = workbook(&rows).unwrap();
        assert_eq!(&bytes[..4], b"PK\x03\x04", "a workbook is a zip file");
        assert!(bytes.len() > 20_000);
    }
}
