"""Generated models: the file's own table is held against what is said of it."""

import os
import struct
import tempfile
import unittest

from gpu_check import gguf

SMALL = gguf.Shape(width=64, layers=2, heads=2, heads_kv=1, feed_forward=96, ctx=512)
SIZES = {gguf.TENSOR_F32: 4, gguf.TENSOR_F16: 2}


class Reader:
    """A second reading of the format, from its description."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values if len(values) > 1 else values[0]

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind):
        if kind == gguf.TEXT:
            return self.text()
        if kind == gguf.ARRAY:
            inner, count = self.take("IQ")
            return [self.value(inner) for _ in range(count)]
        return self.take({gguf.U32: "I", gguf.I32: "i", gguf.F32: "f", gguf.BOOL: "?"}[kind])

    def header(self):
        magic, version, tensors, entries = self.take("4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        metadata = {self.text(): self.value(self.take("I")) for _ in range(entries)}
        return metadata, [self._tensor() for _ in range(tensors)]

    def _tensor(self):
        name, dimensions = self.text(), []
        for _ in range(self.take("I")):
            dimensions.append(self.take("Q"))
        return name, dimensions, *self.take("IQ")


def written(shape, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        weights = gguf.write_model(path, "m", shape, seed)
        with open(path, "rb") as file:
            return file.read(), weights


class Models(unittest.TestCase):
    def test_the_table_covers_the_file_without_gap(self):
        data, weights = written(SMALL, 1)
        reader = Reader(data)
        metadata, tensors = reader.header()
        start, offset, offloaded = -(-reader.at // 32) * 32, 0, 0
        for name, dimensions, kind, at in tensors:
            self.assertEqual(at, offset, name)
            elements = 1
            for length in dimensions:
                elements *= length
            size = -(-elements * SIZES[kind] // 32) * 32
            offset += size
            offloaded += 0 if name == "token_embd.weight" else size
        self.assertEqual((start + offset, offloaded), (len(data), weights))
        self.assertEqual(metadata["llama.block_count"], SMALL.layers)
        words = metadata["llama.vocab_size"]
        self.assertEqual([len(metadata[f"tokenizer.ggml.{key}"]) for key in ("tokens", "scores", "token_type")], [words] * 3)

    def test_the_weights_are_numbers_and_the_unlikely_words_have_none(self):
        data, _ = written(SMALL, 1)
        reader = Reader(data)
        _, tensors = reader.header()
        start = -(-reader.at // 32) * 32
        name, (columns, rows), _, at = next(tensor for tensor in tensors if tensor[0] == "output.weight")
        values = struct.unpack_from(f"<{columns * rows}e", data, start + at)
        zeros = columns * gguf.UNLIKELY
        self.assertTrue(all(value == 0 for value in values[:zeros]), name)
        self.assertTrue(all(0.1 < abs(value) < 1 for value in values[zeros:]), name)
        self.assertTrue(any(value < 0 for value in values[zeros:]) and any(value > 0 for value in values[zeros:]))

    def test_the_seed_makes_the_model(self):
        self.assertEqual(written(SMALL, 1), written(SMALL, 1))
        self.assertNotEqual(written(SMALL, 1), written(SMALL, 2))

    def test_a_size_is_nearly_met(self):
        for mebibytes in (8, 24, 100, 512, 1024, 8192):
            shape = gguf.shape_of(mebibytes, 4096)
            size = shape.layers * gguf._layer_bytes(shape) / (1 << 20)
            self.assertTrue(0.7 * mebibytes <= size <= mebibytes, (mebibytes, size, shape))
            self.assertEqual(shape.width % shape.heads + shape.heads % shape.heads_kv, 0)
