"""The package `qonnx` as the reference; tests that need it are skipped where it is absent."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]


def qonnx(name: str) -> ModuleType:
    """A module of `qonnx`, whose imports warn."""
    pytest.importorskip("qonnx", reason="pip install qonnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"qonnx.{name}")


def execute(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """Outputs of a model by qonnx's executor, in order."""
    wrapper = qonnx("core.modelwrapper").ModelWrapper
    executor, shapes = qonnx("core.onnx_exec"), qonnx("transformation.infer_shapes")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        known = qonnx("util.cleanup").cleanup_model(wrapper(model)).transform(shapes.InferShapes())
        names = [v.name for v in known.graph.input]
        values = dict(zip(names, feeds.values(), strict=True))
        return list(executor.execute_onnx(known, values).values())
