"""From a network to a package in two calls: quantize and compile; supported and plan beside them."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, Fault, UnsupportedModel
from tilewright.evaluation import LABEL_OFFSET
from tilewright.frontend.dataset import Dataset, open_dataset
from tilewright.frontend.model import Model, fit_inputs, require_float, require_quantised
from tilewright.quantize.options import WHOLE_BITS, Method, Mixed, QuantizeOptions
from tilewright.runtime import Package
from tilewright.stages import stage
from tilewright.targets import config
from tilewright.targets.config import Overlay
from tilewright.targets.program import HostProgram
from tilewright.targets.region import CompiledRegion

if TYPE_CHECKING:
    from tilewright.codegen.plan import Plan
    from tilewright.placement import Support
    from tilewright.quantize.steps import Step
    from tilewright.relay_passes.regions import Regions

Array = NDArray[np.generic]
Progress = Callable[[int, int], None]
Calibration: TypeAlias = "str | Path | Array | Dataset | Iterable[Mapping[str, Array] | Array]"

_NEEDED = "give --calibration DIR or NPZ, or random:1 for studies of speed"


def quantize(
    model: Model,
    calibration: Calibration | None,
    bits: int = QuantizeOptions.bits,
    method: Method = QuantizeOptions.method,
    *,
    activation_bits: int | None = None,
    mixed: Mixed | str | None = None,
    target: str | Overlay | None = None,
    options: QuantizeOptions | None = None,
    measure: bool = False,
    layout: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Quantise a float model; the float one is kept beside it::

        small = tw.quantize(model, calibration=images, bits=4, mixed="points=1.0", measure=True)
        for step in small.steps:
            print(step.name, step.snr, step.agreement)

    Args:
        model: from :func:`tilewright.load`.
        calibration: a folder of images, an NPZ, `random:SEED`, an array of images, a set that is open already,
            or any iterable of inputs: mappings from input name to array, or arrays where there is one input.
        bits: width of weights and activations: 8, 4, 2 or 1; the first and last layers have 8.
        method: how ranges are chosen: "minmax", "percentile" or "entropy".
        activation_bits: width of activations where it differs from `bits`.
        mixed: budget within which sensitive layers get 8 bits: "points=1.0" or "width=5".
        target: an overlay, whose accumulators hold the sums and whose planes hold the scores of the result: some
            narrower ones hold less than 32 and 16 bits.
        options: all settings of the quantiser, in place of `bits`, `method`, `activation_bits` and `mixed`.
        measure: tell in `Model.steps` what each step of the quantiser is worth; takes several times as long.
        layout: "nhwc" or "nchw", needed where an array could be either.
        progress: called with the samples done and those of all passes, 0 where their number is not known.

    Raises:
        UnsupportedModel: the model is quantised already, or holds nothing to quantise.
        ConfigError: no calibration, or options out of range.
        DataError: the set is empty, or its images do not fit.
    """
    from tilewright.quantize.quantizer import quantize_onnx  # starts ONNX Runtime

    require_float(model)
    if calibration is None:
        raise no_calibration(model.name)
    budget = Mixed.parse(mixed) if isinstance(mixed, str) else mixed
    chosen = options or QuantizeOptions(
        bits=bits, method=method, activation_bits=activation_bits, mixed=budget
    )
    if target is not None:
        chosen = _fitted(chosen, _overlay(target))
    samples = _Samples(model, calibration, layout)
    if samples.random:
        # Weights fitted to noise are worse than the nearest.
        chosen = replace(chosen, adaptive_rounding=False)
    steps: tuple[Step, ...] = ()
    if measure:
        from tilewright.quantize.steps import quantize_in_steps

        proto, steps = quantize_in_steps(model.proto, list(samples), chosen, progress)
    else:
        proto = quantize_onnx(model.proto, samples, chosen, progress)
    quantised = replace(model.quantised(proto, random_calibration=samples.random), steps=steps)
    if model.labels is None and samples.class_names:
        last = max(samples.class_names)
        quantised = replace(quantised, labels=tuple(samples.class_names.get(i, "") for i in range(last + 1)))
    return quantised


def no_calibration(name: str) -> ConfigError:
    """The error that a float model came without a calibration set."""
    return ConfigError(Fault(f"model {name} is float and needs a calibration set", remedy=_NEEDED))


