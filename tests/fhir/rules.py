"""What no outside validator looks at: how the entries of a transaction belong together, the invariants that none of them
proves (obs-6, obs-7, qty-3, per-1, sdd), and those of the CGM guide.

Read from R4 (bundle.html, http.html#transaction, observation.html) and HL7/cgm 1.0.0, not from the engine. Gives (where,
what) a broken rule.
"""

import json
import re
from datetime import datetime

# Element name -> the types it may refer to (R4 4.0.1), of what the engine writes.
TARGETS = {
    "subject": {"Patient", "Group", "Device", "Location"},
    "encounter": {"Encounter"},
    "device": {"Device", "DeviceMetric"},
    "parent": {"Device"},
    "source": {"Device"},
    "patient": {"Patient"},
    "owner": {"Organization"},
    "location": {"Location"},
    "target": None,
    "what": None,
    "who": {"Practitioner", "PractitionerRole", "RelatedPerson", "Patient", "Device", "Organization"},
    "onBehalfOf": {"Practitioner", "PractitionerRole", "RelatedPerson", "Patient", "Device", "Organization"},
    "performer": {"Practitioner", "PractitionerRole", "Organization", "CareTeam", "Patient", "RelatedPerson"},
    "actor": {"Practitioner", "PractitionerRole", "Patient", "RelatedPerson", "Device"},
    "basedOn": {
        "CarePlan", "DeviceRequest", "ImmunizationRecommendation", "MedicationRequest", "NutritionOrder", "ServiceRequest"
    },
    "partOf": {
        "MedicationAdministration", "MedicationDispense", "MedicationStatement", "Procedure", "Immunization", "ImagingStudy"
    },
    "context": {"Encounter", "EpisodeOfCare"},
    "request": {"MedicationRequest"},
    "result": {"Observation"},
    "hasMember": {"Observation", "QuestionnaireResponse", "MolecularSequence"},
    "derivedFrom": {
        "DocumentReference", "ImagingStudy", "Media", "QuestionnaireResponse", "Observation", "MolecularSequence"
    },
    "medicationReference": {"Medication"},
    "assigner": {"Organization"},
}
# Where one name means something else in one resource.
NARROWER = {("DeviceMetric", "parent"): {"Device"}, ("MedicationAdministration", "device"): {"Device"}}

CGM_UNITS = {
    "99504-3": "mg/dL", "105272-9": "mmol/L", "97507-8": "mg/dL", "105273-7": "mmol/L", "97506-0": "%", "104638-2": "%",
    "104636-6": "d", "104637-4": "%", "104642-4": "%", "104641-6": "%", "97510-2": "%", "104640-8": "%", "104639-0": "%",
}
CGM_SUMMARY, CGM_RANGES = "107931-8", "106793-3"
CGM_READINGS = {"99504-3", "105272-9"}

SAMPLE = r"(-?\d+(\.\d+)?([eE][+-]?\d+)?|E|U|L)"


def broken(text):
    """Each broken rule of the Bundle in this text."""
    found = []
    bundle = json.loads(text, object_pairs_hook=lambda pairs: unique(pairs, found), parse_float=str)
    found += walk(bundle, "Bundle")
    entries = bundle.get("entry") if isinstance(bundle.get("entry"), list) else []
    entries = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("resource"), dict)]
    found += identities(entries)
    types = {entry.get("fullUrl"): entry["resource"].get("resourceType") for entry in entries}
    for number, entry in enumerate(entries):
        where, resource = f"Bundle.entry[{number}]", entry["resource"]
        found += request(where, entry)
        found += references(f"{where}.resource", resource, resource.get("resourceType"), types)
        if resource.get("resourceType") == "Observation":
            found += observation(f"{where}.resource", resource)
    return found


def unique(pairs, found):
    names = [name for name, _ in pairs]
    found += [("", f"property {name} twice in one object") for name in set(names) if names.count(name) > 1]
    return dict(pairs)


def walk(value, where):
    """Nothing is null or empty; codes have a system, and LOINC's their check digit; periods do not run backwards."""
    if value is None or value == "" or value == [] or value == {}:
        yield where, "null or empty"
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, f"{where}[{number}]")
    if isinstance(value, dict):
        if value.get("system") == "http://loinc.org" and not is_loinc(value.get("code")):
            yield where, f"not a LOINC code: {value.get('code')}"
        if "code" in value and "value" in value and "system" not in value:
            yield where, "qty-3: a code without system"
        if "origin" in value and not re.fullmatch(rf"{SAMPLE}( {SAMPLE})*", str(value.get("data", "E"))):
            yield where, "SampledData.data is not numbers, E, U and L between single blanks"
        if isinstance(value.get("start"), str) and isinstance(value.get("end"), str):
            if backwards(value["start"], value["end"]):
                yield where, "the period ends before it starts"
        for name, inner in value.items():
            yield from walk(inner, f"{where}.{name}")


def is_loinc(code):
    if not isinstance(code, str) or not re.fullmatch(r"[1-9]\d{0,5}-\d", code):
        return False
    number, check = code.split("-")
    total = 0
    for place, digit in enumerate(reversed(number)):
        digit = int(digit) * (2 if place % 2 == 0 else 1)
        total += digit // 10 + digit % 10
    return (-total) % 10 == int(check)


def backwards(start, end):
    try:
        return datetime.fromisoformat(end.replace("Z", "+00:00")) < datetime.fromisoformat(start.replace("Z", "+00:00"))
    except (TypeError, ValueError):
        return False


