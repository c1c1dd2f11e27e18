"""What the C++ runtime says of operators, programs and regions that contradict themselves: whole texts."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.runtime.test_session import PACKAGE, REGION

from tilewright.errors import DataError, PackageError, SimError
from tilewright.runtime.native import _ACCELERATOR, NativeProgram
from tilewright.runtime.operator import run_operator
from tilewright.targets.host_ops import AttributeValue
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Instruction, Load, Matrix, layout
from tilewright.targets.program import (
    REGION_MAGIC,
    HostProgram,
    HostStep,
    HostTensor,
    encode_program,
    encode_region,
)

Array = NDArray[Any]


def zeros(dtype: str, *shape: int) -> Array:
    return np.zeros(shape, dtype)


STEPS: list[tuple[str, list[Array], list[tuple[str, tuple[int, ...]]], dict[str, AttributeValue], str]] = [
    ("expand", [zeros("int8", 3)], [("int8", (1,))], {"shape": (1,)}, "shape (3) does not broadcast to (1)"),
    ("clip", [zeros("int8", 2)], [("int8", (2,))], {"lo": 2.0, "hi": 1.0}, "clip from 2 to 1"),
    (
        "reshape",
        [zeros("int8", 6)],
        [("int8", (6,))],
        {"shape": (-1, -1)},
        "more than one -1 in shape (-1, -1)",
    ),
    (
        "reshape",
        [zeros("int8", 6)],
        [("int8", (4,))],
        {"shape": (4, -1)},
        "cannot view (6) with 4 elements beside the open axis",
    ),
    (
        "transpose",
        [zeros("int8", 2, 2)],
        [("int8", (2, 2))],
        {"axes": (0,)},
        "expected 2 axes, found 1",
    ),
    (
        "concat",
        [zeros("int8", 2), zeros("int16", 2)],
        [("int8", (4,))],
        {"axis": 0},
        "operands differ in type or rank",
    ),
    (
        "concat",
        [zeros("int8", 2, 3), zeros("int8", 3, 3)],
        [("int8", (2, 6))],
        {"axis": 1},
        "operands of shapes (2, 3) and (3, 3)",
    ),
    (
        "slice",
        [zeros("int8", 2)],
        [("int8", (2,))],
        {"begin": (0,), "end": (2,), "stride": (0,)},
        "stride 0 on axis 0",
    ),
    (
        "pad",
        [zeros("int8", 2)],
        [("int8", (2,))],
        {"before": (-1,), "after": (1,), "value": 0.0},
        "pads -1 and 1 on axis 0",
    ),
    (
        "pad",
        [zeros("int8", 2)],
        [("int8", (3,))],
        {"before": (0,), "after": (1,), "value": 0.5},
        "value 0.5 is not exact in int8",
    ),
    (
        "quantize",
        [zeros("float32", 2), np.ones((), np.float32), zeros("int32")],
        [("int32", (2,))],
        {"axis": 0},
        "expected a zero point of 8 or 16 bits, found int32",
    ),
    (
        "argmax",
        [zeros("int8", 0)],
        [("int64", ())],
        {"axis": 0, "keepdims": 0},
        "an axis without elements has no largest one",
    ),
    (
        "argmax",
        [zeros("int8", 2)],
        [("int16", ())],
        {"axis": 0, "keepdims": 0},
        "expected a result of int32 or int64",
    ),
    (
        "reduce_mean",
        [zeros("float32", 0)],
        [("float32", ())],
        {"axes": (0,), "keepdims": 0},
        "the mean of no elements",
    ),
    (
        "reduce_max",
        [zeros("float32", 0)],
        [("float32", ())],
        {"axes": (0,), "keepdims": 0},
        "the extreme of no elements",
    ),
    (
        "non_max_suppression",
        [zeros("float32", 1, 5, 3), zeros("float32", 1, 2, 5)],
        [("int64", (-1, 3))],
        {"max_boxes": 1, "iou_threshold": 0.5, "score_threshold": 0.5, "center": 0},
        "expected boxes (B, N, 4) and scores (B, C, N), found (1, 5, 3) and (1, 2, 5)",
    ),
    (
        "detection_output",
        [zeros("float32", 1, 8), zeros("float32", 1, 4), zeros("float32", 1, 1, 8)],
        [("float32", (1, 1, -1, 7))],
        {
            "num_classes": 2,
            "share_location": 1,
            "background_label_id": 0,
            "nms_threshold": 0.5,
            "top_k": -1,
            "keep_top_k": 5,
            "confidence_threshold": 0.0,
            "code_type": 2,
            "variance_encoded_in_target": 0,
        },
        "expected priors (1, 2, 4 P), found (1, 1, 8)",
    ),
]


@pytest.mark.parametrize(("op", "arrays", "results", "attributes", "text"), STEPS)
def test_steps_that_contradict_themselves(
    op: str, arrays: list[Array], results: Any, attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(PackageError) as error:
        run_operator(op, arrays, results, **attributes)
    assert str(error.value).startswith(f"step 0 ({op}")
    assert str(error.value).endswith(f": {text}")


def program(
    *steps: HostStep,
    batch: int = 1,
    shape: tuple[int, ...] = (2,),
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (1,),
) -> HostProgram:
    """a -> b, and a constant k."""
    tensors = [HostTensor(name, shape, "float32") for name in "ab"] + [HostTensor("k", (), "float32")]
    used = steps or (HostStep("relu", (0,), (1,), {}),)
    return HostProgram(tuple(tensors), {2: zeros("float32")}, inputs, outputs, used, batch)


def patched(before: bytes, after: bytes, source: HostProgram | None = None) -> bytes:
    """A program with bytes that its encoder does not write."""
    data = encode_program(source or program())
    assert data.count(before) == 1
    return data.replace(before, after)


def softmax(**attributes: AttributeValue) -> HostProgram:
    return program(HostStep("softmax", (0,), (1,), attributes))


LENGTH = struct.Struct("<H").pack
"""Of a text."""
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "magic": (b"?" + encode_program(program())[1:], "program: wrong magic or version"),
    "count": (
        encode_program(program())[:10] + b"\xff" * 4,
        "program: a list of 4294967295 items at byte 14 passes the end",
    ),
    "type": (patched(LENGTH(1) + b"a\x01", LENGTH(1) + b"a\x09"), "tensor a: unknown type 9"),
    "constant": (patched(struct.pack("<IQ", 2, 4), struct.pack("<IQ", 9, 4)), "a constant for tensor 9 of 3"),
    "attribute type": (patched(b"axis\x01", b"axis\x09", softmax(axis=0)), "attribute axis: unknown type 9"),
    "attributes": (encode_program(softmax()), "softmax: expected 1 attributes, found 0"),
    "twice": (
        encode_program(program(HostStep("relu", (0,), (0,), {}))),
        "tensor 0 is defined twice or does not exist",
    ),
    "batch": (
        encode_program(program(batch=2)),
        "tensor a: expected 1, ... of a batch of 2, found (2)",
    ),
    "open input": (
        encode_program(program(shape=(-1,))),
        "expected dimensions of at least 0, found shape (-1)",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_programs_that_contradict_themselves(case: str) -> None:
    data, text = PROGRAMS[case]
    with pytest.raises(PackageError) as error:
        NativeProgram(data, [])
    assert str(error.value) == text


def machine(field: int, value: int) -> Callable[[bytes], bytes]:
    """Another number among the overlay's in a region."""
    at = len(REGION_MAGIC) + 2 + len(REGION.name) + 4 * field
    return lambda data: data[:at] + struct.pack("<i", value) + data[at + 4 :]


