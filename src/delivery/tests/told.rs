//! What the log, the metrics and the API tell, and what they must not.

use std::{io, sync::LazyLock};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::{super::*, bench::*};
use crate::{
    destination::Verdict,
    translate::{Format, TranslateError, Translated, Unmapped},
};

/// Everything logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Log, DefaultGuard) {
        // With a single subscriber in the process, a log line first reached by another thread, which has none, would be
        // switched off for all.
        static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing_subscriber::registry().into());
        LazyLock::force(&SECOND);
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_max_level(tracing::Level::TRACE);
        (log.clone(), tracing::subscriber::set_default(subscriber.with_ansi(false).finish()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Lines of delivery's own that say `what`.
    fn lines(&self, what: &str) -> usize {
        self.text().lines().filter(|line| line.contains(what)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Log;
    fn make_writer(&'w self) -> Log {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_once_however_many_lanes_and_retries_it_has() {
    let (log, _guard) = Log::start();
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    for lane in 0..3 {
        shelf.put("ehr", lane, [u64::from(lane)]);
    }
    delivery.apply(vec![configured("ehr", 3, service(to, 1))]).unwrap();
    for _ in 0..60 {
        calls.next().await.answer(Verdict::unavailable("refused"));
    }
    assert_eq!((log.lines("destination unavailable"), log.lines("available again")), (1, 0), "{}", log.text());
    for _ in 0..3 {
        calls.next().await.accept();
    }
    shelf.until_settled(3).await;
    assert_eq!((log.lines("destination unavailable"), log.lines("available again")), (1, 1), "{}", log.text());
    shelf.put("ehr", 0, [9]);
    calls.next().await.answer(Verdict::ambiguous("silence"));
    calls.next().await.accept();
    shelf.until_settled(4).await;
    assert_eq!((log.lines("destination unavailable"), log.lines("available again")), (2, 2), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn no_patient_is_named_in_logs_metrics_status_or_settlements() {
    const CANARY: &str = "CANARY^ROSE";
    let (log, _guard) = Log::start();
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=6);
    let naming = translating(service(to, 1), |_, context| match context.id {
        1 => Err(TranslateError::new("PID-5", "no row")),
        _ => {
            let body = format!("MSH|^~\\&|||||||ORU^R01|{CANARY}|\rPID|||{CANARY}\r").into();
            Ok(Translated {
                body,
                format: Format::Hl7,
                unsent: None,
                doubt: None,
                unmapped: vec![],
                origins: vec![],
                episodes: vec![],
            })
        }
    });
    delivery.apply(vec![configured("ehr", 1, naming)]).unwrap();
    let verdicts = [
        Verdict::Accepted { answer: "AA".into() },
        Verdict::rejected("answered AE"),
        Verdict::unavailable("refused"),
        Verdict::ambiguous("silence"),
    ];
    for verdict in verdicts {
        let call = calls.next().await;
        assert!(std::str::from_utf8(&call.outgoing.body).unwrap().contains(CANARY));
        assert!(!format!("{:?}", call.outgoing).contains("CANARY"), "Debug tells sizes only");
        call.answer(verdict);
    }
    at_rest().await;
    let told = [
        format!("{:?}", delivery.status()),
        delivery.metrics.text().unwrap(),
        log.text(),
        format!("{:?}", shelf.outcomes()),
        shelf.with(|contents| format!("{:?}", contents.attempts)),
    ]
    .concat();
    assert!(told.contains("PID-5: no row") && told.contains("silence"), "the canary would be seen in {told}");
    assert!(!told.contains("CANARY"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn codes_without_a_row_are_counted_once_a_message() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    let unmapped = translating(service(to, 1), |_, context| {
        let unmapped = vec![Unmapped::new("mdc-to-flowsheet.csv", "150456", "MDC_PULS_OXIM_SAT_O2", "MDC")];
        match context.id {
            1 => Ok(Translated { unmapped, ..body(1, context) }),
            _ => Err(TranslateError { unmapped, ..TranslateError::new("OBX-3", "no row") }),
        }
    });
    delivery.apply(vec![configured("ehr", 1, unmapped)]).unwrap();
    calls.next().await.answer(Verdict::unavailable("refused"));
    calls.next().await.accept();
    shelf.until_settled(1).await;
    let counted = delivery.metrics.unmapped.with_label_values(&["pumps", "mdc-to-flowsheet.csv"]);
    assert_eq!(counted.get(), 1);
    shelf.put("ehr", 0, [2]);
    shelf.until_settled(2).await;
    assert_eq!(counted.get(), 2, "a code that makes a dead letter");
}
