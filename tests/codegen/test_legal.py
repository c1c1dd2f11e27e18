"""What the rules refuse, with their words; what they accept compiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Tensor
from tilewright.codegen.legal import check
from tilewright.integer.ops import LayoutStep
from tilewright.integer.predicate import Reject
from tilewright.targets.config import overlay

REFUSED: dict[str, tuple[Callable[[Builder], Tensor], str]] = {
    "large kernel": (
        lambda b: b.conv(b.input(3, 40, 40), 4, (33, 3)),
        "kernels of convolutions are at most 31 rows and columns, found a kernel of (33, 3)",
    ),
    "large window": (
        lambda b: b.sum_pool(b.input(3, 130, 2), (130, 2), (1, 1)),
        "pooling windows are at most 127 rows and columns, found a kernel of (130, 2)",
    ),
    "window in the padding": (
        lambda b: b.max_pool(b.input(3, 6, 6), (2, 2), (1, 1), (2, 0, 0, 0)),
        "a pooling window holds a part of the map, found kernel (2, 2), padding (2, 0, 0, 0) on (6, 6)",
    ),
    "large stride": (
        lambda b: b.max_pool(b.input(3, 40, 40), (2, 2), (16, 1)),
        "strides are at most 15, found strides (16, 1)",
    ),
    "channels mixed with pixels": (
        lambda b: b.layout([LayoutStep("transpose", ((0, 2, 1, 3),))], b.input(6, 6, 6)),
        "elements move by whole channels: slices, repeats and turns of rows and columns, "
        "found transpose of [(1, 6, 6, 6)]",
    ),
    "three axes": (
        lambda b: b.layout([LayoutStep("reshape", ((1, 6, 36),))], b.input(6, 6, 6)),
        "tensors have the shape (1, C, H, W) or (1, K), found a result of shape (1, 6, 36)",
    ),
    "channels broadcast": (
        lambda b: b.add(b.input(6, 4, 4), b.input(1, 4, 4)),
        "the second operand has the first one's channels, and its height and width or 1, "
        "found operands (1, 6, 4, 4) and (1, 1, 4, 4)",
    ),
    "a table of 16 bits": (
        lambda b: b.table(b.input(6, 4, 4, dtype="uint16")),
        "a table has operands and results of 8 bits, found an operand of 16 bits",
    ),
    "a layout of 16 bits": (
        lambda b: b.layout([LayoutStep("transpose", ((0, 1, 3, 2),))], b.input(6, 4, 4, dtype="int16")),
        "a layout moves 8 bits at most, found an operand of 16 bits",
    ),
    "a large map": (
        lambda b: b.max_pool(b.input(3, 70000, 1), (1, 1), (1, 1)),
        "maps are at most 2047 rows and columns, found a map of 70000 x 1",
    ),
    "a large dilation": (
        lambda b: b.conv(b.input(3, 90, 90), 4, (3, 3), dilation=(40, 1)),
        "dilations are at most 31, found dilations (40, 1)",
    ),
    "a far shift": (
        lambda b: b.shift(b.input(2, 900, 900), np.array([[0, 0], [512, 0]])),
        "a shift moves channels by at most 511 rows and columns within their map, found one by 512",
    ),
    "too much for the memory": (
        lambda b: b.conv(b.input(4096, 31, 31), 1, (31, 31)),
        "a window of all channels fits the activation memory twice, found a window of 31 x 31 and 4096 channels",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    make, text = REFUSED[case]
    b = Builder()
    make(b)
    verdict = check(b.nodes[-1], overlay("ultra96-w8"))
    assert not verdict
    assert str(verdict) == text


def test_accepted_compiles() -> None:
    b = Builder()
    x = b.input(6, 33, 33)
    y = b.layout([CONCAT], b.conv(x, 8, (31, 31), padding=(15, 15, 15, 15)), x)
    z = b.multiply(y, b.sum_pool(y, (33, 33), (1, 1)))
    machine = overlay("pynq-z1-w8")
    assert all(check(node, machine) for node in b.nodes)
    assert compile_region(b.graph(z), machine).stream


def test_padding_beyond_the_values_of_a_map() -> None:
    b = Builder()
    b.conv(b.input(6, 4, 4, dtype="uint8", bits=4), 6, (3, 3), padding=(1, 1, 1, 1), zero_point=200)
    assert str(check(b.nodes[-1], overlay("ultra96-w4"))) == (
        "padding is a value that the operand's bits hold, found zero point 200 of an operand of 4 bits"
    )


NARROW: dict[str, tuple[str, Callable[[Builder], Tensor], str]] = {
    "a product wider than sums": (
        "ultra96-w1",
        lambda b: b.multiply(b.input(6, 4, 4), b.input(6, 4, 4)),
        "a product of two maps has no more bits than the overlay's sums, found products of 18 bits",
    ),
    "planes too far apart": (
        "pynq-z1-w4",
        lambda b: b.add(b.input(16384, 1, 1), b.input(16384, 1, 1)),
        "channels of values wider than the overlay's operands are at most 1023 blocks, found 16384 channels of 8 bits",
    ),
    "eight bits times one": (
        "ultra96-w1",
        lambda b: b.conv(b.input(6, 4, 4, dtype="int8"), 6, (1, 1), w_bits=1),
        "operands and weights of 1 bit are -1 or +1, of all channels; padded ones have an even number of channels, "
        "found an operand of 8 bits",
    ),
    "odd channels with padding": (
        "ultra96-w1",
        lambda b: b.conv(b.input(7, 4, 4, dtype="int8", bits=1), 6, (3, 3), w_bits=1, padding=(1, 1, 1, 1)),
        "found 7 channels with padding",
    ),
    "weights of 0": (
        "ultra96-w1",
        lambda b: b.conv(b.input(6, 4, 4, dtype="int8", bits=1), 6, (1, 1), w_bits=2),
        "found weights -1..1",
    ),
    "an average of signs": (
        "ultra96-w1",
        lambda b: b.sum_pool(b.input(6, 4, 4, dtype="int8", bits=1), (4, 4), (1, 1)),
        "tensors of 1 bit are multiplied on MATRIX, pooled by their largest, or laid out whole, "
        "found a sum_pool2d of one bit",
    ),
}


WIDER = {"ultra96-w1": "ultra96-a8w4, ultra96-w4, ultra96-w4x, ultra96-w8", "pynq-z1-w4": "pynq-z1-w8"}


@pytest.mark.parametrize("case", NARROW)
def test_widths_that_an_overlay_does_not_offer(case: str) -> None:
    target, make, text = NARROW[case]
    b = Builder()
    make(b)
    verdict = check(b.nodes[-1], overlay(target))
    assert isinstance(verdict, Reject)
    assert text in str(verdict)
    assert verdict.remedy.startswith(f"compile for an overlay of more bits ({WIDER[target]}), or ")
