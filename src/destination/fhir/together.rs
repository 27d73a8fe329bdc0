//! Several messages of one lane in one transaction.
//!
//! Their entries stand one after the other, each as its message has it; what is the same in several, such as the device, stands once,
//! with the `meta.source` of the first.
//! A message that says something else of a resource that is already in it does not join, nor one that refers by search to what a message
//! before it may write, which is not there to be found yet: it goes with the next.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{destination::Outgoing, translate::Format};

/// Bytes of one transaction, unless a single message takes more.
const BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Parts<'b> {
    #[serde(borrow)]
    entry: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
struct Named<'b> {
    #[serde(borrow, default, rename = "fullUrl")]
    full_url: Option<Cow<'b, str>>,
}

/// What messages write that others may refer to by search; patients and visits are the server's own.
const WRITTEN: [&str; 4] = ["Device?", "DeviceMetric?", "MedicationAdministration?", "Observation?"];

/// Entries by what names them, in order.
#[derive(Default)]
struct Joined<'b> {
    entries: Vec<&'b str>,
    named: HashMap<Cow<'b, str>, &'b str>,
    bytes: usize,
}

impl<'b> Joined<'b> {
    /// Takes what is new in this message; `None`, and nothing of it, where it does not join.
    fn take(&mut self, body: &'b [u8]) -> Option<()> {
        let parts: Parts<'b> = serde_json::from_slice(body).ok()?;
        let mut new = Vec::with_capacity(parts.entry.len());
        for entry in parts.entry {
            let entry = entry.get();
            let name = serde_json::from_str::<Named<'b>>(entry).ok()?.full_url;
            if !self.entries.is_empty() && refers_by_search(entry) {
                return None;
            }
            match name.as_ref().and_then(|name| self.named.get(name)) {
                Some(other) if but_source(other) == but_source(entry) => {}
                Some(_) => return None,
                None => new.push((name, entry)),
            }
        }
        let bytes: usize = new.iter().map(|(_, entry)| entry.len() + 1).sum();
        if !self.entries.is_empty() && self.bytes + bytes > BYTES_MAX {
            return None;
        }
        self.bytes += bytes;
        self.entries.extend(new.iter().map(|(_, entry)| *entry));
        self.named.extend(new.into_iter().filter_map(|(name, entry)| Some((name?, entry))));
        Some(())
    }