def identities(entries):
    """R4 http.html#trules: no two entries of one identity, no fullUrl twice."""
    seen = set()
    for number, entry in enumerate(entries):
        asked = entry.get("request") or {}
        url, condition = asked.get("url"), asked.get("ifNoneExist")
        query = f"{url}?{condition}" if condition else url
        names = [("fullUrl", entry.get("fullUrl"))]
        if condition or "?" in str(url) or "/" in str(url):
            names.append(("identity", query))
        for kind, name in names:
            if (kind, name) in seen:
                yield f"Bundle.entry[{number}]", f"a second entry of {kind} {name}"
            seen.add((kind, name))


def request(where, entry):
    resource, asked = entry["resource"], entry.get("request") or {}
    url, method = str(asked.get("url", "")), asked.get("method")
    if not re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", str(entry.get("fullUrl"))):
        if method == "POST":
            yield f"{where}.fullUrl", "the fullUrl of a created resource is not a urn:uuid"
    if re.split(r"[?/]", url)[0] != resource.get("resourceType"):
        yield f"{where}.request.url", "the request names another type than the resource"
    query = asked.get("ifNoneExist") or url.partition("?")[2]
    if method not in ("POST", "PUT"):
        yield f"{where}.request.method", f"{method} of a resource"
    if method == "POST" and not query:
        yield f"{where}.request", "a create that a repeat would do twice"
    if query:
        yield from names_itself(f"{where}.request", query, resource)


def names_itself(where, query, resource):
    """The condition finds this resource and no other: one token, encoded, that the resource has itself."""
    token = re.fullmatch(r"(identifier|_tag)=([^&#+|\s]+)%7C([^&#+|\s]+)", query)
    if not token:
        yield where, f"not one encoded token: {query}"
        return
    has = resource.get("identifier", []) if token[1] == "identifier" else resource.get("meta", {}).get("tag", [])
    value = "value" if token[1] == "identifier" else "code"
    has = has if isinstance(has, list) else [has]
    if (decoded(token[2]), decoded(token[3])) not in {(one.get("system"), one.get(value)) for one in has}:
        yield where, f"the resource itself does not have {query}"


def decoded(text):
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), text)


def references(where, value, resource_type, types, name=""):
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from references(f"{where}[{number}]", inner, resource_type, types, name)
    elif isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield from reference(where, value["reference"], resource_type, types, name)
        for inner_name, inner in value.items():
            yield from references(f"{where}.{inner_name}", inner, resource_type, types, inner_name)


def reference(where, target, resource_type, types, name):
    if target.startswith("urn:uuid:"):
        found = types.get(target)
        if not found:
            yield where, f"no entry is {target}"
            return
    elif "?" in target:
        found = target.partition("?")[0]
        if not re.fullmatch(r"[A-Z]\w+\?identifier=[^&#+|\s]+%7C[^&#+|\s]+", target):
            yield where, f"not a conditional reference by one encoded identifier: {target}"
    elif re.fullmatch(r"[A-Z]\w+/[A-Za-z0-9.-]{1,64}", target):
        found = target.partition("/")[0]
    else:
        yield where, f"a reference that nothing can resolve: {target}"
        return
    allowed = NARROWER.get((resource_type, name), TARGETS.get(name, set()))
    if allowed is not None and found not in allowed:
        yield where, f"{name} refers to {found}"


def observation(where, resource):
    """obs-6, obs-7, and HL7/cgm: a reading is of a patient, at a time, with the one unit of its code or without value."""
    for part, inner in ((where, resource), *((f"{where}.component", one) for one in resource.get("component", []))):
        if has_value(inner) and "dataAbsentReason" in inner:
            yield part, "obs-6: both value and dataAbsentReason"
    if has_value(resource) and any(coded(resource) & coded(one) for one in resource.get("component", [])):
        yield where, "obs-7: a component with the code of the whole, which has a value"
    codes = {code for system, code in coded(resource) if system == "http://loinc.org"}
    for code in codes & CGM_UNITS.keys():
        quantity = resource.get("valueQuantity")
        if not quantity and "dataAbsentReason" not in resource:
            yield where, "CGM: neither value nor dataAbsentReason"
        if isinstance(quantity, dict):
            unit = (quantity.get("system"), quantity.get("code"))
            if unit != ("http://unitsofmeasure.org", CGM_UNITS[code]):
                yield where, f"CGM: {code} in {unit[1]}"
    if CGM_SUMMARY in codes and len(resource.get("hasMember", [])) < 6:
        yield where, "CGM: a summary of fewer than six members"
    if CGM_RANGES in codes and sum(1 for part in resource.get("component", []) if "valueQuantity" in part) < 5:
        yield where, "CGM: times in ranges of fewer than five"
    if codes & CGM_READINGS and "effectiveDateTime" not in resource:
        yield where, "CGM: a reading without effectiveDateTime"
    if codes & {*CGM_UNITS, CGM_SUMMARY, CGM_RANGES}:
        if "subject" not in resource:
            yield where, "CGM: no subject"
        if not resource.keys() & {"effectiveDateTime", "effectivePeriod"}:
            yield where, "CGM: no effective time"


def has_value(observed):
    return any(name.startswith("value") for name in observed)


def coded(observed):
    code = observed.get("code")
    codings = code.get("coding", []) if isinstance(code, dict) else []
    return {(one.get("system"), one.get("code")) for one in codings}
