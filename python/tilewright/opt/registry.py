"""All passes by name, made from the passes as they are: ONNX rewrites, quantiser, Relax passes, code generation.

A row says from which levels to which a pass leads, which options it has (the fields of its class, with their types
and defaults), and what it keeps of the network's function. What the compiler runs are sequences of the same rows.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tvm import ir as tvm_ir
from tvm_ffi import structural_equal

from tilewright import pipeline
from tilewright.codegen.legal import check
from tilewright.codegen.network import compile_regions, plan_regions
from tilewright.codegen.plan import Plan
from tilewright.errors import Fault, UnsupportedModel
from tilewright.frontend import canonical
from tilewright.opt.state import Level, State
from tilewright.quantize.options import Mixed, QuantizeOptions
from tilewright.quantize.quantizer import equalise_onnx
from tilewright.relay_passes import pipeline as relax_pipeline
from tilewright.relay_passes.partition import Partition, find_evictions, is_region
from tilewright.relay_passes.regions import Regions, graphs_of
from tilewright.relay_passes.supported import Stages
from tilewright.targets.config import overlay

Keeps = Literal["bits", "rounding", "steps", "meaning"]
"""What of the results stays: every bit; all but float rounding; every layer within a step; what they are about."""


@dataclass(frozen=True)
class Option:
    """An option: the field `name` of the pass's class. `kind` is its annotation."""

    name: str
    kind: Any
    default: Any

    @property
    def type_text(self) -> str:
        """Its type as a person writes it."""
        return type_text(self.kind)


@dataclass(frozen=True)
class PassRow:
    """A pass.

    Attributes:
        name: as it is written behind `-p`.
        doc: one line.
        takes: levels at which it runs.
        gives: the level that it leads to; "" where it stays.
        options: by name.
        keeps: by the level at which it runs.
        run: changes the state; whether anything changed.
        tolerance: relative change of constants that a rewrite of a float network takes for equal.
    """

    name: str
    doc: str
    takes: tuple[Level, ...]
    gives: Level | Literal[""]
    options: Mapping[str, Option]
    keeps: Mapping[Level, Keeps]
    run: Callable[[State, Mapping[str, Any]], bool]
    tolerance: float = 0.0


_TYPES: Mapping[Any, str] = {
    type(None): "none",
    bool: "true or false",
    int: "int",
    float: "float",
    Path: "file",
    Mixed: "points=P or width=W",
}


def type_text(kind: Any) -> str:
    """`int`, `minmax or entropy`, `int or none`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if arguments:
        return " or ".join(dict.fromkeys(type_text(a) for a in arguments))
    return _TYPES.get(kind, "text")


def _doc(thing: object) -> str:
    """First line of what documents a pass: its file's, for there is one a pass."""
    text = inspect.getdoc(sys.modules[thing.__module__] if isinstance(thing, type) else thing) or ""
    return re.sub(r" \(:\w+:`[^`]*`\)", "", text.splitlines()[0]).rstrip(".:")


def _options(kind: type, skip: tuple[str, ...] = ()) -> dict[str, Option]:
    hints = typing.get_type_hints(kind)
    return {
        f.name: Option(f.name, hints[f.name], f.default)
        for f in dataclasses.fields(kind)
        if f.name not in skip
    }


def _rewrite(kind: type[canonical.RewritePass]) -> PassRow:
    """A rewrite of ONNX."""

    def run(state: State, options: Mapping[str, Any]) -> bool:
        graph = state.rewritable()
        changed = kind(**options)(graph)
        if changed:
            graph.sort()
            canonical.check_graph(graph, kind.name)
        return changed

    takes: tuple[Level, ...] = ("float", "quantised") if kind.on_quantised else ("float",)
    keeps: dict[Level, Keeps] = {"float": "rounding", "quantised": "meaning" if kind.rounds_sums else "bits"}
    return PassRow(kind.name, _doc(kind), takes, "", _options(kind), keeps, run, kind.tolerance)


def _relax(name: str, make: Callable[[Any], relax_pipeline.Pass]) -> PassRow:
    """A pass over Relax; options that are widths have the overlay's as default."""
    sample = make(overlay("ultra96-w8"))
    kind = type(sample)
    takes, gives = cast(Level, sample.takes), cast(Level, sample.gives)

    def run(state: State, options: Mapping[str, Any]) -> bool:
        before = state.module
        made = dataclasses.replace(make(state.overlay), **options)  # type: ignore[type-var]
        if gives == "integer":
            state.module = made(before)
            return not structural_equal(before, state.module)
        assert isinstance(made, Partition)
        found = find_evictions(before, lambda node: check(node, state.overlay))
        state.integer = before
        state.module = made(before, found)
        stages = Stages(state.imported or before, before, found)
        state.regions = Regions(stages, state.module, graphs_of(state.module))
        return not structural_equal(before, state.module)

    options = {
        o.name: dataclasses.replace(o, default="the overlay's") for o in _options(kind, ("overlay",)).values()
    }
    keeps: Keeps = "steps" if takes == "graph" else "bits"
    return PassRow(name, _doc(kind), (takes,), "" if takes == gives else gives, options, {takes: keeps}, run)


