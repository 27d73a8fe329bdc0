#![allow(clippy::unwrap_used, clippy::expect_used)]

mod described;
mod episodes;
mod summaries;

use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    channel::Order,
    destination::{FileLayout, Settings},
    hl7::Message,
    translate::Plan,
};

/// A configuration on disk.
struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::create_dir(folder.0.path().join("channels")).unwrap();
        files.iter().for_each(|(path, text)| folder.write(path, text));
        folder
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self) -> Result<Config, Vec<Fault>> {
        load(Some(&self.0.path().join("cannula.toml")))
    }

    /// Each fault as `file:line:column: what; do this`, the folder left out.
    fn faults(&self) -> Vec<String> {
        let prefix = format!("{}/", self.0.path().display());
        let faults = self.load().err().expect("a faulty configuration");
        faults.iter().map(|fault| fault.to_string().replace(&prefix, "")).collect()
    }
}

/// The faults of one channel file beside an empty cannula.toml.
fn channel_faults(text: &str) -> Vec<String> {
    Folder::with(&[("cannula.toml", ""), ("channels/pumps.toml", text)]).faults()
}

fn channel(text: &str) -> Arc<Channel> {
    let folder = Folder::with(&[("cannula.toml", ""), ("channels/pumps.toml", text)]);
    folder.load().map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>()).unwrap().channels[0].clone()
}

/// A channel with these lines in its listener and destination.
fn with_lines(listener: &str, destination: &str) -> String {
    format!(
        "[listener]\naddress = \"127.0.0.1:2575\"\n{listener}\n\
         [[destination]]\nname = \"a\"\ntype = \"mllp\"\naddress = \"127.0.0.1:6661\"\n{destination}\n"
    )
}

fn message(text: &str) -> Message {
    Message::parse(text.replace('\n', "\r").into_bytes()).unwrap()
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let folder = Folder::with(&[("cannula.toml", ""), ("channels/pumps.toml", &with_lines("", ""))]);
    let config = folder.load().ok().unwrap();
    assert_eq!(config.store.retain, Duration::from_secs(30 * 86_400));
    assert_eq!(config.store.bytes_max, 50 << 30);
    assert_eq!((config.store.retain_when_full, config.limits.hold_when_full), (false, Duration::from_secs(10)));
    assert_eq!(config.admin, "127.0.0.1:8575".parse().unwrap());
    assert_eq!((config.log, config.limits.in_flight_bytes), (LogFormat::Text, 64 << 20));
    assert_eq!(config.store.options().cache_bytes, 16 << 20);
    let channel = &config.channels[0];
    let limits = &channel.listener.limits;
    assert_eq!(limits.frame_bytes_max, 16 << 20);
    assert_eq!((limits.idle_timeout, limits.frame_timeout), (Duration::ZERO, Duration::from_secs(60)));
    assert_eq!((limits.connections_max, limits.allow.len()), (1024, 0));
    assert_eq!(channel.listener.processing_ids, ["P"]);
    assert_eq!(channel.repeat.key.iter().map(ToString::to_string).collect::<Vec<_>>(), ["MSH-3", "MSH-10"]);
    assert_eq!(channel.repeat.window, Duration::from_secs(86_400));
    let destination = &channel.destinations[0];
    assert_eq!((&destination.order, destination.lanes), (&Order::Strict, 1));
    assert_eq!((destination.retry_first, destination.retry_max), (Duration::from_secs(1), Duration::from_secs(300)));
    assert!(matches!(destination.plan, Plan::Unchanged) && destination.filter.is_empty());
}

#[test]
fn without_a_named_file_its_absence_means_defaults_but_a_named_one_must_be_there() {
    let folder = Folder::with(&[]);
    let faults = folder.faults();
    assert_eq!(faults, ["cannula.toml:1:1: there is no such file; name the right one with --config"]);
}

