//! The TLS rows against `openssl s_server`, whose plain side is an MLLP receiver here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::frame::{Deframer, framed};
use crate::v2;
use std::path::{Path, PathBuf};
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
        bench.certificate("ca", None).await;
        for name in ["server", "good"] {
            bench.certificate(name, Some("ca")).await;
        }
        bench.certificate("stranger", None).await;
        Some(bench)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(format!("{name}.pem")).to_str().unwrap().to_owned()
    }

    /// A certificate with its key in one file, by an issuer or by itself.
    async fn certificate(&self, name: &str, issuer: Option<&str>) {
        let (key, certificate) = (self.folder.join(format!("{name}.key")), self.folder.join(format!("{name}.crt")));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments: Vec<String> = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj"
            .split(' ')
            .map(str::to_owned)
            .collect();
        arguments.extend([format!("/CN={name}"), "-keyout".into(), path(&key), "-out".into(), path(&certificate)]);
        if let Some(issuer) = issuer {
            let issuer = self.file(issuer);
            arguments.extend(["-CA".into(), issuer.clone(), "-CAkey".into(), issuer]);
        }
        let made = Command::new("openssl").args(arguments).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let both = [std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()].concat();
        std::fs::write(self.file(name), both).unwrap();
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
        let tls = Tls { address, good: Some(self.file("good")), bad: vec![self.file("stranger")] };
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
