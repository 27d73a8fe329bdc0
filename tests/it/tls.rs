//! TLS from a gateway to a receiver: who is let in, over kills and reloads, tried with this workspace's own tools and openssl.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mllp_test::{
    Account, Sink, SinkConfig,
    account::Route,
    send::Client,
    sender::SenderConfig,
    spec::{self, Options, Tls},
    tls::{ClientTls, Pair, ServerTls},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::{crash::killed_under_load, engine::Site};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority whose certificates stand in a site's folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of the name of what it vouches for, openssl would take that for its own issuer.
        params.distinguished_name.push(DnType::CommonName, "Ward authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name or address.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A gateway that trusts this authority and shows a certificate of `own`.
    fn gateway(&self, own: Option<&(String, String)>) -> ClientTls {
        ClientTls::new(&self.pem, own.map(|(cert, key)| Pair { cert, key })).unwrap()
    }
}

fn write_pair(site: &Site, name: &str, (cert, key): &(String, String)) {
    fs::write(site.path(&format!("{name}.key")), key).unwrap();
    fs::write(site.path(&format!("{name}.pem")), cert).unwrap();
}

/// A site whose listener has a certificate of `ca` for its address, and takes gateways of `ca`.
fn site(ca: &Authority, destination: &str) -> Site {
    let site = Site::new(&[]);
    write_pair(&site, "listener", &ca.certify(&site.listener.ip().to_string()));
    fs::write(site.path("ca.pem"), &ca.pem).unwrap();
    site.write_channel("pumps", &channel(MUTUAL, destination));
    site
}

const MUTUAL: &str = "tls = { cert = \"listener.pem\", key = \"listener.key\", client_ca = \"ca.pem\" }";
/// The same, where one gateway is bound to its sender.
const BOUND: &str = "tls = { cert = \"listener.pem\", key = \"listener.key\", client_ca = \"ca.pem\", allowed_clients = \"lab\", senders = { gateway = \"PUMP_GATEWAY\" } }";
const NOBODY: &str = "address = \"127.0.0.1:9\"";

fn channel(tls: &str, destination: &str) -> String {
    format!(
        "[listener]\naddress = \"LISTENER\"\nframe_timeout = \"5s\"\n{tls}\n\
         [[destination]]\nname = \"ehr\"\ntype = \"mllp\"\n{destination}\nretry = {{ first = \"50ms\", max = \"1s\" }}\n"
    )
}

fn message(id: u32) -> Vec<u8> {
    format!("MSH|^~\\&|PUMP_GATEWAY|W|||20260105101112+0000||ORU^R01^ORU_R01|m{id}|P|2.6|||AL|NE\rPID|||1^^^H^MR\rOBR|1||1|1^X^MDC|||20260105101112+0000\r")
        .into_bytes()
}

async fn connect(site: &Site, tls: &ClientTls) -> Result<Client, mllp_test::send::NoAnswer> {
    Client::connect_over(&site.listener.to_string(), Some(tls), PATIENCE).await
}

