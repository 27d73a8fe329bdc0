//! What is a FHIR server's alone in `[[destination]]`: its URL, headers, `auth` and `tls`.

use super::{
    channel_file::Surroundings,
    destination_table::check_plaintext,
    reader::Reader,
    secret::{self, Shape},
    source::Problem,
    tls_table, value,
};
use crate::destination::{
    BundleMode, FhirAuth, FhirSettings, Idempotency, Login, PatientMode, Proof, Rate, RepeatSearch, SearchMethod,
    Secret, Settings, SigningKey, WriteSettings,
};

/// The server of a destination of type fhir.
pub(super) fn read(table: &Reader<'_>, mapping: &Reader<'_>, around: &Surroundings<'_>) -> Option<Settings> {
    let url = table.text("url", value::base_url);
    let timeout = table.text("timeout", value::some_duration);
    let response_bytes_max = table.text("max_response", value::size_within(1 << 10, 64 << 20));
    let headers = headers(table, around);
    let allowed = table.flag("allow_plaintext")?;
    let auth = match table.has("auth") {
        true => table.one("auth").and_then(|auth| authorisation(&auth, allowed, around)),
        false => Some(FhirAuth::None),
    };
    let tls = table.one("tls").and_then(|tls| {
        tls.only_for("tls of a destination", "fhir");
        tls_table::destination(&tls, around)
    });
    let (write, rate) = (write(mapping), mapping.one("rate").and_then(|table| rate(&table)));
    let url = url?;
    if !url.encrypted {
        check_plaintext(table, "url", &url.host, allowed);
        if table.has("tls") {
            table
                .problem("tls", Problem::new("an http URL has no certificates", "write an https URL, or remove `tls`"));
        }
    }
    let headers = headers?;
    if table.has("auth") && headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        table.problem("auth", Problem::new("`headers` has an Authorization too", "remove one of the two"));
    }
    Some(Settings::Fhir(FhirSettings {
        response_bytes_max: usize::try_from(response_bytes_max?).ok()?,
        headers,
        auth: auth?,
        tls: tls?,
        write: write?.into(),
        rate: rate?,
        ..FhirSettings::new(url.text, timeout?)
    }))
}

fn write(table: &Reader<'_>) -> Option<WriteSettings> {
    let idempotency = table.choice("idempotency", &[Idempotency::IfNoneExist, Idempotency::PutId, Idempotency::None]);
    let bundle = table.choice("bundle", &[BundleMode::Transaction, BundleMode::Batch, BundleMode::Single]);
    let modes = [PatientMode::Reference, PatientMode::Lookup, PatientMode::ConditionalCreate];
    let patient = table.choice("patient", &modes);
    let search = table.choice("search", &[SearchMethod::Post, SearchMethod::Get]);
    let repeat_search = table.choice("repeat_search", &[RepeatSearch::Identifier, RepeatSearch::Content]);
    let cache_ttl = table.text("cache", value::duration);
    let messages_per_bundle = table.count("messages_per_bundle");
    let (bundle, patient) = (bundle?, patient?);
    if bundle != BundleMode::Transaction && messages_per_bundle.is_some_and(|messages| messages > 1) {
        let what = "several messages are taken or refused together in a transaction only";
        table.problem("messages_per_bundle", Problem::new(what, "remove it, or write bundle = \"transaction\""));
    }
    if bundle != BundleMode::Transaction && patient == PatientMode::Reference {
        let what = "a patient is found by reference within transactions only";
        table.problem("patient", Problem::new(what, "write patient = \"lookup\""));
    }
    let by_search = table.written("encounter").is_some_and(|value| value.get_ref().as_str() == Some("conditional"));
    if bundle != BundleMode::Transaction && by_search {
        let what = "a visit is found by a search within transactions only";
        table.problem(
            "encounter",
            Problem::new(what, "write encounter = \"identifier\" or \"none\", or bundle = \"transaction\""),
        );
    }
    if repeat_search == Some(RepeatSearch::Content) && patient != PatientMode::Lookup {
        let what = "an observation is found by content only where its patient is known by id";
        table.problem("repeat_search", Problem::new(what, "write patient = \"lookup\""));
    }
    Some(WriteSettings {
        idempotency: idempotency?,
        bundle,
        messages_per_bundle: usize::try_from(messages_per_bundle?).ok()?,
        patient,
        search: search?,
        repeat_search: repeat_search?,
        cache_ttl: cache_ttl?,
        beside: Vec::new(),
    })
}

