"""One network through all levels: what is checked, and how a finding is kept.

Float ONNX is canonicalised and quantised; each integer layer is compared with ONNX Runtime on its own integers. Then
the package runs whole, and every call of a region at the integer level, on the reference and on the fast simulator, bit
for bit; last every region under random legal plans.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.benchmark.fuzz.draw import draw_feeds
from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.benchmark.levels import compare_package
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.prepared import prepare
from tilewright.errors import DataError, Fault, ScheduleError, UnsupportedModel
from tilewright.frontend.canonical import canonicalise
from tilewright.frontend.model import Model
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.integer.evaluate import evaluate
from tilewright.integer_level import layerwise_compare
from tilewright.pipeline import compile, quantize
from tilewright.quantize.options import QuantizeOptions
from tilewright.relay_passes.regions import find_regions
from tilewright.targets.config import Overlay
from tilewright.targets.memory_map import pack, unpack
from tilewright.targets.sim import fast
from tilewright.targets.sim.program import DramImage, Program

Array = NDArray[np.generic]
LARGEST_STEP = 1
"""ONNX Runtime sums in float32 where the machine sums integers: a result may be rounded to a neighbour."""
REFUSALS = (UnsupportedModel, ScheduleError)
"""What may come of a valid network: an operator that nobody runs, a layer that no plan fits to a small memory."""


@dataclass(frozen=True)
class Case:
    """A network and all that its way down depends on.

    Attributes:
        model: float ONNX.
        overlay: target.
        bits, activation_bits, edge_bits: as in :class:`tilewright.QuantizeOptions`.
        seed: of inputs and plans.
        plans: random plans of each region.
    """

    model: onnx.ModelProto
    overlay: Overlay
    bits: int = 8
    activation_bits: int | None = None
    edge_bits: int | None = 8
    seed: int = 0
    plans: int = 3

    def save(self, folder: Path) -> None:
        """Write model.onnx, inputs.npz and case.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model.SerializeToString())
        np.savez(folder / "inputs.npz", **draw_feeds(self.model, self.seed, 1)[0])  # type: ignore[arg-type]
        values = {k: getattr(self, k) for k in ("bits", "activation_bits", "edge_bits", "seed", "plans")}
        text = json.dumps({**values, "overlay": asdict(self.overlay)}, indent=1)
        (folder / "case.json").write_text(text + "\n")

    @staticmethod
    def load(folder: Path) -> Case:
        """Read what :meth:`save` wrote. Raises DataError."""
        try:
            values = json.loads((folder / "case.json").read_text())
            model = onnx.ModelProto.FromString((folder / "model.onnx").read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(Fault(f"no finding is kept here: {error}", str(folder))) from None
        return Case(model, Overlay.from_dict(values.pop("overlay")), **values)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: "equal", "refused", or of a finding what it is: "warning", "rounding", "levels", "plan" or an exception's
            name. Findings of one kind are taken for the same when a case is made smaller.
        text: what exactly.
        regions, elements: compared.
    """

    kind: str
    text: str = ""
    regions: int = 0
    elements: int = 0

    @property
    def found(self) -> bool:
        """Whether it is a finding."""
        return self.kind not in ("equal", "refused")


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of a region by NumPy."""
    values = dict(inputs)
    for node in graph.nodes:
        values[node.output.name] = evaluate(node.operator, [values[t.name] for t in node.inputs])
    return values


def check(case: Case) -> Outcome:
    """Take a network through all levels; nothing is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return _check(case)
        except REFUSALS as error:
            return Outcome("refused", str(error))
        except Warning as warning:
            return Outcome("warning", repr(warning))
        except Exception as error:  # noqa: BLE001 - every exception is a finding
            trace = "".join(traceback.format_exception(error))
            return Outcome(type(error).__name__, trace)


def _check(case: Case) -> Outcome:
    model = Model(canonicalise(load_onnx(case.model.SerializeToString())))
    options = QuantizeOptions(
        bits=case.bits,
        activation_bits=case.activation_bits,
        edge_bits=case.edge_bits,
        adaptive_rounding=False,
    )
    feeds = draw_feeds(model.proto, case.seed, 3)
    options = replace(options, score_bits=16 if 2 * case.overlay.inp_bits >= 16 else 8)
    options = replace(options, accumulator_bits=min(32, max(case.overlay.acc_bits, 17)))
    small = quantize(model, feeds, options=options)
    for row in layerwise_compare(small.proto, feeds[0], engine="numpy"):
        step = 2 if 1 in (case.bits, case.activation_bits) else 1  # one bit is -1 or +1
        if row.largest > LARGEST_STEP * step:
            return Outcome("rounding", str(row))
    package = compile(small, case.overlay)
    graphs = {g.name: g for g in find_regions(small.relax(), case.overlay).graphs}
    inputs: dict[str, list[Array]] = {}

    def integer(name: str, arrays: Sequence[Array]) -> list[Array]:
        inputs[name] = list(arrays)
        values = run_graph(
            graphs[name], {t.name: a for t, a in zip(graphs[name].inputs, arrays, strict=True)}
        )
        return [values[t.name] for t in graphs[name].outputs]

    found = compare_package(package, small, feeds[0], integer)
    for comparison in found:
        if not comparison.equal:
            return Outcome("levels", f"{case.overlay.name}: {comparison}")
    for name, graph in graphs.items():
        if outcome := _other_plans(graph, case, inputs[name]):
            return outcome
    return Outcome("equal", regions=len(found), elements=sum(c.elements for c in found))


def _other_plans(graph: Graph, case: Case, arrays: Sequence[Array]) -> Outcome | None:
    """Random plans of a region on the fast simulator."""
    machine = case.overlay
    values: dict[str, Any] = run_graph(graph, {t.name: a for t, a in zip(graph.inputs, arrays, strict=True)})
    prepared = prepare(graph, machine)
    rng = np.random.default_rng(case.seed)
    for plan in dict.fromkeys(random_plan(prepared, rng) for _ in range(case.plans)):
        if plan is None:
            continue
        region = compile_prepared(prepared, plan)
        segment = np.zeros(region.input_bytes, np.uint8)
        for layout in region.inputs:
            pack(layout, values[layout.name], segment, machine.inp_bits)
        layers = tuple(region.layers[i] for i in region.layer_of)
        constants = np.frombuffer(region.constants, np.uint8)
        dram = DramImage(constants, segment, region.workspace_bytes, region.output_bytes)
        outputs = fast.run(Program(region.stream, machine, layers), dram).outputs
        for layout in region.outputs:
            differs = int((unpack(layout, outputs, machine.inp_bits) != values[layout.name]).sum())
            if differs:
                return Outcome("plan", f"{layout.name}: {differs} elements differ under {plan!r}")
    return None
