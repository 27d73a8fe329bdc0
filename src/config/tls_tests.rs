//! `tls` of listeners and MLLP destinations: files that work, and each that cannot, told with its place.

use std::{fs, path::Path};

use super::{Config, Fault, load};
use crate::{
    destination::Settings,
    mllp::tls::authority::{Authority, Certified},
};

/// A folder with the files of a listener: ca.pem, own.pem and own.key, other.key, word, and der, which is no text.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    let (own, other, old) = (ca.certify("127.0.0.1"), ca.certify("127.0.0.1"), ca.certify_until("127.0.0.1", 2020));
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("channels")).unwrap();
    write("cannula.toml", "");
    write("ca.pem", &ca.pem);
    write_pair(folder.path(), "own", &own);
    write_pair(folder.path(), "old", &old);
    write("other.key", &other.key);
    write("word", "hunter2\n");
    write("broken.pem", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n");
    fs::write(folder.path().join("der"), [0x30, 0x82, 0xFF]).unwrap();
    folder
}

fn write_pair(folder: &Path, name: &str, Certified { cert, key }: &Certified) {
    fs::write(folder.join(format!("{name}.pem")), cert).unwrap();
    fs::write(folder.join(format!("{name}.key")), key).unwrap();
}

fn loaded(folder: &Path, listener: &str, destination: &str) -> Result<Config, Vec<Fault>> {
    let address = if listener.starts_with("address") { "" } else { "address = \"127.0.0.1:2575\"\n" };
    let receiver = if destination.starts_with("address") { "" } else { "address = \"127.0.0.1:6661\"\n" };
    let channel = format!(
        "[listener]\n{address}{listener}\n[[destination]]\nname = \"a\"\ntype = \"mllp\"\n{receiver}{destination}\n"
    );
    fs::write(folder.join("channels/pumps.toml"), channel).unwrap();
    load(Some(&folder.join("cannula.toml")))
}

fn told(faults: Vec<Fault>, folder: &Path) -> Vec<String> {
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let root = format!("{}/", folder.display());
    told.into_iter().map(|fault| fault.replace(&root, "")).collect()
}

const OWN: &str = "cert = \"own.pem\", key = \"own.key\"";

#[test]
fn a_listener_with_its_files_is_read_and_they_are_watched() {
    let folder = folder();
    let line = format!("tls = {{ {OWN}, client_ca = \"ca.pem\", allowed_clients = [\"pumps\"] }}");
    let config = loaded(folder.path(), &line, "").ok().unwrap();
    assert!(config.channels[0].listener.tls.as_ref().is_some_and(|tls| tls.proves_peers()));
    let watched: Vec<_> = config.secret_files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(watched, ["own.pem", "own.key", "ca.pem"]);
    let again = loaded(folder.path(), &line, "").ok().unwrap();
    assert_eq!(again.channels[0].listener, config.channels[0].listener, "nothing has changed");
    write_pair(folder.path(), "own", &Authority::new().certify("127.0.0.1"));
    let renewed = loaded(folder.path(), &line, "").ok().unwrap();
    assert_ne!(renewed.channels[0].listener, config.channels[0].listener);
    assert!(loaded(folder.path(), "", "").ok().unwrap().channels[0].listener.tls.is_none());
    let bound = |senders: &str| {
        let line = line.replace(" }", &format!(", senders = {{ {senders} }} }}"));
        loaded(folder.path(), &line, "").ok().unwrap().channels[0].listener.clone()
    };
    assert_ne!(bound("gw = \"A\""), renewed.channels[0].listener, "to whom a certificate is bound has changed");
    assert_ne!(bound("gw = \"A\""), bound("gw = \"B\""));
    assert_ne!(bound("gw = [\"A\", \"B\"], C = \"D\""), bound("gw = \"A\", B = [\"C\", \"D\"]"));
}

