"""The integer level, the reference simulator and the fast simulator on the same input, compared bit for bit.

A whole package runs in the runtime; every call of a region goes to all three, so the regions of a network see the very
bytes that they see in use. Of networks too large for that, each layer of a shape of its own runs alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Node
from tilewright.frontend.model import Model
from tilewright.integer.emit import emit
from tilewright.integer.parse import kind_of
from tilewright.relay_passes.partition import is_region
from tilewright.relay_passes.pipeline import partitioned
from tilewright.relay_passes.rewrite import bindings_of
from tilewright.runtime.native import NativeProgram
from tilewright.targets.config import Overlay
from tilewright.targets.memory_map import pack, unpack
from tilewright.targets.package import Package
from tilewright.targets.program import encode_program, encode_region
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.program import DramImage, Program, RunResult

Array = NDArray[np.generic]
Bytes = NDArray[np.uint8]
Simulator = Callable[[Program, DramImage], RunResult]


@dataclass
class Comparison:
    """What a region or layer gave at the three levels.

    Attributes:
        name: of the region or layer.
        elements: results compared.
        reference_differs, integer_differs: results of the reference simulator and of the integer level that are not
            the fast simulator's.
        seconds: of each level: integer, reference, fast.
    """

    name: str
    elements: int
    reference_differs: int
    integer_differs: int
    seconds: dict[str, float]

    @property
    def equal(self) -> bool:
        """Whether all levels agree, on at least one element."""
        return self.elements > 0 and not self.reference_differs and not self.integer_differs


class IntegerLevel:
    """Functions of the integer level by TVM llvm: regions by their names, and composites."""

    def __init__(self, module: IRModule) -> None:
        self._machine = relax.VirtualMachine(
            tvm.compile(module, target=tvm.target.Target({"kind": "llvm"})), tvm.cpu()
        )

    @staticmethod
    def of_regions(module: IRModule) -> IntegerLevel:
        """The regions of a partitioned module, their composites as ordinary functions."""
        functions: dict[GlobalVar, relax.Function] = {}
        for symbol, function in module.functions.items():
            if is_region(function):
                functions.update(_flat(symbol.name_hint, function))
        return IntegerLevel(IRModule(functions))

    @staticmethod
    def of_node(node: Node) -> IntegerLevel:
        """One operator, under the name `layer`."""
        body = emit(node.operator, [(t.shape, t.dtype) for t in node.inputs], node.name)
        return IntegerLevel(IRModule({GlobalVar("layer"): _ordinary(body, "layer")}))

    def run(self, name: str, arrays: Sequence[Array]) -> list[Array]:
        """Call a function; gives its results in order."""
        result = self._machine[name](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays))
        return [np.asarray(r.numpy()) for r in ([result] if hasattr(result, "numpy") else result)]


def _ordinary(function: relax.Function, symbol: str) -> relax.Function:
    for attribute in ("Composite", "Primitive", "Codegen"):
        function = function.without_attr(attribute)
    return function.with_attr("global_symbol", symbol)


def _flat(name: str, region: relax.Function) -> dict[GlobalVar, relax.Function]:
    """A region with its local functions as global ones."""
    functions: dict[GlobalVar, relax.Function] = {}
    symbols: dict[str, GlobalVar] = {}
    bindings = []
    for binding in bindings_of(region):
        value = binding.value
        if kind_of(value):
            label = f"{name}_{len(symbols)}"
            symbol = GlobalVar(label)
            body = _ordinary(value, label)
            relax.expr._update_type(symbol, body.ty)
            functions[symbol] = body
            symbols[binding.var.name] = symbol
            continue
        if isinstance(value, relax.Call) and getattr(value.op, "name", "") in symbols:
            value = relax.Call(symbols[value.op.name], value.args, ret_ty=value.ty)
            binding = relax.VarBinding(binding.var, value)
        bindings.append(binding)
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], region.body.body)
    relax.expr._update_type(body, region.body.body.ty)
    main = relax.Function(region.params, body, region.ret_ty, region.is_pure, region.attrs)
    functions[GlobalVar(name)] = _ordinary(main, name)
    return functions


def _timed(seconds: dict[str, float], level: str, run: Callable[[], list[Array]]) -> list[Array]:
    start = time.perf_counter()
    result = run()
    seconds[level] = time.perf_counter() - start
    return result


def compare_region(
    region: CompiledRegion, overlay: Overlay, inputs: Bytes, integer: Callable[[Sequence[Array]], list[Array]]
) -> tuple[Comparison, Bytes]:
    """Run a region on the bytes of its input segment at three levels; also gives the fast simulator's outputs.

    Raises SimError where a simulator finds a fault.
    """
    program = Program(region.stream, overlay, tuple(region.layers[i] for i in region.layer_of))
    dram = DramImage(
        np.frombuffer(region.constants, np.uint8), inputs, region.workspace_bytes, region.output_bytes
    )
    seconds: dict[str, float] = {}
    segments: dict[str, Bytes] = {}

    def simulate(level: str, run: Simulator) -> list[Array]:
        segments[level] = run(program, dram).outputs
        return [unpack(layout, segments[level], overlay.inp_bits) for layout in region.outputs]

    arrays = [unpack(layout, inputs, overlay.inp_bits) for layout in region.inputs]
    exact = _timed(seconds, "integer", lambda: integer(arrays))
    slow = _timed(seconds, "reference", lambda: simulate("reference", reference.run))
    quick = _timed(seconds, "fast", lambda: simulate("fast", fast.run))
    return (
        Comparison(
            region.name,
            sum(a.size for a in quick),
            sum(int((a != b).sum()) for a, b in zip(quick, slow, strict=True)),
            sum(int((a != b).sum()) for a, b in zip(quick, exact, strict=True)),
            seconds,
        ),
        segments["fast"],
    )


def compare_package(package: Package, model: Model, feeds: Mapping[str, Array]) -> list[Comparison]:
    """Run a package whole, every call of a region at three levels.

    Args:
        package: of `model`.
        model: quantised.
        feeds: one array for each input, in the types of the package.
    """
    integer = IntegerLevel.of_regions(partitioned(model.relax(), package.overlay))
    native = NativeProgram(
        encode_program(package.program),
        [(encode_region(r, package.overlay), r.stream, r.constants) for r in package.regions],
    )
    found: list[Comparison] = []

    def accelerator(number: int, inputs: bytes) -> bytes:
        region = package.regions[number]
        comparison, outputs = compare_region(
            region,
            package.overlay,
            np.frombuffer(inputs, np.uint8),
            lambda arrays: integer.run(region.name, arrays),
        )
        found.append(comparison)
        return outputs.tobytes()

    native.set_accelerator(accelerator)
    native.run([np.asarray(feeds[t.name], t.dtype) for t in package.inputs])
    return found


def _shape_of(value: object) -> object:
    """What of an operator decides which instructions it becomes: all but the numbers in its arrays."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str
    if is_dataclass(value):
        return type(value).__name__, tuple(_shape_of(getattr(value, f.name)) for f in fields(value))
    return value


