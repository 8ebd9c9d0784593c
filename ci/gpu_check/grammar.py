"""The grammar of a task's stream: `started`, tokens 0, 1, 2 …, one terminal event, nothing after it; ids `<epoch>.<n>` without
gap or repeat. Pure."""

import json


class Violation(Exception):
    """A rule that a stream broke."""


class StreamCheck:
    """A checker in the middle of a stream, and what the stream has said."""

    def __init__(self):
        self.started, self.terminal, self.outcome = None, None, None
        self.texts, self.times, self.resyncs = [], [], 0
        self.last_id = None
        self._epoch, self._next = 0, 0

    @property
    def text(self):
        return "".join(self.texts)

    def take_all(self, events):
        """Checks events; gives itself."""
        for event in events:
            self.take(event)
        return self

    def whole(self, events):
        """Checks the rest of a stream, which must have an end."""
        self.take_all(events)
        if self.terminal is None:
            raise Violation(f"the stream stopped after {len(self.texts)} tokens without `end` or `error`")
        return self

    def take(self, event):
        if self.terminal is not None:
            raise Violation(f"`{event.name}` came after the end")
        try:
            data = json.loads(event.data)
        except ValueError:
            raise Violation(f"the data of `{event.name}` is no JSON: {event.data[:200]}") from None
        if self._next == 0 and event.name != "started":
            raise Violation(f"the stream begins with `{event.name}` instead of `started`")
        takers = {"started": self._start, "token": self._token, "end": self._end, "error": self._end}
        takers.update({"metrics": self._aside, "narration": self._aside, "resync": self._resync})
        if event.name not in takers:
            raise Violation(f"`{event.name}` is no event of the contract")
        takers[event.name](event, data)

    def _start(self, event, data):
        if self._next:
            raise Violation("a second `started`")
        self._take_id(event, 1)
        self.started = data

    def _token(self, event, data):
        tokens = data.get("batch", [data])
        for token in tokens:
            if token.get("i") != len(self.texts):
                raise Violation(f"token {token.get('i')} came where token {len(self.texts)} was due")
            if not isinstance(token.get("t"), str):
                raise Violation(f"token {len(self.texts)} has no text")
            self.texts.append(token["t"])
            self.times.append(event.at)
        self._take_id(event, len(tokens))

    def _end(self, event, data):
        epoch, number = self._parse(event)
        # A cancel withholds tokens, whose numbers still count.
        if (epoch, number) < (self._epoch, self._next):
            raise Violation(f"the id {event.id} of `{event.name}` came before")
        self.last_id = event.id
        self.terminal = (event.name, data)
        self.outcome = data.get("finish_reason") if event.name == "end" else data.get("code")

    def _resync(self, _event, data):
        """After a crash: tokens from an index on are to be dropped."""
        self._epoch, kept = data["epoch"], data["from"]
        del self.texts[kept:], self.times[kept:]
        self._next = kept + 1
        self.resyncs += 1

    def _aside(self, event, _data):
        if event.id:
            raise Violation(f"`{event.name}` has an id")

    def _take_id(self, event, count):
        epoch, number = self._parse(event)
        if epoch < self._epoch or number != self._next + count - 1:
            raise Violation(f"the id {event.id} came where {self._epoch}.{self._next + count - 1} was due")
        self._epoch, self._next, self.last_id = epoch, number + 1, event.id

    def _parse(self, event):
        epoch, _, number = event.id.partition(".")
        if not (epoch.isdigit() and number.isdigit()):
            raise Violation(f"`{event.name}` has the id {event.id!r}, which is none")
        return int(epoch), int(number)
