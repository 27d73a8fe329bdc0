"""The peers written for Node.js, each in a process of its own: see node_client.mjs and node_server.mjs."""

import base64
import json
import subprocess
import threading
from pathlib import Path

from python_peers import Answer

HERE = Path(__file__).parent


def client(folder, library, address, sent, pipelined=False):
    """Lets a library send; gives its answers, what it put on the wire, and the faults that it reported."""
    order = {
        "library": library,
        "host": address[0],
        "port": address[1],
        "pipelined": pipelined,
        "messages": [base64.b64encode(message).decode() for message in sent],
    }
    command = ["node", str(HERE / "node_client.mjs"), folder]
    done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, timeout=90)
    if done.returncode:
        raise AssertionError(f"{library} failed: {done.stderr.decode(errors='replace')[-1500:]}")
    result = json.loads(done.stdout)
    answers = [Answer(**answer) for answer in result["answers"]]
    return answers, [base64.b64decode(message) for message in result["sent"]], result.get("faults", [])


class NodeServer:
    """A library's server; `arrived` has each message once, `twice` counts those it gave out again."""

    def __init__(self, folder, library):
        self.name = library
        self.arrived, self.twice, self.faults, self.seen = [], 0, [], set()
        self.child = subprocess.Popen(
            ["node", str(HERE / "node_server.mjs"), folder, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        first = json.loads(self.child.stdout.readline())
        self.address = ("127.0.0.1", first["port"])
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            told = json.loads(line)
            if "fault" in told:
                self.faults.append(told["fault"])
                continue
            message = base64.b64decode(told["message"])
            if message in self.seen:
                self.twice += 1
            else:
                self.seen.add(message)
                self.arrived.append(message)

    def stop(self):
        self.child.stdin.close()
        self.child.wait(60)
