//! `tls` of listeners and destinations: the files are read and tried here, so that what cannot work is told with its place
//! before a port is bound.

use std::{ops::Range, path::Path};

use toml::de::DeValue;

use super::{channel_file::Surroundings, reader::Reader, secret, source::Problem, value};
use crate::{
    destination::{ClientTls, Secret},
    mllp::tls::{Acceptor, Connector, Fault, Identity},
};

/// How a listener takes peers in; plaintext where the file has no `tls`.
pub(super) fn listener(listening: &Reader<'_>, around: &Surroundings<'_>) -> Option<Option<Acceptor>> {
    if !listening.has("tls") {
        return Some(None);
    }
    let table = listening.one("tls")?;
    let (cert, key) = (required(&table, "cert", around), required(&table, "key", around));
    let client_ca = optional(&table, "client_ca", around);
    let allowed = table.texts("allowed_clients", value::trimmed);
    let senders = senders(&table);
    let (client_ca, allowed, senders) = (client_ca?, allowed?, senders?);
    for (name, is_given) in [("allowed_clients", !allowed.is_empty()), ("senders", table.has("senders"))] {
        if client_ca.is_none() && is_given {
            let problem = Problem::new("it says nothing without `client_ca`", "add `client_ca`, or remove the line");
            table.problem(name, problem);
            return None;
        }
    }
    let (cert, key) = (cert?, key?);
    warn_of_readers(&table, around);
    let client_ca = client_ca.as_deref();
    let identity = Identity { cert: &cert, key: &key, client_ca, allowed_clients: &allowed, senders: &senders };
    Acceptor::new(&identity).map_err(|fault| note(&table, fault)).ok().map(Some)
}

/// As whom the peers may send, by a name in their certificate.
fn senders(table: &Reader<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let (key, source) = (table.key("senders"), table.source);
    let filled = |text: &str, span: &Range<usize>| {
        value::trimmed(text).map_err(|problem| source.problem(&key, span, problem)).ok()
    };
    let entries = table.entries("senders");
    let count = entries.len();
    if table.has("senders") && count == 0 {
        // What is no table has its fault.
        if matches!(table.written("senders")?.get_ref(), DeValue::Table(_)) {
            table.problem("senders", Problem::new("it binds no certificate", "name one, or remove the line"));
        }
        return None;
    }
    let read = entries.into_iter().filter_map(|entry| {
        let name = filled(&entry.key.text, &entry.key.span);
        let written = table.strings("senders", entry.value)?;
        if written.is_empty() {
            let problem =
                Problem::new("no sender is given, so nothing is ever taken", "name senders or remove the line");
            source.problem(&key, &entry.value.span(), problem);
        }
        let own: Vec<String> = written.iter().filter_map(|text| filled(&text.text, &text.span)).collect();
        Some((name?, own)).filter(|(_, own)| !own.is_empty() && own.len() == written.len())
    });
    let read: Vec<_> = read.collect();
    (read.len() == count).then_some(read)
}

/// How the receiver of a destination of type mllp proves itself.
pub(super) fn receiver(table: &Reader<'_>, host: &str, around: &Surroundings<'_>) -> Option<Connector> {
    table.only_for("tls of a destination", "mllp");
    let named = match table.has("server_name") {
        true => table.text("server_name", value::trimmed).map(Some),
        false => Some(None),
    };
    let (files, named) = (destination(table, around)?, named?);
    let identity = files.identity.as_ref().map(|pem| &*pem.0);
    let made = Connector::new(named.as_deref().unwrap_or(host), files.ca.as_ref().map(|pem| &*pem.0), identity);
    made.map_err(|fault| note(table, fault)).ok()
}

/// What a destination trusts and shows.
pub(super) fn destination(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<ClientTls> {
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| optional(table, name, around));
    let identity = match (cert?, key?) {
        (Some(cert), Some(key)) => {
            warn_of_readers(table, around);
            Some(Secret(format!("{cert}\n{key}\n").into()))
        }
        (None, None) => None,
        (cert, _) => {
            let (has, lacks) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            table.problem(has, Problem::new(format!("it says nothing without `{lacks}`"), format!("add `{lacks}`")));
            return None;
        }
    };
    Some(ClientTls { ca: ca?.map(|ca| Secret(ca.into())), identity })
}

fn required(table: &Reader<'_>, name: &str, around: &Surroundings<'_>) -> Option<String> {
    if !table.has(name) {
        table.missing(name);
        return None;
    }
    secret::pem_file(table, name, around)
}

fn optional(table: &Reader<'_>, name: &str, around: &Surroundings<'_>) -> Option<Option<String>> {
    if table.has(name) { secret::pem_file(table, name, around).map(Some) } else { Some(None) }
}

/// At the file's name where there is one.
fn note(table: &Reader<'_>, fault: Fault) {
    table.problem(fault.key, Problem::new(fault.what, fault.remedy));
}

/// A private key that any user of the machine can read is no fault, since it works, but is told.
fn warn_of_readers(table: &Reader<'_>, around: &Surroundings<'_>) {
    let Some(path) = table.text("key", |name| Ok(around.base.join(name))) else { return };
    if is_readable_by_all(&path) {
        let what = format!("{}: any user of this machine can read this private key", table.key("key"));
        let remedy = format!("chmod o-r {}", path.display());
        around.warnings.borrow_mut().push(table.source.told(table.place("key"), what, remedy));
    }
}

#[cfg(unix)]
fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_all(_: &Path) -> bool {
    false
}
