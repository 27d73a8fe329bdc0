//! The command line: faults all at once with places and remedies, exit codes, samples proved.

use std::path::Path;

use crate::engine::Site;

#[test]
fn check_lists_five_faults_of_one_file_with_places_and_remedies() {
    let site = Site::new(&[(
        "pumps",
        r#"descripton = "Pumps"
[listener]
address = "127.0.0.1"
idle_timeout = "ten minutes"

[[destination]]
name = "ehr"
type = "fhir"
url = "http://127.0.0.1:8080/fhir"
translate = "pcd-to-fihr"
lanes = "8"
"#,
    )]);
    let (code, _, faults) = site.command(&["check"]);
    assert_eq!(code, 64, "{faults}");
    for (place, what, remedy) in [
        ("1:1", "descripton", "description"),
        ("3:", "address", "127.0.0.1:"),
        ("4:", "idle_timeout", "such as 30s"),
        ("10:", "pcd-to-fihr", "pcd-to-fhir"),
        ("11:", "lanes", "whole number"),
    ] {
        let named = |line: &&str| line.contains(&format!("pumps.toml:{place}")) && line.contains(what);
        let line = faults.lines().find(named).unwrap_or_else(|| panic!("{place} {what} is not in:\n{faults}"));
        let done = line.split_once("; ").unwrap_or_else(|| panic!("no remedy in {line}")).1;
        assert!(done.contains(remedy), "{line} does not say {remedy}");
    }
    assert!(faults.contains("5 faults"), "{faults}");
}

#[test]
fn a_faulty_configuration_is_not_run() {
    let site = Site::new(&[("pumps", "[listener]\nadress = \"127.0.0.1:1\"\n")]);
    let (code, _, faults) = site.command(&["run"]);
    assert_eq!(code, 64, "{faults}");
    assert!(!site.path("store").exists(), "something was started");
}