#[test]
fn every_fault_of_every_file_is_reported_at_once_with_its_place() {
    let folder = Folder::with(&[
        (
            "cannula.toml",
            "tabels = \"x\"\n[store]\nretain = \"30 days\"\nmax_bytes = \"1MiB\"\n[log]\nformat = \"jason\"\n",
        ),
        (
            "channels/one.toml",
            "[listener]\nadress = \"127.0.0.1:1\"\nframe_timeout = 60\nmax_connections = 0\n\
             [accept]\nwhere = { \"MSH-\" = \"x\" }\n[[destination]]\nname = \"a b\"\ntype = \"mlp\"\n",
        ),
        ("channels/two.toml", "[listener\naddress = 1\n= 2\n"),
        ("channels/tables/t.csv", "from,to\n1,\n"),
        (
            "channels/three.toml",
            &with_lines("", "[[destination.step]]\nmap = { path = \"OBX-3\", table = \"t.csv\", missing = \"keep\" }"),
        ),
    ]);
    let faults = folder.faults();
    let starts = [
        "cannula.toml:1:1: unknown key \"tabels\" in cannula.toml; write `tables`",
        "cannula.toml:3:10: store.retain: \"30 days\" is not a duration; write a whole number",
        "cannula.toml:4:13: store.max_bytes: the size is out of range; write one from 512MiB",
        "cannula.toml:6:10: log.format: \"jason\" is none of text, json; write `json`",
        "channels/one.toml:1:1: listener.address is missing in [listener]; add `address`, IP address and port",
        "channels/one.toml:2:1: unknown key \"adress\" in [listener]; write `address`",
        "channels/one.toml:3:17: listener.frame_timeout: a whole number where a duration in quotes like \"30s\" was expected; write",
        "channels/one.toml:4:19: listener.max_connections: the number is out of range; write one from 1 to 65535",
        "channels/one.toml:6:",
        "channels/one.toml:8:8: destination.name: \"a b\" is not a name; use 1 to 64 letters",
        "channels/one.toml:9:8: destination.type: \"mlp\" is none of fhir, mllp, file; write `mllp`",
        "channels/two.toml:1:",
        "channels/two.toml:3:",
        "channels/tables/t.csv:2:1: `from` or `to` is empty; fill it",
    ];
    for start in starts {
        assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start}\nis not among\n{}", faults.join("\n"));
    }
}

#[test]
fn a_cannula_toml_that_is_no_toml_still_has_its_channels_checked() {
    let folder = Folder::with(&[
        ("cannula.toml", "channels = \"elsewhere\"\n[store\npath = \n"),
        ("elsewhere/pumps.toml", "[listner]\n"),
    ]);
    let faults = folder.faults();
    assert!(faults[0].starts_with("cannula.toml:2:"), "{faults:?}");
    assert!(
        faults.iter().any(|fault| fault.starts_with("elsewhere/pumps.toml:1:2: unknown key \"listner\"")),
        "{faults:?}"
    );
}

#[test]
fn a_fault_inside_a_text_is_placed_at_its_character() {
    let cases = [
        ("where = { \"PID-3.x\" = \"1\" }", "PID-3.x"),
        ("when = 'msg[\"PV1-3.1\"] != \"TEST\" &&'", ""),
        ("when = \"msg[\\\"PV1-x\\\"] == 1\"", "PV1-x"),
        ("when = '''\n  true &&\n  msg[\"PV1-x\"] == \"\"'''", "PV1-x"),
    ];
    for (line, faulty) in cases {
        let text = format!("[listener]\naddress = \"127.0.0.1:1\"\n[accept]\n{line}\n");
        let faults = channel_faults(&text);
        let fault = faults.iter().find(|fault| fault.contains("accept.")).unwrap_or_else(|| panic!("{faults:?}"));
        let mut place = fault.split(':').skip(1).map(|number| number.parse::<usize>());
        let (row, column) = (place.next().unwrap().unwrap(), place.next().unwrap().unwrap());
        if faulty.is_empty() {
            continue;
        }
        let before = &text[..text.find(faulty).unwrap() + faulty.len() - 1];
        assert_eq!(row, before.matches('\n').count() + 1, "{fault}");
        assert_eq!(column, before.chars().rev().take_while(|c| *c != '\n').count() + 1, "{fault}");
    }
}

