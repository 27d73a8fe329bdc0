"""A plain MLLP sender and receiver of our own: they stand where the foreign peer does not, and know the very bytes."""

import queue
import socket
import threading

from messages import control_id, segments

VT, END = b"\x0b", b"\x1c\r"
PATIENCE = 60


def frames(stream):
    """The content of each frame that comes, until the peer closes."""
    buffer = bytearray()
    while True:
        end = buffer.find(END)
        if end < 0:
            piece = stream.recv(1 << 16)
            if not piece:
                return
            buffer += piece
            continue
        frame = bytes(buffer[:end])
        del buffer[: end + len(END)]
        if not frame.startswith(VT):
            raise AssertionError("a frame does not begin with VT")
        yield frame[1:]


def send_pipelined(address, sent, window=20):
    """Sends all, at most `window` unanswered; gives the answers in the order they came."""
    answers = []
    with socket.create_connection(address, timeout=PATIENCE) as stream:
        incoming = frames(stream)
        for number, message in enumerate(sent):
            stream.sendall(VT + message + END)
            if number >= window:
                answers.append(next(incoming))
        while len(answers) < len(sent):
            answers.append(next(incoming))
    return answers


class Sink:
    """Receives on a port of its own, answers each message with CA, and keeps what came, in order."""

    def __init__(self, host):
        self.listener = socket.create_server((host, 0))
        self.address = self.listener.getsockname()
        self.arrived = queue.SimpleQueue()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        with stream:
            for message in frames(stream):
                self.arrived.put(message)
                kind = segments(message)[0].split(b"|")[8].split(b"^")[1].decode()
                name = control_id(message)
                ack = f"MSH|^~\\&|SINK||||20260105101113+0000||ACK^{kind}^ACK|A-{name}|P|2.6\rMSA|CA|{name}\r"
                stream.sendall(VT + ack.encode() + END)

    def take(self, count):
        """The next `count` messages."""
        return [self.arrived.get(timeout=PATIENCE) for _ in range(count)]