#[test]
fn files_that_cannot_work_are_faults_with_their_place_and_say_nothing_of_what_is_in_them() {
    let folder = folder();
    for (tls, place) in [
        ("cert = \"none.pem\", key = \"own.key\"", "3:16: listener.tls.cert: the secret cannot be read"),
        ("cert = \"der\", key = \"own.key\"", "3:16: listener.tls.cert: the secret cannot be read"),
        ("cert = \"word\", key = \"own.key\"", "3:16: listener.tls.cert: the file holds no certificate"),
        ("cert = \"broken.pem\", key = \"own.key\"", "3:16: listener.tls.cert: "),
        ("cert = \"own.pem\", key = \"own.pem\"", "3:33: listener.tls.key: the file holds no unencrypted private key"),
        ("cert = \"own.pem\", key = \"other.key\"", "3:33: listener.tls.key: it is not the private key of `cert`"),
        ("cert = \"own.pem\"", "3:7: listener.tls.key is missing"),
        ("key = \"own.key\"", "3:7: listener.tls.cert is missing"),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"word\"",
            "3:56: listener.tls.client_ca: the file holds no",
        ),
        ("cert = \"own.pem\", key = \"own.key\", client_ca = \"broken.pem\"", "3:56: listener.tls.client_ca: "),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"own.key\"",
            "3:56: listener.tls.client_ca: the file holds no",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", allowed_clients = \"a\"",
            "3:62: listener.tls.allowed_clients: it says nothing",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", senders = { gw = \"A\" }",
            "3:54: listener.tls.senders: it says nothing without `client_ca`; add",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = {}",
            "3:76: listener.tls.senders: it binds no certificate",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = { gw = [] }",
            "3:83: listener.tls.senders: no sender is given",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = { gw = [\"A\", \" \"] }",
            "3:89: listener.tls.senders: ",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = { \"\" = \"A\" }",
            "3:78: listener.tls.senders: ",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = { gw = 7 }",
            "3:83: listener.tls.senders: a whole number where",
        ),
        (
            "cert = \"own.pem\", key = \"own.key\", client_ca = \"ca.pem\", senders = [\"gw\"]",
            "3:76: listener.tls.senders: a list where",
        ),
        (
            "cert = \"-----BEGIN CERTIFICATE-----hunter2\", key = \"own.key\"",
            "3:16: listener.tls.cert: the file's content",
        ),
        ("certificate = \"own.pem\"", "3:9: unknown key \"certificate\" in tls of [listener]"),
    ] {
        let faults = told(loaded(folder.path(), &format!("tls = {{ {tls} }}"), "").err().unwrap(), folder.path());
        let place = format!("channels/pumps.toml:{place}");
        assert!(faults.iter().any(|fault| fault.starts_with(&place)), "{tls}: {place}\n{faults:#?}");
        assert!(faults.iter().all(|fault| fault.contains("; ") && !fault.contains("hunter2")), "{faults:?}");
    }
}

#[test]
fn an_expired_certificate_stops_no_start() {
    let folder = folder();
    let config = loaded(folder.path(), "tls = { cert = \"old.pem\", key = \"old.key\" }", "").ok().unwrap();
    let [end, ca] = config.channels[0].listener.tls.as_ref().unwrap().not_after();
    assert_eq!((end, ca), (Some("2020-01-01T00:00:00Z".parse().unwrap()), None));
}

#[test]
fn an_address_that_other_machines_reach_is_no_fault_with_tls() {
    let folder = folder();
    let warnings = |lines: &str| {
        let config = loaded(folder.path(), lines, "").map_err(|faults| told(faults, folder.path())).unwrap();
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let open = |more: &str| format!("address = \"0.0.0.0:2575\"\ntls = {{ {OWN}{more} }}");
    fs::set_permissions(folder.path().join("own.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(warnings(&open(", client_ca = \"ca.pem\"")), Vec::<String>::new());
    assert_eq!(warnings(&(open("") + "\nallow = \"10.0.0.0/8\"")), Vec::<String>::new());
    let told_of = warnings(&open(""));
    assert!(
        told_of.len() == 1 && told_of[0].contains("any machine may send to this address; set `tls.client_ca`"),
        "{told_of:?}"
    );
    fs::set_permissions(folder.path().join("own.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let told_of = warnings(&open(", client_ca = \"ca.pem\""));
    assert!(
        told_of.len() == 1 && told_of[0].contains("any user of this machine can read this private key; chmod o-r"),
        "{told_of:?}"
    );
    let faults = told(loaded(folder.path(), "address = \"0.0.0.0:2575\"", "").err().unwrap(), folder.path());
    assert!(faults[0].contains("messages to it are not encrypted; set `tls`"), "{faults:?}");
}

#[test]
fn channels_that_share_an_address_have_the_same_tls() {
    let folder = folder();
    let first = "[listener]\naddress = \"127.0.0.1:2575\"\n[accept]\nwhere = { \"MSH-3\" = \"X\" }\n[[destination]]\nname = \"a\"\ntype = \"mllp\"\naddress = \"127.0.0.1:6661\"\n";
    fs::write(folder.path().join("channels/cgms.toml"), first).unwrap();
    let line = format!("tls = {{ {OWN} }}");
    let faults = told(loaded(folder.path(), &line, "").err().unwrap(), folder.path());
    assert!(faults.len() == 1 && faults[0].contains("shared with channel cgms"), "{faults:?}");
    fs::write(folder.path().join("channels/cgms.toml"), first.replace("[accept]", &format!("{line}\n[accept]")))
        .unwrap();
    assert_eq!(loaded(folder.path(), &line, "").ok().unwrap().channels.len(), 2);
}

#[test]
fn an_mllp_destination_with_tls_may_be_on_another_machine() {
    let folder = folder();
    let far = "address = \"lab.example:6661\"\n";
    for tls in [
        "tls = { ca = \"ca.pem\" }",
        "tls = { ca = \"ca.pem\", cert = \"own.pem\", key = \"own.key\", server_name = \"mirth\" }",
    ] {
        let config =
            loaded(folder.path(), "", &format!("{far}{tls}")).map_err(|faults| told(faults, folder.path())).unwrap();
        let Settings::Mllp(settings) = &config.channels[0].destinations[0].settings else { panic!("mllp") };
        assert!(settings.tls.is_some());
    }
    for (tls, fault) in [
        ("", "messages would leave this machine unencrypted; set `tls`"),
        ("tls = { ca = \"word\" }", "8:14: destination.tls.ca: the file holds no certificate"),
        (
            "tls = { ca = \"ca.pem\", cert = \"own.pem\" }",
            "destination.tls.cert: it says nothing without `key`; add `key`",
        ),
        (
            "tls = { ca = \"ca.pem\", cert = \"own.pem\", key = \"other.key\" }",
            "destination.tls.key: it is not the private key of `cert`",
        ),
        (
            "tls = { ca = \"ca.pem\", server_name = \"a b\" }",
            "destination.tls.server_name: it is neither a DNS name nor an IP address",
        ),
    ] {
        let faults = told(loaded(folder.path(), "", &format!("{far}{tls}")).err().unwrap(), folder.path());
        assert!(faults.len() == 1 && faults[0].contains(fault), "{fault}\n{faults:?}");
    }
}
