//! The TLS rows against `openssl s_server`, whose plain side is an MLLP receiver here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::frame::{Deframer, framed};
use crate::sink::{Sink, SinkConfig};
use crate::tls::{Pair, ServerTls};
use crate::v2;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// The bound where a row fails by it: such a server neither answers nor closes.
const SHORT: Duration = Duration::from_secs(4);

/// A CA, certificates, and a server with them.
struct Bench {
    folder: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Bench {
    /// `None` where there is no openssl.
    async fn new(name: &str) -> Option<Bench> {
        let folder = std::env::temp_dir().join(format!("mllp-test-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bench = Bench { folder };
        if Command::new("openssl").arg("version").output().await.is_err() {
            println!("skipped: the program openssl is not there");
            return None;
        }
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Bench authority");
        std::fs::write(bench.file("ca"), authority.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(authority, key);
        for name in ["server", "good"] {
            bench.certificate(name, Some(&issuer));
        }
        bench.certificate("stranger", None);
        Some(bench)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(format!("{name}.pem")).to_str().unwrap().to_owned()
    }

    /// A certificate for this machine with its key in one file, by the issuer or by itself.
    fn certificate(&self, name: &str, issuer: Option<&Issuer<'_, KeyPair>>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        std::fs::write(self.file(name), certificate.unwrap().pem() + &key.serialize_pem()).unwrap();
    }

    /// One who trusts the bench's authority, or another, and shows the certificate of this name.
    fn client(&self, ca: &str, own: Option<&str>) -> ClientTls {
        let own = own.map(|name| PathBuf::from(self.file(name)));
        ClientTls::read(self.file(ca).as_ref(), own.as_deref().map(|file| (file, file))).unwrap()
    }

    /// A server, and the address it listens on. It answers AR 207 to the sender OTHER_GATEWAY, and AA to others.
    async fn server(&self, arguments: &[&str]) -> (Child, String) {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", &self.file("server")]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut server = command.spawn().unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert!(output.read_line(&mut line).await.unwrap() > 0, "s_server ended");
        }
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        let mut input = server.stdin.take().unwrap();
        tokio::spawn(async move {
            let mut frames = Deframer::new(1 << 20);
            while matches!(output.read_buf(&mut frames.buffer).await, Ok(1..)) {
                while let Ok(Some(message)) = frames.next_message() {
                    let bound = v2::field(&message, "MSH", 3).unwrap_or_default().starts_with(b"PUMP_GATEWAY");
                    let code = if bound { "CA" } else { "CR" };
                    let id = v2::field(&message, "MSH", 10).unwrap_or_default();
                    let _ = input.write_all(&framed(&v2::ack(&message, code, id, 1))).await;
                }
            }
        });
        (server, address)
    }

    async fn report(&self, address: String, ack_timeout: Duration) -> Report {
        let stranger = ("stranger".to_owned(), self.client("ca", Some("stranger")));
        let tls = Tls {
            address,
            unnamed: Some(self.client("ca", None)),
            good: Some(self.client("ca", Some("good"))),
            bad: vec![stranger],
        };
        let options = Options { tls: Some(tls), only: vec![27, 28, 29, 30], ack_timeout, ..Options::to("") };
        run(&options, |_| ()).await
    }
}

#[tokio::test]
async fn a_server_that_knows_its_clients_passes_and_takes_no_old_version() {
    let Some(bench) = Bench::new("strict").await else { return };
    let ca = bench.file("ca");
    let (_server, address) = bench.server(&["-Verify", "1", "-verify_return_error", "-CAfile", &ca]).await;
    let report = bench.report(address, Duration::from_secs(20)).await;
    assert_eq!(report.counts(), [7, 0, 0], "{}", report.failures());
}

#[tokio::test]
async fn a_server_that_is_not_trusted_here_proves_nothing_of_whom_it_refuses() {
    let Some(bench) = Bench::new("untrusted").await else { return };
    let (_server, address) = bench.server(&[]).await;
    let tls = Tls { address, unnamed: Some(bench.client("stranger", None)), ..Tls::default() };
    let options = Options { tls: Some(tls), only: vec![28, 30], ..Options::to("") };
    let report = run(&options, |_| ()).await;
    assert_eq!(report.counts(), [0, 1, 2], "{}", report.failures());
    assert!(report.failures().contains("the receiver's TLS is not taken here"), "{}", report.failures());
}

#[tokio::test]
async fn every_row_can_be_asked_over_tls() {
    let Some(bench) = Bench::new("rows").await else { return };
    let read = |name| std::fs::read_to_string(bench.file(name)).unwrap();
    let (both, ca) = (read("server"), read("ca"));
    let tls = Some(ServerTls::new(Pair { cert: &both, key: &both }, Some(&ca)).unwrap());
    let sink = Sink::start("127.0.0.1:0", SinkConfig { tls, ..SinkConfig::default() }).await.unwrap();
    let options = Options {
        only: vec![1, 7, 8, 10, 18, 19, 23, 24, 50],
        splits: Splits::Some(3),
        client: Some(bench.client("ca", Some("good"))),
        ..Options::to(sink.address().to_string())
    };
    let report = run(&options, |_| ()).await;
    assert!(report.is_clean() && report.counts()[2] == 0, "{}", report.failures());
    let report = run(&Options { client: None, ..options }, |_| ()).await;
    assert_eq!(report.counts()[0], 0, "{}", report.summary());
}

#[tokio::test]
async fn a_server_that_takes_anyone_and_anything_fails() {
    let Some(bench) = Bench::new("lax").await else { return };
    let (_server, address) = bench.server(&["-cipher", "ALL:@SECLEVEL=0", "-tls1"]).await;
    let report = bench.report(address, SHORT).await;
    let failed: Vec<&str> = report.rows.iter().filter(|row| row.has_failed()).map(|row| row.what.as_str()).collect();
    assert!(failed.contains(&"TLS 1.0"), "{}", report.failures());
    let (_server, address) = bench.server(&[]).await;
    let report = bench.report(address, SHORT).await;
    let failed: Vec<&str> = report.rows.iter().filter(|row| row.has_failed()).map(|row| row.what.as_str()).collect();
    assert_eq!(failed, ["no client certificate", "certificates that must be refused"], "{}", report.failures());
}
