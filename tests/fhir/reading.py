"""What a message says, read a second time: in Python, from HL7 v2 and the mapping's sources (v2-to-fhir, uv-pocd), without a
look at the engine. A server's resources are held against this.
"""

from datetime import datetime, timezone
from decimal import Decimal

from reports import utc

MDC = "urn:iso:std:iso:11073:10101"
EUI64 = "urn:oid:1.2.840.10004.1.1.1.0.0.1.0.0.1.2680"
UCUM_OF = {
    "266016": "mm[Hg]", "262688": "%", "265266": "mL/h", "263762": "mL", "264274": "mg/dL", "266866": "mmol/L",
}
STATUS = {"F": "final", "R": "preliminary", "C": "corrected", "W": "entered-in-error", "X": "cancelled"}
ESCAPES = {"\\T\\": "&", "\\F\\": "|", "\\S\\": "^", "\\R\\": "~", "\\E\\": "\\"}
# US Core and PHD ask for one code of oxygen saturation each.
LOINC = {
    ("150021", "mm[Hg]"): {"8480-6"}, ("150022", "mm[Hg]"): {"8462-4"}, ("160212", "mg/dL"): {"99504-3"},
    ("150456", "%"): {"59408-5", "2708-6"},
}


def expected(message):
    """(control id, MDC code) -> what its Observation must say."""
    segments = [segment.split("|") for segment in message.decode().split("\r") if segment]
    of = lambda name: [segment for segment in segments if segment[0] == name]
    msh, pid = of("MSH")[0], of("PID")[0]
    device = next(row[18].split("^")[2] for row in of("OBX") if len(row) > 18 and row[18])
    found = {}
    for row in of("OBX"):
        if row[4].split(".")[-1] == "0":
            continue
        code = row[3].split("^")[0]
        found[msh[9], code] = observation(row, code) | {"patient": pid[3].split("^")[0], "device": device}
    return found


def observation(row, code):
    kind, value, flags = row[2], row[5], row[8]
    unit = UCUM_OF.get(row[6].split("^")[0])
    said = {"status": STATUS[row[11]], "time": utc(row[14]), "loinc": LOINC.get((code, unit), set())}
    if kind == "NM" and value:
        said["quantity"] = (Decimal(value), flags if flags in ("<", ">") else None, unit)
    elif kind == "ST":
        for escape, character in ESCAPES.items():
            value = value.replace(escape, character)
        said["string"] = value
    elif kind == "CWE":
        said["text"] = value.split("^")[1]
    else:
        said["absent"] = "unknown"
    if row[7]:
        said["limits"] = tuple(Decimal(limit) for limit in row[7].split("-"))
    if flags:
        said["interpretation"] = {"QUES": "questionable"}.get(flags, flags)
    return said


def stored(resource, patients, devices):
    """The same of an Observation that a server gave back. It may keep decimals as binary floating point: compared by value."""
    codes = {(coding.get("system"), coding["code"]) for coding in resource["code"]["coding"]}
    said = {
        "status": resource["status"],
        "time": datetime.fromisoformat(resource["effectiveDateTime"].replace("Z", "+00:00")).astimezone(timezone.utc),
        "loinc": {code for system, code in codes if system == "http://loinc.org"},
        "patient": patients.get(resource["subject"]["reference"]),
        "device": owner(resource["device"]["reference"], devices),
    }
    if "valueQuantity" in resource:
        quantity = resource["valueQuantity"]
        said["quantity"] = (Decimal(str(quantity["value"])), quantity.get("comparator"), quantity.get("code"))
    if "valueString" in resource:
        said["string"] = resource["valueString"]
    if "valueCodeableConcept" in resource:
        said["text"] = resource["valueCodeableConcept"]["text"]
    if "dataAbsentReason" in resource:
        said["absent"] = resource["dataAbsentReason"]["coding"][0]["code"]
    for limits in resource.get("referenceRange", []):
        assert limits["type"]["coding"][0]["code"] == "alarm-limits", limits
        said["limits"] = (Decimal(str(limits["low"]["value"])), Decimal(str(limits["high"]["value"])))
    for interpretation in resource.get("interpretation", []):
        said["interpretation"] = interpretation["coding"][0]["code"]
    control_id = resource["meta"]["source"].partition("#")[2]
    (mdc,) = (code for system, code in codes if system == MDC)
    return (control_id, mdc), said


def owner(reference, devices):
    """The EUI-64 of the whole device that this Device is, or is part of."""
    while reference in devices:
        device = devices[reference]
        for identifier in device["identifier"]:
            if identifier["system"] == EUI64:
                return identifier["value"]
        reference = device.get("parent", {}).get("reference")
    return None
