//! Certificates end: how long each has is a metric, and the log tells it 30, 7 and 1 days before, and once it is over.
//!
//! An ended certificate stops nothing by itself: peers that look refuse it, those that do not go on sending, and an engine
//! that would not start for it would keep every other channel waiting too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tracing::{error, warn};

use crate::{
    channel::Channel,
    destination::{Secret, Settings},
    metrics::Metrics,
    mllp::tls::{Acceptor, Connector, not_after},
};

const DAY_SECONDS: i64 = 86_400;
/// Days before its end at which a certificate is told of; the last is its end.
const TOLD_DAYS_BEFORE: [i64; 4] = [30, 7, 1, 0];

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Use {
    channel: Arc<str>,
    /// `listener`, `client_ca`, or of a destination, named, what it shows or trusts.
    of: String,
}

/// What is known of the certificates in use.
pub(super) struct Certificates {
    metrics: Arc<Metrics>,
    /// Of each its end, and how many of the days before it were told.
    told: Mutex<HashMap<Use, (Timestamp, usize)>>,
}

impl Certificates {
    pub(super) fn new(metrics: Arc<Metrics>) -> Certificates {
        Certificates { metrics, told: Mutex::default() }
    }

    /// Looks at those of the channels in force.
    pub(super) fn look(&self, channels: &[Arc<Channel>], now: Timestamp) {
        let gauge = &self.metrics.certificate_expiry_seconds;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *told);
        for (used, end) in channels.iter().flat_map(|channel| in_use(channel)) {
            let left = end.as_second() - now.as_second();
            gauge.with_label_values(&[&*used.channel, &*used.of]).set(left);
            let due = TOLD_DAYS_BEFORE.iter().filter(|days| left <= *days * DAY_SECONDS).count();
            let already = before.remove(&used).filter(|(of, _)| *of == end).map_or(0, |(_, already)| already);
            if due > already {
                tell(&used, end, left);
            }
            told.insert(used, (end, due.max(already)));
        }
        for gone in before.keys() {
            // There is none where another use of the same name was met first.
            let _ = gauge.remove_label_values(&[&*gone.channel, &*gone.of]);
        }
    }
}

fn tell(Use { channel, of }: &Use, end: Timestamp, left: i64) {
    if left <= 0 {
        error!(%channel, certificate = of, %end, "certificate has expired: renew it; the new file is taken without a restart");
    } else {
        warn!(%channel, certificate = of, %end, days = left / DAY_SECONDS, "certificate expires: renew it; the new file is taken without a restart");
    }
}

/// The certificates of a channel, each with its end.
fn in_use(channel: &Channel) -> Vec<(Use, Timestamp)> {
    let [own, client_ca] = channel.listener.tls.as_ref().map(Acceptor::not_after).unwrap_or_default();
    let mut ends = vec![("listener".to_owned(), own), ("client_ca".to_owned(), client_ca)];
    for destination in &channel.destinations {
        let of_pem = |pem: &Option<Secret>| pem.as_ref().and_then(|pem| not_after(&pem.0));
        let [own, ca] = match &destination.settings {
            Settings::Fhir(fhir) => [of_pem(&fhir.tls.identity), of_pem(&fhir.tls.ca)],
            Settings::Mllp(mllp) => mllp.tls.as_ref().map(Connector::not_after).unwrap_or_default(),
            Settings::File(_) => continue,
        };
        ends.extend([
            (format!("destination {}", destination.name), own),
            (format!("destination {} ca", destination.name), ca),
        ]);
    }
    let used = |of| Use { channel: channel.name.clone(), of };
    ends.into_iter().filter_map(|(of, end)| Some((used(of), end?))).collect()
}
