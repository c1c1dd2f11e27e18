"""Running a float model over the calibration set while watching tensors inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tilewright.errors import DataError, Fault, UnsupportedModel
from tilewright.quantize.samples import Sample

Statistic = Literal["ReduceMean", "ReduceMin", "ReduceMax"]

CHANNEL_AXIS = 1


def watch_channels(
    model: onnx.ModelProto, names: Iterable[str], rank: dict[str, int], kind: Statistic
) -> list[str]:
    """Add an output to `model` for each tensor: `kind` over all axes but the channels', axis 1.

    Returns:
        The names of the added outputs, in the order of `names`; each is a vector.
    """
    graph = model.graph
    added = []
    for name in names:
        axes = [k for k in range(rank[name]) if k != CHANNEL_AXIS]
        axes_name, result = f"{name}/{kind}/axes", f"{name}/{kind}"
        graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), axes_name))
        graph.node.append(
            helper.make_node(
                kind, [name, axes_name], [result], name=result, keepdims=0, noop_with_empty_axes=1
            )
        )
        graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
        added.append(result)
    return added


def open_session(model: onnx.ModelProto | str, exact: bool = False) -> ort.InferenceSession:
    """Open a model (or a file) with ONNX Runtime on the processor, silently.

    Args:
        model: float, or quantised.
        exact: without the optimisations that change results of quantised models.

    Raises:
        UnsupportedModel: ONNX Runtime does not run it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Layout transformations would make results depend on the processor.
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if exact else levels.ORT_ENABLE_BASIC
    content = model if isinstance(model, str) else model.SerializeToString()
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise _runtime_refuses(error) from error


def run_session(session: ort.InferenceSession, names: list[str] | None, sample: Sample) -> list[NDArray[Any]]:
    """Run a session on one sample and return the outputs `names`, or all.

    Raises:
        UnsupportedModel: ONNX Runtime fails, as on a node whose inputs do not fit each other.
    """
    try:
        values: list[NDArray[Any]] = session.run(names, dict(sample))
    except _ORT_ERRORS as error:
        raise _runtime_refuses(error) from error
    return values


# ONNX Runtime's errors (Fail, InvalidGraph, ...) have no common base but Exception.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        kind
        for kind in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)


def _runtime_refuses(error: Exception) -> UnsupportedModel:
    return UnsupportedModel(f"ONNX Runtime cannot run the float model for calibration: {error}")


def run_samples(
    session: ort.InferenceSession, names: list[str], batches: Iterable[list[Sample]]
) -> Iterator[list[NDArray[Any]]]:
    """Yield the outputs `names` of each sample."""
    for batch in batches:
        for sample in batch:
            yield run_session(session, names, sample)


def require_finite(tensors: Iterable[str], values: Iterable[NDArray[Any]]) -> None:
    """Raise DataError for the first of `tensors`, which are in topological order, that is not finite."""
    for name, value in zip(tensors, values, strict=True):
        if not np.isfinite(value).all():
            found = "NaN" if np.isnan(value).any() else "infinity"
            raise DataError(
                Fault(
                    f"activations of tensor {name!r} hold {found} on a calibration sample",
                    remedy="check the preprocessing and the model's weights",
                )
            )
