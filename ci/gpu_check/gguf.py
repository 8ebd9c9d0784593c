"""Writes a model file that llama.cpp loads: llama architecture, random weights in half precision, a small vocabulary.

What such a model says is noise; that it lies on a GPU and computes there is not. The weights are cut from a few MiB of
noise while they are written, so a file of any size costs little memory and time. The format is GGUF version 3: metadata,
tensor table, aligned data.
"""

import os
import random
import struct
from typing import NamedTuple

ALIGNMENT = 32
POOL = 4 << 20

U32, I32, F32, BOOL, TEXT, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_F16 = 0, 1
FILE_TYPE_MOSTLY_F16 = 1

KIND_NORMAL, KIND_UNKNOWN, KIND_CONTROL, KIND_BYTE = 1, 2, 3, 6

SPACE = "\u2581"
WORDS = (
    "a and are as at be but by for from has have he her his i in is it not of on or she that the they this to was we "
    "were which with you your hello world moon river stone tree night light water slot queue pool gpu token stream"
).split()
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

# Special tokens and bytes come first in the vocabulary. Their rows of the output layer are zero, so they are never among the
# likely ones: no output ends before its limit, and every token is a whole word.
UNLIKELY = 3 + 256


class Shape(NamedTuple):
    """Sizes of a model."""

    width: int
    layers: int
    heads: int
    heads_kv: int
    feed_forward: int
    ctx: int

    @property
    def kv_width(self):
        return self.width // self.heads * self.heads_kv


def shape_of(mebibytes, ctx):
    """The shape whose weights take about so many MiB: as wide as leaves at least four layers."""
    wanted = mebibytes << 20
    for width in (2048, 1024, 512, 256):
        shape = _shape(width, 1, ctx)
        layers = wanted // _layer_bytes(shape)
        if layers >= 4 or width == 256:
            return shape._replace(layers=max(1, layers))
    raise AssertionError("the narrowest shape always fits")


def _shape(width, layers, ctx):
    heads = width // (128 if width >= 1024 else 64)
    return Shape(width, layers, heads, max(1, heads // 4), width * 11 // 4, ctx)


def _layer_bytes(shape):
    width, kv, wide = shape.width, shape.kv_width, shape.feed_forward
    return 2 * (2 * width * width + 2 * width * kv + 3 * width * wide)


def write_model(path, name, shape, seed):
    """Writes the file and gives what of it a fully offloaded model has on its GPUs at least, bytes."""
    tensors = _tensors(shape)
    temporary = path + ".new"
    with open(temporary, "wb") as out:
        out.write(_head(name, shape, tensors))
        source = NoiseSource(seed)
        for tensor in tensors:
            tensor.write(out, source)
    os.replace(temporary, path)
    return sum(tensor.padded() for tensor in tensors if tensor.name != "token_embd.weight")


class NoiseSource:
    """Half-precision noise: pieces of a pool, from random places of it."""

    def __init__(self, seed):
        self._random, self._pools = random.Random(seed), {}

    def take(self, length, exponent):
        """At most so many bytes: random signs and fractions under one exponent, so never infinite and never not a number."""
        if exponent not in self._pools:
            self._pools[exponent] = self._pool(exponent)
        start = 2 * self._random.randrange(POOL // 4)
        return self._pools[exponent][start : start + length]

    def _pool(self, exponent):
        count = POOL // 2
        keep = int.from_bytes(struct.pack("<H", 0x83FF) * count, "little")
        fixed = int.from_bytes(struct.pack("<H", exponent << 10) * count, "little")
        return (self._random.getrandbits(8 * POOL) & keep | fixed).to_bytes(POOL, "little")


class Ones:
    """A vector of ones, in single precision as norms are."""

    kind = TENSOR_F32

    def __init__(self, name, length):
        self.name, self.dimensions = name, (length,)

    def padded(self):
        return _aligned(4 * self.dimensions[0])

    def write(self, out, _source):
        out.write((struct.pack("<f", 1.0) * self.dimensions[0]).ljust(self.padded(), b"\0"))


class Noise:
    """A matrix of half-precision numbers with random signs, their size between `scale` and twice as much.

    The leading rows may be zero.
    """

    kind = TENSOR_F16

    def __init__(self, name, columns, rows, scale, zero_rows=0):
        self.name, self.dimensions = name, (columns, rows)
        self._exponent, self._zeros = _half_exponent(scale), 2 * columns * zero_rows

    def padded(self):
        return _aligned(self._size())

    def _size(self):
        return 2 * self.dimensions[0] * self.dimensions[1]

    def write(self, out, source):
        out.write(bytes(self._zeros))
        left = self._size() - self._zeros
        while left:
            left -= out.write(source.take(left, self._exponent))
        out.write(bytes(self.padded() - self._size()))


def _half_exponent(scale):
    """The biased exponent of the largest power of two that is not above `scale`."""
    exponent = 0
    while 2.0**exponent > scale:
        exponent -= 1
    return 15 + exponent


def _tensors(shape):
    width, kv, wide = shape.width, shape.kv_width, shape.feed_forward
    words = len(_vocabulary())
    even = width**-0.5
    tensors = [
        Noise("token_embd.weight", width, words, 0.5),
        Ones("output_norm.weight", width),
        # Wide enough apart that some words are far likelier than others.
        Noise("output.weight", width, words, 2.5 * even, zero_rows=UNLIKELY),
    ]
    for layer in range(shape.layers):
        part = f"blk.{layer}.{{}}.weight".format
        tensors += [
            Ones(part("attn_norm"), width),
            Noise(part("attn_q"), width, width, even),
            Noise(part("attn_k"), width, kv, even),
            Noise(part("attn_v"), width, kv, even),
            Noise(part("attn_output"), width, width, even),
            Ones(part("ffn_norm"), width),
            Noise(part("ffn_gate"), width, wide, even),
            Noise(part("ffn_up"), width, wide, even),
            Noise(part("ffn_down"), wide, width, wide**-0.5),
        ]
    return tensors


def _vocabulary():
    """Pieces with their kinds; earlier ones are merged first."""
    pieces = [("<unk>", KIND_UNKNOWN), ("<s>", KIND_CONTROL), ("</s>", KIND_CONTROL)]
    pieces += [(f"<0x{byte:02X}>", KIND_BYTE) for byte in range(256)]
    pieces += [(SPACE + word, KIND_NORMAL) for word in WORDS]
    pieces += [(SPACE, KIND_NORMAL)]
    pieces += [(chr(code), KIND_NORMAL) for code in range(ord("!"), ord("~") + 1)]
    return pieces


def _head(name, shape, tensors):
    entries = list(_metadata(name, shape))
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)))
    for entry in entries:
        head += entry
    offset = 0
    for tensor in tensors:
        head += _text(tensor.name) + struct.pack("<I", len(tensor.dimensions))
        head += b"".join(struct.pack("<Q", length) for length in tensor.dimensions)
        head += struct.pack("<IQ", tensor.kind, offset)
        offset += tensor.padded()
    return bytes(head).ljust(_aligned(len(head)), b"\0")


