//! What a FHIR sink can be told to do.

use crate::script::{ScriptFault, duration};
use axum::http::StatusCode;
use std::str::FromStr;
use std::time::Duration;

/// What a FHIR sink can be told to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FhirAction {
    /// `slow:50ms`: takes so long before it looks at the Bundle.
    Slow(Duration),
    /// `late:2s`: commits at once and answers so much later.
    Late(Duration),
    /// `422`, `503`, `429:2s`: refuses with this status, an OperationOutcome, and Retry-After where given.
    Refuse(StatusCode, Option<Duration>),
    /// `close`: closes the connection and commits nothing.
    Close,
    /// `drop-after-commit`: commits and closes the connection without answer.
    DropAfterCommit,
}

const ACTIONS: &str =
    "400 to 599 (429:DURATION gives Retry-After), close, drop-after-commit, slow:DURATION, late:DURATION";

impl FromStr for FhirAction {
    type Err = ScriptFault;

    fn from_str(text: &str) -> Result<FhirAction, ScriptFault> {
        let fault = || ScriptFault::What { what: text.to_owned(), known: ACTIONS };
        let (name, time) = text.split_once(':').map_or((text, None), |(name, time)| (name, Some(time)));
        let time = time.map(duration).transpose()?;
        Ok(match (name, time) {
            ("slow", Some(time)) => FhirAction::Slow(time),
            ("late", Some(time)) => FhirAction::Late(time),
            ("close", None) => FhirAction::Close,
            ("drop-after-commit", None) => FhirAction::DropAfterCommit,
            (status, retry_after) => {
                let status = StatusCode::from_bytes(status.as_bytes()).map_err(|_| fault())?;
                let is_refusal = status.is_client_error() || status.is_server_error();
                if is_refusal { FhirAction::Refuse(status, retry_after) } else { return Err(fault()) }
            }
        })
    }
}

/// Whether a client should try the same request again.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 401 | 408 | 425 | 429)
}

/// All actions for one request.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub slow: Duration,
    pub late: Duration,
    pub fault: Option<FhirAction>,
}

impl Plan {
    pub fn of<'a>(actions: impl Iterator<Item = &'a FhirAction>) -> Plan {
        let mut plan = Plan::default();
        for action in actions {
            match action {
                FhirAction::Slow(time) => plan.slow += *time,
                FhirAction::Late(time) => plan.late += *time,
                other => plan.fault = plan.fault.or(Some(*other)),
            }
        }
        plan
    }
}
