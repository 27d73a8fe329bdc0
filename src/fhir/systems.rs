//! URIs of the code systems and namespaces that are written.

/// ISO/IEEE 11073-10101, context-free codes.
pub const MDC: &str = "urn:iso:std:iso:11073:10101";
/// LOINC.
pub const LOINC: &str = "http://loinc.org";
/// SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";
/// UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// Values that are themselves URIs.
pub const URI: &str = "urn:ietf:rfc:3986";
/// EUI-64, as HL7 device guides write it.
pub const EUI64: &str = "urn:oid:1.2.840.10004.1.1.1.0.0.1.0.0.1.2680";
/// Observation.category.
pub const OBSERVATION_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
/// Observation.interpretation.
pub const INTERPRETATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
/// Observation.interpretation of devices: 11073 measurement status.
pub const MEASUREMENT_STATUS: &str = "http://terminology.hl7.org/CodeSystem/measurement-status";
/// Observation.dataAbsentReason.
pub const DATA_ABSENT_REASON: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";
/// meta.security: how reliable a value is.
pub const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
/// meta.security: HTEST.
pub const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
/// meta.tag: MSH-11.
pub const PROCESSING_ID: &str = "http://terminology.hl7.org/CodeSystem/v2-0103";
/// Identifier.type.
pub const IDENTIFIER_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";
/// Observation.referenceRange.type of device limits.
pub const REFERENCE_RANGE_TYPE: &str = "http://hl7.org/fhir/uv/pocd/CodeSystem/reference-range-type";
/// Provenance.activity.
pub const V2_ACTIVITY: &str = "http://hl7.org/fhir/uv/v2mappings/CodeSystem/provenance-activity-type-v2-to-fhir";
/// Provenance.agent.type.
pub const PARTICIPANT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
/// Our own identifiers of observations: SHA-256 over what makes an observation the same one. Only for conditional
/// requests; readers must see no meaning in them. The arc is one made from a UUID (ITU-T X.667), so that it is nobody else's.
pub const OWN_OBSERVATION: &str = "urn:oid:2.25.338601270918608552152590410359901626790.1";
/// Our own identifiers of devices: `scope/name`, and `device/place/code` for parts of a device that have none.
pub const OWN_DEVICE: &str = "urn:oid:2.25.338601270918608552152590410359901626790.2";
/// Our own tags of messages, by which a Provenance is written once.
pub const OWN_MESSAGE: &str = "urn:oid:2.25.338601270918608552152590410359901626790.3";
/// Our own identifiers of administrations: SHA-256 over pump, source, patient, order and start.
pub const OWN_ADMINISTRATION: &str = "urn:oid:2.25.338601270918608552152590410359901626790.10";
/// Our own codes, for what has none elsewhere: `device-alert`, and the words of IHE's enumerations for alerts.
pub const OWN_CODES: &str = "urn:oid:2.25.338601270918608552152590410359901626790.11";
/// RxNorm.
pub const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
/// meta.security: how confidential a message is (MSH-8).
pub const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// Observation.value as an Attachment, which R4 has no element for.
pub const VALUE_EXTENSION: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.value";
/// OBX-19: when the analysis was made.
pub const ANALYSIS_TIME_EXTENSION: &str = "http://hl7.org/fhir/StructureDefinition/observation-analysis-date-time";
/// OBX-4 as sent.
pub const SUB_ID_EXTENSION: &str = "http://hl7.org/fhir/StructureDefinition/observation-v2-subid";
/// Where something took place.
pub const LOCATION_EXTENSION: &str = "http://hl7.org/fhir/StructureDefinition/event-location";
/// UDI issuers, as R4 8.8 spells them.
pub const UDI_GS1: &str = "http://hl7.org/fhir/NamingSystem/gs1-di";
/// HIBCC.
pub const UDI_HIBCC: &str = "http://hl7.org/fhir/NamingSystem/hibcc-dI";
/// ICCBBA, blood containers.
pub const UDI_ICCBBA_BLOOD: &str = "http://hl7.org/fhir/NamingSystem/iccbba-blood-di";
/// ICCBBA, other devices.
pub const UDI_ICCBBA_OTHER: &str = "http://hl7.org/fhir/NamingSystem/iccbba-other-di";
/// meta.source of what was computed here from readings that passed.
pub const OWN_SUMMARY: &str = "urn:oid:2.25.338601270918608552152590410359901626790.9";
/// Observation.category: OBX-29.
pub const OBSERVATION_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0936";
/// DiagnosticReport.category: OBR-24.
pub const DIAGNOSTIC_SECTION: &str = "http://terminology.hl7.org/CodeSystem/v2-0074";
