//! The transaction while it grows. Two entries never name the same resource: R4 forbids it, and servers have been seen
//! to create both.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{EpisodeChange, Origin, Trace, TranslateError, Translation, Unmapped, refuse, time};
use crate::fhir::{
    Bundle, Entry, Identifier, MedicationAdministration, Observation, Provenance, Reference, Request, Resource, Text,
    fingerprint, systems, token_query, urn_uuid,
};

/// What an entry takes as a rule, so that a body need not be moved while it grows.
const ENTRY_BYTES: usize = 2048;

/// How the server shall take a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// Unless it has it already.
    Create,
    /// In the place of what it has: a correction, or a withdrawal.
    Replace,
}

/// Observations of one place and time.
struct Named {
    /// The first of them.
    entry: usize,
    order: usize,
    /// What they say, once there are several.
    contents: HashSet<String>,
}

/// Entries and findings of one translation.
pub(super) struct Output<'a> {
    entries: Vec<Entry<'a>>,
    /// Every identifier (system and value) in the bundle.
    known: HashSet<(String, String)>,
    /// Observations by the identifier that names their place and time.
    named: HashMap<(String, String), Named>,
    writes: HashMap<usize, Write>,
    /// The group of each observation, by entry.
    groups: Vec<(usize, usize)>,
    /// Entries of other resources, by their fullUrl.
    others: HashMap<String, usize>,
    traced: bool,
    pub(super) unmapped: Vec<Unmapped>,
    pub(super) origins: Vec<(String, String)>,
    /// To be remembered beside what a caller of `finish` has.
    pub(super) episodes: Vec<EpisodeChange>,
}

