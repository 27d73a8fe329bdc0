"""A gateway that does not let go of a message before it is acknowledged: it sends again over a new connection, under the
same control id, until it is.
"""

import socket
import threading
import time

from reports import control_id
from wire import END, VT, frames

PATIENCE, PAUSE = 20, 0.05


class Gateway(threading.Thread):
    def __init__(self, address, messages):
        super().__init__(daemon=True)
        self.address, self.messages = address, messages
        self.acknowledged = self.resent = 0
        self.fault = None

    def run(self):
        try:
            while self.acknowledged < len(self.messages):
                try:
                    self.converse()
                except OSError:
                    time.sleep(PAUSE)
        except Exception as fault:
            self.fault = f"{type(fault).__name__}: {fault}"

    def converse(self):
        """Sends from the first that is not acknowledged, until the connection ends."""
        with socket.create_connection(self.address, timeout=PATIENCE) as stream:
            answers = frames(stream)
            for message in self.messages[self.acknowledged :]:
                stream.sendall(VT + message + END)
                answer = next(answers, None)
                if answer is None:
                    self.resent += 1
                    raise ConnectionError
                assert f"\rMSA|CA|{control_id(message)}".encode() in answer, answer
                self.acknowledged += 1
