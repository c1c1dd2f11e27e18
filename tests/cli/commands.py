"""Run commands as a user does, and small models for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from typer.testing import CliRunner, Result

from tilewright.cli.app import app

DEMO = Path(__file__).resolve().parents[2] / "tutorials" / "demo"
DEMO_MODEL = (
    str(DEMO / "digits.prototxt"),
    "--weights",
    str(DEMO / "digits.caffemodel"),
    "--mean",
    "128",
    "--std",
    "128",
)
TARGET = ("--target", "ultra96-w8")


def invoke(*arguments: str | Path) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def document(result: Result) -> dict[str, Any]:
    """The JSON document that a command printed; nothing else may be on stdout."""
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def fault(result: Result) -> str:
    """The message of a command that refused its input; nothing may be on stdout, and no traceback anywhere."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").rstrip("\n")


def process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m tilewright` in a process of its own; what counts lines would fail where files cannot be written."""
    command = [sys.executable, "-m", "tilewright", *(str(a) for a in arguments)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    environment["PYTHONWARNINGS"] = "default"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment, **options
    )


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """A node called like its first output."""
    made: onnx.NodeProto = helper.make_node(op, list(inputs), list(outputs), name=outputs[0], **attributes)
    return made


def write_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[np.generic]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
) -> Path:
    """Write an ONNX model of float inputs and outputs."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def small_model(
    path: Path, *, weight: NDArray[np.float32] | None = None, shape: Sequence[int | str] = (1, 3, 8, 8)
) -> Path:
    """Convolution, rectifier and mean: five classes of 8x8 images of three channels."""
    if weight is None:
        weight = np.random.default_rng(5).standard_normal((5, 3, 3, 3)).astype(np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["conv"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["conv"], ["relu"]),
        node("GlobalAveragePool", ["relu"], ["mean"]),
        node("Flatten", ["mean"], ["y"]),
    ]
    return write_model(path, nodes, {"w": weight}, {"x": shape}, ["y"])