def distinct_layers(graphs: Sequence[Graph]) -> Iterator[Node]:
    """Layers, each shape once. Layouts only say how the next layer reads, and are left out."""
    seen: set[object] = set()
    for node in (node for graph in graphs for node in graph.nodes):
        rescale = getattr(node.operator, "rescale", None)
        attributes = [
            (f.name, _shape_of(getattr(node.operator, f.name)))
            for f in fields(node.operator)
            if f.name not in ("rescale", "table") and not f.name.startswith("zero_point") and f.name != "m2"
        ]
        key = (
            node.operator.kind,
            tuple(attributes),
            rescale is not None and rescale.m_neg is not None,
            tuple((t.shape, t.dtype) for t in (*node.inputs, node.output)),
        )
        if node.operator.kind != "layout" and key not in seen:
            seen.add(key)
            yield node


def compare_layer(node: Node, overlay: Overlay, seed: int = 0) -> Comparison:
    """Compile one layer alone and run it at three levels on seeded random integers."""
    inputs = tuple({t.name: t for t in node.inputs}.values())
    region = compile_region(Graph("layer", inputs, (node.output,), (node,)), overlay)
    random = np.random.default_rng(seed)
    segment = np.zeros(region.input_bytes, np.uint8)
    for layout in region.inputs:
        stored = random.integers(0, layout.storage.largest + 1, layout.shape)
        pack(layout, layout.storage.values(stored), segment, overlay.inp_bits)
    integer = IntegerLevel.of_node(node)
    order = [inputs.index(t) for t in node.inputs]
    comparison, _ = compare_region(
        region, overlay, segment, lambda arrays: integer.run("layer", [arrays[i] for i in order])
    )
    comparison.name = node.name
    return comparison