def _fitted(options: QuantizeOptions, overlay: Overlay) -> QuantizeOptions:
    """The options within what an overlay holds.

    Sums too narrow for a product of 8-bit operands, those of the first and last layers, are left to the compiler, which
    looks at each layer; a result has two planes at most.
    """
    sums = max(overlay.acc_bits, 2 * WHOLE_BITS + 1)
    scores: Literal[8, 16] = 16 if min(2 * overlay.inp_bits, options.score_bits) >= 16 else 8
    return replace(options, accumulator_bits=min(options.accumulator_bits, sums), score_bits=scores)


def calibration_samples(
    model: Model, calibration: Calibration, layout: str | None = None
) -> list[dict[str, Array]]:
    """A calibration set in the types of the model's inputs, as `quantize_onnx` takes it. Raises DataError."""
    return list(_Samples(model, calibration, layout))


class _Samples:
    """Calibration inputs in the types of the model's inputs; knows its length where the caller's set does."""

    def __init__(self, model: Model, source: Calibration, layout: str | None) -> None:
        self._model = model
        self._source = source
        self.random = False
        self.class_names: Mapping[int, str] = {}
        if isinstance(source, str | Path | np.ndarray | Dataset):
            dataset = open_dataset(
                source,
                input_shapes=model.input_shapes,
                preprocess=model.preprocess,
                layout=layout,
                label_offset=model.label_offset,
                classes=model.classes,
            )
            self.random, self.class_names = dataset.random, dataset.class_names
            self._source = dataset

    def __length_hint__(self) -> int:
        return operator.length_hint(self._source, 0)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        graph = self._model.proto.graph
        if isinstance(self._source, Dataset):
            for feeds, _ in self._source:
                yield fit_inputs(feeds, graph)
            return
        assert not isinstance(self._source, str | Path)  # these were opened
        for number, sample in enumerate(self._source):
            yield fit_inputs(self._inputs(sample, number), graph)

    def _inputs(self, sample: object, number: int) -> dict[str, NDArray[np.float32]]:
        """A caller's sample by input name; arrays that are no input yet are images."""
        shapes = self._model.input_shapes
        where = f"calibration sample {number}"
        if isinstance(sample, Mapping):
            unknown = [str(name) for name in sample if name not in shapes]
            if unknown:
                raise DataError(
                    Fault(f"the model has no input {unknown[0]!r}: expected {', '.join(shapes)}", where)
                )
            return {name: np.asarray(array) for name, array in sample.items()}
        if not isinstance(sample, np.ndarray) or len(shapes) != 1:
            names = ", ".join(shapes)
            raise DataError(
                Fault(f"expected a mapping with arrays for {names}, found {type(sample).__name__}", where)
            )
        name, shape = next(iter(shapes.items()))
        if sample.shape == shape and sample.dtype.kind == "f":
            return {name: np.asarray(sample, np.float32)}
        return {name: self._model.preprocess.apply(sample, shape)}


def supported(
    model: Model,
    target: str | Overlay = "ultra96-w8",
    *,
    calibration: Calibration | None = None,
    bits: int = QuantizeOptions.bits,
    layout: str | None = None,
    progress: Progress | None = None,
) -> Support:
    """Tell of every operator where it runs, and why.

    A float model is quantised for that; without `calibration` on one random image, since the ranges decide
    nothing.

    Raises:
        UnsupportedModel: operators that neither the accelerator nor the host has, all at once.
        ConfigError: there is no such overlay.
    """
    from tilewright.placement import find_support  # starts TVM

    overlay = _overlay(target)
    if not model.is_quantised:
        if calibration is None:
            options = QuantizeOptions(bits=bits, bias_correction=False, adaptive_rounding=False)
            calibration = open_dataset(
                "random:1", input_shapes=model.input_shapes, preprocess=model.preprocess, count=1
            )
            model = quantize(model, calibration, target=overlay, options=options, progress=progress)
        else:
            model = quantize(model, calibration, bits, target=overlay, layout=layout, progress=progress)
    return find_support(model, overlay)