def output(**changes: Any) -> Callable[[bytes], bytes]:
    changed = replace(REGION, outputs=(replace(REGION.outputs[0], **changes),))
    return lambda _: encode_region(changed, PACKAGE.overlay)


def output_type(data: bytes) -> bytes:
    name = REGION.outputs[0].name.encode()
    head, _, tail = data.rpartition(LENGTH(len(name)) + name)
    return head + LENGTH(len(name)) + name + b"\x09" + tail[1:]


HALF = PACKAGE.overlay.half_word_bytes
REGIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "inp_bits": (machine(2, 3), ": expected inp_bits of 1, 2, 4 or 8, found 3"),
    "block_in": (machine(0, 3), ": expected block_in of 8 to 4096, a multiple of 8, found 3"),
    "type": (output_type, ", tensor y: expected int8, uint8, int16 or uint16, found type 9"),
    "shape": (
        output(shape=(2, *REGION.outputs[0].shape[1:])),
        ", tensor y: expected shape (1, C, H, W) or (1, K), found (2, 20, 6, 6)",
    ),
    "segment": (
        lambda _: encode_region(replace(REGION, workspace_bytes=1 << 40), PACKAGE.overlay),
        ": a segment of 1099511627776 bytes is above the limit of 1073741824",
    ),
    "offset": (
        lambda _: encode_region(
            replace(
                REGION,
                output_bytes=REGION.output_bytes + HALF,
                outputs=(replace(REGION.outputs[0], offset=3),),
            ),
            PACKAGE.overlay,
        ),
        f", tensor y: offset 3 is no multiple of the half word's {HALF} bytes",
    ),
}