fn rate(table: &Reader<'_>) -> Option<Rate> {
    let count = |name| match table.has(name) {
        true => table.count(name).and_then(|count| u32::try_from(count).ok()).map(Some),
        false => Some(None),
    };
    let (per_second, concurrent) = (count("per_second"), count("concurrent"));
    Some(Rate { per_second: per_second?, concurrent: concurrent? })
}

fn authorisation(table: &Reader<'_>, plaintext: bool, around: &Surroundings<'_>) -> Option<FhirAuth> {
    let kind = table.choice("type", &["smart-backend", "client-secret", "basic", "bearer"])?;
    table.only_for("auth", kind);
    match kind {
        "basic" => {
            let (user, password) = (table.text("user", user), secret::required(table, "password", Shape::Line, around));
            Some(FhirAuth::Basic { user: user?, password: password? })
        }
        "bearer" => Some(FhirAuth::Bearer { token: secret::required(table, "token", Shape::Line, around)? }),
        _ => {
            let client_id = table.text("client_id", value::filled);
            let proof = if kind == "smart-backend" { key(table, around) } else { client_secret(table, around) };
            let scopes = table.texts("scopes", scope);
            let token_url = token_url(table, plaintext);
            let (client_id, proof) = (client_id?, proof?);
            Some(FhirAuth::Login(Login { client_id, proof, scopes: scopes?, token_url: token_url? }))
        }
    }
}

fn key(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<Proof> {
    let kid = match table.has("kid") {
        true => table.text("kid", value::filled).map(Some),
        false => Some(None),
    };
    let pem = secret::required(table, "key", Shape::Pem, around)?;
    if let Err(fault) = SigningKey::read(&pem.0, None) {
        table.problem("key", Problem::new("the private key cannot be used", fault));
        return None;
    }
    Some(Proof::Key { pem, kid: kid? })
}

fn client_secret(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<Proof> {
    let place = table.choice("secret_in", &[Proof::SecretInHeader as fn(Secret) -> Proof, Proof::SecretInForm]);
    let secret = secret::required(table, "secret", Shape::Line, around);
    Some(place?(secret?))
}

fn token_url(table: &Reader<'_>, plaintext: bool) -> Option<Option<String>> {
    if !table.has("token_url") {
        return Some(None);
    }
    let url = table.text("token_url", value::base_url)?;
    if !url.encrypted {
        check_plaintext(table, "token_url", &url.host, plaintext);
    }
    // Letter for letter: it is the audience of assertions.
    table.text("token_url", value::any).map(Some)
}

fn scope(text: &str) -> Result<String, Problem> {
    let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    if !text.is_empty() && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Problem::new("not one scope", "write each as a string of its own, such as \"system/Observation.c\""))
}

/// RFC 7617: a colon would end it early.
fn user(text: &str) -> Result<String, Problem> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err(Problem::new("the user has a colon or a control character", "write it without"));
    }
    value::filled(text)
}

fn headers(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<Vec<(String, Secret)>> {
    let read = table.entries("headers").into_iter().map(|entry| {
        let secret = secret::follow(table, "headers", entry.value, Shape::Line, around);
        let name = header_name(&entry.key.text);
        let report = |problem| table.source.problem(&table.key("headers"), &entry.key.span, problem);
        Some((name.map_err(report).ok()?, secret?))
    });
    let read: Vec<Option<(String, Secret)>> = read.collect();
    read.into_iter().collect()
}

fn header_name(text: &str) -> Result<String, Problem> {
    let ours = ["content-type", "content-length", "accept", "host", "connection", "transfer-encoding", "prefer"];
    if ours.iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Err(Problem::new(format!("{text:?} is set by the engine"), "remove the line"));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("{text:?} is not the name of a header"), "use letters, digits and -"))
}