def plan(model: Model, target: str | Overlay = "ultra96-w8") -> Plan:
    """The plan that `compile` uses where it is given none: what is merged, cut and kept on chip.

        changed = tw.Plan.parse(edit(tw.plan(model, "ultra96-w8").text()), tw.overlay("ultra96-w8"))
        package = tw.compile(model, "ultra96-w8", plan=changed)

    Args:
        model: from :func:`quantize`, or one that came quantised.
        target: an overlay or its name.

    Raises:
        UnsupportedModel: the model is float, or holds operators that nobody runs.
        ConfigError: there is no such overlay.
        ScheduleError: a layer does not fit the overlay's memories.
    """
    overlay = _overlay(target)
    graphs = _regions(model, overlay).graphs
    from tilewright.codegen.network import plan_regions

    return plan_regions(graphs, overlay, model.batch)


def compile(
    model: Model,
    target: str | Overlay = "ultra96-w8",
    *,
    plan: Plan | None = None,
    strip: bool = False,
) -> Package:
    """Compile a quantised model to a package, which keeps the plan that was used as `Package.plan`.

    Args:
        model: from :func:`quantize`, or one that came quantised; its `batch` is the package's.
        target: an overlay or its name.
        plan: what to merge, cut and keep on chip, made for that overlay; by default that of :func:`plan`. Results
            are the same bits under every plan.
        strip: leave the float and quantised models out, which `evaluate` needs.

    Raises:
        UnsupportedModel: the model is float, or its host part needs what the package's interpreter lacks.
        ConfigError: there is no such overlay.
        ScheduleError: a layer does not fit the overlay's memories, or the plan is wrong; all faults at once.
    """
    overlay = _overlay(target)
    found = _regions(model, overlay)
    with stage("lower"):
        host = host_part(model, found, overlay)
    with stage("emit"):
        from tilewright.codegen.network import compile_regions

        regions, used = compile_regions(found.graphs, overlay, plan, model.batch)
    package = link(model, overlay, host, regions, used)
    return package.strip() if strip else package


@dataclass(frozen=True)
class HostPart:
    """What of a network the host runs, and where each of its operators went."""

    program: HostProgram
    support: Support


def host_part(model: Model, found: Regions, overlay: Overlay) -> HostPart:
    """The host's part.

    Raises:
        UnsupportedModel: neither the accelerator nor the package's interpreter takes a layer; all layers at once.
    """
    from tilewright.codegen.host_program import NotInPackage, host_program
    from tilewright.placement import find_support, why_refused

    names = [graph.name for graph in found.graphs]
    outputs = [value.name for value in model.proto.graph.output]
    try:
        program = host_program(found.module, names, outputs)
    except NotInPackage as error:
        raise UnsupportedModel(*why_refused(model, overlay, found.stages, error)) from None
    return HostPart(replace(program, batch=model.batch), find_support(model, overlay, found.stages))


def link(
    model: Model, overlay: Overlay, host: HostPart, regions: tuple[CompiledRegion, ...], plan: Plan
) -> Package:
    """A network's compiled regions and its host part as a package."""
    from tilewright.codegen.macs import count_macs

    support = host.support
    report = {
        "layers": support.to_dict()["layers"],
        "accelerator_macs": sum(count_macs(region, overlay) for region in regions) // model.batch,
        "host_macs": support.host_macs,
        "regions": len(regions),
        "instructions": sum(len(region.layer_of) for region in regions),
        LABEL_OFFSET: model.label_offset,
    }
    float_proto = model.float_proto
    return Package(
        name=model.name,
        overlay=overlay,
        program=host.program,
        regions=regions,
        report=report,
        plan=plan.text(),
        preprocess=json.loads(model.preprocess.to_json()),
        labels=model.labels,
        float_model=None if float_proto is None else float_proto.SerializeToString(),
        quantised_model=model.proto.SerializeToString(),
        random_weights=model.random_weights,
        random_calibration=model.random_calibration,
        tool_version=metadata.version("tilewright"),
    )


def _regions(model: Model, overlay: Overlay) -> Regions:
    """Part a model; raises UnsupportedModel for a float one."""
    require_quantised(model)
    # TVM starts here and not when this module is imported.
    with stage("relax"):
        from tilewright.relay_passes.regions import find_regions

        imported = model.relax()
    with stage("lower"):
        return find_regions(imported, overlay)


def _overlay(target: str | Overlay) -> Overlay:
    return target if isinstance(target, Overlay) else config.overlay(target)
