//! A translated transaction taken apart, so that its resources can be written in another way than as one transaction.
//!
//! What must never happen: a number written with other digits than it was translated with; an observation whose patient is
//! another than the one translated.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The resources of a message and what the server shall do with each, in their order.
#[derive(Clone)]
pub(super) struct Entries {
    /// The Bundle without them.
    frame: Map<String, Value>,
    pub(super) items: Vec<Item>,
}

/// One resource.
#[derive(Clone)]
pub(super) struct Item {
    /// Its place in the translated Bundle.
    pub(super) place: usize,
    /// `urn:uuid:…`, by which others refer to it.
    pub(super) full_url: String,
    pub(super) kind: String,
    pub(super) resource: Value,
    pub(super) write: Write,
    /// The search that finds it, however it is written.
    search: Option<String>,
}

/// What the server shall do.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// Create it, unless the query finds one.
    Create(Option<String>),
    /// Put it in the place of the one the query finds, or create it.
    Replace(String),
    /// Put it under this id.
    Put(String),
}

impl Entries {
    /// `None` where it is no Bundle of ours.
    pub(super) fn read(body: &[u8]) -> Option<Entries> {
        let Value::Object(mut frame) = serde_json::from_slice(body).ok()? else { return None };
        let Some(Value::Array(entries)) = frame.remove("entry") else { return None };
        let items = entries.into_iter().enumerate().map(|(place, entry)| Item::read(place, entry));
        Some(Entries { items: items.collect::<Option<_>>()?, frame })
    }

    /// As a Bundle of type `kind`.
    pub(super) fn bundle(&self, kind: &str) -> Bytes {
        let mut frame = self.frame.clone();
        frame.insert("type".to_owned(), json!(kind));
        frame.insert("entry".to_owned(), self.items.iter().map(Item::entry).collect());
        Value::Object(frame).to_string().into()
    }

    /// The same Bundle with some of its items.
    pub(super) fn of(&self, places: &[usize]) -> Entries {
        let items = self.items.iter().filter(|item| places.contains(&item.place)).cloned().collect();
        Entries { frame: self.frame.clone(), items }
    }

    /// Conditional references to patients, such as `Patient?identifier=…`.
    pub(super) fn patients(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for item in &self.items {
            each_reference(&item.resource, &mut |reference| {
                if reference.starts_with("Patient?") {
                    found.insert(reference.to_owned());
                }
            });
        }
        found
    }

    /// Writes `to` wherever `from` is referred to.
    pub(super) fn refer(&mut self, from: &str, to: &str) {
        self.items.iter_mut().for_each(|item| replace_reference(&mut item.resource, from, to));
    }

    /// Whether another entry refers to this one.
    pub(super) fn is_referred_to(&self, full_url: &str) -> bool {
        self.items.iter().any(|item| item.refers_to(full_url))
    }

    /// Names each resource by its identity, for servers that create what is put.
    pub(super) fn put_by_id(&mut self) {
        for item in &mut self.items {
            if let (Write::Create(Some(_)) | Write::Replace(_), Some(id)) =
                (&item.write, item.full_url.strip_prefix("urn:uuid:"))
            {
                item.write = Write::Put(id.to_owned());
            }
        }
    }

    /// Adds a Patient for each that is referred to by identifier, to be created where the server has none.
    pub(super) fn create_patients(&mut self) {
        for (n, reference) in self.patients().into_iter().enumerate() {
            let query = reference.trim_start_matches("Patient?").to_owned();
            let Some(identifier) = identifier(&query) else { continue };
            let full_url = crate::fhir::urn_uuid(["Patient", &query]);
            self.refer(&reference, &full_url);
            let resource = json!({ "resourceType": "Patient", "identifier": [identifier] });
            let (kind, write, search) = ("Patient".to_owned(), Write::Create(Some(query.clone())), Some(query));
            // Behind all places there are, so that those keep their numbers.
            self.items.push(Item { place: usize::MAX - n, full_url, kind, resource, write, search });
        }
    }
}