#[test]
fn keys_this_version_does_not_support_are_refused_and_never_ignored() {
    let destination = ["step = [{ script = \"x\" }]", "step = [{ replace = {} }]"];
    for text in destination.iter().map(|line| with_lines("", line)) {
        let faults = channel_faults(&text);
        assert!(faults.iter().any(|fault| fault.contains("not supported by this version")), "{text}\n{faults:?}");
    }
    let folder = Folder::with(&[("cannula.toml", "[store]\nkey = { file = \"k\" }\n")]);
    assert_eq!(folder.faults(), ["cannula.toml:2:1: store.key is not supported by this version; remove it"]);
}

#[test]
fn what_only_an_ack_after_delivery_uses_is_refused_without_one() {
    for line in ["ack_timeout = \"5s\"", "ack_keep = \"1h\"", "ack_address = \"127.0.0.1:7000\""] {
        let faults = channel_faults(&with_lines(line, ""));
        assert!(faults.len() == 1 && faults[0].contains("it is for `ack = \"delivered\"`"), "{faults:?}");
        let channel = channel(&with_lines(&format!("ack = \"delivered\"\n{line}"), ""));
        assert!(matches!(channel.listener.ack, crate::channel::AckWhen::Delivered { .. }));
    }
}

#[test]
fn a_key_of_another_destination_type_is_refused() {
    let faults = channel_faults(&with_lines("", "url = \"http://127.0.0.1/fhir\""));
    let wanted =
        "channels/pumps.toml:8:1: url does not belong to a destination of type mllp; remove it; it is for fhir";
    assert_eq!(faults, [wanted]);
}

#[test]
fn two_destinations_of_one_name_are_refused() {
    let again = "[[destination]]\nname = \"a\"\ntype = \"mllp\"\naddress = \"127.0.0.1:6662\"";
    let faults = channel_faults(&with_lines("", again));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("channels/pumps.toml:9:8: destination.name: another destination"), "{faults:?}");
}

fn fhir(lines: &str) -> String {
    format!("[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\n{lines}\n")
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    for lines in [
        "url = \"http://127.0.0.1/fhir\"\nheaders = { Authorization = \"Bearer hunter2\" }",
        "url = \"http://127.0.0.1/fhir\"\nheaders = { Authorization = { evn = \"hunter2\" } }",
        "url = \"http://nurse:hunter2@127.0.0.1/fhir\"",
        "url = \"hunter2://nurse:hunter2@\"",
    ] {
        let faults = channel_faults(&fhir(lines));
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.contains("hunter2")), "{lines}: {faults:?}");
    }
}

#[test]
fn a_secret_reference_is_followed_and_its_absence_is_a_fault() {
    let lines =
        "url = \"https://ehr.example/fhir/\"\nheaders = { Authorization = { file = \"token\" } }\ntranslate = \"none\"";
    let text = fhir(lines);
    let folder = Folder::with(&[("cannula.toml", ""), ("channels/pumps.toml", &text)]);
    let faults = folder.faults();
    assert!(faults.iter().any(|fault| fault.contains(":7:") && fault.contains("cannot be read")), "{faults:?}");
    folder.write("token", "Bearer abc\n");
    let faults = folder.faults();
    assert!(!faults.iter().any(|fault| fault.contains(":7:")), "{faults:?}");
    folder.write("token", "Bearer abc\nsecond");
    assert!(folder.faults().iter().any(|fault| fault.contains("control character")), "{:?}", folder.faults());
    let missing = fhir("url = \"https://e.example\"\nheaders = { A = { env = \"CANNULA_NO_SUCH_VARIABLE\" } }");
    assert!(channel_faults(&missing).iter().any(|fault| fault.contains("is not set")));
}

#[test]
fn messages_leave_or_enter_unencrypted_only_where_that_is_asked_for() {
    let exposed = with_lines("", "").replace("127.0.0.1:2575", "0.0.0.0:2575");
    assert!(channel_faults(&exposed)[0].contains("not encrypted"));
    let asked = exposed.replace("[[dest", "allow_plaintext = true\n[[dest");
    assert!(channel_faults(&asked)[0].contains("any machine may send"));
    let named = asked.replace("[[dest", "allow = [\"10.0.0.0/8\"]\n[[dest");
    assert_eq!(channel(&named).listener.limits.allow.len(), 1);

    let remote = with_lines("", "").replace("127.0.0.1:6661", "ehr.example:6661");
    assert!(channel_faults(&remote)[0].contains("unencrypted"));
    let asked = channel(&format!("{remote}allow_plaintext = true\n"));
    assert!(matches!(&asked.destinations[0].settings, Settings::Mllp(mllp) if mllp.address == "ehr.example:6661"));
    assert!(channel_faults(&fhir("url = \"http://ehr.example/fhir\""))[0].contains("unencrypted"));
    let folder = Folder::with(&[("cannula.toml", "[admin]\nlisten = \"0.0.0.0:8575\"\n")]);
    assert!(folder.faults()[0].contains("no login"));
}