def _metadata(name, shape):
    pieces = _vocabulary()
    scores = [-float(rank) if kind == KIND_NORMAL else 0.0 for rank, (_, kind) in enumerate(pieces)]
    yield _entry("general.architecture", TEXT, _text("llama"))
    yield _entry("general.name", TEXT, _text(name))
    yield _entry("general.description", TEXT, _text("random weights: it answers with noise"))
    for key, value in _numbers(shape, len(pieces)):
        yield _entry(key, U32, struct.pack("<I", value))
    yield _entry("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))
    yield _entry("llama.rope.freq_base", F32, struct.pack("<f", 10_000.0))
    yield _entry("tokenizer.ggml.model", TEXT, _text("llama"))
    yield _array("tokenizer.ggml.tokens", TEXT, [_text(piece) for piece, _ in pieces])
    yield _array("tokenizer.ggml.scores", F32, [struct.pack("<f", score) for score in scores])
    yield _array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for _, kind in pieces])
    yield _entry("tokenizer.ggml.add_bos_token", BOOL, b"\1")
    yield _entry("tokenizer.ggml.add_eos_token", BOOL, b"\0")
    yield _entry("tokenizer.chat_template", TEXT, _text(CHAT_TEMPLATE))


def _numbers(shape, words):
    return [
        ("general.file_type", FILE_TYPE_MOSTLY_F16),
        ("llama.context_length", shape.ctx),
        ("llama.embedding_length", shape.width),
        ("llama.block_count", shape.layers),
        ("llama.feed_forward_length", shape.feed_forward),
        ("llama.attention.head_count", shape.heads),
        ("llama.attention.head_count_kv", shape.heads_kv),
        ("llama.rope.dimension_count", shape.width // shape.heads),
        ("llama.vocab_size", words),
        ("tokenizer.ggml.unknown_token_id", 0),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
    ]


def _entry(key, kind, value):
    return _text(key) + struct.pack("<I", kind) + value


def _array(key, kind, values):
    return _entry(key, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def _text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(length):
    return -(-length // ALIGNMENT) * ALIGNMENT
