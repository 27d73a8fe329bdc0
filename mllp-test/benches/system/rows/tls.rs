//! Intake over TLS beside the same without, each on an engine of its own whose destination is paused.

use super::way::paused;
use super::{Found, Row, Setting, Turns, millis};
use crate::report::{Evidence, Goal, Line};
use crate::site::{Sample, Site};
use crate::spread::Spread;
use mllp_test::measure::Load;
use mllp_test::tls::ClientTls;
use mllp_test::verify::Broken;
use rcgen::CertifiedKey;
use std::fs;

const CONNECTIONS: u64 = 16;

pub(super) async fn measure(setting: &Setting) -> Result<Found, Broken> {
    let name = Row::Tls.name();
    let mut found = Found::default();
    for build in &setting.builds {
        let mut plain = paused(setting, "tls-plain", build).await?;
        let mut secured = paused(setting, name, build).await?;
        let tls = secure(&secured).await?;
        let load = |site: &Site| setting.load(site.listener, CONNECTIONS);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..setting.rounds {
            without.push(plain.send(load(&plain)).await?);
            with.push(secured.send(Load { tls: Some(tls.clone()), ..load(&secured) }).await?);
        }
        without.push(plain.send(load(&plain)).await?);
        found.lines.extend(lines(&build.name, &without, &with));
        for (site, samples, what) in [(plain, &without, "plaintext"), (secured, &with, "TLS")] {
            let mut evidence = Evidence::new(name, &format!("{}, {what}", build.name));
            samples.iter().for_each(|sample| evidence.load(&sample.outcome));
            evidence.missing = site.missing().await?;
            found.evidence.push(evidence);
            site.stop().await?;
        }
    }
    Ok(found)
}

fn lines(build: &str, without: &[Sample], with: &[Sample]) -> Vec<Line> {
    let name = Row::Tls.name();
    let rates = Turns::of(without, with, Sample::rate);
    let share = Line::new(name, build, "TLS 1.3 intake against plaintext, 16 connections", "%", rates.percent())
        .goals(Goal::AtLeast(70.0), Goal::AtLeast(85.0))
        .detail(rates.detail("/s", "plaintext"));
    let cpu = Turns::of(without, with, Sample::cpu_micros);
    let spread: Spread = cpu.engine.clone().into();
    let late = format!("; ACK p50 {} ms, p99 {} ms", millis(with, 0.5), millis(with, 0.99));
    let cpu = Line::new(name, build, "its CPU a message", "µs", spread).detail(cpu.detail(" µs", "plaintext") + &late);
    vec![share, cpu]
}

/// Has the engine take TLS from now on, by a reload; what its gateways trust.
async fn secure(site: &Site) -> Result<ClientTls, Broken> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(Broken::checker)?;
    let folder = &site.engine.folder;
    fs::write(folder.join("listener.pem"), cert.pem())?;
    fs::write(folder.join("listener.key"), signing_key.serialize_pem())?;
    let file = folder.join("channels/measured.toml");
    let listener = "[listener]\ntls = { cert = \"listener.pem\", key = \"listener.key\" }";
    fs::write(&file, fs::read_to_string(&file)?.replacen("[listener]", listener, 1))?;
    match site.engine.post("/api/reload", None).await? {
        (200, _) => Ok(ClientTls::new(&cert.pem(), None)?),
        (status, body) => Err(Broken::checker(format!("the reload is answered with {status}: {body:?}"))),
    }
}
