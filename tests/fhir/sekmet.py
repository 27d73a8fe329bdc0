"""A FHIR R4 server that nobody here wrote (PyPI sekmet-fhir), on loopback, with its files in a folder of its own."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PATIENCE = 60
PAGE = 1000


class Sekmet:
    def __init__(self, host, folder, port=8090):
        self.folder, self.base = Path(folder), f"http://{host}:{port}/fhir"
        self.folder.mkdir()
        self.settings = {
            "base_url": self.base, "host": host, "port": port, "log_inbound": False, "simulator": {"enabled": False},
        }
        self.child, self.token = None, None

    def wants_login(self, jwks, token_seconds):
        """SMART Backend Services for the engine, whose public keys these are; the test itself has a token that stays."""
        self.token = "of-the-test"
        client = {"client_id": "cannula", "jwks": jwks, "scopes": "system/*.cruds"}
        self.settings["server_auth"] = {
            "types": ["smart", "bearer"], "tokens": [self.token], "smart_clients": [client], "token_lifetime": token_seconds,
        }

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def start(self):
        # JSON is YAML.
        (self.folder / "settings.yaml").write_text(json.dumps(self.settings))
        log = open(self.folder / "log", "ab")
        program = [str(Path(sys.executable).parent / "sekmet"), "serve", "--config", "settings.yaml"]
        quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        self.child = subprocess.Popen(program, cwd=self.folder, stdout=log, stderr=log, env=quiet)
        until = time.monotonic() + PATIENCE
        while self.status("/metadata") != 200:
            if self.child.poll() is not None or time.monotonic() > until:
                raise AssertionError("the FHIR server does not start:\n" + self.log()[-2000:])
            time.sleep(0.05)

    def kill(self):
        self.child.kill()
        self.child.wait(PATIENCE)

    def ask(self, method, path, body=None, **headers):
        """(status, body as JSON, headers)"""
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json", **headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read() or b"null"), answer.headers
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or b"null"), refusal.headers

    def status(self, path):
        try:
            return self.ask("GET", path)[0]
        except OSError:
            return None

    def patients(self, system, values):
        for start in range(0, len(values), PAGE):
            entries = [
                {"resource": {"resourceType": "Patient", "identifier": [{"system": system, "value": value}]},
                 "request": {"method": "POST", "url": "Patient"}}
                for value in values[start : start + PAGE]
            ]
            status, body, _ = self.ask("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
            assert status == 200, body

    def all(self, kind, **asked):
        """Every resource of the type, page by page."""
        found, page = [], f"/{kind}?" + urllib.parse.urlencode({"_count": PAGE, **asked})
        while page:
            status, bundle, _ = self.ask("GET", page)
            assert status == 200, bundle
            found += [entry["resource"] for entry in bundle.get("entry", []) if entry["resource"]["resourceType"] == kind]
            following = [link["url"] for link in bundle.get("link", []) if link["relation"] == "next"]
            page = following[0].removeprefix(self.base) if following else None
        assert len(found) == bundle["total"], f"{len(found)} of {bundle['total']} {kind} read"
        return found

    def stop(self):
        if self.child and self.child.poll() is None:
            self.kill()
