//! Rows that need more than bytes and answers: time, many connections, a setting of the receiver's, another protocol.
//! One whose need is not met is skipped with the reason.

mod connection;
mod limits;
mod tls;

use super::case::{area, shown_answers};
use super::line::Line;
use super::{Ids, Options, RowResult};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// The row about a store that is full, which comes last.
pub(super) const STORE_FULL: u8 = 84;

/// A row.
pub(super) struct Probe {
    pub(super) row: u8,
    what: &'static str,
    sent: &'static str,
    expected: &'static str,
    check: Check,
}

type Check = for<'o> fn(&'o Options, Ids) -> Pin<Box<dyn Future<Output = Result<String, Unproved>> + Send + 'o>>;

/// Why a row did not pass.
pub(super) enum Unproved {
    Fault(String),
    Skip(String),
}

impl From<String> for Unproved {
    fn from(fault: String) -> Unproved {
        Unproved::Fault(fault)
    }
}

fn skip<T>(why: &str) -> Result<T, Unproved> {
    Err(Unproved::Skip(why.to_owned()))
}

/// The value of an option, or the row is skipped.
fn needed<T: Clone>(option: &Option<T>, why: &str) -> Result<T, Unproved> {
    option.clone().ok_or_else(|| Unproved::Skip(why.to_owned()))
}

impl Probe {
    /// Runs it.
    pub(super) async fn run(&self, options: &Options, ids: Ids) -> RowResult {
        let mut result = RowResult::new(self.row.to_string(), area(self.row), self.what, self.expected);
        self.sent.clone_into(&mut result.sent);
        match (self.check)(options, ids).await {
            Ok(answer) => RowResult { answer, ..result },
            Err(Unproved::Fault(fault)) => result.failed(fault),
            Err(Unproved::Skip(why)) => result.skipped(why),
        }
    }
}

/// All of them.
pub(super) fn all() -> Vec<Probe> {
    [limits::probes(), connection::probes(), tls::probes()].into_iter().flatten().collect()
}

async fn connect(options: &Options) -> Result<Line, Unproved> {
    Ok(Line::connect(&options.at(), options.ack_timeout).await?)
}

/// What came, as a report shows it.
fn seen(answers: &[Bytes], and: &str) -> String {
    format!("{}; {and}", shown_answers(answers))
}
