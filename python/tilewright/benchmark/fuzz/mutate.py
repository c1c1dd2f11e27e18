"""Damage with some sense: bytes, words of a text, values of JSON, fields of a protobuf message.

Each function takes a generator, the data and other seeds of its kind to borrow from; a few in a row make a case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

Rng = np.random.Generator
Mutator = Callable[[Rng, bytes, Sequence[bytes]], bytes]

NUMBERS = (
    "0", "1", "-1", "2", "3", "7", "16", "127", "128", "255", "256", "65535", "65536", "2147483647", "2147483648",
    "-2147483648", "4294967296", "4611686018427387904", "9223372036854775807", "-9223372036854775808",
    "18446744073709551616", "1" + "0" * 40, "0.5", "-0.0", "1e-45", "1e308", "1e999", "nan", "inf", "-inf", "0x10",
)  # fmt: skip
"""Where ranges end, and what is no number to some readers."""
WORDS = (
    "",
    "true",
    "null",
    '""',
    "[]",
    "{}",
    "\x00",
    "\ufeff",
    "é",
    "a" * 300,
    "../x",
    "#",
    '"',
    "'",
    "\\",
    "\n",
)
_TOKEN = re.compile(rb'"[^"\n]*"|[A-Za-z_][\w.]*|-?\d[\w.+-]*|\s+|.', re.DOTALL)
_INTS = (
    0,
    1,
    -1,
    2,
    3,
    5,
    8,
    16,
    77,
    255,
    256,
    65536,
    2**31 - 1,
    -(2**31),
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e30, -1e30, float("nan"), float("inf"), float("-inf"))


def _one(rng: Rng, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def change_bytes(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change, cut out, repeat, insert or borrow a run of bytes."""
    if not data:
        return rng.bytes(int(rng.integers(1, 64)))
    out = bytearray(data)
    at = int(rng.integers(len(out)))
    length = int(min(len(out) - at, rng.geometric(0.2)))
    match int(rng.integers(7)):
        case 0:
            out[at] ^= 1 << int(rng.integers(8))
        case 1:
            out[at : at + length] = rng.bytes(length)
        case 2:
            del out[at : at + length * int(rng.choice([1, 10, 100]))]
        case 3:
            out[at:at] = out[at : at + length] * int(rng.choice([1, 3, 50]))
        case 4:
            out[at:at] = rng.bytes(length)
        case 5:
            out[at : at + 4] = int(rng.choice([0, 1, 255, 1 << 31, (1 << 32) - 1])).to_bytes(4, "little")
        case _:
            other = bytes(_one(rng, others)) or b"x"
            start = int(rng.integers(len(other)))
            out[at : at + length] = other[start : start + int(rng.integers(1, 200))]
    return bytes(out)


