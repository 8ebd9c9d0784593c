"""Event streams over a real socket, in the pieces in which they may come."""

import socket
import threading
import unittest

from gpu_check.wire import Server, WireError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b'id: 0.0\nevent: started\ndata: {"a":1}\n\n: comment\n\nevent: token\ndata: "\xc3\xa9"\n\n'


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Once:
    """A server that answers one request with these pieces, and keeps what it was asked."""

    def __init__(self, pieces, stays_open=False):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked, self._pieces, self.over = b"", pieces, threading.Event()
        if not stays_open:
            self.over.set()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.server = Server(f"http://127.0.0.1:{self._listener.getsockname()[1]}", "secret")

    def _serve(self):
        link, _ = self._listener.accept()
        with link:
            while b"\r\n\r\n" not in self.asked:
                self.asked += link.recv(4096)
            for piece in self._pieces:
                link.sendall(piece)
            self.over.wait()

    def close(self):
        self.over.set()
        self._thread.join()
        self._listener.close()


class Streams(unittest.TestCase):
    def serve(self, pieces, **more):
        once = Once(pieces, **more)
        self.addCleanup(once.close)
        return once

    def test_events_come_whole_however_they_are_cut(self):
        whole = HEAD + chunk(EVENTS[:11]) + chunk(EVENTS[11:]) + b"0\r\n\r\n"
        for size in (1, 7, 1000):
            once = self.serve([whole[at : at + size] for at in range(0, len(whole), size)])
            events = once.server.stream("/x", last_id="0.4").rest()
            self.assertEqual([(e.name, e.id, e.data) for e in events], [("started", "0.0", '{"a":1}'), ("token", "", '"é"')])
            self.assertIn(b"authorization: bearer secret", once.asked.lower())
            self.assertIn(b"Last-Event-ID: 0.4", once.asked)

    def test_what_has_arrived_is_given_without_waiting(self):
        once = self.serve([HEAD, chunk(EVENTS)], stays_open=True)
        stream = once.server.stream("/x")
        events = []
        while len(events) < 2:
            events += stream.arrived()
        self.assertEqual(stream.arrived(), [], "the server says nothing more and keeps the connection")
        once.over.set()
        self.assertIsNone(stream.next())

    def test_another_status_is_an_error_with_its_body(self):
        once = self.serve([b'HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n{"code":"NOT_FOUND"}'])
        with self.assertRaisesRegex(WireError, "404.*NOT_FOUND"):
            once.server.stream("/x")

    def test_nobody_there_is_an_error(self):
        once = self.serve([HEAD + b"0\r\n\r\n"])
        self.assertEqual(once.server.stream("/x").rest(), [])
        once.close()
        with self.assertRaises(WireError):
            once.server.get("/x")
