//! Reads a transaction Bundle strictly (R4 http.html#transaction) and applies it to what is already there.

use crate::id::{Kind, MessageId};
use serde_json::{Value, json};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

/// Why a body is no transaction as promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeFault {
    /// The body is no JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// Another resource.
    #[error("resourceType is not Bundle")]
    NotABundle,
    /// Another type of Bundle.
    #[error("Bundle.type is not transaction")]
    NotATransaction,
    /// Nothing in it.
    #[error("Bundle.entry is missing or empty")]
    NoEntries,
    /// An entry without method or URL.
    #[error("an entry has no request with method and url")]
    NoRequest,
    /// A method that no engine of this kind needs.
    #[error("an entry's method is neither POST nor PUT")]
    Method,
    /// An entry without resource or type.
    #[error("an entry has no resource with a resourceType")]
    NoResource,
    /// The URL names another type than the resource.
    #[error("an entry's request.url is for another type than its resource")]
    UrlType,
    /// Two resources of one fullUrl.
    #[error("two entries have the same fullUrl")]
    FullUrlTwice,
    /// Two entries of one identity: servers would make one, two, or refuse.
    #[error("two entries have the same identity (ifNoneExist or conditional url); merge them before sending")]
    IdentityTwice,
    /// A search value with characters that end it early.
    #[error("an ifNoneExist or conditional url is not percent-encoded")]
    NotEncoded,
    /// A reference to a fullUrl that is not in the Bundle.
    #[error("a urn:uuid reference has no entry of that fullUrl")]
    DanglingReference,
}

/// A sound transaction.
#[derive(Debug)]
pub struct Bundle {
    /// The messages it was made from; empty where it does not say.
    pub ids: Vec<MessageId>,
    /// The kind of these, where it says so.
    pub kind: Kind,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    resource_type: String,
    identity: Option<u64>,
}

/// What became of an entry.
#[derive(Debug)]
pub struct Done {
    /// Its resource type.
    pub resource_type: String,
    /// Made new, not found.
    pub created: bool,
    number: u64,
}

impl Bundle {
    /// Reads and checks a request body.
    pub fn read(body: &[u8]) -> Result<Bundle, ShapeFault> {
        let bundle: Value = serde_json::from_slice(body).map_err(|_| ShapeFault::NotJson)?;
        if bundle["resourceType"] != "Bundle" {
            return Err(ShapeFault::NotABundle);
        }
        if bundle["type"] != "transaction" {
            return Err(ShapeFault::NotATransaction);
        }
        let entries = bundle["entry"].as_array().filter(|entries| !entries.is_empty()).ok_or(ShapeFault::NoEntries)?;
        let read = entries.iter().map(Entry::read).collect::<Result<Vec<_>, _>>()?;
        check_identities(&read)?;
        check_references(entries)?;
        Ok(Bundle { ids: ids(&bundle, entries), kind: kind(entries), entries: read })
    }
}

impl Entry {
    fn read(entry: &Value) -> Result<Entry, ShapeFault> {
        let request = &entry["request"];
        let (Some(method), Some(url)) = (request["method"].as_str(), request["url"].as_str()) else {
            return Err(ShapeFault::NoRequest);
        };
        let resource_type = entry["resource"]["resourceType"].as_str().ok_or(ShapeFault::NoResource)?.to_owned();
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        if path.split('/').next() != Some(&resource_type) {
            return Err(ShapeFault::UrlType);
        }
        let identity = match method {
            "POST" => request["ifNoneExist"].as_str(),
            "PUT" => query.or(Some(path)),
            _ => return Err(ShapeFault::Method),
        };
        let searches = if method == "POST" { identity } else { query };
        if searches.is_some_and(|search| search.contains(['|', ' ', '+', '#', '"', '<', '>'])) {
            return Err(ShapeFault::NotEncoded);
        }
        let identity = identity.map(|identity| hash_of(&(&resource_type, identity)));
        Ok(Entry { resource_type, identity })
    }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn check_identities(entries: &[Entry]) -> Result<(), ShapeFault> {
    let mut seen = HashSet::new();
    let all_new = entries.iter().filter_map(|entry| entry.identity).all(|identity| seen.insert(identity));
    if all_new { Ok(()) } else { Err(ShapeFault::IdentityTwice) }
}

fn check_references(entries: &[Value]) -> Result<(), ShapeFault> {
    let mut full_urls = HashSet::new();
    if !entries.iter().filter_map(|entry| entry["fullUrl"].as_str()).all(|url| full_urls.insert(url)) {
        return Err(ShapeFault::FullUrlTwice);
    }
    let mut sound = true;
    entries.iter().for_each(|entry| {
        each_reference(&entry["resource"], &mut |reference| {
            sound &= !reference.starts_with("urn:uuid:") || full_urls.contains(reference);
        });
    });
    if sound { Ok(()) } else { Err(ShapeFault::DanglingReference) }
}

pub fn each_reference<'v>(value: &'v Value, each: &mut impl FnMut(&'v str)) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "reference" => each(text),
            _ => each_reference(value, each),
        }),
        Value::Array(values) => values.iter().for_each(|value| each_reference(value, each)),
        _ => {}
    }
}