def change_text(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change, swap, drop or repeat words, lines and brackets of a text."""
    words = _TOKEN.findall(data)
    solid = [i for i, w in enumerate(words) if not w.isspace()]
    if not solid:
        return change_bytes(rng, data, others)
    at = int(_one(rng, solid))
    numbers = [i for i in solid if re.match(rb"-?\d", words[i])]
    match int(rng.integers(9)):
        case 0 | 1 if numbers:
            words[int(_one(rng, numbers))] = _one(rng, NUMBERS).encode()
        case 2:
            words[at] = _one(rng, WORDS).encode()
        case 3:
            words[at] = words[int(_one(rng, solid))]
        case 4:
            other = _TOKEN.findall(_one(rng, others))
            words[at] = bytes(_one(rng, other)) if other else b""
        case 5:
            del words[at]
        case 6:
            words.insert(at, words[at])
        case 7:
            lines = data.split(b"\n")
            i, j = (int(rng.integers(len(lines))) for _ in range(2))
            if rng.random() < 0.5:
                lines.insert(i, lines[j])
            else:
                lines[i], lines[j] = lines[j], lines[i]
            return b"\n".join(lines)
        case _:
            words[at] = _one(rng, [b"{", b"}", b"[", b"]", b":", b"=", b","]) * int(rng.choice([1, 1, 3000]))
    return b"".join(words)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value[:50]):
            found += _places(item, (*path, i))
    return found


def _json_value(rng: Rng) -> Any:
    return _one(
        rng,
        [None, True, False, 0, -1, 1, 2, 17, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, float("nan"), float("inf"), "",
         "x", "conv", "é\u2028", [], {}, [[]], {"": None}, ["a", 1], "a" * 300],
    )  # fmt: skip


def change_json(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change, drop, rename or repeat a value of a JSON text, or of a line of JSON lines."""
    lines = data.split(b"\n")
    try:
        json.loads(data)
        number, lines = 0, [data]
    except (ValueError, RecursionError):
        number = int(rng.integers(len(lines)))
    try:
        document = json.loads(lines[number])
    except (ValueError, RecursionError):
        return change_text(rng, data, others)
    places = _places(document)
    if not places:
        return change_text(rng, data, others)
    *way, last = _one(rng, places)
    parent = document
    for step in way:
        parent = parent[step]
    match int(rng.integers(5)):
        case 0 | 1:
            parent[last] = _json_value(rng)
        case 2:
            del parent[last]
        case 3 if isinstance(parent, list):
            parent.insert(int(rng.integers(len(parent) + 1)), parent[last])
        case 3:
            parent[str(_json_value(rng))] = parent[last]
        case _:
            source = document
            for step in _one(rng, places):
                source = source[step]
            parent[last] = json.loads(json.dumps(source))
    lines[number] = json.dumps(document).encode()
    return b"\n".join(lines)


def _scalar(rng: Rng, field: FieldDescriptor, names: Sequence[str]) -> Any:
    kind = field.cpp_type
    if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM):
        return int(_one(rng, [n for n in _INTS if -(2**31) <= n < 2**31]))
    if kind == FieldDescriptor.CPPTYPE_INT64:
        return int(_one(rng, _INTS))
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return int(_one(rng, [n for n in _INTS if 0 <= n < 2**32]))
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return float(_one(rng, _FLOATS))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return bool(rng.integers(2))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.bytes(int(rng.integers(9)))
    return str(_one(rng, [*names, *names, "", "é", "a" * 200]))


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for item in value if _repeated(field) else [value]:
                found += _messages(item)
    return found


def _repeated(field: FieldDescriptor) -> bool:
    """Older releases of protobuf have `label` in place of `is_repeated`."""
    repeated = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", 0) == 3 if repeated is None else repeated)


def change_message(rng: Rng, message: Message, names: Sequence[str]) -> None:
    """Change, clear, set, drop, repeat or swap a field somewhere in a message."""
    target = _one(rng, _messages(message))
    present = [field for field, _ in target.ListFields()]
    absent = rng.random() < 0.15 or not present
    field = _one(rng, list(target.DESCRIPTOR.fields) if absent else present)
    value = getattr(target, field.name)
    if rng.random() < 0.15:
        target.ClearField(field.name)
    elif not _repeated(field):
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            value.SetInParent()
        else:
            setattr(target, field.name, _scalar(rng, field, names))
    elif not len(value) or rng.random() < 0.2:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            new = value.add()
            if len(value) > 1:
                new.CopyFrom(_one(rng, value[:-1]))
        else:
            value.append(_scalar(rng, field, names))
    else:
        at, other = (int(rng.integers(len(value))) for _ in range(2))
        if rng.random() < 0.3:
            del value[at]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            copy = type(value[at])()
            copy.CopyFrom(value[at])
            value[at].CopyFrom(value[other])
            value[other].CopyFrom(copy)
        else:
            value[at] = _scalar(rng, field, names)


def change_onnx(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a field of a model."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        names = [n for node in model.graph.node for n in (*node.input, *node.output, node.op_type)]
        if rng.random() < 0.1 and model.graph.node:
            _one(rng, model.graph.node).op_type = str(_one(rng, _operators()))
        else:
            change_message(rng, model, names or ["x"])
        return bytes(model.SerializeToString())
    except (
        ValueError,
        TypeError,
        DecodeError,
        EncodeError,
    ):  # what protobuf does not take, it does not write either
        return change_bytes(rng, data, others)


def _operators() -> list[str]:
    return sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def mutate(rng: Rng, seeds: Sequence[bytes], mutators: Sequence[Mutator]) -> bytes:
    """One case: a seed with one to a few changes, most by the first mutator and some by bytes."""
    data = bytes(_one(rng, seeds))
    for _ in range(int(rng.geometric(0.45))):
        data = _one(rng, mutators)(rng, data, seeds)
    return data
