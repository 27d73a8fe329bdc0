"""The built engine in a folder and on a loopback address of its own."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

PATIENCE = 60


class Engine:
    """Channels are added, then it is started; leaving the `with` block ends it."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.TemporaryDirectory(prefix="cannula-interop-")
        # An address by the process number: its fixed ports are then nobody else's.
        number = os.getpid()
        self.host = f"127.{64 + (number >> 16) % 64}.{number >> 8 & 255}.{number & 255 or 1}"
        self.listeners = {}
        (Path(self.folder.name) / "channels" / "tables").mkdir(parents=True)
        self.write("cannula.toml", f'[store]\npath = "store"\n[admin]\nlisten = "{self.host}:8575"\n')
        self.child = None

    def write(self, name, text):
        (Path(self.folder.name) / name).write_text(text)

    def channel(self, name, destination):
        """A channel that takes everything at a port of its own and gives it on as it came."""
        self.listeners[name] = (self.host, 2575 + len(self.listeners))
        host, port = self.listeners[name]
        peer = f"{destination[0]}:{destination[1]}"
        self.write(
            f"channels/{name}.toml",
            f'[listener]\naddress = "{host}:{port}"\n'
            f'[[destination]]\nname = "peer"\ntype = "mllp"\naddress = "{peer}"\ntimeout = "10s"\n',
        )

    def kill(self):
        """As power would be taken from the process: nothing is flushed or said."""
        self.child.kill()
        self.child.wait(PATIENCE)

    def start(self):
        log = open(Path(self.folder.name) / "log", "ab")
        self.child = subprocess.Popen([self.program, "run"], cwd=self.folder.name, stdout=log, stderr=log)
        self.wait("ready", lambda: self.status("/health/ready") == 200)

    def wait(self, what, holds, patience=PATIENCE):
        until = time.monotonic() + patience
        while not holds():
            if self.child.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the engine is not {what}:\n{self.log()}")
            time.sleep(0.02)

    def status(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.host}:8575{path}", timeout=PATIENCE) as answer:
                return answer.status
        except OSError as fault:
            return getattr(fault, "code", None)

    def json(self, path, body=None):
        """What the admin API answers; with a body it is asked to do something."""
        asked = {} if body is None else {"data": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}
        request = urllib.request.Request(f"http://{self.host}:8575{path}", **asked)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    def drained(self, patience=PATIENCE):
        """Waits until nothing waits for delivery."""
        self.wait("drained", lambda: self.json("/api/store")["waiting"] == 0, patience)

    def tables(self, folder):
        """The code tables of that folder instead of none."""
        own = Path(self.folder.name) / "channels" / "tables"
        own.rmdir()
        own.symlink_to(folder.absolute())

    def log(self):
        return (Path(self.folder.name) / "log").read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child:
            self.child.terminate()
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.folder.cleanup()
