"""The smallest part of a network that shows a fault, as files and a command that shows it again.

The faulty layer is tried alone, its operands being inputs that carry the very integers; then with the layers before it,
one, two, four and so on deep; at last the whole network by the package's plan. Each part is compiled and verified from
its file, and the first in which the same layer is at fault at the same level is kept. Where none shows it, the fault is
in the package's bytes and not in the compiler.
"""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tilewright.codegen.plan import Plan
from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.frontend.model import Model
from tilewright.pipeline import compile
from tilewright.targets.package import Package
from tilewright.verify.api import Verifier
from tilewright.verify.layers import Array, Layer, Operand
from tilewright.verify.result import FLOAT, GRAPH, INTEGER, QUANTISED, TILE, Verification

_LEVELS = {
    QUANTISED: (FLOAT, QUANTISED),
    GRAPH: (GRAPH,),
    INTEGER: (INTEGER,),
    TILE: (INTEGER, TILE),
    "reference": (INTEGER, TILE, "reference"),
    "fast": (INTEGER, TILE, "reference", "fast"),
}
"""What must run to see a fault of a level."""


@dataclass(frozen=True)
class Bisection:
    """What was found.

    Attributes:
        folder: holds network.onnx, inputs.npz, command.txt, and where they are needed float.onnx and plan.json.
        layers: names of those in the network.
        reproduced: whether the files show the fault.
        command: that shows it.
    """

    folder: Path
    layers: tuple[str, ...]
    reproduced: bool
    command: str


@dataclass(frozen=True)
class _Part:
    layers: tuple[str, ...]
    quantised: onnx.ModelProto
    real: onnx.ModelProto | None
    inputs: Mapping[str, Array]
    plan: str | None = None


def bisect(verifier: Verifier, found: Verification, folder: Path | str) -> Bisection:
    """Look for the smallest part that shows the first fault of a verification, and write it.

    Raises ConfigError where nothing is wrong, the fault has no layer, or the folder cannot be written.
    """
    fault = found.first
    if fault is None or not fault.layer:
        text = "nothing is wrong" if fault is None else f"the fault names no layer: {fault}"
        raise ConfigError(Fault(f"there is nothing to bisect: {text}", "--bisect"))
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(Fault(f"cannot be made: {error.strerror or error}", str(folder))) from error
    first: _Part | None = None
    for part in _parts(verifier, fault.layer, fault.level):
        first = first or part
        if _shows(verifier, part, fault.level, fault.layer):
            return _write(verifier, part, fault.level, folder, True)
    assert first is not None  # the whole network is one
    return _write(verifier, first, fault.level, folder, False)


def _parts(verifier: Verifier, name: str, level: str) -> Iterator[_Part]:
    """Parts of the network that end with a layer, small ones first."""
    last = next((x for x in verifier.layers if x.name == name), None)
    if last is not None:
        by_variable = {x.variable: x for x in verifier.layers}
        held = [last]
        depth = 1
        while True:
            part = _part(verifier, held, level)
            if part is not None:
                yield part
            grown = held
            for _ in range(depth):
                grown = _with_makers(grown, by_variable)
            depth *= 2
            if len(grown) in (len(held), len(verifier.layers)):
                break
            held = grown
    names = tuple(x.name for x in verifier.layers)
    yield _Part(names, verifier.quantised, verifier.float, verifier.images[0], verifier.package.plan)


def _with_makers(held: Sequence[Layer], by_variable: Mapping[str, Layer]) -> list[Layer]:
    """The layers with those that make what they read."""
    more = {name for x in held for name in (x.variable, *x.operands)}
    return [x for name, x in by_variable.items() if name in more]