def _equalise(state: State, options: Mapping[str, Any]) -> bool:
    model = state.settle()
    if state.calibration is None:
        raise pipeline.no_calibration(model.name)
    samples = pipeline.calibration_samples(model, state.calibration, state.layout)
    proto = equalise_onnx(model.proto, samples, **options)
    changed = proto is not model.proto
    state.model = dataclasses.replace(model, proto=proto)
    return changed


def _quantise(state: State, options: Mapping[str, Any]) -> bool:
    chosen = QuantizeOptions(**options)
    state.model = pipeline.quantize(
        state.settle(), state.calibration, target=state.overlay, options=chosen, layout=state.layout
    )
    return True


def _import(state: State, options: Mapping[str, Any]) -> bool:
    state.imported = state.module = state.settle().relax()
    return True


def _plan(state: State, options: Mapping[str, Any]) -> bool:
    assert state.regions is not None, "the level is regions"
    file = options.get("file")
    if file is None:
        state.plan = plan_regions(state.regions.graphs, state.overlay, state.batch)
    else:
        state.plan = Plan.read(file, state.overlay)
    return True


def _emit(state: State, options: Mapping[str, Any]) -> bool:
    assert state.regions is not None, "the level is planned"
    graphs = state.regions.graphs
    state.streams, state.plan = compile_regions(graphs, state.overlay, state.plan, state.batch)
    return True


def _link(state: State, options: Mapping[str, Any]) -> bool:
    assert state.regions is not None and state.plan is not None, "the level is stream"
    if state.model is None:
        raise UnsupportedModel(
            Fault(
                "a package needs the ONNX model that Relax came from",
                state.name,
                "give the model, or stop at emit",
            )
        )
    host = pipeline.host_part(state.model, state.regions, state.overlay)
    package = pipeline.link(state.model, state.overlay, host, state.streams, state.plan)
    state.package = package.strip() if options.get("strip") else package
    return True


@dataclass(frozen=True)
class _PlanOptions:
    file: Path | None = None


@dataclass(frozen=True)
class _LinkOptions:
    strip: bool = False


@dataclass(frozen=True)
class _EqualiseOptions:
    statistics_samples: int = QuantizeOptions.statistics_samples


@dataclass(frozen=True)
class _NoOptions:
    pass


def _step(
    name: str,
    doc: str,
    takes: Level,
    gives: Level | Literal[""],
    keeps: Keeps,
    run: Callable[[State, Mapping[str, Any]], bool],
    options: type = _NoOptions,
) -> PassRow:
    return PassRow(name, doc, (takes,), gives, _options(options), {takes: keeps}, run)


_ROWS = (
    *(_rewrite(type(p)) for p in canonical.PASSES),
    _step(
        "equalise",
        "Rescale channels between convolutions (cross-layer equalisation)",
        "float",
        "",
        "rounding",
        _equalise,
        _EqualiseOptions,
    ),
    _step(
        "quantise",
        "Ranges, scales and integer weights",
        "float",
        "quantised",
        "meaning",
        _quantise,
        QuantizeOptions,
    ),
    _step("import", "ONNX to Relax", "quantised", "graph", "meaning", _import),
    *(_relax(name, make) for name, make in relax_pipeline.PASSES.items()),
    _step(
        "plan",
        "Group, cut and keep layers; or read such a plan",
        "regions",
        "planned",
        "bits",
        _plan,
        _PlanOptions,
    ),
    _step("emit", "Buffers, instructions and constants by the plan", "planned", "stream", "bits", _emit),
    _step("link", "Regions and the host's part together", "stream", "package", "bits", _link, _LinkOptions),
)

PASSES: Mapping[str, PassRow] = {row.name: row for row in _ROWS}
"""All passes by name, in the order in which the compiler runs them."""

SEQUENCES: Mapping[str, str] = {
    "canonicalise": f"({','.join(p.name for p in canonical.PASSES)})*",
    "lower": ",".join(relax_pipeline.PASSES),
    "generate": "plan,emit,link",
}
"""Names for sequences; those that the compiler runs."""

DEFAULTS: Mapping[Level, str] = {
    "float": "canonicalise,quantise,import,lower,generate",
    "quantised": "canonicalise,import,lower,generate",
    "graph": "lower,plan,emit",
    "integer": ",".join(list(relax_pipeline.PASSES)[1:]) + ",plan,emit",
    "regions": "plan,emit",
}
"""What is run where no pass is asked for, by the level of the file."""


def relax_level(module: tvm_ir.IRModule) -> Level:
    """The level of a module."""
    functions = list(module.functions.values())
    if any(is_region(f) for f in functions):
        return "regions"
    composite = any(f.attrs is not None and "Composite" in f.attrs for f in functions)
    return "integer" if composite else "graph"
