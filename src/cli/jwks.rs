//! `cannula jwks`: the public keys by which EHRs know this engine's logins.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Failure, Outcome};
use crate::destination::{FhirAuth, Login, Proof, Settings, SigningKey};

#[derive(Args)]
pub(super) struct JwksArgs {
    /// Only this channel's destinations
    #[arg(long)]
    channel: Option<String>,
    /// Only destinations of this name
    #[arg(long)]
    destination: Option<String>,
}

pub(super) fn jwks(common: &Common, args: &JwksArgs) -> Outcome {
    let config = common.load()?;
    let mut keys: Vec<Value> = Vec::new();
    for channel in config.channels.iter().filter(|it| args.channel.as_deref().is_none_or(|name| name == &*it.name)) {
        let wanted = channel.destinations.iter();
        for to in wanted.filter(|it| args.destination.as_deref().is_none_or(|name| name == &*it.name)) {
            let failed = |fault| Failure::Failed(format!("channel {}, destination {}: {fault}", channel.name, to.name));
            if let Some(key) = public_key(&to.settings).transpose().map_err(failed)?
                && !keys.contains(&key)
            {
                keys.push(key);
            }
        }
    }
    if keys.is_empty() {
        let why = "no such destination logs in by a key: give one auth = { type = \"smart-backend\", … }";
        return Err(Failure::Failed(why.to_owned()));
    }
    println!("{:#}", json!({ "keys": keys }));
    Ok(())
}

fn public_key(settings: &Settings) -> Option<Result<Value, String>> {
    let Settings::Fhir(fhir) = settings else { return None };
    let FhirAuth::Login(Login { proof: Proof::Key { pem, kid }, .. }) = &fhir.auth else { return None };
    Some(SigningKey::read(&pem.0, kid.as_deref()).map(|key| key.jwk()))
}
