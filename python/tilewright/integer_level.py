"""The integer level as a whole: make it, run it by TVM llvm, compare it layer by layer with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime
import tvm
from numpy.typing import NDArray
from onnx import helper
from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.frontend.relax_import import Sources, to_relax
from tilewright.integer.evaluate import evaluate
from tilewright.integer.parse import kind_of, parse
from tilewright.relay_passes.partition import is_region
from tilewright.relay_passes.pipeline import integer_passes
from tilewright.relay_passes.rewrite import bindings_of, with_same_blocks
from tilewright.targets.config import Overlay, overlay

Array: TypeAlias = NDArray[Any]
Run: TypeAlias = Callable[[GlobalVar, Sequence[Array]], Array]


@dataclass(frozen=True)
class LayerAgreement:
    """How a layer agrees with ONNX Runtime when both get the same integers.

    Attributes:
        layer: source layer.
        elements: elements compared.
        equal: how many are equal.
        largest: largest difference in steps.
    """

    layer: str
    elements: int
    equal: int
    largest: int

    @property
    def share(self) -> float:
        """Share of equal elements, 0..1."""
        return self.equal / self.elements


DEFAULT_OVERLAY = "ultra96-w8"


def integer_module(model: onnx.ModelProto, target: Overlay | None = None) -> IRModule:
    """Import a quantised model and lower it to integers; not partitioned yet."""
    module = to_relax(model)
    for step in integer_passes(target or overlay(DEFAULT_OVERLAY)):
        module = step(module)
    return module


def _opened(region: relax.Function) -> relax.Function:
    """A region as an ordinary function, and so the composites in it."""
    bindings = [
        relax.VarBinding(b.var, b.value.without_attr("Composite")) if kind_of(b.value) else b
        for b in bindings_of(region)
    ]
    return with_same_blocks(region, bindings).without_attr("Codegen")


def _plain(module: IRModule, public: bool) -> IRModule:
    """Composites and regions as functions that TVM may lower; with `public` composites can be called by name."""
    functions: dict[GlobalVar, relax.Function] = {}
    for symbol, function in module.functions.items():
        if is_region(function):
            function = _opened(function)
        elif kind_of(function):
            function = function.without_attr("Composite").without_attr("Primitive")
            if public:
                function = function.with_attr("global_symbol", symbol.name_hint)
        functions[symbol] = function
    return IRModule(functions)


def region_alone(module: IRModule, name: str) -> IRModule:
    """A region of a partitioned module as a module of its own, to be run by :func:`run_integer`."""
    (region,) = (f for symbol, f in module.functions.items() if symbol.name_hint == name)
    return IRModule({GlobalVar("main"): _opened(region).with_attr("global_symbol", "main")})


def llvm(quick: bool = False) -> tvm.target.Target:
    """TVM's target; `quick` compiles several times faster, to code that is several times slower."""
    return tvm.target.Target({"kind": "llvm", **({"opt-level": 0} if quick else {})})


def _machine(module: IRModule, quick: bool = False) -> relax.VirtualMachine:
    executable = tvm.compile(relax.transform.LambdaLift()(module), target=llvm(quick))
    return relax.VirtualMachine(executable, tvm.cpu())


def _arrays(result: Any) -> list[Array]:
    return (
        [np.asarray(r.numpy()) for r in result]
        if hasattr(result, "__len__")
        else [np.asarray(result.numpy())]
    )


def run_integer(module: IRModule, inputs: Sequence[Array]) -> list[Array]:
    """Run an integer module, with regions or without, by TVM llvm. `inputs` in the order of the model's inputs."""
    machine = _machine(_plain(module, public=False))
    result = machine["main"](*[tvm.runtime.tensor(np.ascontiguousarray(x)) for x in inputs])
    return _arrays(result) if not hasattr(result, "numpy") else [np.asarray(result.numpy())]


def reference_tensors(
    model: onnx.ModelProto, inputs: Mapping[str, Array], names: Sequence[str]
) -> dict[str, Array]:
    """Tensors of a model by ONNX Runtime without optimisation."""
    wanted = onnx.ModelProto()
    wanted.CopyFrom(model)
    present = {o.name for o in wanted.graph.output}
    for name in names:
        if name not in present:
            wanted.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        wanted.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def _by_llvm(module: IRModule, quick: bool = False) -> Run:
    machine = _machine(
        _plain(IRModule({s: f for s, f in module.functions.items() if kind_of(f)}), public=True), quick
    )

    def run(symbol: GlobalVar, args: Sequence[Array]) -> Array:
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in args]
        return np.asarray(machine[symbol.name_hint](*tensors).numpy())

    return run


def _by_numpy(module: IRModule, quick: bool = False) -> Run:
    return lambda symbol, args: evaluate(parse(module[symbol]), args)


ENGINES: dict[str, Callable[..., Run]] = {"llvm": _by_llvm, "numpy": _by_numpy}
"""What runs single layers: TVM llvm, the integer level proper, or NumPy, which has nothing to compile. Called with the
module, and whether compilation is to be quick."""


def layerwise_compare(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    module: IRModule | None = None,
    engine: Literal["llvm", "numpy"] = "llvm",
) -> list[LayerAgreement]:
    """Run each integer layer on ONNX Runtime's own integers and compare the results.

    Args:
        model: quantised model.
        inputs: by input name, batch 1.
        module: its integer module, if there is one already.
        engine: what runs the layers.
    """
    module = integer_module(model) if module is None else module
    run = ENGINES[engine](module)
    main = module["main"]
    sources = Sources.of(main)
    tensor_of = {variable: tensor for tensor, variable in reversed(sources.variable_of.items())}
    calls = [
        b for b in bindings_of(main) if isinstance(b.value, relax.Call) and isinstance(b.value.op, GlobalVar)
    ]
    needed = {b.var.name for b in calls} | {a.name for b in calls for a in b.value.args}
    names = sorted({tensor_of[v] for v in needed if v in tensor_of})
    reference = reference_tensors(model, inputs, names)
    values = {v: reference[tensor_of[v]] for v in needed if v in tensor_of}
    rows: list[LayerAgreement] = []
    for binding in calls:
        found = run(binding.value.op, [values[a.name] for a in binding.value.args])
        name = binding.var.name
        if name not in values:
            values[name] = found
            continue
        difference = np.abs(found.astype(np.int64) - values[name].astype(np.int64))
        node = module[binding.value.op].attrs["tilewright.layer"]
        rows.append(
            LayerAgreement(str(node), difference.size, int((difference == 0).sum()), int(difference.max()))
        )
    return rows