#[test]
fn channels_may_share_an_address_only_with_the_same_limits() {
    let one = with_lines("[accept]\nwhere = { \"MSH-9\" = \"ORU\" }", "");
    let other = one.replace("[accept]", "max_connections = 5\n[accept]");
    let same = Folder::with(&[("cannula.toml", ""), ("channels/a.toml", &one), ("channels/b.toml", &one)]);
    assert_eq!(same.load().ok().unwrap().channels.len(), 2);
    let differing = Folder::with(&[("cannula.toml", ""), ("channels/a.toml", &one), ("channels/b.toml", &other)]);
    let wanted = "channels/b.toml:2:11: listener.address is shared with channel a; give both the same address, limits and `tls`, or another port";
    assert_eq!(differing.faults(), [wanted]);
    // A fault elsewhere in the file hides none of the address.
    let faulty = other.replace("max_connections", "conformance = \"maybe\"\nmax_connections");
    let differing = Folder::with(&[("cannula.toml", ""), ("channels/a.toml", &one), ("channels/b.toml", &faulty)]);
    let faults = differing.faults();
    assert!(faults.len() == 2 && faults.contains(&wanted.to_owned()), "{faults:?}");
    let takes_all = [("cannula.toml", ""), ("channels/a.toml", &*with_lines("", "")), ("channels/b.toml", &*one)];
    assert!(Folder::with(&takes_all).faults()[0].contains("takes every message"));
    let admin = one.replace("2575", "8575");
    assert!(channel_faults(&admin)[0].contains("is the admin address"));
}

#[test]
fn a_channel_takes_the_transactions_it_names_also_by_an_oid_of_the_sites_own() {
    let pumps = with_lines("[accept]\ntransaction = [\"PCD-10\", \"PCD-04\"]", "");
    let folder = Folder::with(&[
        ("cannula.toml", ""),
        ("channels/pumps.toml", &pumps),
        ("channels/tables/pcd-profiles.csv", "oid,transaction,kind,source\n2.999.7,PCD-10,alias,our pumps\n"),
    ]);
    let config = folder.load().ok().unwrap();
    let takes = |msh_9: &str, oid: &str| {
        let text = format!("MSH|^~\\&|A||||20260301||{msh_9}|1|P|2.6|||||||||X^Y^{oid}^ISO\r");
        config.channels[0].accepts(&Message::parse(text.into_bytes()).unwrap()).unwrap()
    };
    assert!(takes("ORU^R01", "2.999.7") && takes("ORU^R40", "") && takes("ORU^R42", "2.999.8"));
    assert!(!takes("ORU^R01", "2.999.8") && !takes("ADT^A01", "") && !takes("ACK^R42", "2.999.7"));
    let faults = |line: &str| channel_faults(&with_lines(&format!("[accept]\n{line}"), ""));
    let unknown = "channels/pumps.toml:4:26: accept.transaction: \"PCD-99\" is none of PCD-01,";
    assert!(faults("transaction = [\"PCD-04\", \"PCD-99\"]")[0].starts_with(unknown));
    assert!(faults("transaction = []")[0].contains("nothing is ever taken"));
}

#[test]
fn two_destinations_never_write_into_one_directory() {
    let destination =
        |name: &str| format!("[[destination]]\nname = \"{name}\"\ntype = \"file\"\ndirectory = \"out\"\n");
    let text = format!("[listener]\naddress = \"127.0.0.1:0\"\n{}{}", destination("a"), destination("b"));
    let faults = channel_faults(&text);
    assert!(
        faults.len() == 1 && faults[0].starts_with("channels/pumps.toml:10:13: destination b: another"),
        "{faults:?}"
    );
}

