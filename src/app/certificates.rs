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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::{config, mllp::tls::authority::Authority};

    #[test]
    fn what_is_left_of_each_certificate_is_shown_and_its_end_is_told_at_each_day_once() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, write) =
            (Authority::new(), |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap());
        fs::create_dir(folder.path().join("channels")).unwrap();
        write("cannula.toml", "");
        write("ca.pem", &ca.pem);
        let own = ca.certify_until("127.0.0.1", 2030);
        write("own.pem", &own.cert);
        write("own.key", &own.key);
        let files = "cert = \"own.pem\", key = \"own.key\"";
        let channel = format!(
            "[listener]\naddress = \"127.0.0.1:2575\"\ntls = {{ {files}, client_ca = \"ca.pem\" }}\n[[destination]]\nname = \"lab\"\ntype = \"mllp\"\naddress = \"127.0.0.1:1\"\ntls = {{ ca = \"ca.pem\", {files} }}\n"
        );
        write("channels/pumps.toml", &channel);
        let channels = config::load(Some(&folder.path().join("cannula.toml"))).ok().unwrap().channels;
        let certificates = Certificates::new(Arc::new(Metrics::new().unwrap()));
        let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        for (before_days, times) in [(31, 0), (30, 1), (29, 1), (7, 2), (1, 3), (0, 4), (-1, 4), (31, 4)] {
            let now = Timestamp::from_second(end.as_second() - before_days * DAY_SECONDS).unwrap();
            certificates.look(&channels, now);
            for of in ["listener", "destination lab"] {
                let used = Use { channel: "pumps".into(), of: of.to_owned() };
                assert_eq!(certificates.told.lock().unwrap()[&used], (end, times), "{of}, {before_days} days before");
                let gauge = certificates.metrics.certificate_expiry_seconds.with_label_values(&["pumps", of]);
                assert_eq!(gauge.get(), before_days * DAY_SECONDS);
            }
        }
        assert_eq!(certificates.told.lock().unwrap().len(), 4, "the authorities too");
        certificates.look(&[], end);
        let shown = certificates.metrics.text().unwrap();
        assert!(!shown.contains("cannula_certificate_expiry_seconds{"), "what is gone is not shown: {shown}");
    }
}