/// The message ids: of the Bundle itself, else of what its Provenances were made from, else of `meta.source`.
fn ids(bundle: &Value, entries: &[Value]) -> Vec<MessageId> {
    if let Some(id) = bundle["identifier"]["value"].as_str().and_then(MessageId::find_in) {
        return vec![id];
    }
    let provenances = entries.iter().map(|entry| &entry["resource"]).filter(|it| it["resourceType"] == "Provenance");
    let entities = provenances.filter_map(|provenance| provenance["entity"].as_array()).flatten();
    let mut ids: Vec<_> =
        entities.filter_map(|it| MessageId::find_in(it["what"]["identifier"]["value"].as_str()?)).collect();
    if ids.is_empty() {
        let sources = entries.iter().filter_map(|entry| entry["resource"]["meta"]["source"].as_str());
        ids = sources.filter_map(MessageId::find_in).collect();
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The trigger event that a Provenance names as its activity.
fn kind(entries: &[Value]) -> Kind {
    let texts = entries.iter().filter_map(|entry| entry["resource"]["activity"]["text"].as_str());
    let kinds = texts.filter_map(|text| text.split('^').nth(1)).map(Kind::parse);
    kinds.into_iter().find(|&kind| kind != Kind::Other).unwrap_or(Kind::Other)
}

/// The identities there are, the oldest forgotten first.
#[derive(Debug)]
pub struct Known {
    numbers: HashMap<u64, u64>,
    oldest_first: VecDeque<u64>,
    identities_max: usize,
    last_number: u64,
}

impl Known {
    /// Nothing yet, and room for so many.
    pub fn new(identities_max: usize) -> Known {
        Known { numbers: HashMap::new(), oldest_first: VecDeque::new(), identities_max, last_number: 0 }
    }

    /// Applies a transaction; what became of each entry, in their order.
    pub fn commit(&mut self, bundle: &Bundle) -> Vec<Done> {
        bundle.entries.iter().map(|entry| self.apply(entry)).collect()
    }

    fn apply(&mut self, entry: &Entry) -> Done {
        let found = entry.identity.and_then(|identity| self.numbers.get(&identity).copied());
        let number = found.unwrap_or_else(|| self.create(entry.identity));
        Done { resource_type: entry.resource_type.clone(), created: found.is_none(), number }
    }

    fn create(&mut self, identity: Option<u64>) -> u64 {
        self.last_number += 1;
        if let Some(identity) = identity {
            self.numbers.insert(identity, self.last_number);
            self.oldest_first.push_back(identity);
            if self.oldest_first.len() > self.identities_max
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.numbers.remove(&oldest);
            }
        }
        self.last_number
    }
}

impl Done {
    /// `created` or `found`.
    pub fn fate(&self) -> &'static str {
        if self.created { "created" } else { "found" }
    }

    /// `Bundle.entry.response`.
    pub fn response(&self) -> Value {
        let status = if self.created { "201 Created" } else { "200 OK" };
        json!({ "status": status, "location": format!("{}/{}/_history/1", self.resource_type, self.number), "etag": "W/\"1\"" })
    }
}