impl<'a> Output<'a> {
    pub(super) fn new(traced: bool) -> Output<'a> {
        Output {
            entries: Vec::new(),
            known: HashSet::new(),
            named: HashMap::new(),
            writes: HashMap::new(),
            groups: Vec::new(),
            others: HashMap::new(),
            traced,
            unmapped: Vec::new(),
            origins: Vec::new(),
            episodes: Vec::new(),
        }
    }

    pub(super) fn trace(&self) -> Trace {
        Trace::new(self.traced)
    }

    /// Notes a code without a row; each once, at most a thousand.
    pub(super) fn unmapped(&mut self, found: Unmapped) {
        let known = self.unmapped.iter().any(|known| known.table == found.table && known.code == found.code);
        if !known && self.unmapped.len() < UNMAPPED_MAX {
            self.unmapped.push(found);
        }
    }

    /// Something was observed, or given.
    pub(super) fn holds_observations(&self) -> bool {
        let given = |entry: &Entry<'a>| matches!(entry.resource, Resource::MedicationAdministration(_));
        !self.writes.is_empty() || self.entries.iter().any(given)
    }

    /// A reference to each observation of a group of the report.
    pub(super) fn observations_of(&self, group: usize) -> Vec<Reference<'a>> {
        let own = self.groups.iter().filter(|(of, _)| *of == group);
        own.map(|(_, entry)| Reference::to(self.entries[*entry].full_url.clone())).collect()
    }

    /// A reference to every entry so far.
    pub(super) fn references(&self) -> Vec<Reference<'a>> {
        self.entries.iter().map(|entry| Reference::to(entry.full_url.clone())).collect()
    }

    /// Adds a resource that its identifier names, and returns its fullUrl. One the bundle has already stays as it is, unless it
    /// is replaced.
    pub(super) fn resource(
        &mut self,
        kind: &'static str,
        identifier: &Identifier<'_>,
        write: Write,
        resource: Resource<'a>,
        trace: Trace,
    ) -> String {
        let (system, value) = token(identifier);
        let full_url = urn_uuid([kind, &system, &value]);
        let query = token_query("identifier", &system, &value);
        let request = match write {
            Write::Create => Request::create(kind, query),
            Write::Replace => Request::replace(kind, &query),
        };
        match self.others.get(&full_url).copied() {
            Some(entry) if write == Write::Replace => {
                (self.entries[entry].resource, self.entries[entry].request) = (resource, request);
                self.forget(entry);
                self.attribute(trace, entry, write);
            }
            Some(_) => {}
            None => {
                self.others.insert(full_url.clone(), self.entries.len());
                self.attribute(trace, self.entries.len(), write);
                self.entries.push(Entry { full_url: full_url.clone(), resource, request });
            }
        }
        full_url
    }

    /// Whether a resource that its identifier names is in the bundle; its fullUrl.
    pub(super) fn known(&self, kind: &str, identifier: &Identifier<'_>) -> Option<String> {
        let (system, value) = token(identifier);
        Some(urn_uuid([kind, &system, &value])).filter(|full_url| self.others.contains_key(full_url))
    }

    /// Adds an observation. One that the message repeats word for word is written once; a correction takes the place of
    /// what it corrects; two that differ in one place and time are told apart by their order.
    pub(super) fn observation(&mut self, mut observation: Observation<'a>, group: usize, write: Write, trace: Trace) {
        let name = token(&observation.identifier.first().cloned().unwrap_or_default());
        let Some(named) = self.named.get_mut(&name) else {
            let named = Named { entry: self.entries.len(), order: 1, contents: HashSet::new() };
            self.named.insert(name.clone(), named);
            return self.add(observation, name, group, write, trace);
        };
        if write == Write::Replace || self.writes.get(&named.entry) == Some(&Write::Replace) {
            let entry = named.entry;
            return self.correct(entry, observation, trace);
        }
        if named.contents.is_empty() {
            named.contents.extend(content(&self.entries[named.entry].resource));
        }
        if !content(&observation).is_some_and(|content| named.contents.insert(content)) {
            return;
        }
        let (system, first) = name;
        named.order += 1;
        let mut order = named.order;
        let mut value = format!("{first}-{order}");
        while self.known.contains(&(system.clone(), value.clone())) {
            order += 1;
            value = format!("{first}-{order}");
        }
        observation.identifier[0].value = Text::Owned(value.clone());
        self.add(observation, (system, value), group, write, trace);
    }

    fn add(
        &mut self,
        observation: Observation<'a>,
        (system, value): (String, String),
        group: usize,
        write: Write,
        trace: Trace,
    ) {
        self.groups.push((group, self.entries.len()));
        self.writes.insert(self.entries.len(), write);
        self.attribute(trace, self.entries.len(), write);
        let full_url = urn_uuid(["Observation", &system, &value]);
        let query = token_query("identifier", &system, &value);
        let request = match write {
            Write::Create => Request::create("Observation", query),
            Write::Replace => Request::replace("Observation", &query),
        };
        self.known.insert((system, value));
        self.entries.push(Entry { full_url, resource: Resource::Observation(Box::new(observation)), request });
    }

    fn correct(&mut self, entry: usize, observation: Observation<'a>, trace: Trace) {
        let (system, value) = token(&observation.identifier[0]);
        self.entries[entry].resource = Resource::Observation(Box::new(observation));
        self.entries[entry].request = Request::replace("Observation", &token_query("identifier", &system, &value));
        self.writes.insert(entry, Write::Replace);
        self.forget(entry);
        self.attribute(trace, entry, Write::Replace);
    }

    /// Adds an administration, in the place of what the server has of it.
    pub(super) fn administration(&mut self, administration: MedicationAdministration<'a>, trace: Trace) {
        let identifier = administration.identifier.first().cloned().unwrap_or_default();
        let resource = Resource::MedicationAdministration(Box::new(administration));
        self.resource("MedicationAdministration", &identifier, Write::Replace, resource, trace);
    }

    fn forget(&mut self, entry: usize) {
        let prefix = format!("entry[{entry}].");
        self.origins.retain(|(element, _)| !element.starts_with(&prefix));
    }

    pub(super) fn provenance(&mut self, provenance: Provenance<'a>, value: &str, trace: Trace) {
        let request = Request::create("Provenance", token_query("_tag", systems::OWN_MESSAGE, value));
        let full_url = urn_uuid(["Provenance", systems::OWN_MESSAGE, value]);
        if self.traced {
            let entry = self.entries.len();
            self.origins.extend(trace.under(format!("entry[{entry}].resource.")));
            let mut trace = self.trace();
            trace.note("fullUrl", Origin::As("resource.meta.tag"));
            trace.note("request", Origin::As("resource.meta.tag"));
            trace.note("request.method", Origin::Constant);
            self.origins.extend(trace.under(format!("entry[{entry}].")));
        }
        self.entries.push(Entry { full_url, resource: Resource::Provenance(Box::new(provenance)), request });
    }

    pub(super) fn transaction(&mut self, translation: &Translation<'a>) -> Result<Bytes, TranslateError> {
        let control_id = translation.text(translation.msh.raw(10));
        let identifier = (!control_id.is_empty()).then(|| Identifier {
            kind: None,
            system: Some(translation.source_system().into()),
            value: control_id,
        });
        let timestamp = time::instant(translation, translation.msh, 7);
        let mut trace = self.trace();
        trace.note("resourceType", Origin::Constant);
        trace.note("type", Origin::Constant);
        if identifier.is_some() {
            trace.note("identifier.system", translation.msh.place(3));
            trace.note("identifier.value", translation.msh.place(10));
        }
        if timestamp.is_some() {
            trace.note("timestamp", translation.msh.place(7));
        }
        self.origins.splice(0..0, trace.under(String::new()));
        let bundle = Bundle::transaction(identifier, timestamp, std::mem::take(&mut self.entries));
        let mut body = Vec::with_capacity(bundle.entry.len() * ENTRY_BYTES);
        serde_json::to_writer(&mut body, &bundle).map_err(|_| {
            refuse("MSH", "the bundle could not be written as JSON; report this as a fault of the engine")
        })?;
        Ok(body.into())
    }

    /// The origins of an entry: its request says how its resource is written, which the status decides.
    fn attribute(&mut self, mut trace: Trace, entry: usize, write: Write) {
        if !self.traced {
            return;
        }
        self.origins.extend(trace.under(format!("entry[{entry}].resource.")));
        trace = self.trace();
        let method = match write {
            Write::Create => Origin::Constant,
            Write::Replace => Origin::As("resource.status"),
        };
        trace.note("fullUrl", Origin::As("resource.identifier"));
        trace.note("request", Origin::As("resource.identifier"));
        trace.note("request.method", method);
        self.origins.extend(trace.under(format!("entry[{entry}].")));
    }
}

const UNMAPPED_MAX: usize = 1000;

/// A fingerprint of what a resource says.
fn content(resource: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(resource).ok().map(|json| fingerprint([json.as_str()]))
}

fn token(identifier: &Identifier<'_>) -> (String, String) {
    (identifier.system.as_deref().unwrap_or_default().to_owned(), identifier.value.clone().into_owned())
}