impl Item {
    fn read(place: usize, mut entry: Value) -> Option<Item> {
        let full_url = entry["fullUrl"].as_str().unwrap_or_default().to_owned();
        let resource = entry.get_mut("resource")?.take();
        let kind = resource["resourceType"].as_str()?.to_owned();
        let request = &entry["request"];
        let url = request["url"].as_str()?;
        let write = match (request["method"].as_str()?, url.split_once('?')) {
            ("POST", _) => Write::Create(request["ifNoneExist"].as_str().map(str::to_owned)),
            ("PUT", Some((_, query))) => Write::Replace(query.to_owned()),
            ("PUT", None) => Write::Put(url.split_once('/')?.1.to_owned()),
            _ => return None,
        };
        let search = match &write {
            Write::Create(query) => query.clone(),
            Write::Replace(query) => Some(query.clone()),
            Write::Put(_) => None,
        };
        Some(Item { place, full_url, kind, resource, write, search })
    }

    fn entry(&self) -> Value {
        let mut entry = Map::new();
        if !self.full_url.is_empty() {
            entry.insert("fullUrl".to_owned(), json!(self.full_url));
        }
        entry.insert("resource".to_owned(), self.body());
        let request = match &self.write {
            Write::Create(None) => json!({ "method": "POST", "url": self.kind }),
            Write::Create(Some(query)) => json!({ "method": "POST", "url": self.kind, "ifNoneExist": query }),
            Write::Replace(query) => json!({ "method": "PUT", "url": format!("{}?{query}", self.kind) }),
            Write::Put(id) => json!({ "method": "PUT", "url": format!("{}/{id}", self.kind) }),
        };
        entry.insert("request".to_owned(), request);
        Value::Object(entry)
    }

    /// The resource as it is sent: with its id where it has one.
    pub(super) fn body(&self) -> Value {
        let mut resource = self.resource.clone();
        if let Write::Put(id) = &self.write {
            resource["id"] = json!(id);
        }
        resource
    }

    /// Where the server has it, it stays as it is.
    pub(super) fn is_created(&self) -> bool {
        matches!(self.write, Write::Create(_))
    }

    /// A result of which a later word is to come.
    pub(super) fn is_preliminary(&self) -> bool {
        self.kind == "Observation" && is_preliminary(&self.resource)
    }

    /// Its literal reference, where that is known before it is sent.
    pub(super) fn literal(&self) -> Option<String> {
        match &self.write {
            Write::Put(id) => Some(format!("{}/{id}", self.kind)),
            Write::Create(_) | Write::Replace(_) => None,
        }
    }

    /// The search that finds it.
    pub(super) fn query(&self) -> Option<&str> {
        self.search.as_deref()
    }

    pub(super) fn refers_to(&self, full_url: &str) -> bool {
        let mut found = false;
        each_reference(&self.resource, &mut |reference| found |= reference == full_url);
        found
    }

    /// As reasons name it.
    pub(super) fn named(&self) -> String {
        match self.kind.as_str() {
            "Patient" if self.place > usize::MAX / 2 => "the Patient".to_owned(),
            kind => format!("entry[{}] ({kind})", self.place),
        }
    }
}

/// The status is not a last one.
pub(super) fn is_preliminary(observation: &Value) -> bool {
    matches!(observation["status"].as_str(), Some("registered" | "preliminary"))
}

/// `identifier=SYSTEM%7CVALUE` as an Identifier.
fn identifier(query: &str) -> Option<Value> {
    let (system, value) = token(query.strip_prefix("identifier=")?)?;
    Some(json!({ "system": system, "value": value }))
}

/// System and value of a token in a query.
pub(super) fn token(text: &str) -> Option<(String, String)> {
    let (system, value) = text.split_once("%7C")?;
    Some((decoded(system)?, decoded(value)?))
}

