"""Every Bundle the engine is known to write passes the union of outside validators; every planted fault is caught.

The Bundles: the golden ones, the samples of the channels, what `cannula try` makes of every sample message there is, and
where CANNULA_TEST_MESSAGES names real messages, of those too.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import Bases, planted
from glucose import summed_up
from union import OWN, VALIDATORS, Union

# Takes every message, and writes whatever the mapping makes of it.
CHANNEL = """
[listener]
address = "127.0.0.1:2575"
[[destination]]
name = "ehr"
type = "fhir"
url = "http://127.0.0.1:8080/fhir"
translate = "pcd-to-fhir"
[destination.fhir]
default_offset = "+00:00"
pump_events = "administration"
"""
# Beside the default mapping, each of its settings that changes what is written.
VARIANTS = {"default": "", "final": 'unverified_status = "final"\n', "identifier-only": 'device_detail = "identifier-only"\n'}
RECORD = Path("docs/TRACK-RECORD.md")
SHOWN = 5


class Tries:
    """`cannula try` with a channel for each variant, in a folder of its own."""

    def __init__(self, engine):
        self.engine = engine
        self.folder = tempfile.TemporaryDirectory(prefix="cannula-fhir-")
        channels = Path(self.folder.name) / "channels"
        channels.mkdir()
        for n, (name, settings) in enumerate(VARIANTS.items()):
            (channels / f"{name}.toml").write_text(CHANNEL.replace("2575", str(2575 + n)) + settings)
        (channels / "tables").symlink_to(Path("channels/tables").absolute())
        (Path(self.folder.name) / "cannula.toml").write_text("")

    def bundle(self, variant, message):
        """The Bundle's text; `None` where the message is none for a FHIR destination."""
        asked = [self.engine, "try", variant, str(message.absolute()), "--destination", "ehr", "--body"]
        answer = subprocess.run(asked, cwd=self.folder.name, capture_output=True, text=True, timeout=60)
        text = answer.stdout.strip()
        if answer.returncode not in (0, 1):
            raise AssertionError(f"try of {message.name} ended with {answer.returncode}: {answer.stderr.strip()}")
        return text if text.startswith("{") else None


def golden():
    files = [*Path("tests/golden").rglob("*.out.json"), *Path("channels").rglob("*.out.json")]
    for file in sorted(files):
        text = file.read_text()
        if json.loads(text).get("resourceType") == "Bundle":
            yield str(file), text, b""


def tried(engine):
    tries = Tries(engine)
    messages = [*Path("tests/golden").rglob("*.in.hl7"), *Path("channels").rglob("*.in.hl7")]
    real = os.environ.get("CANNULA_TEST_MESSAGES")
    messages += Path(real).glob("*.hl7") if real else []
    for message in sorted(messages):
        for variant in VARIANTS:
            text = tries.bundle(variant, message)
            if text:
                # A real message's name would say more about its origin than a report should.
                name = "a real message" if real and message.is_relative_to(real) else str(message)
                yield f"{name} ({variant})", text, message.read_bytes()


def pass_all(union, engine):
    count, wrong = {"golden": 0, "tried": 0}, []
    for source, bundles in (("golden", golden()), ("tried", tried(engine))):
        for name, text, message in bundles:
            count[source] += 1
            wrong += [(name, finding) for finding in union.findings(text) if not sent_so(finding, message)]
    for name, finding in wrong[: 4 * SHOWN]:
        print(f"FAIL  {name}: {finding.by}: {finding.where}: {finding.what}")
    assert count["golden"] >= 10 and count["tried"] >= 30, f"too few Bundles to mean anything: {count}"
    print(f"{count['golden']} golden Bundles and {count['tried']} of `try`: {len(wrong)} findings")
    return not wrong


def sent_so(finding, message):
    """A code that its sender mistyped is passed on as it came, and counted by the engine."""
    code = re.fullmatch(r"not a LOINC code: (\S+)", finding.what)
    return bool(code) and code[1].encode() in message


def catch_all(union):
    """Prints who catches which fault; whether each is caught, no base is told faulty, and TRACK-RECORD says the same."""
    bases = {name: union.findings(json.dumps(base)) for name, base in Bases().named.items()}
    for name, findings in bases.items():
        for finding in findings[:SHOWN]:
            print(f"FAIL  the valid base {name}: {finding}")
    judges, missed, caught = (*VALIDATORS, OWN), [], dict.fromkeys((*VALIDATORS, OWN), 0)
    table = ["| Planted fault | " + " | ".join(judges) + " |", "|---|" + ":-:|" * len(judges)]
    for kind, text in planted():
        by = {finding.by for finding in union.findings(text)}
        table.append(f"| {kind} | " + " | ".join("x" if judge in by else "" for judge in judges) + " |")
        missed += [] if by else [kind]
        for judge in by:
            caught[judge] += 1
    table.append(f"| **caught of {len(table) - 2}** | " + " | ".join(str(caught[judge]) for judge in judges) + " |")
    print("\n".join(table))
    for kind in missed:
        print(f"FAIL  nobody catches: {kind}")
    written = "\n".join(table) in RECORD.read_text()
    if not written:
        print(f"FAIL  {RECORD} has another table")
    return written and not missed and not any(bases.values())


def main(engine):
    begun = time.monotonic()
    with Union("tests/fhir/judge.mjs", "target/fhir/node") as union:
        good = pass_all(union, engine)
        good = summed_up(union, engine) and good
        good = catch_all(union) and good
    print(f"{'passed' if good else 'failed'} in {time.monotonic() - begun:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
