"""The peers written in Python: `hl7` (blocking client, `mllp_send`, asyncio client and server) and `hl7apy` (server).

Faults of theirs that a test has to step around are named where it does.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from pathlib import Path

import hl7
import hl7.client
import hl7.mllp
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from messages import KINDS, control_id, segments

# The asyncio reader takes no block longer than asyncio's 64 KiB unless it is told so.
LIMIT = 8 << 20
# What an answer says: MSA-1, MSA-2, MSH-9, the version, and how many ERR segments it has.
Answer = namedtuple("Answer", "code control_id kind version errors")


def read_by_hl7(ack):
    """An ACK as `hl7` reads it."""
    parsed = hl7.parse(ack.decode() if isinstance(ack, bytes) else ack)
    msh, msa = parsed.segment("MSH"), parsed.segment("MSA")
    errors = sum(1 for segment in parsed if str(segment[0]) == "ERR")
    return Answer(str(msa[1]), str(msa[2]), str(msh[9]), str(msh[12]), errors)


def read_by_hl7apy(ack):
    """An ACK as `hl7apy` reads it after its strict validation against the grammar of the ACK's own version."""
    parsed = parse_message(ack.decode(), validation_level=VALIDATION_LEVEL.STRICT)
    parsed.validate()
    msh, msa = parsed.msh, parsed.msa
    errors = len(parsed.children.get("ERR") or [])
    return Answer(msa.msa_1.value, msa.msa_2.value, msh.msh_9.to_er7(), msh.msh_12.to_er7(), errors)


def unframed(answer):
    """The blocking client gives the answer with its frame, and only what one `recv` of 4,096 bytes brought: an ACK that
    came in two pieces would be cut. Ours are short and written at once, so a cut one here is our fault."""
    if not (answer.startswith(b"\x0b") and answer.endswith(b"\x1c\r")):
        raise AssertionError(f"the answer is not one whole frame: {answer!r}")
    return answer[1:-2]


def hl7_blocking(address, sent):
    with hl7.client.MLLPClient(*address) as client:
        return [read_by_hl7(unframed(client.send_message(message))) for message in sent]


def hl7_mllp_send(address, sent):
    """The command line program. It strips the CR after the last segment from each message it reads."""
    program = str(Path(sys.executable).with_name("mllp_send"))
    with tempfile.NamedTemporaryFile(suffix=".hl7") as file:
        file.write(b"".join(b"\x0b" + message + b"\x1c\r" for message in sent))
        file.flush()
        command = [program, "--file", file.name, "--port", str(address[1]), address[0]]
        printed = subprocess.run(command, capture_output=True, timeout=60, check=True, env=os.environ).stdout
    return [read_by_hl7(unframed(answer)) for answer in printed.split(b"\n") if answer]


def hl7_pipelined(address, sent):
    """All written before the first answer is read, by the asyncio client."""

    async def exchange():
        reader, writer = await hl7.mllp.open_hl7_connection(*address, limit=LIMIT, encoding="utf-8")
        for message in sent:
            writer.writeblock(message)
        await writer.drain()
        answers = [read_by_hl7(str(await reader.readmessage())) for _ in sent]
        writer.close()
        return answers

    return asyncio.run(asyncio.wait_for(exchange(), 60))


class Hl7Server:
    """The asyncio server of `hl7`: blocks as read, answered by the ACK that its own `create_ack` makes."""

    name = "python hl7"

    def __init__(self, host):
        self.arrived, self.twice, self.faults = [], 0, []
        self.ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(host)), daemon=True).start()
        if not self.ready.wait(60):
            raise AssertionError("the server of hl7 did not start")

    async def serve(self, host):
        server = await hl7.mllp.start_hl7_server(self.connected, host, 0, limit=LIMIT, encoding="utf-8")
        self.address = server.sockets[0].getsockname()
        self.ready.set()
        await server.serve_forever()

    async def connected(self, reader, writer):
        try:
            while True:
                block = await reader.readblock()
                self.arrived.append(block)
                writer.writemessage(hl7.parse(block.decode()).create_ack("AA"))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
        except Exception as fault:
            self.faults.append(repr(fault))
            writer.close()

    def stop(self):
        pass


class Hl7apyServer:
    """The server of `hl7apy`. It closes after each answer, so that every message needs a connection of its own, and it
    reads byte by byte into an immutable string, so that its time grows with the square of the length: 1 MiB takes it
    some minutes. It is therefore given a document of 96 KiB as its largest."""

    name = "hl7apy"

    def __init__(self, host):
        self.arrived, self.twice, self.faults = [], 0, []
        peer = self

        class Taken(AbstractHandler):
            def reply(self):
                peer.arrived.append(self.incoming_message.encode())
                parsed = parse_message(self.incoming_message)
                if parsed.msh.msh_10.value != control_id(peer.arrived[-1]):
                    peer.faults.append("hl7apy reads another MSH-10")
                kind = parsed.msh.msh_9.msh_9_2.value
                return (
                    f"\x0bMSH|^~\\&|APY||||20260105101113+0000||ACK^{kind}^ACK|A1|P|2.6\r"
                    f"MSA|AA|{parsed.msh.msh_10.value}\r\x1c\r"
                )

        self.server = MLLPServer(host, 0, {kind: (Taken,) for kind, _ in KINDS}, timeout=60)
        self.address = self.server.server_address
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def same(sent, arrived):
    """`bytes`, `segments` (only the last terminator differs), or None where the content differs."""
    if sent == arrived:
        return "bytes"
    return "segments" if [segments(m) for m in sent] == [segments(m) for m in arrived] else None
