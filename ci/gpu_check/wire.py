"""HTTP as a stranger speaks it: whole answers through the standard library, event streams over a socket of their own, because
it matters here when a byte came and who closes. Sends tokens in headers only."""

import http.client
import json
import select
import socket
import time
import urllib.parse
from typing import NamedTuple

SECONDS = 30.0
LONGEST_HEAD = 64 << 10
PIECE = 256 << 10


class WireError(Exception):
    """Nobody answers, not in time, or not in HTTP."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise WireError(f"{self.status} without JSON: {self.body[:300]!r}") from None


class Event(NamedTuple):
    """An event of a stream; `at` is when its last byte was read, by the monotonic clock."""

    name: str
    id: str
    data: str
    at: float


class Server:
    """A place that is asked, and the token that it wants."""

    def __init__(self, url, token=None):
        self.url, self._token = url.rstrip("/"), token
        place = urllib.parse.urlsplit(self.url)
        self.host, self.port = place.hostname, place.port

    def call(self, method, path, body=None, seconds=SECONDS):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, self._headers(data is not None))
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise WireError(f"{method} {self.url}{path}: {error or type(error).__name__}") from None
        finally:
            connection.close()

    def get(self, path):
        """The JSON of an answer that must be 200."""
        answer = self.call("GET", path)
        if answer.status != 200:
            raise WireError(f"GET {path}: {answer.status} {answer.body[:500].decode(errors='replace')}")
        return answer.json()

    def stream(self, path, body=None, last_id=None, seconds=SECONDS):
        """Opens an event stream: a GET, or a POST where there is a body."""
        headers = self._headers(body is not None)
        headers.update({"Host": f"{self.host}:{self.port}", "Accept": "text/event-stream"})
        if last_id:
            headers["Last-Event-ID"] = last_id
        data = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers["Content-Length"] = str(len(data))
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            link = socket.create_connection((self.host, self.port), timeout=seconds)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        except OSError as error:
            raise WireError(f"{self.url}{path}: {error}") from None
        return Stream(link, path, seconds)

    def _headers(self, has_body):
        headers = {"Content-Type": "application/json"} if has_body else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


class Stream:
    """An open event stream."""

    def __init__(self, link, path, seconds):
        self._link, self._path, self._seconds = link, path, seconds
        self._raw, self._text, self._events = bytearray(), bytearray(), []
        self._chunk_left, self._ended, self._chunked = 0, False, False
        self._open()

    def __iter__(self):
        while True:
            event = self.next()
            if event is None:
                return
            yield event

    def next(self):
        """The next event; None when the stream has ended."""
        while not self._events:
            if self._ended or not self._read():
                return None
        return self._events.pop(0)

    def rest(self):
        """All further events."""
        return list(self)

    def arrived(self):
        """Events that have arrived, without waiting for more."""
        while not self._ended and select.select([self._link], [], [], 0)[0]:
            if not self._read():
                break
        events, self._events = self._events, []
        return events

    def close(self):
        self._link.close()

    def _open(self):
        while b"\r\n\r\n" not in self._raw:
            if not self._receive() or len(self._raw) > LONGEST_HEAD:
                self.close()
                raise WireError(f"{self._path}: no answer's head, but {bytes(self._raw[:300])!r}")
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        self._raw = bytearray(rest)
        lines = head.decode("latin-1").lower().split("\r\n")
        status = lines[0].split(" ")[1]
        self._chunked = any(line.startswith("transfer-encoding:") and "chunked" in line for line in lines)
        if status != "200" or not any(line.startswith("content-type: text/event-stream") for line in lines):
            self._link.close()
            raise WireError(f"{self._path}: {status} instead of an event stream: {rest[:500].decode(errors='replace')}")
        self._take()

    def _read(self):
        if not self._receive():
            self._ended = True
            self.close()
            return False
        self._take()
        return True

    def _receive(self):
        self._link.settimeout(self._seconds)
        try:
            piece = self._link.recv(PIECE)
        except socket.timeout:
            raise WireError(f"{self._path}: nothing for {self._seconds:g} s") from None
        except OSError:
            return False
        self._raw += piece
        return bool(piece)

    def _take(self):
        """Moves what has come through the chunks into events."""
        at = time.monotonic()
        if self._chunked:
            while self._take_chunk():
                pass
            if self._ended:
                self.close()
        else:
            self._text += self._raw
            self._raw.clear()
        *whole, rest = bytes(self._text).split(b"\n\n")
        self._text = bytearray(rest)
        self._events += [event for event in (_event(block, at) for block in whole) if event]

    def _take_chunk(self):
        """One piece of a chunk; whether there may be more."""
        if self._chunk_left:
            piece = self._raw[: self._chunk_left]
            # The last two bytes of a chunk are its line end.
            text = max(0, min(len(piece), self._chunk_left - 2))
            self._text += piece[:text]
            del self._raw[: len(piece)]
            self._chunk_left -= len(piece)
            return bool(piece)
        line, found, _ = bytes(self._raw[:100]).partition(b"\r\n")
        if not found:
            return False
        del self._raw[: len(line) + 2]
        size = int(line.split(b";")[0], 16)
        if size == 0:
            self._ended = True
            return False
        self._chunk_left = size + 2
        return True


def _event(block, at):
    """An event of a block of lines; None for a comment."""
    fields = {}
    for line in block.decode("utf-8", errors="replace").split("\n"):
        name, _, value = line.partition(":")
        if name:
            value = value[1:] if value.startswith(" ") else value
            fields[name] = fields[name] + "\n" + value if name == "data" and name in fields else value
    if "data" not in fields:
        return None
    return Event(fields.get("event", ""), fields.get("id", ""), fields["data"], at)
