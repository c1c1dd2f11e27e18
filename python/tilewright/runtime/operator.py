"""Run one host operator by itself, as the interpreter runs it in a package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from numpy.typing import NDArray

from tilewright.runtime.native import NativeProgram
from tilewright.targets.host_ops import AttributeValue, HostDType
from tilewright.targets.program import HostProgram, HostStep, HostTensor, encode_program

Array = NDArray[Any]


def run_operator(
    op: str,
    arrays: Sequence[Array],
    results: Sequence[tuple[str, Sequence[int]]],
    **attributes: AttributeValue,
) -> list[Array]:
    """Run an operator of `targets/host_ops.py` on arrays.

    `results` declares type and shape of each result, -1 where a length is known at run time only; `attributes` are
    all of the operator's, in any order. Raises PackageError and DataError as a package with that step would.

    >>> import numpy as np
    >>> run_operator("argmax", [np.array([1, 3, 2], np.int8)], [("int64", ())], axis=0, keepdims=0)
    [array(1)]
    """
    tensors = [HostTensor(f"in{i}", a.shape, cast(HostDType, a.dtype.name)) for i, a in enumerate(arrays)]
    tensors += [HostTensor(f"out{i}", tuple(s), cast(HostDType, t)) for i, (t, s) in enumerate(results)]
    inputs, outputs = tuple(range(len(arrays))), tuple(range(len(arrays), len(tensors)))
    step = HostStep.of(op, inputs, outputs, **attributes)
    program = HostProgram(tuple(tensors), {}, inputs, outputs, (step,))
    program.check(0)
    return NativeProgram(encode_program(program), []).run(arrays)[0]
