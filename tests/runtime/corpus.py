"""Small packages that between them use every host operator, a region, packed inputs and a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.integer.ops import Conv2d, Rescale
from tilewright.targets.config import overlay
from tilewright.targets.host_ops import HOST_OPS, AttributeValue, HostDType
from tilewright.targets.package import Package
from tilewright.targets.program import HostProgram, HostStep, HostTensor

OVERLAY = overlay("ultra96-w8")
RNG = np.random.default_rng(5)
X = np.float32


def _f(*shape: int) -> NDArray[Any]:
    return RNG.normal(0, 2, shape).astype(np.float32)


def _i(*values: int, dtype: str = "int64") -> NDArray[Any]:
    return np.array(values, dtype)


@dataclass(frozen=True)
class _Use:
    """How the package of all operators uses one: its other operands behind x (2, 3, 4), and its attributes."""

    others: tuple[NDArray[Any], ...] = ()
    attributes: Mapping[str, AttributeValue] | None = None
    results: tuple[HostDType, ...] = ("float32",)
    first: NDArray[Any] | None = None


_UNARY = _Use()
_BINARY = _Use((_f(3, 1),))
_AXES: dict[str, AttributeValue] = {"axes": (1,), "keepdims": 1}
_ARG = _Use((), {"axis": -1, "keepdims": 0}, ("int64",))
_DETECTION: dict[str, AttributeValue] = {
    "num_classes": 3,
    "share_location": 1,
    "background_label_id": 0,
    "nms_threshold": 0.5,
    "top_k": 10,
    "keep_top_k": 5,
    "confidence_threshold": 0.1,
    "code_type": 2,
    "variance_encoded_in_target": 0,
}
_BOXES = np.abs(_f(1, 6, 4))
_USES: dict[str, _Use] = {
    "quantize": _Use((np.array([0.1, 0.2, 0.3], X), np.zeros(3, np.int8)), {"axis": 1}, ("int8",)),
    "dequantize": _Use(
        (np.array(0.1, X), np.array(3, np.uint8)),
        {"axis": 0},
        first=np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    ),
    "softmax": _Use((), {"axis": 2}),
    "log_softmax": _Use((), {"axis": 0}),
    "argmax": _ARG,
    "argmin": _ARG,
    "leaky_relu": _Use((), {"alpha": 0.1}),
    "clip": _Use((), {"lo": -1.0, "hi": math.inf}),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "power", "maximum", "minimum"), _BINARY),
    **{f"reduce_{name}": _Use((), _AXES) for name in ("sum", "mean", "max", "min")},
    "cast": _Use((), {}, ("int32",)),
    "reshape": _Use((), {"shape": (4, -1)}),
    "transpose": _Use((), {"axes": (2, 0, 1)}),
    "concat": _Use((_f(2, 3, 2),), {"axis": 2}),
    "slice": _Use((), {"begin": (0, -1, 3), "end": (2, -4, 0), "stride": (1, -1, -2)}),
    "pad": _Use((), {"before": (0, 1, 2), "after": (1, 0, 3), "value": -1.0}),
    "expand": _Use((), {"shape": (2, 2, 3, 4)}),
    "gather": _Use((_i(2, -1, 0),), {"axis": 1}),
    "topk": _Use((), {"axis": 1, "k": 2, "largest": 1}, ("float32", "int64")),
    "non_max_suppression": _Use(
        (np.abs(_f(1, 2, 6)),),
        {"max_boxes": 3, "iou_threshold": 0.4, "score_threshold": 0.1, "center": 1},
        ("int64",),
        _BOXES,
    ),
    "detection_output": _Use((np.abs(_f(1, 18)), np.abs(_f(1, 2, 24))), _DETECTION, first=_f(1, 24)),
}


def every_operator() -> Package:
    """Every host operator but the region, on constants and one input (2, 3, 4), each result an output."""
    tensors = [HostTensor("x", (2, 3, 4), "float32")]
    constants: dict[int, NDArray[Any]] = {}
    steps: list[HostStep] = []
    outputs: list[int] = []

    def constant(array: NDArray[Any]) -> int:
        constants[len(tensors)] = array
        tensors.append(HostTensor(f"c{len(tensors)}", array.shape, array.dtype.name))  # type: ignore[arg-type]
        return len(tensors) - 1

    for op in HOST_OPS:
        if op.name == "region":
            continue
        use = _USES.get(op.name, _UNARY)
        operands = [
            0 if use.first is None else constant(use.first),
            *(constant(other) for other in use.others),
        ]
        results = []
        for dtype in use.results:
            rank = _rank(op.name, use)
            results.append(len(tensors))
            tensors.append(HostTensor(f"{op.name}{len(results)}", (-1,) * rank, dtype))
        steps.append(HostStep.of(op.name, operands, results, **(use.attributes or {})))
        outputs += results
    program = HostProgram(tuple(tensors), constants, (0,), tuple(outputs), tuple(steps))
    return Package(
        "operators", OVERLAY, program, (), labels=("cat", "Hündin"), preprocess={"mean": [1.5, None, "a\n"]}
    )


def _rank(name: str, use: _Use) -> int:
    """Of the first result."""
    ranks = {
        "argmax": 2,
        "argmin": 2,
        "reshape": 2,
        "expand": 4,
        "non_max_suppression": 2,
        "detection_output": 4,
    }
    return ranks.get(name, (use.first.ndim if use.first is not None else 3))


def network(batch: int = 1, channels: int = 3, weight: NDArray[np.int64] | None = None) -> Package:
    """x -> quantize -> convolution -> softmax; y is an output too. With few channels the input is packed."""
    size, out = 6, 20
    a, y = Tensor("a", (1, channels, size, size), "int8"), Tensor("y", (1, out, size, size), "uint8")
    one = np.ones((out, 1, 1), np.int64)
    rescale = Rescale(one, one * 8, one * 100, 0, 255, "uint8")
    if weight is None:
        weight = RNG.integers(-127, 128, (out, channels, 3, 3))
    conv = Conv2d(weight, 2, rescale, padding=(1, 1, 1, 1))
    graph = Graph("net_0", (a,), (y,), (Node("conv1", conv, (a,), y),))
    region = compile_region(graph, OVERLAY, batch=batch)
    tensors = (
        HostTensor("x", (1, channels, size, size), "float32"),
        HostTensor("scale", (), "float32"),
        HostTensor("zero", (), "int8"),
        HostTensor("q", (1, channels, size, size), "int8"),
        HostTensor("y", (1, out, size, size), "uint8"),
        HostTensor("f", (1, out, size, size), "float32"),
        HostTensor("p", (1, out, size, size), "float32"),
    )
    steps = (
        HostStep("quantize", (0, 1, 2), (3,), {"axis": 0}),
        HostStep("region", (3,), (4,), {"index": 0}),
        HostStep("cast", (4,), (5,)),
        HostStep("softmax", (5,), (6,), {"axis": 1}),
    )
    constants: dict[int, NDArray[Any]] = {1: np.array(0.25, np.float32), 2: np.array(2, np.int8)}
    program = HostProgram(tensors, constants, (0,), (6, 4), steps, batch)
    return Package(
        "net", OVERLAY, program, (region,), report={"layers": [{"name": "conv1"}]}, plan='{"schema": 1}\n'
    )


def packages() -> dict[str, Package]:
    """All of them by name."""
    return {
        "operators": every_operator(),
        "packed": network(),
        "batch": network(batch=3),
        "wide": network(channels=20),
    }


def write(folder: Path) -> list[Path]:
    """Write them as files."""
    for name, package in packages().items():
        package.save(folder / f"{name}.twp")
    return [folder / f"{name}.twp" for name in packages()]