@pytest.mark.parametrize("case", REGIONS)
def test_regions_that_contradict_themselves(case: str) -> None:
    change, text = REGIONS[case]
    data = change(encode_region(REGION, PACKAGE.overlay))
    with pytest.raises(PackageError) as error:
        NativeProgram(encode_program(PACKAGE.program), [(data, REGION.stream, REGION.constants)])
    assert str(error.value) == f"region {REGION.name}{text}"


def test_inputs_and_results_of_a_run() -> None:
    x = zeros("float32", 2)
    with pytest.raises(DataError, match=r"^expected 1 inputs, found 2$"):
        NativeProgram(encode_program(program()), []).run([x, x])


def test_an_accelerator_of_c_that_fails() -> None:
    """Python's own never returns a number: what it raises comes back."""
    record = (encode_region(REGION, PACKAGE.overlay), REGION.stream, REGION.constants)
    native = NativeProgram(encode_program(PACKAGE.program), [record])
    seven = _ACCELERATOR(lambda *_: 7)
    native._lib.tw_rt_set_accelerator(native._handle, seven, None)
    spec = PACKAGE.inputs[0]
    with pytest.raises(AssertionError, match=r"region net_0: the accelerator's function failed with 7$"):
        native.run([np.zeros(spec.shape, spec.dtype)])


def test_results_of_a_batch_that_differ() -> None:
    """As many boxes as each image has above the threshold."""
    tensors = (
        HostTensor("boxes", (1, 2, 4), "float32"),
        HostTensor("scores", (1, 1, 2), "float32"),
        HostTensor("chosen", (-1, 3), "int64"),
        HostTensor("rows", (1, -1, 3), "int64"),
    )
    steps = (
        HostStep(
            "non_max_suppression",
            (0, 1),
            (2,),
            {"max_boxes": 9, "iou_threshold": 0.5, "score_threshold": 0.5, "center": 0},
        ),
        HostStep("reshape", (2,), (3,), {"shape": (1, -1, 3)}),
    )
    native = NativeProgram(encode_program(HostProgram(tensors, {}, (0, 1), (3,), steps, 2)), [])
    boxes = np.array([[[0, 0, 1, 1], [5, 5, 6, 6]]] * 2, np.float32)
    scores = np.array([[[0.9, 0.1]], [[0.9, 0.9]]], np.float32)
    with pytest.raises(
        DataError, match=r"^output rows: images of a batch gave shapes \(1, 1, 3\) and \(1, 2, 3\)$"
    ):
        native.run([boxes, scores])


def broken(change: Callable[[bytearray], None]) -> str:
    """What the runtime's own simulator says of a changed first instruction of the region, a LOAD."""
    stream = bytearray(REGION.stream)
    change(stream)
    record = (encode_region(REGION, PACKAGE.overlay), bytes(stream), REGION.constants)
    spec = PACKAGE.inputs[0]
    with pytest.raises((SimError, PackageError)) as error:
        NativeProgram(encode_program(PACKAGE.program), [record]).run([np.zeros(spec.shape, spec.dtype)])
    return str(error.value)


def first_of(kind: type[Instruction]) -> int:
    return next(i for i, x in enumerate(decode_stream(REGION.stream)) if isinstance(x, kind))


def field(kind: type[Instruction], name: str) -> int:
    return next(f.offset for f in layout(kind) if f.name == name)


def test_streams_that_do_not_decode() -> None:
    matrix = first_of(Matrix)

    def own_bit(stream: bytearray) -> None:
        at = field(Load, "give")
        stream[at // 8] |= 1 << at % 8

    def last_byte(stream: bytearray) -> None:
        stream[63] = 5

    def order(stream: bytearray) -> None:
        bits = layout(Matrix)
        start = {f.name: f for f in bits}
        word = int.from_bytes(stream[64 * matrix : 64 * matrix + 64], "little")
        one, two = start["order_0"], start["order_1"]
        value = word >> one.offset & ((1 << one.bits.width) - 1)
        word = word & ~(((1 << two.bits.width) - 1) << two.offset) | value << two.offset
        stream[64 * matrix : 64 * matrix + 64] = word.to_bytes(64, "little")

    where, layers = f"region {REGION.name}, instruction", [REGION.layers[i] for i in REGION.layer_of]
    first, other = (f"{where} {i} (layer {layers[i]}): encoding: " for i in (0, matrix))
    end = layout(Load)[-1].offset + layout(Load)[-1].bits.width
    assert broken(own_bit) == f"{first}LOAD.give: must not have a bit of 1"
    assert broken(last_byte) == f"{first}LOAD: bits from {end} up must be 0, byte 63 is 5"
    assert broken(order) == f"{other}MATRIX.order_0..5 must hold each of 0..5 once"
