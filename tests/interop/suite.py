"""Foreign MLLP clients send to the engine and judge its ACKs; foreign MLLP servers get what it delivers. Whatever a
client was told is accepted must come out at the other end unchanged, and in order.
"""

import sys
import time
from functools import partial

import node_peers
import python_peers
from checks import Suite
from engine import Engine
from messages import KINDS, batch, control_id
from wire import Sink, send_pipelined

COUNT, PIPELINED, LARGE_AT, LARGE = 120, 50, 60, 1 << 20


def accepted(sent, answers):
    """Every message has its own positive accept ACK, in order, as IHE PCD wants it."""
    expected = []
    for message in sent:
        kind = message.split(b"|", 9)[8].decode().split("^")[1]
        expected.append(python_peers.Answer("CA", control_id(message), f"ACK^{kind}^ACK", "2.6", 0))
    wrong = [(want, got) for want, got in zip(expected, answers) if want != got]
    assert len(answers) == len(sent), f"{len(answers)} answers to {len(sent)} messages"
    assert not wrong, f"{len(wrong)} wrong answers; wanted and got {wrong[0]}"


def came_through(sent, arrived):
    how = python_peers.same(sent, arrived)
    first = next((n for n, (a, b) in enumerate(zip(sent, arrived)) if a.rstrip(b"\r") != b.rstrip(b"\r")), None)
    assert how, f"{len(arrived)} of {len(sent)} arrived; the first that differs is number {first}"
    return {"bytes": "byte for byte", "segments": "segment for segment"}[how]


def python_client(engine, sink, name, exchange, count, **large):
    sent = batch(name, count, **large)
    accepted(sent, exchange(engine.listeners["clients"], sent))
    return f"{count} messages accepted and delivered {came_through(sent, sink.take(count))}"


def node_client(engine, sink, folder, library, name, pipelined, count, **large):
    given = batch(name, count, **large)
    answers, sent, faults = node_peers.client(folder, library, engine.listeners["clients"], given, pipelined)
    arrived = sink.take(count)
    how = came_through(sent, arrived)
    assert python_peers.same(given, sent), "the client itself changed the content"
    note = "" if sent == given else "; the client itself took the last CR away"
    if library == "medplum" and pipelined:
        # Every message is stored and delivered, and each ACK is on the wire; its reader keeps one ACK of each read.
        known = {control_id(message) for message in sent}
        assert answers and all(answer.code == "CA" and answer.control_id in known for answer in answers), answers
        note += f"; peer is wrong: it took notice of {len(answers)} of {count} ACKs, as it keeps one of each read"
    else:
        accepted(sent, answers)
        assert not faults, faults
    return f"{count} messages accepted and delivered {how}{note}"


def acks_by_grammar(engine, sink):
    """A good message of each kind and a bad one, so that ACKs with and without ERR are judged by a strict grammar."""
    sent = batch("GRAMMAR", len(KINDS))
    answers = [python_peers.read_by_hl7apy(ack) for ack in send_pipelined(engine.listeners["clients"], sent)]
    accepted(sent, answers)
    sink.take(len(sent))
    bad = batch("BAD", 1)[0].replace(b"|P|2.6|", b"|X|2.6|")
    answer = python_peers.read_by_hl7apy(send_pipelined(engine.listeners["clients"], [bad])[0])
    assert answer == python_peers.Answer("CR", "BAD-0000", "ACK^R01^ACK", "2.6", 1), answer
    return "3 accepting and 1 refusing ACK valid in HL7 2.6, by hl7apy in strict mode"


def server(engine, peer, large_bytes):
    sent = batch(f"TO-{peer.name.replace(' ', '-')}", COUNT, large_at=COUNT - 1, large_bytes=large_bytes)
    accepted(sent, [python_peers.read_by_hl7(ack) for ack in send_pipelined(engine.listeners[channel_of(peer)], sent)])
    engine.drained()
    until = time.monotonic() + 60
    while len(peer.arrived) < len(sent) and time.monotonic() < until:
        time.sleep(0.02)
    how = came_through(sent, peer.arrived)
    note = ""
    if peer.name == "node-hl7-server":
        # It never empties its buffer: with each message on a connection it handles and answers all earlier ones again.
        # The engine must then not take an answer to an earlier message for the one it waits for.
        assert peer.twice, "node-hl7-server no longer gives messages out again: say so in its entry in `peers`"
        note = f"; peer is wrong: it gave earlier ones out again {peer.twice} times, and answered each time"
    else:
        assert not peer.twice, f"{peer.twice} messages were delivered twice"
    assert not peer.faults, peer.faults
    return f"{COUNT} messages (largest {large_bytes >> 10} KiB) delivered {how}{note}"


def channel_of(peer):
    return f"to-{peer.name.replace(' ', '-')}"


def nothing_lost(engine):
    engine.drained()
    dead = sum(destination["dead"] for destination in destinations(engine))
    assert dead == 0, f"{dead} dead letters"
    return "nothing waits, no dead letters"


def destinations(engine):
    return [destination for channel in engine.json("/api/channels")["items"] for destination in channel["destinations"]]


def main(program, folder):
    suite = Suite()
    with Engine(program) as engine:
        sink = Sink(engine.host)
        peers = [
            python_peers.Hl7Server(engine.host),
            python_peers.Hl7apyServer(engine.host),
            node_peers.NodeServer(folder, "node-hl7-server"),
            node_peers.NodeServer(folder, "medplum"),
        ]
        engine.channel("clients", sink.address)
        for peer in peers:
            engine.channel(channel_of(peer), peer.address)
        engine.start()
        whole = {"count": COUNT, "large_at": LARGE_AT, "large_bytes": LARGE}
        for name, exchange, load in (
            ("hl7.client", python_peers.hl7_blocking, whole),
            ("mllp_send", python_peers.hl7_mllp_send, {"count": COUNT}),
            ("hl7.mllp", python_peers.hl7_pipelined, whole),
        ):
            test = partial(python_client, engine, sink, name, exchange, **load)
            suite.check(f"{name} sends" + (" pipelined" if name == "hl7.mllp" else ""), test)
        for library in ("node-hl7-client", "medplum"):
            test = partial(node_client, engine, sink, folder, library, library, False, **whole)
            suite.check(f"{library} sends", test)
            test = partial(node_client, engine, sink, folder, library, f"{library}-piped", True, PIPELINED)
            suite.check(f"{library} sends pipelined", test)
        suite.check("ACKs by grammar", partial(acks_by_grammar, engine, sink))
        for peer in peers:
            large = 96 << 10 if peer.name == "hl7apy" else LARGE
            suite.check(f"{peer.name} receives", partial(server, engine, peer, large))
        suite.check("the engine's own account", partial(nothing_lost, engine))
        for peer in peers:
            peer.stop()
    print(f"{suite.passed} passed, {suite.failed} failed")
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
