//! Channel files for a site. `@2575` stands for that port on the site's own address, `@NAME` for where the engine reaches
//! the receiver of that name. Retries are short, so that a healed destination is tried again at once.

/// The usual channel: every message as it came to `legacy` in one lane, observations to the FHIR server `ehr` in four
/// lanes by device.
pub fn to_legacy_and_ehr() -> String {
    to_legacy() + EHR
}

/// Every message as it came to `legacy`, in one strict lane.
pub fn to_legacy() -> String {
    one_lane(2575, "legacy")
}

/// A second channel of its own, to see whether the first one's trouble reaches it: port 2576 to `beside`.
pub fn beside() -> String {
    one_lane(2576, "beside")
}

fn one_lane(port: u16, name: &str) -> String {
    format!(
        r#"
[listener]
address = "@{port}"

[[destination]]
name = "{name}"
type = "mllp"
address = "@{name}"
timeout = "5s"
retry = {{ first = "20ms", max = "200ms" }}
"#
    )
}

const EHR: &str = r#"
[[destination]]
name = "ehr"
type = "fhir"
url = "http://@ehr/fhir"
translate = "pcd-to-fhir"
where = { "MSH-9" = "ORU^R01" }
order = "device"
lanes = 4
timeout = "5s"
retry = { first = "20ms", max = "200ms" }
[destination.fhir]
identifier_systems = { "GENHOSP" = "urn:oid:2.999.1.1" }
"#;
