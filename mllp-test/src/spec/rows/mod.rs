//! The table of bad input, row by row. A row is here as often as there are ways to be bad in it; those that need time,
//! many connections or another protocol are in `probe`.

mod acknowledgement;
mod batch;
mod connection;
mod content;
mod framing;
mod header;
mod limits;
mod strict;

use super::case::Case;

/// All rows that are bytes and answers, by area.
pub(super) fn all() -> Vec<Case> {
    let areas = [
        framing::rows,
        header::rows,
        content::rows,
        strict::rows,
        acknowledgement::rows,
        connection::rows,
        batch::rows,
        limits::rows,
    ];
    areas.into_iter().flat_map(|rows| rows()).collect()
}
