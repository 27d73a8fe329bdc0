"""The engine against a FHIR server that nobody here wrote: what it creates is read back and held against the messages, a
repeat adds nothing, what the server refuses leaves nothing behind, and neither side loses or doubles a thing when it is
killed amid its work.

`server.py ENGINE [--messages N]`: N is how many go through the kills; 1,000 if not given.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "interop"))

import reading
import reports
from checks import Suite
from engine import Engine
from gateway import Gateway
from sekmet import Sekmet
from wire import send_pipelined

SYSTEM, PEOPLE, LANES, COUNT = "urn:oid:2.999.40", 40, 8, 300
CHANNEL = """
[listener]
address = "{host}:2575"
[[destination]]
name = "ehr"
type = "fhir"
url = "{url}"
translate = "pcd-to-fhir"
order = "device"
lanes = {lanes}
timeout = "20s"
retry = {{ first = "50ms", max = "500ms" }}
{auth}
[destination.fhir]
identifier_systems = {{ HOSP = "{system}" }}
"""

AUTH = 'auth = { type = "smart-backend", client_id = "cannula", key = { file = "key.pem" }, scopes = ["system/*.cruds"] }'
TOKEN_SECONDS, SMART_SECONDS, SMART_MESSAGES = 5, 20, 100


class Site:
    """One engine, one server, and everything that was sent."""

    def __init__(self, engine, server):
        self.engine, self.server, self.sent = engine, server, []
        self.address = (engine.host, 2575)

    def send(self, messages):
        answers = send_pipelined(self.address, messages)
        refused = [answer for answer in answers if b"\rMSA|CA|" not in answer]
        assert not refused, f"{len(refused)} refused"
        self.engine.drained()

    def post(self, path, **body):
        return self.engine.json(path, body)

    def dead(self):
        return self.engine.json("/api/dead")["items"]

    def counts(self):
        """How many there are, and how many versions of them."""
        kinds = ("Observation", "Device", "Provenance")
        found = {kind: self.server.all(kind) for kind in kinds}
        return {kind: (len(all), sum(int(one["meta"]["versionId"]) for one in all)) for kind, all in found.items()}

    def compare(self, messages):
        """Every resource on the server is one that a message tells, and says the same; every one told is there, once."""
        found, devices = self.compare_observations(messages)
        self.compare_provenance(messages)
        self.compare_devices(messages, devices)
        return len(found)

    def compare_observations(self, messages):
        wanted = {}
        for message in messages:
            wanted |= reading.expected(message)
        patients = {
            f"Patient/{one['id']}": one["identifier"][0]["value"] for one in self.server.all("Patient")
        }
        devices = {f"Device/{one['id']}": one for one in self.server.all("Device")}
        found = [reading.stored(one, patients, devices) for one in self.server.all("Observation")]
        times = Counter(key for key, _ in found)
        twice = [key for key, count in times.items() if count > 1]
        missing = wanted.keys() - times.keys()
        unknown = times.keys() - wanted.keys()
        assert not (twice or missing or unknown), (
            f"{len(missing)} missing, {len(twice)} twice, {len(unknown)} of no message, as {[*twice, *missing, *unknown][0]}"
        )
        other = [(wanted[key], said) for key, said in found if wanted[key] != said]
        assert not other, f"{len(other)} say something else; wanted and got {other[0]}"
        return found, devices

    def compare_provenance(self, messages):
        told = Counter(one["entity"][0]["what"]["identifier"]["value"] for one in self.server.all("Provenance"))
        want = Counter(reports.control_id(message) for message in messages)
        assert told == want, f"Provenance of {sum(told.values())}, wanted {sum(want.values())}"

    def compare_devices(self, messages, devices):
        names = Counter(
            identifier["value"] for one in devices.values() for identifier in one["identifier"]
            if identifier["system"] == reading.EUI64
        )
        want = {row["device"] for message in messages for row in reading.expected(message).values()}
        assert names == Counter(want), f"{sum(names.values())} identified Devices, wanted {len(want)}"


def created(site):
    messages = reports.batch("NEW", COUNT, PEOPLE)
    site.send(messages)
    assert not site.dead(), site.dead()[0]["reason"]
    site.sent += messages
    return f"{site.compare(messages)} Observations of {COUNT} messages over {LANES} lanes, each as its message says"


def repeated(site):
    """The same from the gateway under new control ids, and once more by a replay of the engine."""
    before = site.counts()
    site.send([message.replace(b"|NEW-", b"|AGAIN-") for message in site.sent])
    after = site.counts()
    # Each message has its own Provenance; that of a repeat is new, as the repeat is.
    before["Provenance"] = after["Provenance"]
    assert before == after, f"{before} became {after}"
    replayed = site.post("/api/replay", channel="lab", **{"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
    site.engine.drained()
    assert site.counts() == after, f"{after} became {site.counts()} by a replay"
    assert not site.dead(), site.dead()[0]["reason"]
    assert replayed["messages"] == 2 * len(site.sent), replayed
    return f"{3 * len(site.sent)} repeats by the gateway and the engine: nothing new, nothing another version"


def rolled_back(site):
    """A patient the server does not know fails the whole transaction; once it knows them, a retry gets through."""
    before = site.counts()
    stranger = reports.report("STRANGER", 900, 5000, reports.monitor(1), who="STRANGER")
    site.send([stranger])
    dead = site.dead()
    assert len(dead) == 1 and dead[0]["reason"].startswith("404"), dead
    assert "STRANGER" not in dead[0]["reason"], "the reason names the patient"
    assert site.counts() == before, "part of what was refused is stored"
    site.server.patients(SYSTEM, ["STRANGER"])
    site.post(f"/api/dead/{dead[0]['entry']}/retry")
    site.engine.drained()
    assert not site.dead(), site.dead()
    site.sent.append(stranger)
    rows = {kind: after[0] - before[kind][0] for kind, after in site.counts().items()}
    assert rows == {"Observation": 4, "Device": 2, "Provenance": 1}, rows
    return f"refused with 404, nothing of it stored; after the patient was made known, its retry added {rows}"


def ambiguous(site):
    """Two patients of one identifier: nobody may guess whose values these are."""
    site.server.patients(SYSTEM, ["TWIN", "TWIN"])
    before = site.counts()
    site.send([reports.report("TWIN", 901, 5000, reports.glucose(1), who="TWIN")])
    dead = site.dead()
    assert len(dead) == 1 and dead[0]["reason"].startswith("412"), dead
    assert site.counts() == before, "part of what was refused is stored"
    site.post(f"/api/dead/{dead[0]['entry']}/discard")
    return "refused with 412, nothing of it stored"


def corrected(site):
    """A correction and a withdrawal find the Observation they are of."""
    rows = reports.glucose(1)
    first = reports.report("FIRST", 3, 9000, rows)
    site.send([first])
    old = {one["id"]: one for one in site.server.all("Observation") if one["meta"]["source"].endswith("#FIRST")}
    changed = [(*rows[0][:3], "99", *rows[0][4:7], "C"), (*rows[1][:7], "W")]
    second = reports.report("SECOND", 3, 9000, changed)
    site.send([second])
    assert not site.dead(), site.dead()
    new = {one["id"]: one for one in site.server.all("Observation") if one["meta"]["source"].endswith("#SECOND")}
    assert new.keys() == old.keys(), f"{len(new)} instead of the {len(old)} before"
    assert all(one["meta"]["versionId"] == "2" for one in new.values()), new
    wanted = reading.expected(second)
    said = [(one["status"], one.get("valueQuantity", {}).get("value")) for one in new.values()]
    assert ("corrected", 99) in said and any(status == "entered-in-error" for status, _ in said), said
    site.sent += [second]
    return f"{len(wanted)} Observations changed in place, as version 2"


def stale(site):
    """The server itself refuses an update of a version that is no longer: what guards writes by If-Match stands on this."""
    one = site.server.all("Device")[0]
    one["deviceName"] = [{"name": "renamed", "type": "user-friendly-name"}]
    newer = site.server.ask("PUT", f"/Device/{one['id']}", one, **{"If-Match": f'W/"{one["meta"]["versionId"]}"'})
    older = site.server.ask("PUT", f"/Device/{one['id']}", one, **{"If-Match": f'W/"{one["meta"]["versionId"]}"'})
    assert (newer[0], older[0]) == (200, 412), (newer[0], older[0])
    site.send([site.sent[0].replace(b"|NEW-", b"|LATER-")])
    device = site.server.ask("GET", f"/Device/{one['id']}")[1]
    assert device["meta"]["versionId"] == newer[1]["meta"]["versionId"], "the engine wrote over another's change"
    assert device.get("deviceName"), "the engine took another's change away"
    return "412 for a stale version; what another system changed of a Device stays as it is"


def kills(site, messages, rounds):
    """Gateways send without pause while one side after the other is killed and started again."""
    before = len(site.server.all("Observation"))
    sent = reports.batch("KILL", messages, 4 * PEOPLE, start=20_000)
    gateways = [Gateway(site.address, sent[n::4]) for n in range(4)]
    for gateway in gateways:
        gateway.start()
    killed = Counter()
    for number, side in zip(range(rounds), itertools.cycle(("engine", "server"))):
        share = (number + 1) * messages // (rounds + 1)
        # The server is killed where it is amid storing what it got, the engine where gateways are amid sending.
        progress = partial(reached, site, gateways, side, share, before)
        wait(progress, f"{share} messages at the {side}")
        peer = getattr(site, side)
        peer.kill()
        peer.start()
        killed[side] += 1
    for gateway in gateways:
        gateway.join(600)
        assert not gateway.is_alive() and not gateway.fault, gateway.fault or "a gateway did not end"
    site.engine.drained(patience=900)
    assert not site.dead(), site.dead()[0]["reason"]
    resent = sum(gateway.resent for gateway in gateways)
    return sent, f"{messages} messages ({resent} sent again by their gateway), {dict(killed)} killed"


def reached(site, gateways, side, share, before):
    if side == "engine":
        return sum(gateway.acknowledged for gateway in gateways) >= share
    status, found, _ = site.server.ask("GET", "/Provenance?_summary=count")
    return status == 200 and found["total"] >= share


def wait(holds, what, patience=600):
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, f"not reached in {patience} s: {what}"
        time.sleep(0.01)


def killed_amid(site, messages, rounds):
    sent, told = kills(site, messages, rounds)
    site.sent = sent
    observations = site.compare(sent)
    return f"{told}: {observations} Observations, none missing, none twice, each as its message says"


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("engine")
    asked.add_argument("--messages", type=int, default=1000)
    asked.add_argument("--kills", type=int, default=6)
    given = asked.parse_args()
    suite = Suite()
    with tempfile.TemporaryDirectory(prefix="cannula-fhir-") as folder:
        everyday(suite, given.engine, folder)
        under_login(suite, given.engine, folder)
        under_kills(suite, given, folder)
    print(f"{suite.passed} passed, {suite.failed} failed")
    return 1 if suite.failed else 0


def everyday(suite, program, folder):
    with running(program, f"{folder}/everyday", PEOPLE) as site:
        for name, check in (
            ("create", created), ("repeat", repeated), ("rollback", rolled_back), ("several match", ambiguous),
            ("correction", corrected), ("stale version", stale),
        ):
            suite.check(name, partial(check, site))


def under_kills(suite, given, folder):
    with running(given.engine, f"{folder}/kills", 4 * PEOPLE) as site:
        suite.check("SIGKILL of either side", partial(killed_amid, site, given.messages, given.kills))
        suite.check("the comparison itself", lambda: comparison_checked(site, site.sent))


def comparison_checked(site, sent):
    """What the comparison must see, done to the server behind its back."""
    one = next(one for one in site.server.all("Observation") if "valueQuantity" in one)
    path, other = f"/Observation/{one['id']}", one | {"valueQuantity": one["valueQuantity"] | {"value": 1.25}}
    again = {name: value for name, value in one.items() if name != "id"}
    for planted, undone, seen in (
        (("PUT", path, other), ("PUT", path, one), "say something else"),
        (("POST", "/Observation", again), None, "1 twice"),
        (("DELETE", path, None), ("PUT", path, one), "1 missing"),
    ):
        answer = site.server.ask(*planted)
        assert answer[0] in (200, 201), answer
        try:
            site.compare(sent)
        except AssertionError as told:
            assert seen in str(told), f"{seen} was planted, and seen as {told}"
        else:
            raise AssertionError(f"not seen: {seen}")
        site.server.ask(*(undone or ("DELETE", f"/Observation/{answer[1]['id']}")))
    return "a changed value, a double and a gap are seen"


def logged_in(site):
    """Messages without haste, over several lives of a token: it is renewed before it ends, and shared by all lanes."""
    messages, begun = reports.batch("SMART", SMART_MESSAGES, PEOPLE), time.monotonic()
    for message in messages:
        site.send([message])
        time.sleep(SMART_SECONDS / SMART_MESSAGES)
    assert not site.dead(), site.dead()[0]["reason"]
    took, log = time.monotonic() - begun, site.server.log()
    tokens = log.count("POST /auth/token")
    # As many as lives of a token at least; each is renewed before it ends, so more, but not one a lane.
    assert took / TOKEN_SECONDS <= tokens <= 2 + 2 * took / TOKEN_SECONDS, f"{tokens} tokens in {took:.0f} s"
    assert '" 401' not in log, "a request was made without a token that holds"
    observations = site.compare(messages)
    return f"{observations} Observations in {took:.0f} s with {tokens} tokens of {TOKEN_SECONDS} s each, no request refused"


def under_login(suite, program, folder):
    with running(program, f"{folder}/smart", PEOPLE, smart=True) as site:
        suite.check("SMART Backend Services", partial(logged_in, site))


def public_keys(engine):
    """A private key for the engine, and what it says is to be registered."""
    folder = engine.folder.name
    made = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "key.pem"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True, timeout=60)
    asked = [str(Path(engine.program).absolute()), "jwks", "--channel", "lab", "--destination", "ehr"]
    return json.loads(subprocess.run(asked, cwd=folder, check=True, capture_output=True, timeout=60).stdout)


class running:
    """A started engine with one channel to a started server that knows its patients."""

    def __init__(self, program, folder, people, smart=False):
        self.engine = Engine(program)
        self.server = Sekmet(self.engine.host, folder)
        self.people, self.smart = people, smart

    def __enter__(self):
        try:
            told = {"host": self.engine.host, "url": self.server.base, "lanes": LANES, "system": SYSTEM}
            told["auth"] = AUTH if self.smart else ""
            self.engine.write("channels/lab.toml", CHANNEL.format(**told))
            self.engine.tables(Path("channels/tables"))
            if self.smart:
                self.server.wants_login(public_keys(self.engine), TOKEN_SECONDS)
            self.server.start()
            self.server.patients(SYSTEM, [reports.patient(n) for n in range(self.people)])
            self.engine.start()
        except BaseException:
            self.__exit__()
            raise
        return Site(self.engine, self.server)

    def __exit__(self, *_):
        self.engine.__exit__()
        self.server.stop()


if __name__ == "__main__":
    sys.exit(main())