/// Until a line of the metrics is such: the engine may hear of a handshake's end after its peer.
fn counted(site: &Site, is_such: impl Fn(&str) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = site.get("/metrics").unwrap();
        if metrics.lines().any(&is_such) {
            return;
        }
        assert!(Instant::now() < until, "{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_over_tls_is_missing_at_a_receiver_over_tls_after_kill_9() {
    let ca = Authority::new();
    let (cert, key) = ca.certify("127.0.0.1");
    let receives = ServerTls::new(Pair { cert: &cert, key: &key }, Some(&ca.pem)).unwrap();
    let sink = Sink::start("127.0.0.1:0", SinkConfig { tls: Some(receives), ..SinkConfig::default() }).await.unwrap();
    let destination =
        format!("address = \"{}\"\ntls = {{ ca = \"ca.pem\", cert = \"own.pem\", key = \"own.key\" }}", sink.address());
    let mut site = site(&ca, &destination);
    write_pair(&site, "own", &ca.certify("cannula"));
    tokio::task::block_in_place(|| site.start());
    let tls = Some(ca.gateway(Some(&ca.certify("gateway"))));
    let sender = SenderConfig { window: 8, tls, ..SenderConfig::to(site.listener.to_string()) };
    let sent = killed_under_load(&mut site, sender, 3).await;
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.balances() && account.unanswered + account.naked == 0, "{account}\n{}", site.log());
    assert_eq!(account.destinations[0].reordered.count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_certificate_is_taken_for_new_connections_and_one_that_cannot_work_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut site = site(&old, NOBODY);
    let address = site.listener.ip().to_string();
    tokio::task::block_in_place(|| site.start());
    let gateway = old.certify("gateway");
    let (by_old, by_new) = (old.gateway(Some(&gateway)), new.gateway(Some(&gateway)));
    let mut before = connect(&site, &by_old).await.unwrap();
    assert!(before.send(&message(1)).await.unwrap().is_positive());
    // The key of another certificate: what was in force stays, and the log says so. The files are watched.
    fs::write(site.path("listener.key"), new.certify(&address).1).unwrap();
    tokio::task::block_in_place(|| site.logged("the configuration before stays in force"));
    assert!(
        site.log().contains("pumps.toml:4:38: listener.tls.key: it is not the private key of `cert`"),
        "{}",
        site.log()
    );
    assert!(connect(&site, &by_old).await.unwrap().send(&message(2)).await.unwrap().is_positive());
    write_pair(&site, "listener", &new.certify(&address));
    tokio::task::block_in_place(|| site.logged("TLS of the listener changed"));
    let mut after = connect(&site, &by_new).await.unwrap();
    assert!(after.send(&message(3)).await.unwrap().is_positive());
    assert!(before.send(&message(4)).await.unwrap().is_positive(), "the open connection stays");
    assert!(connect(&site, &by_old).await.is_err());
    for line in [
        "cannula_certificate_expiry_seconds{channel=\"pumps\",use=\"listener\"} ",
        "cannula_tls_handshake_failures_total{channel=\"pumps\",reason=\"by_peer\"} 1",
    ] {
        tokio::task::block_in_place(|| counted(&site, |counted| counted.starts_with(line)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_mixes_up_tls_and_plaintext_is_told_apart_in_the_log() {
    let ca = Authority::new();
    let mut site = site(&ca, NOBODY);
    let plain = std::net::SocketAddr::new(site.listener.ip(), 2599);
    site.write_channel("plain", &channel("", NOBODY).replace("LISTENER", &plain.to_string()));
    tokio::task::block_in_place(|| site.start());
    let mut client = Client::connect(&site.listener.to_string(), PATIENCE).await.unwrap();
    assert!(client.send(&message(1)).await.is_err());
    let tls = ca.gateway(Some(&ca.certify("gateway")));
    assert!(Client::connect_over(&plain.to_string(), Some(&tls), PATIENCE).await.is_err());
    for (fault, remedy) in [
        ("not_tls", "the peer speaks no TLS: switch TLS on at the gateway"),
        ("protocol_mismatch", "the gateway speaks TLS and this listener does not: set `tls` in [listener]"),
    ] {
        tokio::task::block_in_place(|| site.logged(remedy));
        tokio::task::block_in_place(|| counted(&site, |line| line.contains(fault) && line.ends_with(" 1")));
    }
    assert!(!site.log().contains("PUMP_GATEWAY"), "{}", site.log());
}

#[test]
fn files_that_cannot_work_end_the_start_with_their_place() {
    let ca = Authority::new();
    let site = site(&ca, NOBODY);
    fs::remove_file(site.path("ca.pem")).unwrap();
    for command in ["run", "check"] {
        let (code, _, told) = site.command(&[command]);
        assert!(code == 64 && told.contains("pumps.toml:4:66: listener.tls.client_ca: "), "{code} {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_bound_to_its_sender_may_not_send_as_another() {
    let ca = Authority::new();
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let destination = format!("address = \"{}\"", sink.address());
    let mut site = site(&ca, &destination);
    site.write_channel("pumps", &channel(&format!("batch = true\n{BOUND}"), &destination));
    tokio::task::block_in_place(|| site.start());
    let as_other = |id| String::from_utf8(message(id)).unwrap().replace("PUMP_GATEWAY", "LABCANARY").into_bytes();
    let mut gateway = connect(&site, &ca.gateway(Some(&ca.certify("gateway")))).await.unwrap();
    assert!(gateway.send(&message(1)).await.unwrap().is_positive());
    let refused = gateway.send(&as_other(2)).await.unwrap();
    assert!(refused.code == "CR" && refused.errors[0].contains("207"), "{refused:?}");
    assert!(gateway.send(&message(3)).await.unwrap().is_positive(), "the connection is kept");
    let batch = [b"BHS|^~\\&|PUMP_GATEWAY\r", &message(4)[..], &as_other(5), b"BTS|2\r"].concat();
    gateway.send_frame(&batch).await.unwrap();
    let answers = gateway.answers_until((Instant::now() + PATIENCE).into()).await.unwrap();
    let codes: Vec<_> = answers.iter().map(|ack| (&*ack.code, &*ack.control_id)).collect();
    assert_eq!(codes, [("CA", &b"m4"[..]), ("CR", b"m5")]);
    // A certificate that is allowed and bound to nobody sends as anyone.
    let mut lab = connect(&site, &ca.gateway(Some(&ca.certify("lab")))).await.unwrap();
    assert!(lab.send(&as_other(6)).await.unwrap().is_positive());
    assert!(connect(&site, &ca.gateway(Some(&ca.certify("another")))).await.unwrap().send(&message(7)).await.is_err());
    let refused = "cannula_bad_frames_total{channel=\"pumps\",reason=\"sender\"} 2";
    tokio::task::block_in_place(|| counted(&site, |line| line == refused));
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 4, "what is refused is not stored");
    assert!(!site.log().contains("LABCANARY"), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tls_rows_of_the_bad_input_table_hold() {
    let (ca, other) = (Authority::new(), Authority::new());
    let mut site = site(&ca, NOBODY);
    site.write_channel("pumps", &channel(BOUND, NOBODY));
    tokio::task::block_in_place(|| site.start());
    let own = |issuer: &Authority| {
        let (cert, key) = issuer.certify("gateway");
        ClientTls::new(&ca.pem, Some(Pair { cert: &cert, key: &key })).unwrap()
    };
    let bad = vec![("of another authority".to_owned(), own(&other))];
    let tls = Tls { address: site.listener.to_string(), unnamed: Some(ca.gateway(None)), good: Some(own(&ca)), bad };
    let options = Options { tls: Some(tls), only: vec![27, 28, 29, 30], ack_timeout: PATIENCE, ..Options::to("") };
    let report = spec::run(&options, |_| ()).await;
    assert!(report.counts() == [7, 0, 0], "{}\n{}", report.failures(), site.log());
}

#[test]
fn openssl_gets_its_answers_over_tls_1_2_and_1_3_and_no_other() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: the program openssl is not there");
        return;
    }
    let ca = Authority::new();
    let mut site = site(&ca, NOBODY);
    write_pair(&site, "gateway", &ca.certify("gateway"));
    site.start();
    for (number, version) in (1..).zip(["-tls1_2", "-tls1_3"]) {
        let answer = openssl(&site, &[version, "-cert", "gateway.pem", "-key", "gateway.key"], number);
        assert!(answer.contains(&format!("MSA|CA|m{number}")), "{version}: {answer:?}\n{}", site.log());
        let answer = openssl(&site, &[version], number);
        assert!(!answer.contains("MSA|"), "{version} without a certificate: {answer:?}");
    }
    let answer =
        openssl(&site, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-cert", "gateway.pem", "-key", "gateway.key"], 9);
    assert!(!answer.contains("MSA|"), "{answer:?}");
}

/// What `openssl s_client` prints when it is given the message and the connection ends: by us, once the answer is there.
fn openssl(site: &Site, arguments: &[&str], number: u32) -> String {
    let folder: PathBuf = site.path("");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-CAfile", "ca.pem", "-connect"]);
    command.arg(site.listener.to_string()).args(arguments).current_dir(Path::new(&folder));
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    // One that was refused already takes no bytes.
    let _ = input.write_all(&[b"\x0b", &message(number)[..], b"\x1c\r"].concat());
    let mut output = client.stdout.take().unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\x1c\r") && matches!(std::io::Read::read(&mut output, &mut byte), Ok(1)) {
        answer.extend(byte);
    }
    let _ = client.kill();
    let _ = client.wait();
    String::from_utf8_lossy(&answer).into_owned()
}