#[test]
fn a_translation_that_cannot_reach_its_destination_is_refused() {
    let step = "step = [{ delete = { segment = \"NTE\" } }]";
    for (text, what) in [
        (fhir("url = \"http://127.0.0.1/f\"\ntranslate = \"none\""), "takes no HL7 v2"),
        (fhir(&format!("url = \"http://127.0.0.1/f\"\n{step}")), "takes no HL7 v2"),
        (fhir(&format!("url = \"http://127.0.0.1/f\"\ntranslate = \"pcd-to-fhir\"\n{step}")), "not supported"),
        (with_lines("", "translate = \"pcd-to-fhir\""), "takes no FHIR"),
        (with_lines("", "translate = \"steps\""), "no steps"),
        (with_lines("", &format!("translate = \"none\"\n{step}")), "leaves them out"),
    ] {
        let faults = channel_faults(&text);
        assert!(faults.len() == 1 && faults[0].contains(what), "{text}\n{faults:?}");
    }
    assert!(matches!(channel(&fhir("url = \"http://127.0.0.1/f\"")).destinations[0].plan, Plan::PcdToFhir(_)));
}

#[test]
fn an_unknown_table_is_refused_with_the_nearest_name() {
    let step = "[[destination.step]]\nmap = { path = \"OBX-3\", table = \"mdc-to-flowshet.csv\", missing = \"keep\" }";
    let folder = Folder::with(&[
        ("cannula.toml", ""),
        ("channels/tables/mdc-to-flowsheet.csv", "from,to\n1,2\n"),
        ("channels/pumps.toml", &with_lines("", step)),
    ]);
    let faults = folder.faults();
    assert!(
        faults[0].starts_with("channels/pumps.toml:9:33: destination.step.map.table: there is no table"),
        "{faults:?}"
    );
    assert!(faults[0].ends_with("write `mdc-to-flowsheet.csv`"), "{faults:?}");
}

#[test]
fn a_faulty_nomenclature_table_is_a_fault_whether_or_not_a_channel_uses_it() {
    let folder = Folder::with(&[
        ("cannula.toml", ""),
        ("channels/tables/mdc-units.csv", "cf_code,refid,ucum,source\n1,MDC_DIM_X,mmHg,site\n"),
    ]);
    let faults = folder.faults();
    assert!(faults[0].starts_with("channels/tables/mdc-units.csv:"), "{faults:?}");
}

#[test]
fn a_step_has_one_verb() {
    for step in ["step = [{}]", "step = [{ set = { path = \"PID-5\", to = \"\" }, delete = { path = \"PID-5\" } }]"] {
        let faults = channel_faults(&with_lines("", step));
        assert!(faults[0].contains("verb"), "{faults:?}");
    }
    for step in ["{ delete = { segment = \"MSH\" } }", "{ set = { path = \"MSH-2\", to = \"x\" } }", "{ delete = {} }"]
    {
        assert!(!channel_faults(&with_lines("", &format!("step = [{step}]"))).is_empty(), "{step}");
    }
}

#[test]
fn the_hash_changes_with_the_file_and_with_a_table_it_uses_and_with_nothing_else() {
    let step = "[[destination.step]]\nmap = { path = \"OBX-3\", table = \"t.csv\", missing = \"keep\" }";
    let folder = Folder::with(&[
        ("cannula.toml", ""),
        ("channels/tables/t.csv", "from,to\n1,2\n"),
        ("channels/tables/other.csv", "from,to\n1,2\n"),
        ("channels/pumps.toml", &with_lines("", step)),
    ]);
    let hash = || folder.load().ok().unwrap().channels[0].hash;
    let first = hash();
    folder.write("channels/tables/other.csv", "from,to\n1,3\n");
    assert_eq!(hash(), first);
    folder.write("channels/tables/t.csv", "from,to\n1,3\n");
    let second = hash();
    assert_ne!(second, first);
    folder.write("channels/pumps.toml", &with_lines("max_pipelined = 5", step));
    assert_ne!(hash(), second);
}