/// Percent-decoded, FHIR's own escapes undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            other => bytes.push(other),
        }
    }
    let escaped = String::from_utf8(bytes).ok()?;
    let (mut text, mut chars) = (String::with_capacity(escaped.len()), escaped.chars());
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next()? } else { c });
    }
    Some(text)
}

fn each_reference<'v>(value: &'v Value, each: &mut impl FnMut(&'v str)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| match value.as_str() {
            Some(text) if name == "reference" => each(text),
            _ => each_reference(value, each),
        }),
        Value::Array(values) => values.iter().for_each(|value| each_reference(value, each)),
        _ => {}
    }
}

fn replace_reference(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value.as_str() {
            Some(text) if name == "reference" && text == from => *value = json!(to),
            _ => replace_reference(value, from, to),
        }),
        Value::Array(values) => values.iter_mut().for_each(|value| replace_reference(value, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fhir::token_query;

    const BUNDLE: &str = r#"{"resourceType":"Bundle","identifier":{"value":"M1"},"type":"transaction","entry":[
        {"fullUrl":"urn:uuid:d","resource":{"resourceType":"Device"},"request":{"method":"POST","url":"Device","ifNoneExist":"identifier=u%7Cd"}},
        {"fullUrl":"urn:uuid:o","resource":{"resourceType":"Observation","subject":{"reference":"Patient?identifier=u%7C4711"},
         "device":{"reference":"urn:uuid:d"},"valueQuantity":{"value":5.600000000000000000001}},
         "request":{"method":"PUT","url":"Observation?identifier=u%7Co"}}]}"#;

    #[test]
    fn taken_apart_and_put_together_it_is_the_same_digit_for_digit() {
        let entries = Entries::read(BUNDLE.as_bytes()).unwrap();
        let again: Value = serde_json::from_slice(&entries.bundle("transaction")).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(BUNDLE).unwrap());
        assert!(again.to_string().contains("5.600000000000000000001"));
    }

    #[test]
    fn by_id_each_resource_has_the_name_its_references_are_made_of() {
        let mut entries = Entries::read(BUNDLE.as_bytes()).unwrap();
        entries.put_by_id();
        let bundle: Value = serde_json::from_slice(&entries.bundle("transaction")).unwrap();
        assert_eq!(bundle["entry"][0]["request"], json!({ "method": "PUT", "url": "Device/d" }));
        assert_eq!(bundle["entry"][1]["request"], json!({ "method": "PUT", "url": "Observation/o" }));
        assert_eq!(
            (&bundle["entry"][0]["resource"]["id"], &bundle["entry"][1]["resource"]["id"]),
            (&json!("d"), &json!("o"))
        );
    }

    #[test]
    fn a_patient_to_create_has_the_identifier_it_is_searched_by() {
        let mut entries = Entries::read(BUNDLE.as_bytes()).unwrap();
        entries.create_patients();
        let patient = entries.items.last().unwrap();
        assert_eq!(patient.resource["identifier"], json!([{ "system": "u", "value": "4711" }]));
        assert!(patient.write == Write::Create(Some("identifier=u%7C4711".into())) && patient.named() == "the Patient");
        assert!(entries.is_referred_to(&patient.full_url) && entries.patients().is_empty());
    }

    #[test]
    fn an_identifier_is_read_back_from_its_query_whatever_it_holds() {
        for value in ["4711", "A&b=c|d,$\\", "é %+/", "\\\\"] {
            let query = token_query("identifier", "urn:oid:2.999", value);
            assert_eq!(identifier(&query).unwrap(), json!({ "system": "urn:oid:2.999", "value": value }));
        }
    }

    #[test]
    fn what_is_no_bundle_of_ours_is_not_taken_apart() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"entry":[{}]}"#,
            r#"{"entry":[{"resource":{"resourceType":"X"},"request":{"method":"DELETE","url":"X/1"}}]}"#,
        ] {
            assert!(Entries::read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
