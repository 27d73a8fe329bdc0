//! What a FHIR sink can be told to do.

use super::Garbling;
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
    /// `422`, `503`, `429:2s`, `307`: refuses with this status, an OperationOutcome, and Retry-After where given.
    Refuse(StatusCode, Option<Duration>),
    /// `refuse-entry`: answers 200 to the transaction and 422 to an entry of it, and commits nothing.
    RefuseEntry,
    /// `close`: closes the connection and commits nothing.
    Close,
    /// `drop-after-commit`: commits and closes the connection without answer.
    DropAfterCommit,
    /// `partial`, `not-fhir`, `torn-body`, `slow-body`, `huge-body`: commits, and the answer is of no use.
    Garble(Garbling),
}

const ACTIONS: &str = "300 to 599 (429:DURATION gives Retry-After), refuse-entry, close, drop-after-commit, partial, not-fhir, torn-body, slow-body, huge-body, slow:DURATION, late:DURATION";

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
            ("refuse-entry", None) => FhirAction::RefuseEntry,
            ("partial", None) => FhirAction::Garble(Garbling::Partial),
            ("not-fhir", None) => FhirAction::Garble(Garbling::NotFhir),
            ("torn-body", None) => FhirAction::Garble(Garbling::TornBody),
            ("slow-body", None) => FhirAction::Garble(Garbling::SlowBody),
            ("huge-body", None) => FhirAction::Garble(Garbling::HugeBody),
            (status, retry_after) => {
                let status = StatusCode::from_bytes(status.as_bytes()).map_err(|_| fault())?;
                let is_refusal = status.as_u16() >= 300 && status.as_u16() < 600;
                if is_refusal { FhirAction::Refuse(status, retry_after) } else { return Err(fault()) }
            }
        })
    }
}

/// Whether a client should try the same request again.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_redirection() || status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 408 | 425 | 429)
}

/// All actions for one request.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub slow: Duration,
    pub late: Duration,
    pub fault: Option<FhirAction>,
}

impl Plan {
    pub fn of(actions: &[FhirAction]) -> Plan {
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