#[test]
fn a_typed_channel_is_resolved_as_written() {
    let text = "description = \"x\"\n[listener]\naddress = \"[::1]:0\"\nidle_timeout = \"5m\"\nmax_message = \"1MiB\"\n\
        charset = \"8859/1\"\n[accept]\nwhere = { \"MSH-3.1\" = [\"A\", \"B\"], \"MSH-9\" = \"ORU^R01\" }\n\
        [repeat]\nkey = [\"MSH-10\"]\nwindow = \"0s\"\n[[destination]]\nname = \"f\"\ntype = \"file\"\n\
        directory = \"out\"\nlayout = \"ndjson\"\norder = \"PID-3.1\"\nlanes = 4\nretry = { first = \"250ms\", max = \"2s\" }\n\
        on_reject = \"hold\"\nwhere = { \"PV1-2\" = \"I\" }\n";
    let channel = channel(text);
    assert_eq!(channel.listener.limits.idle_timeout, Duration::from_secs(300));
    assert_eq!(channel.listener.charset, crate::hl7::Charset::from_label("8859/1"));
    let oru = |sender: &str| {
        message(&format!("MSH|^~\\&|{sender}|||||||ORU^R01^ORU_R01|1|P|2.6\n").replacen("||||||ORU", "|||||ORU", 1))
    };
    assert!(channel.accepts(&oru("B")).unwrap() && !channel.accepts(&oru("C")).unwrap());
    let destination = &channel.destinations[0];
    assert!(matches!(&destination.settings, Settings::File(file)
        if file.layout == FileLayout::Ndjson && file.directory.ends_with("out") && file.directory.is_absolute()));
    assert_eq!((destination.retry_first, destination.lanes), (Duration::from_millis(250), 4));
    assert_eq!(destination.on_reject, crate::channel::OnReject::Hold);
}