    fn bundle(&self) -> Bytes {
        let (head, tail) = (r#"{"resourceType":"Bundle","type":"transaction","entry":["#, "]}");
        [head, &self.entries.join(","), tail].concat().into()
    }
}

/// The entry around its `meta.source`, which names the message that told of the resource.
fn but_source(entry: &str) -> (&str, &str) {
    const SOURCE: &str = "\"meta\":{\"source\":\"";
    let Some(from) = entry.find(SOURCE).map(|at| at + SOURCE.len()) else { return (entry, "") };
    let (before, rest) = entry.split_at(from);
    let mut escaped = false;
    let end = rest.find(|char| {
        let ends = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends
    });
    (before, &rest[end.unwrap_or(rest.len())..])
}

fn refers_by_search(entry: &str) -> bool {
    const REFERENCE: &str = "\"reference\":\"";
    let mut references = entry.match_indices(REFERENCE).map(|(at, found)| &entry[at + found.len()..]);
    references.any(|reference| WRITTEN.iter().any(|kind| reference.starts_with(kind)))
}

/// As many of these as go in one transaction, from the first on, and how many they are; `None` where that is one.
pub(super) fn together(run: &[Outgoing]) -> Option<(Outgoing, usize)> {
    let mut joined = Joined::default();
    let mut count = 0;
    while let Some(next) = run.get(count)
        && next.format == Format::FhirBundle
        && joined.take(&next.body).is_some()
    {
        count += 1;
    }
    let first = run.first().filter(|_| count > 1)?;
    let possible_repeat = run[..count].iter().any(|each| each.possible_repeat);
    Some((Outgoing { body: joined.bundle(), possible_repeat, ..first.clone() }, count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn message(id: u64, entries: &[(&str, &str)]) -> Outgoing {
        let entry = |(name, value): &(&str, &str)| format!(r#"{{"fullUrl":"{name}","resource":{{"value":{value}}}}}"#);
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let body = format!(
            r#"{{"resourceType":"Bundle","identifier":{{}},"type":"transaction","entry":[{}]}}"#,
            entries.join(", ")
        );
        Outgoing {
            id,
            body: body.into(),
            format: Format::FhirBundle,
            control_id: Bytes::new(),
            possible_repeat: id == 3,
        }
    }

    #[test]
    fn each_resource_stands_once_in_the_order_of_the_messages_digit_for_digit() {
        let run = [
            message(1, &[("urn:uuid:d", "0"), ("urn:uuid:a", "1.10")]),
            message(2, &[("urn:uuid:d", "0"), ("urn:uuid:b", "2.000000000000000000001")]),
            message(3, &[("urn:uuid:c", "3")]),
        ];
        let (joined, count) = together(&run).unwrap();
        assert_eq!((joined.id, joined.possible_repeat, count), (1, true, 3), "one of them may have been sent");
        let text = std::str::from_utf8(&joined.body).unwrap();
        let values: Vec<_> =
            text.match_indices("\"value\":").map(|(at, found)| &text[at + found.len()..][..4]).collect();
        assert_eq!(values, ["0}},", "1.10", "2.00", "3}}]"]);
        let bundle: Value = serde_json::from_slice(&joined.body).unwrap();
        assert_eq!((&bundle["type"], bundle.get("identifier")), (&json!("transaction"), None), "no message's own");
        assert!(!together(&run[..2]).unwrap().0.possible_repeat);
    }

    #[test]
    fn a_device_that_several_messages_tell_of_stands_once_as_the_first_has_it() {
        let device = |id, source: &str, name: &str| {
            let own = format!("urn:uuid:{id}");
            let told = format!(r#"{{"meta":{{"source":"{source}"}},"name":"{name}"}}"#);
            message(id, &[("urn:uuid:d", &told), (&own, "1")])
        };
        let run = [device(1, "urn:a#1", "P"), device(2, r#"urn:a#\"2"#, "P"), device(4, r"urn:a#4\\", "P")];
        let (joined, count) = together(&run).unwrap();
        let text = std::str::from_utf8(&joined.body).unwrap();
        assert_eq!((count, text.matches("urn:uuid:d").count(), text.matches("urn:a#1").count()), (3, 1, 1));
        assert!(together(&[device(1, "urn:a#1", "P"), device(2, "urn:a#2", "Q")]).is_none(), "another name");
    }

    #[test]
    fn what_a_message_says_otherwise_of_the_same_resource_goes_with_the_next() {
        let (first, same) = (message(1, &[("urn:uuid:a", "1")]), message(2, &[("urn:uuid:b", "2")]));
        let corrected = message(4, &[("urn:uuid:c", "3"), ("urn:uuid:a", "1.5")]);
        let (joined, count) = together(&[first.clone(), same.clone(), corrected.clone()]).unwrap();
        assert_eq!((count, joined.body), (2, together(&[first.clone(), same]).unwrap().0.body), "nothing of it is in");
        assert!(together(&[first, corrected]).is_none());
    }

    #[test]
    fn what_refers_by_search_to_what_may_be_written_with_it_goes_with_the_next() {
        let referring =
            |kind: &str| message(2, &[("urn:uuid:b", &format!(r#"{{"reference":"{kind}?identifier=u%7C1"}}"#))]);
        let first = message(1, &[("urn:uuid:a", "1")]);
        assert!(together(&[first.clone(), referring("MedicationAdministration")]).is_none());
        assert!(together(&[first.clone(), referring("Patient")]).is_some(), "which is there already");
        assert!(together(&[referring("Device"), first]).is_some(), "nothing is before it");
    }

    #[test]
    fn a_transaction_does_not_grow_without_bound_and_what_cannot_be_read_does_not_join() {
        let long = format!("\"{}\"", "9".repeat(BYTES_MAX / 2));
        let of = |id, name: &str| message(id, &[(name, &long)]);
        assert!(together(&[of(1, "urn:uuid:a"), of(2, "urn:uuid:b")]).is_none(), "each goes alone, whatever it takes");
        let broken = Outgoing { body: Bytes::from_static(b"{\"entry\":"), ..message(2, &[]) };
        let other = Outgoing { format: Format::Hl7, ..message(2, &[]) };
        assert!(
            [broken, other].into_iter().all(|next| together(&[message(1, &[("urn:uuid:a", "1")]), next]).is_none())
        );
    }
}