def _part(verifier: Verifier, held: Sequence[Layer], level: str) -> _Part | None:
    """Layers as a network of their own; None where a tensor at its edge has no float form."""
    last = held[-1]
    made = {x.variable for x in held}
    known: dict[str, Layer | Operand] = {x.variable: x for x in verifier.tensors}
    edges = [
        known.get(name) for name in dict.fromkeys(n for x in held for n in x.operands) if name not in made
    ]
    end = last.dequantised
    inputs: dict[str, Array] = {}
    for x in edges:
        if x is None or x.real is None or x.scale is None or x.tensor is None:
            return None
        values = (
            verifier.results.values.get(INTEGER, {}).get(x.variable)
            if level not in (QUANTISED, GRAPH)
            else None
        )
        values = values if values is not None else verifier.results.values[QUANTISED].get(x.variable)
        if values is None:
            return None
        inputs[x.real] = x.scale.values(values[0]).astype(np.float32)
    if end is None or not inputs:
        return None
    shape = verifier.results.values[QUANTISED][last.variable].shape[1:]
    quantised = cut(verifier.quantised, inputs, end, shape)
    real: onnx.ModelProto | None = None
    if verifier.float is not None and level == QUANTISED:
        if last.variable not in verifier.float_name:
            return None
        real = cut(verifier.float, inputs, verifier.float_name[last.variable], shape)
    if quantised is None or (level == QUANTISED and real is None):
        return None
    return _Part(tuple(x.name for x in held), quantised, real, inputs)


def cut(
    model: onnx.ModelProto, inputs: Mapping[str, Array], output: str, shape: Sequence[int]
) -> onnx.ModelProto | None:
    """The part of a model between tensors and a tensor of a shape; None where that reads an input of the whole."""
    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed & (set(node.output) - set(inputs)):
            nodes.append(node)
            needed |= set(node.input)
    if {value.name for value in model.graph.input} & needed - set(inputs):
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = [item for item in model.graph.initializer if item.name in needed]
    del graph.node[:], graph.input[:], graph.output[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes[::-1])
    graph.initializer.extend(weights)
    graph.input.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
        for name, array in inputs.items()
        if name in needed
    )
    graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, list(shape)))
    return result


def _model(part: _Part, batch: int) -> Model:
    return Model(proto=part.quantised, float_proto=part.real, batch=batch)


def _levels(verifier: Verifier, level: str) -> tuple[tuple[str, ...], list[str]]:
    """Levels and back ends that are needed to see a fault of a level."""
    if level in _LEVELS:
        return _LEVELS[level], []
    return _LEVELS["fast"], [level]


def _compiled(verifier: Verifier, part: _Part) -> Package:
    overlay = verifier.package.overlay
    plan = None if part.plan is None else Plan.parse(part.plan, overlay, "section plan")
    return compile(_model(part, verifier.package.batch), overlay, plan=plan)


def _shows(verifier: Verifier, part: _Part, level: str, layer: str) -> bool:
    """Whether a part, compiled anew, has the same layer at fault at the same level."""
    levels, backends = _levels(verifier, level)
    try:
        again = Verifier(
            _compiled(verifier, part),
            [part.inputs],
            levels,
            backends,
            verifier.open_backend,
            None,
            verifier.engine,
        ).run()
    except TilewrightError:
        return False  # a part that cannot be compiled shows nothing
    return again.first is not None and (again.first.level, again.first.layer) == (level, layer)


def _write(verifier: Verifier, part: _Part, level: str, folder: Path, reproduced: bool) -> Bisection:
    levels, backends = _levels(verifier, level)
    files: dict[str, bytes] = {
        "network.onnx": part.quantised.SerializeToString(deterministic=True),
        "inputs.npz": _npz(part.inputs),
    }
    words = ["tilewright", "verify", str(folder / "network.onnx"), "--target", verifier.package.overlay.name]
    words += ["--input", str(folder / "inputs.npz"), "--levels", ",".join(levels)]
    if part.real is not None and FLOAT in levels:
        files["float.onnx"] = part.real.SerializeToString(deterministic=True)
        words += ["--float", str(folder / "float.onnx")]
    if part.plan is not None:
        files["plan.json"] = json.dumps(json.loads(part.plan), indent=1).encode()
        words += ["--plan", str(folder / "plan.json")]
    if verifier.package.batch > 1:
        words += ["--batch", str(verifier.package.batch)]
    for backend in backends:
        words += ["--backend", backend]
    command = shlex.join(words)
    files["command.txt"] = (command + "\n").encode()
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise ConfigError(Fault(f"cannot be written: {error.strerror or error}", str(folder))) from error
    return Bisection(folder, part.layers, reproduced, command)


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """As `numpy.savez` writes it, which takes no arrays that are called like its parameters."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
