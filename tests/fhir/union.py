"""The union of the outside validators, and the places where one of them is known to be wrong.

An exception names the validator, the very words of its finding, and what is asked instead: `rules.py` proves what the
validator could not know. A finding that no exception fits counts, whoever made it.
"""

import json
import os
import re
import subprocess
from collections import namedtuple

import fhirkit
from fhir.resources import construct_fhir_element
from pydantic import ValidationError

import rules

Finding = namedtuple("Finding", "by where what")

VALIDATORS = ("medplum", "fhir", "fhir.resources", "fhirkit", "ucum-lhc")
OWN = "rules.py"

# (validator, its words, why it is wrong)
EXCEPTIONS = (
    (
        "medplum",
        r'Invalid reference: got "urn:uuid:[0-9a-f-]{36}", expected "http://hl7\.org/fhir/StructureDefinition/\w+"'
        r'(, "http://hl7\.org/fhir/StructureDefinition/\w+")*',
        "it does not look for the entry that a urn:uuid names (R4 bundle.html#references); rules.py does, type and all",
    ),
    (
        "fhir",
        r'Invalid type for reference \{"reference":"\w+\?identifier=[^"|]+%7C[^"]+"\}',
        "it does not know conditional references (R4 http.html#trules); rules.py holds them to form and type",
    ),
)


class Union:
    """All validators; leaving the `with` block ends the npm ones."""

    def __init__(self, judge, node_folder):
        self.node = subprocess.Popen(
            ["node", os.path.abspath(judge)], cwd=node_folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def findings(self, text):
        """What is wrong with the Bundle in this JSON text; nothing where every validator passes it."""
        found = [*self.by_npm(text), *by_models(text), *by_fhirkit(text)]
        found += [Finding(OWN, where, what) for where, what in rules.broken(text)]
        return [finding for finding in found if not excused(finding)]

    def by_npm(self, text):
        self.node.stdin.write(json.dumps(json.loads(text)) + "\n")
        self.node.stdin.flush()
        answer = self.node.stdout.readline()
        assert answer, "the npm validators ended"
        return [Finding(**finding) for finding in json.loads(answer)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.stdin.close()
        self.node.wait(60)


def by_models(text):
    try:
        construct_fhir_element("Bundle", json.loads(text))
    except ValidationError as refusal:
        for error in refusal.errors():
            yield Finding("fhir.resources", ".".join(map(str, error["loc"])), error["msg"])
    except Exception as refusal:  # A model may also give up on what it cannot read.
        yield Finding("fhir.resources", "", f"{type(refusal).__name__}: {refusal}")


def by_fhirkit(text):
    try:
        issues = fhirkit.validate(text)
    except ValueError as refusal:
        return [Finding("fhirkit", "", str(refusal))]
    return [Finding("fhirkit", issue.path, issue.message) for issue in issues]


def excused(finding):
    return any(finding.by == by and re.fullmatch(words, finding.what) for by, words, _ in EXCEPTIONS)
