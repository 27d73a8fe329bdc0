//! Delivery to a FHIR server, in the way it takes resources.
//!
//! As translated, a message is one transaction Bundle whose conditional creates make a repeat harmless; `writing` makes
//! other requests of it for servers that take no such thing. A request that may have reached the server is `Ambiguous`. A
//! request that may not be made, for want of a login or of a turn, is `Unavailable`: it waits and no message dies of it.

mod answer;
mod auth;
mod capability;
mod egress;
mod entries;
mod http;
mod matching;
mod rate;
mod search;
mod settings;
mod together;
mod writing;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Destination, Lacks, Meter, Outgoing, Sender, Taken, Verdict};
use crate::translate::Format;
pub use auth::SigningKey;
use http::Http;
use search::Searches;
pub use settings::{
    Beside, BundleMode, ClientTls, FhirAuth, FhirSettings, Idempotency, Login, PatientMode, Proof, Rate, RepeatSearch,
    SearchMethod, WriteSettings,
};
use writing::{Server, Writer};

/// A FHIR server.
pub(super) struct Fhir {
    server: Arc<Server>,
}

impl Fhir {
    pub(super) fn new(settings: &FhirSettings, meter: &Meter) -> Result<Fhir, String> {
        let (write, meter) = (settings.write.clone(), meter.clone());
        let searches = Searches::new(write.search, write.cache_ttl);
        let http = Http::open(settings, &meter)?;
        Ok(Fhir { server: Arc::new(Server { http, settings: write, searches, meter }) })
    }
}

impl Destination for Fhir {
    fn sender(&self, _lane: u16) -> Box<dyn Sender> {
        Box::new(Lane(Writer::new(self.server.clone())))
    }

    fn together_max(&self) -> usize {
        self.server.settings.messages_per_bundle
    }

    fn together(&self, run: &[Outgoing]) -> Option<(Outgoing, usize)> {
        together::together(run)
    }

    fn lacks(&self) -> BoxFuture<'_, Result<Lacks, String>> {
        Box::pin(capability::missing(&self.server.http, &self.server.settings))
    }
}

/// One lane's requests.
struct Lane(Writer);

impl Sender for Lane {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if outgoing.format != Format::FhirBundle {
                return Verdict::rejected("a FHIR destination takes Bundles only: set translate = \"pcd-to-fhir\"");
            }
            self.0.write(outgoing).await
        })
    }

    fn taken(&self) -> Option<Taken> {
        self.0.taken()
    }

    fn go_on(&mut self, taken: Taken) {
        self.0.go_on(taken);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod writing_tests;
