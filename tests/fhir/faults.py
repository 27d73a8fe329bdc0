"""Planted faults: a valid Bundle, spoiled in one place. The union of the validators must catch each of them."""

import copy
import json
from pathlib import Path

GOLDEN = Path("tests/golden/pcd-to-fhir")
UUID = "urn:uuid:00000000-0000-4000-8000-00000000000{}"
MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"


def entry(number, resource):
    system, value = "urn:oid:2.999.7", f"{resource['resourceType']}-{number}"
    resource["identifier"] = [{"system": system, "value": value}]
    asked = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": f"identifier={system}%7C{value}"}
    return {"fullUrl": UUID.format(number), "resource": resource, "request": asked}


def coded(code, display):
    return {"coding": [{"system": MDC, "code": code, "display": display}]}


def infusion():
    """A Bundle of the resources that the golden ones lack, written by hand."""
    device = {"resourceType": "Device", "status": "active", "type": coded("69985", "MDC_DEV_PUMP_INFUS")}
    metric = {
        "resourceType": "DeviceMetric", "type": coded("158014", "MDC_FLOW_FLUID_PUMP_CURRENT"),
        "source": {"reference": UUID.format(1)}, "operationalStatus": "on", "category": "measurement",
    }
    given = {
        "resourceType": "MedicationAdministration", "status": "completed",
        "medicationCodeableConcept": {"text": "Norepinephrine"},
        "subject": {"reference": "Patient?identifier=urn:oid:2.999.8%7C1"},
        "effectivePeriod": {"start": "2026-01-05T10:00:00Z", "end": "2026-01-05T11:00:00Z"},
        "device": [{"reference": UUID.format(1)}],
        "dosage": {"dose": {"value": 12.5, "unit": "mL", "system": UCUM, "code": "mL"}},
    }
    entries = [entry(number, resource) for number, resource in enumerate((device, metric, given), 1)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def percent(value):
    return {"value": value, "unit": "%", "system": UCUM, "code": "%"}


def summed_up():
    """A CGM summary, written by hand from HL7/cgm and its example."""
    figures = ("97506-0", "104638-2", "104637-4", "97507-8", "104636-6")
    ranges = ("104642-4", "104641-6", "97510-2", "104640-8", "104639-0")
    loinc = lambda code: {"coding": [{"system": "http://loinc.org", "code": code}]}
    values = {"97507-8": ("mg/dl", "mg/dL"), "104636-6": ("days", "d")}
    found = []
    for number, code in enumerate(("107931-8", "106793-3", *figures), 1):
        found.append({
            "resourceType": "Observation", "status": "final", "code": loinc(code),
            "subject": {"reference": "Patient?identifier=urn:oid:2.999.8%7C1"},
            "effectivePeriod": {"start": "2024-05-01", "end": "2024-05-31"},
        })
        if code in figures:
            unit, ucum = values.get(code, ("%", "%"))
            found[-1]["valueQuantity"] = {"value": 6.8, "unit": unit, "system": UCUM, "code": ucum}
    found[0]["hasMember"] = [{"reference": UUID.format(number)} for number in range(2, 8)]
    found[1]["component"] = [{"code": loinc(code), "valueQuantity": percent(20)} for code in ranges]
    entries = [entry(number, resource) for number, resource in enumerate(found, 1)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


class Bases:
    """Valid Bundles by name; each is given out as a copy."""

    def __init__(self):
        self.named = {name: json.loads(next(GOLDEN.glob(f"{number}-*.out.json")).read_text()) for name, number in (
            ("monitor", "01"), ("glucose", "03"), ("waveform", "04"))}
        self.named |= {"infusion": infusion(), "summary": summed_up()}

    def copy(self, name):
        return copy.deepcopy(self.named[name])


def resources(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def reading(bundle):
    return next(one for one in resources(bundle, "Observation") if "valueQuantity" in one)


def of(kind):
    return lambda bundle: resources(bundle, kind)[0]


def put(where, *path_and_value):
    """Sets the element at the path below what `where` finds."""
    *path, value = path_and_value

    def spoil(bundle):
        element = where(bundle)
        for name in path[:-1]:
            element = element[name]
        element[path[-1]] = value

    return spoil


def take(where, *path):
    def spoil(bundle):
        element = where(bundle)
        for name in path[:-1]:
            element = element[name]
        del element[path[-1]]

    return spoil


def whole(bundle):
    return bundle


def first_of(kind):
    return lambda bundle: next(entry for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind)


def twice(spoil):
    def repeat(bundle):
        again = copy.deepcopy(first_of("Observation")(bundle))
        spoil(again)
        bundle["entry"].append(again)

    return repeat


def other_url(again):
    again["fullUrl"] = UUID.format(9)


def other_identity(again):
    again["resource"]["identifier"][0]["value"] = "another"
    again["request"]["ifNoneExist"] = "identifier=" + again["resource"]["identifier"][0]["system"] + "%7Canother"


def to_observation(bundle):
    target = next(entry["fullUrl"] for entry in bundle["entry"] if entry["resource"] is not reading(bundle)
                  and entry["resource"]["resourceType"] == "Observation")
    reading(bundle)["device"] = {"reference": target}


def coding(bundle):
    return reading(bundle)["code"]["coding"][0]


observed, device, metric, given, told = (
    reading, of("Device"), of("DeviceMetric"), of("MedicationAdministration"), of("Provenance"))

# (kind of fault, base, how)
FAULTS = (
    ("status missing", "monitor", take(observed, "status")),
    ("code missing", "monitor", take(observed, "code")),
    ("status outside its required binding", "monitor", put(observed, "status", "done")),
    ("comparator outside its required binding", "glucose", put(observed, "valueQuantity", "comparator", "=>")),
    ("Provenance role outside its required binding", "monitor", put(told, "entity", 0, "role", "origin")),
    ("Device status outside its required binding", "monitor", put(device, "status", "running")),
    ("administration status outside its required binding", "infusion", put(given, "status", "running")),
    ("metric category outside its required binding", "infusion", put(metric, "category", "vital")),
    ("value and dataAbsentReason both (obs-6)", "monitor", put(observed, "dataAbsentReason", {"text": "unknown"})),
    ("two values", "monitor", put(observed, "valueString", "117")),
    ("component with the code of the whole (obs-7)", "monitor",
     lambda bundle: observed(bundle).update(component=[{"code": observed(bundle)["code"], "valueString": "1"}])),
    ("reference range of nothing (obs-3)", "monitor", put(observed, "referenceRange", [{"type": {"text": "x"}}])),
    ("Quantity code without system (qty-3)", "monitor", take(observed, "valueQuantity", "system")),
    ("unit that UCUM does not have", "monitor", put(observed, "valueQuantity", "code", "mmHg")),
    ("administration with dosage of text only (mad-1)", "infusion", put(given, "dosage", {"text": "some"})),
    ("administration without medication", "infusion", take(given, "medicationCodeableConcept")),
    ("administration without effective time", "infusion", take(given, "effectivePeriod")),
    ("metric without category", "infusion", take(metric, "category")),
    ("period that ends before it starts (per-1)", "infusion",
     put(given, "effectivePeriod", "end", "2026-01-05T09:00:00Z")),
    ("SampledData without origin", "waveform",
     lambda bundle: resources(bundle, "Observation")[0]["valueSampledData"].pop("origin")),
    ("SampledData with other separators", "waveform",
     lambda bundle: resources(bundle, "Observation")[0]["valueSampledData"].update(data="1^2^3")),
    ("Provenance without agent", "monitor", take(told, "agent")),
    ("extension with value and extensions (ext-1)", "monitor",
     put(observed, "extension", [{"url": "urn:x", "valueString": "1", "extension": [{"url": "y", "valueString": "2"}]}])),
    ("extension without url", "monitor", put(observed, "extension", [{"valueString": "1"}])),
    ("dateTime with time and no offset", "monitor", put(observed, "effectiveDateTime", "2026-03-01T11:45:00")),
    ("dateTime without seconds", "monitor", put(observed, "effectiveDateTime", "2026-03-01T11:45+01:00")),
    ("day that no calendar has", "monitor", put(observed, "effectiveDateTime", "2026-02-30")),
    ("instant of a day only", "monitor", put(told, "recorded", "2026-03-01")),
    ("number as text", "monitor", put(observed, "valueQuantity", "value", "117")),
    ("text as number", "monitor", put(observed, "valueQuantity", "unit", 5)),
    ("one where a list belongs", "monitor",
     lambda bundle: observed(bundle).update(identifier=observed(bundle)["identifier"][0])),
    ("list where one belongs", "monitor", lambda bundle: observed(bundle).update(code=[observed(bundle)["code"]])),
    ("text where an object belongs", "monitor", put(observed, "subject", "Patient/1")),
    ("unknown element", "monitor", put(observed, "valueQuantitty", {"value": 1})),
    ("unknown element inside a datatype", "monitor", put(observed, "valueQuantity", "units", "mmHg")),
    ("element of another version (R5)", "monitor", put(observed, "instantiatesCanonical", "urn:x")),
    ("unknown resource type", "monitor", put(observed, "resourceType", "Observations")),
    ("empty text", "monitor", put(observed, "valueQuantity", "unit", "")),
    ("empty object", "monitor", put(observed, "method", {})),
    ("empty list", "monitor", put(observed, "note", [])),
    ("null", "monitor", put(observed, "issued", None)),
    ("code with blanks around it", "monitor", put(coding, "code", " 8480-6")),
    ("id with a letter that ids do not have", "monitor", put(observed, "id", "a_b")),
    ("system with a blank in it", "monitor", put(coding, "system", "http://loinc org")),
    ("LOINC without its check digit", "glucose", put(coding, "code", "99504-4")),
    ("reference to no entry", "monitor", put(observed, "device", {"reference": UUID.format(8)})),
    ("reference to a type that may not be there", "monitor", to_observation),
    ("conditional reference to a type that may not be there", "monitor",
     put(observed, "performer", [{"reference": "Device?identifier=urn:x%7C1"}])),
    ("conditional reference not encoded", "monitor",
     put(observed, "subject", {"reference": "Patient?identifier=urn:x|1"})),
    ("two entries of one identity", "monitor", twice(other_url)),
    ("two entries of one fullUrl (bdl-7)", "monitor", twice(other_identity)),
    ("entry without request (bdl-3)", "monitor", take(first_of("Observation"), "request")),
    ("request without method", "monitor", take(first_of("Observation"), "request", "method")),
    ("method outside its required binding", "monitor", put(first_of("Observation"), "request", "method", "SEND")),
    ("request of another type", "monitor", put(first_of("Observation"), "request", "url", "Device")),
    ("create that a repeat would do twice", "monitor", take(first_of("Observation"), "request", "ifNoneExist")),
    ("condition that does not find the resource itself", "monitor",
     put(first_of("Observation"), "request", "ifNoneExist", "identifier=urn:x%7C1")),
    ("Bundle without type", "monitor", take(whole, "type")),
    ("Bundle type outside its required binding", "monitor", put(whole, "type", "transactions")),
    ("CGM reading without value and reason", "glucose", take(observed, "valueQuantity")),
    ("CGM reading in the unit of the other code", "glucose",
     lambda bundle: observed(bundle)["valueQuantity"].update(unit="mmol/L", code="mmol/L")),
    ("CGM reading of nobody", "glucose", take(observed, "subject")),
    ("CGM summary of too few members", "summary", lambda bundle: resources(bundle, "Observation")[0]["hasMember"].pop()),
    ("CGM times in ranges of too few", "summary", lambda bundle: resources(bundle, "Observation")[1]["component"].pop()),
    ("CGM figure in another unit", "summary",
     lambda bundle: resources(bundle, "Observation")[2]["valueQuantity"].update(unit="1", code="1")),
    ("CGM reading of no time", "glucose", take(observed, "effectiveDateTime")),
)


def planted():
    """(kind, the spoiled Bundle as text) of every fault."""
    bases = Bases()
    for kind, base, spoil in FAULTS:
        bundle = bases.copy(base)
        spoil(bundle)
        yield kind, json.dumps(bundle)
    text = json.dumps(bases.copy("monitor"))
    yield "property twice in one object", text.replace('"status": "active"', '"status": "active", "status": "active"', 1)
