//! `[device]`: which places name a device, for a channel and for single senders.

use std::{fs, path::Path};

use super::{Config, Fault, load};
use crate::{hl7::Message, translate::Plan};

const CHANNEL: &str = "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\n\
    url = \"http://127.0.0.1:1/fhir\"\ntranslate = \"pcd-to-fhir\"\norder = \"device\"\nlanes = 8\n";

fn loaded(folder: &Path, device: &str) -> Result<Config, Vec<Fault>> {
    fs::create_dir_all(folder.join("channels")).unwrap();
    fs::write(folder.join("cannula.toml"), "").unwrap();
    fs::write(folder.join("channels/pumps.toml"), format!("{CHANNEL}{device}")).unwrap();
    load(Some(&folder.join("cannula.toml")))
}

fn first_key(config: &Config, sender: &str) -> String {
    let text = format!(
        "MSH|^~\\&|{sender}||||20260301120000+0100||ORU^R01^ORU_R01|1|P|2.6\r\
         OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||I51559^^0012210000000000^EUI-64\r"
    );
    config.channels[0].device.identification.device_keys(&Message::parse(text.into_bytes()).unwrap())[0].clone()
}

#[test]
fn a_senders_devices_are_told_as_it_is_configured_at_intake_and_in_what_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let device = "[[device.sender]]\nname = \"RACK\"\nidentity = \"obx-18-eui64\"\nstrip_prefix = [\"I\", \"P\"]\n";
    let config = loaded(folder.path(), device).unwrap();
    assert_eq!(first_key(&config, "RACK"), "0012210000000000/51559");
    assert_eq!(first_key(&config, "OTHER"), "0012210000000000/I51559");
    let channel = &config.channels[0];
    let Plan::PcdToFhir(settings) = &channel.destinations[0].plan else { panic!("another plan") };
    assert_eq!(settings.identification, channel.device.identification);
}

#[test]
fn a_place_that_is_none_and_a_sender_without_a_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let device = "[device]\nidentity = [\"obx-19\"]\n[[device.sender]]\nidentity = [\"msh-3\"]\n";
    let faults = loaded(folder.path(), device).err().unwrap();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|fault| fault.contains("\"obx-19\" is no place; write one of sys-id")), "{told:?}");
    assert!(told.iter().any(|fault| fault.contains("device.sender.name is missing")), "{told:?}");
}

#[test]
fn a_second_table_of_one_sender_is_refused_with_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let device = "[[device.sender]]\nname = \"RACK\"\n[[device.sender]]\nname = \"rack \"\nidentity = [\"msh-3\"]\n";
    let faults = loaded(folder.path(), device).err().unwrap();
    let told = faults[0].to_string();
    assert!(told.contains(".toml:13:8: device.sender.name: the table in line 11 is of \"rack\" too"), "{told}");
}
