"""The stream's grammar: each rule is broken once."""

import json
import unittest

from gpu_check.grammar import StreamCheck, Violation
from gpu_check.wire import Event


def event(name, number=None, data=None, epoch=0):
    identity = "" if number is None else f"{epoch}.{number}"
    return Event(name, identity, json.dumps({} if data is None else data), 0.0)


def token(index, epoch=0):
    return event("token", index + 1, {"t": f"w{index} ", "i": index}, epoch)


STARTED = event("started", 0)
END = event("end", 3, {"finish_reason": "length"})


class Grammar(unittest.TestCase):
    def test_a_whole_stream_is_read(self):
        check = StreamCheck().whole([STARTED, event("metrics"), token(0), event("narration"), token(1), END])
        self.assertEqual((check.text, check.outcome, check.last_id), ("w0 w1 ", "length", "0.3"))

    def test_tokens_that_a_cancel_withholds_still_count(self):
        check = StreamCheck().whole([STARTED, token(0), event("end", 9, {"finish_reason": "canceled"})])
        self.assertEqual(check.outcome, "canceled")

    def test_a_stream_resumed_after_a_crash_goes_on_in_the_next_epoch(self):
        check = StreamCheck().take_all([STARTED, token(0), token(1)])
        resync = event("resync", None, {"epoch": 1, "from": 1})
        check.whole([resync, token(1, epoch=1), event("end", 3, {"finish_reason": "stop"}, epoch=1)])
        self.assertEqual((check.text, check.resyncs), ("w0 w1 ", 1))

    def test_a_batch_counts_as_its_tokens(self):
        batch = event("token", 2, {"batch": [{"t": "a", "i": 0}, {"t": "b", "i": 1}]})
        self.assertEqual(StreamCheck().whole([STARTED, batch, END]).text, "ab")

    def test_every_broken_rule_is_told(self):
        broken = {
            "begins with": [token(0)],
            "second `started`": [STARTED, STARTED],
            "where token 0 was due": [STARTED, token(1)],
            "where token 1 was due": [STARTED, token(0), token(0)],
            "was due": [STARTED, event("token", 7, {"t": "a", "i": 0})],
            "no text": [STARTED, event("token", 1, {"i": 0})],
            "after the end": [STARTED, token(0), token(1), END, event("metrics")],
            "no event of the contract": [STARTED, event("surprise")],
            "has an id": [STARTED, event("metrics", 1)],
            "no JSON": [STARTED, Event("token", "0.1", "{", 0.0)],
            "which is none": [STARTED, Event("token", "x", '{"t": "a", "i": 0}', 0.0)],
            "came before": [STARTED, token(0), token(1), event("end", 1)],
            "without `end` or `error`": [STARTED, token(0)],
        }
        for words, events in broken.items():
            with self.subTest(words), self.assertRaisesRegex(Violation, words):
                StreamCheck().whole(events)