#[test]
fn the_shipped_channels_and_their_samples_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cannula")).current_dir(root).arg("check").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_sample_that_no_longer_holds_fails_check() {
    let pass =
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"copy\"\ntype = \"file\"\ndirectory = \"out\"\n";
    let site = Site::new(&[("pass", pass)]);
    std::fs::create_dir_all(site.path("channels/pass")).unwrap();
    let sample = "MSH|^~\\&|A|B|||20260105||ORU^R01|1|P|2.6\rPID|||1\r";
    std::fs::write(site.path("channels/pass/01-a.in.hl7"), sample).unwrap();
    std::fs::write(site.path("channels/pass/01-a.copy.out.hl7"), sample).unwrap();
    assert_eq!(site.command(&["check"]).0, 0);
    std::fs::write(site.path("channels/pass/01-a.copy.out.hl7"), sample.replace("PID|||1", "PID|||2")).unwrap();
    let (code, _, differences) = site.command(&["check"]);
    assert_eq!(code, 1, "{differences}");
    assert!(differences.contains("01-a.copy.out.hl7"), "{differences}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let site = Site::new(&[]);
    for command in ["run", "check", "try", "explain", "messages", "dead", "replay", "devices", "store", "audit"] {
        let (code, help, _) = site.command(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(help.contains(&format!("cannula {command}")) && help.contains("Example"), "{command}:\n{help}");
    }
}

#[test]
fn the_mapping_is_json_where_that_is_asked_for() {
    let site = Site::new(&[]);
    let (code, json, fault) = site.command(&["mappings", "export", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{fault}{:.80}", json));
    assert!(code == 0 && rows.iter().any(|row| row["part"] == "codes"), "{fault}");
    let (code, _, fault) = site.command(&["mappings", "export", "--json", "--format", "csv"]);
    assert!(code == 1 && fault.contains("leave out --format"), "{fault}");
}

#[test]
fn the_mapping_has_every_key_that_holds_for_a_channel_and_whose_it_is() {
    let channel = "[listener]\naddress = \"LISTENER\"\nprocessing_ids = [\"P\", \"T\"]\n\
        [accept]\nwhere = { \"MSH-3.1\" = \"GW\" }\n[device]\nidentity = [\"obx-18\"]\n[tolerance]\nzone = \"Europe/Berlin\"\n\
        [[destination]]\nname = \"ehr\"\ntype = \"fhir\"\nurl = \"http://127.0.0.1:9/fhir\"\nwhen = 'true'\n\
        headers = { Authorization = { env = \"PATH\" } }\n\
        fhir = { profile = \"athenahealth\", unverified_status = \"preliminary\" }\n\
        [[summary]]\nname = \"agp\"\ndestination = \"ehr\"\nzone = \"Europe/Berlin\"\n";
    let site = Site::new(&[("pumps", channel)]);
    let (code, json, fault) = site.command(&["mappings", "export", "--json"]);
    assert_eq!(code, 0, "{fault}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    for (destination, key, name, value, source) in [
        ("", "listener.processing_ids", "", "P, T", "written"),
        ("", "accept.where", "MSH-3.1", "GW", "written"),
        ("", "device.identity", "", "obx-18", "written"),
        ("", "tolerance.zone", "", "Europe/Berlin", "written"),
        ("", "tolerance.no_zone", "", "accept", "default"),
        ("", "summary.days", "agp", "14", "default"),
        ("ehr", "when", "", "true", "written"),
        ("ehr", "fhir.profile", "", "athenahealth", "written"),
        ("ehr", "fhir.rate.per_second", "", "50", "profile athenahealth"),
        ("ehr", "unverified_status", "", "preliminary", "written"),
        ("ehr", "patient", "", "lookup", "profile athenahealth"),
        ("ehr", "encounter", "", "identifier", "default"),
    ] {
        let own = rows.iter().filter(|row| {
            (text(row, "destination"), text(row, "code"), text(row, "name"))
                == (destination.into(), key.into(), name.into())
        });
        let own: Vec<_> = own.map(|row| (text(row, "to_code"), text(row, "source"))).collect();
        assert_eq!(own, [(value.to_owned(), source.to_owned())], "{destination} {key} {name}");
    }
    let secret = std::env::var("PATH").unwrap();
    assert!(json.contains("Authorization") && !json.contains(&secret), "a header is named, what is in it is not told");
    let sheet = site.path("mapping.xlsx");
    let (code, _, fault) = site.command(&["mappings", "export", "--format", "xlsx", "--to", sheet.to_str().unwrap()]);
    assert!(code == 0 && std::fs::metadata(sheet).unwrap().len() > 20_000, "{fault}");
}

#[test]
fn an_unknown_option_is_exit_64() {
    assert_eq!(Site::new(&[]).command(&["check", "--fast"]).0, 64);
}

#[test]
fn what_is_no_number_of_a_list_is_told_where_the_numbers_are() {
    let site = Site::new(&[]);
    for command in [["dead", "retry"], ["dead", "discard"], ["owed", "discard"], ["messages", "show"]] {
        let (code, _, error) = site.command(&[command[0], command[1], "abc"]);
        assert!(code != 0 && error.contains("first column of the list"), "{command:?}: {code} {error}");
    }
}

#[test]
fn explain_tells_where_each_element_comes_from_that_a_fhir_server_is_sent() {
    let server = "[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\nurl = \"http://127.0.0.1:9/fhir\"\n";
    let channel = format!("[listener]\naddress = \"LISTENER\"\n{server}");
    let site = Site::new(&[("pumps", &channel)]);
    let message = "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01|1|P|2.6\rPID|||4711^^^H^MR\rOBR|1||1|1^X^MDC\rOBX|1|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20260105101100+0000\r";
    std::fs::write(site.path("one.hl7"), message).unwrap();
    let (code, told, fault) = site.command(&["explain", "one.hl7", "--channel", "pumps"]);
    assert!(code == 0 && told.contains("FHIR for destination ehr"), "{told}{fault}");
    assert!(told.contains("  entry[0].resource.valueQuantity <- OBX[1]-5\n"), "{told}");
    let (_, tried, _) = site.command(&["try", "pumps", "one.hl7"]);
    let lines = |text: &str| {
        text.lines().filter(|line| line.contains(" <- ")).map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&told), lines(&tried), "the same table as `try` prints");
    let (_, json, _) = site.command(&["explain", "one.hl7", "--channel", "pumps", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["fhir"][0]["elements"][0], serde_json::json!({ "element": "resourceType", "from": "constant" }));
    std::fs::write(site.path("one.hl7"), message.replace("PID|||4711^^^H^MR\r", "")).unwrap();
    let (_, told, _) = site.command(&["explain", "one.hl7", "--channel", "pumps"]);
    assert!(told.contains("of this message alone: would become a dead letter: PID"), "{told}");
    let (_, plain, _) = site.command(&["explain", "one.hl7"]);
    assert!(!plain.contains("FHIR for destination"), "{plain}");
}

#[test]
fn explain_reads_as_the_channel_that_is_named() {
    let channel = "[listener]\naddress = \"LISTENER\"\n[device]\nidentity = [\"obx-18-eui64\"]\n[[destination]]\nname = \"out\"\ntype = \"file\"\ndirectory = \".\"\n";
    let site = Site::new(&[("pumps", channel)]);
    let message = "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01|1|P|2.6\rOBR|1||1|1^X^MDC\rOBX|1||69985^MDC_DEV_PUMP_INFUS_MDS^MDC|1.0.0.0|||||||X|||||||X1^^0A00A1FFFE100001^EUI-64\r";
    std::fs::write(site.path("one.hl7"), message).unwrap();
    let (code, plain, _) = site.command(&["explain", "one.hl7"]);
    assert!(code == 0 && !plain.contains("reads it as from"), "{plain}");
    let (code, told, fault) = site.command(&["explain", "one.hl7", "--channel", "pumps"]);
    assert!(code == 0 && told.starts_with("Channel pumps reads it as from 0A00A1FFFE100001"), "{told}{fault}");
    let (code, json, _) = site.command(&["explain", "one.hl7", "--channel", "pumps", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["devices"][0]), (0, &"0A00A1FFFE100001/X1".into()));
    let (code, _, fault) = site.command(&["explain", "one.hl7", "--channel", "pmps"]);
    assert!(code == 1 && fault.contains("there are pumps"), "{fault}");
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_takes_the_sample_channels_and_its_account_balances() {
    let site = Site::new(&[]);
    let (code, told, fault) = site.command(&["demo", "--seconds", "3"]);
    assert!(code == 0 && told.contains("lost 0: the account balances"), "{code} {told}{fault}");
}
