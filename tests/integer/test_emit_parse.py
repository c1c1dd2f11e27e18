"""parse(emit(op)) == op, and the body run by TVM llvm equals NumPy and exact Python integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tilewright.integer.emit import Spec, emit
from tilewright.integer.evaluate import evaluate, same
from tilewright.integer.ops import (
    OPERATORS,
    Add,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Layout,
    LayoutStep,
    MaxPool2d,
    Multiply,
    Operator,
    Rescale,
    Shift,
    SumPool2d,
    Table,
)
from tilewright.integer.parse import parse

Rng = np.random.Generator


def run(op: Operator, arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Run the emitted body by TVM llvm."""
    function = emit(op, [(a.shape, str(a.dtype)) for a in arrays])
    attrs = {"global_symbol": "main"}
    plain = function.without_attr("Composite").without_attr("Primitive").with_attrs(attrs)
    module = tvm.IRModule({"main": plain})
    executable = tvm.compile(module, target=tvm.target.Target({"kind": "llvm"}))
    vm = relax.VirtualMachine(executable, tvm.cpu())
    return np.asarray(vm["main"](*[tvm.runtime.tensor(a) for a in arrays]).numpy())


def random_rescale(rng: Rng, shape: tuple[int, ...], negative: bool = False) -> Rescale:
    dtype: Any = str(rng.choice(["int8", "uint8"]))
    info = np.iinfo(dtype)
    lo, hi = sorted(int(v) for v in rng.integers(info.min, info.max + 1, 2))
    s = rng.integers(1, 40, shape)
    m = rng.integers(-(1 << 24) + 1, 1 << 24, shape)
    b = rng.integers(-(1 << 46), 1 << 46, shape)
    if negative:
        return Rescale(m, s, b, lo, hi, dtype, -m, b // 2, int(rng.integers(info.min, info.max + 1)))
    return Rescale(m, s, b, lo, hi, dtype)


def random_operator(kind: type[Operator], rng: Rng) -> tuple[Operator, list[Spec]]:
    dtype = str(rng.choice(["int8", "uint8"]))
    zp = int(rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1))
    height, width = (int(v) for v in rng.integers(6, 9, 2))
    negative = bool(rng.integers(2))
    pads: Any = tuple(int(v) for v in rng.integers(0, 2, 4))
    strides: Any = tuple(int(v) for v in rng.integers(1, 3, 2))
    dilation: Any = tuple(int(v) for v in rng.integers(1, 3, 2))
    specs: list[Spec] = [((1, 4, height, width), dtype)]
    groups = int(rng.choice([1, 2, 4]))
    op: Operator
    if kind is Conv2d:
        weight = rng.integers(-255, 256, (8, 4 // groups, 3, 2)).astype(np.int16)
        op = Conv2d(weight, zp, random_rescale(rng, (8, 1, 1), negative), strides, pads, dilation, groups)
    elif kind is ConvTranspose2d:
        weight = rng.integers(-255, 256, (4, 3, 3, 3)).astype(np.int16)
        rescale = random_rescale(rng, (3 * groups, 1, 1), negative)
        extra = (strides[0] - 1, 0)
        op = ConvTranspose2d(weight, zp, rescale, strides, pads, extra, (1, 1), groups)
    elif kind is Shift:
        size: Any = tuple(int(rng.integers(1, n + 3)) for n in (height, width))
        op = Shift(rng.integers(-3, 4, (4, 2)), zp, strides, size)
    elif kind is Dense:
        weight = rng.integers(-255, 256, (5, 24)).astype(np.int16)
        op, specs = Dense(weight, zp, random_rescale(rng, (5,), negative)), [((1, 24), dtype)]
    elif kind is MaxPool2d:
        op = MaxPool2d((3, 2), strides, pads, (1, 1))
    elif kind is SumPool2d:
        op = SumPool2d((height, width), zp, random_rescale(rng, (1, 1, 1)))
    elif kind is Add:
        shape = (1, *(int(d) if rng.integers(2) else 1 for d in (4, height, width)))
        specs.append((shape, "uint8"))
        op = Add(zp, 7, int(rng.integers(-1000, 1000)), random_rescale(rng, (1, 1, 1)))
    elif kind is Multiply:
        specs.append(((1, 4, 1, 1), dtype))
        op = Multiply(zp, zp, random_rescale(rng, (1, 1, 1)))
    elif kind is Table:
        op = Table(rng.integers(0, 128, 256).astype("uint8"), "uint8")
    else:
        specs = specs * 2
        op = Layout(
            (
                LayoutStep("concat", ((1,),)),
                LayoutStep("pad", ((0, 0, 1, 0), (0, 0, 0, 2), (3,))),
                LayoutStep("slice", ((0, 1, 0, 0), (1, 7, height, width), (1, 2, 1, 3))),
                LayoutStep("repeat", ((1, 1, 2, 3),)),
                LayoutStep("transpose", ((0, 1, 3, 2),)),
                LayoutStep("reshape", ((1, 3, -(-width // 3) * 3 * height * 2),)),
            )
        )
    return op, specs


def random_arrays(specs: list[Spec], rng: Rng) -> list[np.ndarray[Any, Any]]:
    return [
        rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
        for shape, dtype in specs
    ]


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda k: k.kind)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_parse_inverts_emit(kind: type[Operator], seed: int) -> None:
    op, specs = random_operator(kind, np.random.default_rng(seed))
    found = parse(emit(op, specs))
    assert same(found, op), f"{found} != {op}"


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda k: k.kind)
@pytest.mark.parametrize("seed", range(3))
def test_llvm_equals_numpy(kind: type[Operator], seed: int) -> None:
    rng = np.random.default_rng(seed)
    op, specs = random_operator(kind, rng)
    arrays = random_arrays(specs, rng)
    want = evaluate(op, arrays)
    got = run(op, arrays)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def exact(acc: int, m: int, b: int, s: int, lo: int, hi: int) -> int:
    """The definition in Python integers."""
    quotient, rest = divmod(acc * m + b, 1 << s)
    half = 1 << (s - 1)
    if rest > half or (rest == half and quotient % 2 == 1):
        quotient += 1
    return min(max(quotient, lo), hi)


@pytest.mark.parametrize(
    ("m", "b", "s"),
    [
        (1, 0, 1),  # every tie
        (-1, 0, 1),
        (3, 2, 2),
        (-(1 << 24) + 1, (1 << 47) - 1, 32),
        ((1 << 24) - 1, -(1 << 47) + 1, 30),
        ((1 << 24) - 1, 0, 62),
        (1 << 23, 1 << 22, 24),
        (0, -3, 1),
    ],
)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_requantisation_is_exact(m: int, b: int, s: int, dtype: Any) -> None:
    info = np.iinfo(dtype)
    weight = np.array([1, -1, 127, 255], np.int16).reshape(4, 1, 1, 1)
    rescale = Rescale(
        np.full((4, 1, 1), m), np.full((4, 1, 1), s), np.full((4, 1, 1), b), info.min, info.max, dtype
    )
    op = Conv2d(weight, 0, rescale)
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)
    want = [
        exact(int(v) * int(w), m, b, s, info.min, info.max) for w in weight.reshape(-1) for v in x.reshape(-1)
    ]
    np.testing.assert_array_equal(run(op, [x]).reshape(-1), np.asarray(want, dtype))
    np.testing.assert_array_equal(evaluate(op, [x]).reshape(-1), np.asarray(want, dtype))


def test_parse_refuses_foreign_bodies() -> None:
    op, specs = random_operator(MaxPool2d, np.random.default_rng(0))
    body = emit(op, specs)
    with pytest.raises(
        ValueError, match=r"expected relax.astype in the body of a composite, found relax.nn.max_pool2d"
    ):
        parse(body.with_attr("Composite", "tilewright.conv2d"))
    with pytest.raises(ValueError, match=r"expected a composite tilewright.<kind>, found another function"):
        parse(body.without_attr("Composite"))