#[test]
fn durations_sizes_and_addresses_are_read_strictly() {
    for (text, milliseconds) in
        [("250ms", 250), ("0s", 0), ("5m", 300_000), ("24h", 86_400_000), ("30d", 2_592_000_000)]
    {
        assert_eq!(value::duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
    }
    for text in
        ["", "5", "s", "-1s", "1.5h", "5 weeks", "99999999999999999999s", "40000d", "5S", "18446744073709551615ms"]
    {
        assert!(value::duration(text).is_err(), "{text}");
    }
    assert_eq!(value::size("50GiB").unwrap(), 50 << 30);
    for text in ["", "50", "50GB", "-1B", "1.5GiB", "99999999TiB"] {
        assert!(value::size(text).is_err(), "{text}");
    }
    for text in ["ehr.example:6661", "[::1]:6661", "10.0.0.1:1"] {
        assert!(value::host_and_port(text).is_ok(), "{text}");
    }
    for text in ["", "ehr.example", "ehr:0", "ehr:99999", ":1", "a b:1", "::1:1", "http://ehr:1"] {
        assert!(value::host_and_port(text).is_err(), "{text}");
    }
    for (text, host) in [
        ("https://ehr.example", "ehr.example"),
        ("http://127.0.0.1:8080/fhir/", "127.0.0.1"),
        ("https://[::1]/r4", "[::1]"),
        ("https://[::1]:443", "[::1]"),
    ] {
        let url = value::base_url(text).unwrap();
        assert_eq!((url.host.as_str(), url.text.as_str()), (host, text.trim_end_matches('/')));
    }
    for text in [
        "",
        "ehr.example",
        "ftp://ehr",
        "https://",
        "https:///fhir",
        "https://a b/",
        "https://ehr:x/",
        "https://ehr:/",
        "https://ehr/fhir?x=1",
        "https://ehr/#a",
        "http://127.0.0.1\\@ehr.example/",
        "http://127.0.0.1#@ehr.example/",
        "https://[::1",
        "https://ehr/fh ir",
    ] {
        assert!(value::base_url(text).is_err(), "{text}");
    }
    for (text, minutes) in [("Z", 0), ("+01:00", 60), ("-05:30", -330)] {
        assert_eq!(value::offset_minutes(text).unwrap(), minutes);
    }
    for text in ["", "1", "+1:00", "+0100", "+15:00", "é"] {
        assert!(value::offset_minutes(text).is_err(), "{text}");
    }
    for host in ["localhost", "127.9.9.9", "[::1]", "::ffff:127.0.0.1"] {
        assert!(value::is_loopback(host), "{host}");
    }
    for host in ["localhost.evil.example", "128.0.0.1", "ehr"] {
        assert!(!value::is_loopback(host), "{host}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_text_as_a_file_gives_a_configuration_or_faults(text in "\\PC{0,200}") {
        read_both(&text);
    }

    #[test]
    fn any_damage_to_a_right_file_gives_a_configuration_or_faults(
        at in 0_usize..600, cut in 0_usize..20, insert in "[\\[\\]{}='\"\\\\a-z0-9é\n.#]{0,6}",
    ) {
        let whole = with_lines("allow = [\"10.0.0.0/8\"]\ncharset = \"msh-18\"", "where = { \"MSH-9\" = \"ORU^R01\" }\n\
            when = '''msg[\"PV1-3.1\"] != \"é\"'''\nretry = { first = \"1s\" }\nstep = [{ set = { path = \"PID-5\", to = \"\\u00e9\" } }]");
        let characters: Vec<char> = whole.chars().collect();
        let start = at.min(characters.len());
        let end = (start + cut).min(characters.len());
        let text: String = characters[..start].iter().copied().chain(insert.chars()).chain(characters[end..].iter().copied()).collect();
        read_both(&text);
    }
}

#[test]
fn a_message_may_take_half_a_segment_at_most_and_eight_segments_are_the_smallest_store() {
    let small = "[store]\nsegment_bytes = \"4MiB\"\nmax_bytes = \"32MiB\"\n";
    let channel = |max: &str| with_lines(&format!("max_message = \"{max}\""), "");
    let fitting = Folder::with(&[("cannula.toml", small), ("channels/pumps.toml", &channel("2MiB"))]).load();
    assert_eq!(fitting.ok().map(|config| config.store.options().segment_bytes), Some(4 << 20));
    let faults = Folder::with(&[("cannula.toml", small), ("channels/pumps.toml", &channel("3MiB"))]).faults();
    let told = "(3MiB) is over half of store.segment_bytes (4MiB)";
    assert!(faults.iter().any(|fault| fault.contains(told) && fault.contains("at most 2MiB")), "{faults:?}");
    let faults = Folder::with(&[("cannula.toml", small), ("channels/pumps.toml", &with_lines("", ""))]).faults();
    assert!(faults.iter().any(|fault| fault.contains("(16MiB, its default) is over half")), "{faults:?}");
    let faults = Folder::with(&[("cannula.toml", &small.replace("32MiB", "31MiB"))]).faults();
    assert!(faults.iter().any(|fault| fault.contains("store.max_bytes: the size is out of range")), "{faults:?}");
}

#[test]
fn deep_nesting_gives_faults_and_not_an_overflow() {
    for (open, close) in [("[", "]"), ("{ a = ", " }"), ("a.", "")] {
        let (open, close) = (open.repeat(100_000), close.repeat(100_000));
        read_both(&format!("description = {open}{close}\n"));
        read_both(&format!("{open}a = 1\n"));
    }
}

/// Reads a text as both kinds of file; every fault's place is in the file.
fn read_both(text: &str) {
    let tables = Tables::open(Path::new("no such folder"));
    let around = Surroundings {
        base: Path::new(""),
        tables: &tables,
        secret_files: Default::default(),
        warnings: Default::default(),
    };
    let source = Source::new(Path::new("x.toml"), text.to_owned());
    let read = channel_file::read(&source, "x", &around).is_some_and(|loaded| loaded.channel.is_some());
    let faults = source.into_faults();
    assert!(read || !faults.is_empty(), "neither a channel nor a fault");
    let lines = text.lines().count().max(1) + 1;
    assert!(faults.iter().all(|fault| fault.line >= 1 && fault.line <= lines && fault.column >= 1), "{faults:?}");
    let source = Source::new(Path::new("x.toml"), text.to_owned());
    let (_, engine) = engine::read(&source, Path::new(""));
    assert!(engine.is_some() || !source.into_faults().is_empty(), "neither a configuration nor a fault");
}
