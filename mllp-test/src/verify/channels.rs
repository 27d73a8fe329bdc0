//! Channel files for a site. `@2575` stands for that port on the site's own address, `@NAME` for where the engine reaches
//! the receiver of that name.

/// The usual channel: every message as it came to `legacy` in one lane, observations to the FHIR server `ehr` in four
/// lanes by device. Short retries, so that a healed destination is tried again at once.
pub const TO_LEGACY_AND_EHR: &str = r#"
[listener]
address = "@2575"

[[destination]]
name = "legacy"
type = "mllp"
address = "@legacy"
timeout = "5s"
retry = { first = "20ms", max = "200ms" }

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

/// Every message as it came to `legacy`, in one strict lane.
pub const TO_LEGACY: &str = r#"
[listener]
address = "@2575"

[[destination]]
name = "legacy"
type = "mllp"
address = "@legacy"
timeout = "5s"
retry = { first = "20ms", max = "200ms" }
"#;

/// A second channel of its own, to see whether the first one's trouble reaches it: port 2576 to `beside`.
pub const BESIDE: &str = r#"
[listener]
address = "@2576"

[[destination]]
name = "beside"
type = "mllp"
address = "@beside"
timeout = "5s"
retry = { first = "20ms", max = "200ms" }
"#;
