"""Run every level of a network on the same input, compare them layer by layer, and name the first that is wrong.

What is compared, from the top:

* quantised against float: signal-to-noise. A layer is at fault where it is further from the float layer on the same
  operands, within what its integers stand for, than rounding of weights and results explains.
* graph against quantised, integer against graph: integers of each layer on the quantised level's own operands. Sums of
  float32 round, so single elements may be one step apart; no more, and no more than a few.
* tile against integer, reference against tile, fast against reference, each back end against the one before: integers
  of whole runs, which must be equal bit for bit. A fault of the machine itself, such as a race, names its layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx

from tilewright.codegen.compile import make_tiles
from tilewright.codegen.plan import Plan
from tilewright.codegen.prepared import prepare
from tilewright.errors import (
    ConfigError,
    DataError,
    Fault,
    FaultList,
    PackageError,
    TilewrightError,
    UnsupportedModel,
)
from tilewright.evaluation import package_feeds
from tilewright.frontend.model import Model, fit_inputs
from tilewright.frontend.relax_import import to_relax
from tilewright.integer_level import ENGINES
from tilewright.pipeline import compile
from tilewright.quantize.factors import float_factors, has_factors
from tilewright.relay_passes.regions import Regions, find_regions
from tilewright.runtime import RunResult, Session
from tilewright.targets.config import Overlay
from tilewright.targets.package import Package
from tilewright.verify.compare import Results, Values, compare
from tilewright.verify.layers import Array, Layer, Operand, find_layers, find_operands
from tilewright.verify.machine import Machine, layer_of_error
from tilewright.verify.onnx_levels import run_fed, run_onnx
from tilewright.verify.relax_levels import GraphLevel
from tilewright.verify.result import (
    FLOAT,
    GRAPH,
    INTEGER,
    LEVELS,
    QUANTISED,
    STREAMS,
    TILE,
    LevelFault,
    Verification,
)

Feeds = Mapping[str, Array]
Progress = Callable[[int, int], None]
Engine = Literal["llvm", "numpy"]


class Runs(Protocol):
    """A package on a back end."""

    def run(self, feeds: Feeds) -> RunResult:
        """Run once."""


OpenBackend = Callable[[Package, Any], Runs]

LARGE_MACS = 500_000_000
"""Networks of more are run by NumPy at the integer level: TVM's code, which is not tuned, would compile for minutes."""
QUICK_MACS = 100_000_000
"""Networks of fewer are compiled for llvm without optimisation, which takes longer than they run."""


def verify(
    package: Package | Model | str | Path,
    inputs: Feeds | Sequence[Feeds],
    *,
    target: str | Overlay = "ultra96-w8",
    levels: Sequence[str] | None = None,
    backends: Sequence[str] = (),
    open_backend: OpenBackend = Session,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Verification:
    """Run every level on the same input and compare them.

        found = tw.verify("net.twp", {"data": image})
        print(found.passed, found.first)

    Args:
        package: or its file; or a quantised model, which is compiled first.
        inputs: arrays by input name, with a first dimension of 1; a list of them for several images. A batch that is
            not full repeats the last.
        target: overlay that a model is compiled for.
        levels: those that run, of LEVELS; default: all that there are.
        backends: more back ends than the two simulators, as `Session` takes them.
        open_backend: opens a package on a back end.
        progress: called with the levels done and the number of all.
        engine: what runs the integer level's layers: "llvm", or "numpy", which has nothing to compile; default:
            llvm, but NumPy for networks of more than LARGE_MACS.

    Raises:
        PackageError: the file is none, or was stripped of the models.
        ConfigError: there is no such level or back end.
        DataError: the inputs do not fit.
    """
    if isinstance(package, Model):
        package = compile(package, target)
    elif not isinstance(package, Package):
        package = Package.load(package)
    images = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not images:
        raise DataError(Fault("there is no input", remedy="give at least one"))
    return Verifier(package, images, chosen_levels(levels), backends, open_backend, progress, engine).run()


def chosen_levels(levels: Sequence[str] | None) -> tuple[str, ...]:
    """The levels that were asked for, in order. Raises ConfigError for unknown ones."""
    if levels is None:
        return LEVELS
    faults = FaultList()
    for level in levels:
        if level not in LEVELS:
            faults.add(f"expected levels of {', '.join(LEVELS)}, found {level!r}", where="levels")
    faults.raise_if_any(ConfigError)
    return tuple(level for level in LEVELS if level in levels)


class Verifier:
    """A run of all levels; what they gave stays here.

    Attributes:
        quantised, float: the models.
        layers, operands: of the network.
        images: inputs, a full batch or several.
        results: what the levels gave.
    """

    def __init__(
        self,
        package: Package,
        images: Sequence[Feeds],
        levels: Sequence[str],
        backends: Sequence[str],
        open_backend: OpenBackend,
        progress: Progress | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine
        self.package, self.open_backend, self.progress = package, open_backend, progress
        float_bytes, quantised_bytes = package.require_models("verify")
        self.quantised = onnx.ModelProto.FromString(quantised_bytes)
        self.float = None if float_bytes is None else onnx.ModelProto.FromString(float_bytes)
        self.levels = [level for level in levels if level != FLOAT or self.float is not None]
        self.streams = {**{level: STREAMS[level] for level in self.levels if level in STREAMS}}
        self.streams.update({name: name for name in backends})
        macs = package.report.get("accelerator_macs", 0)
        self.macs = macs if isinstance(macs, int) else 0
        self.count = len(images)
        full = [*images, *[images[-1]] * (-len(images) % package.batch)]
        self.images = [package_feeds(package, feeds) for feeds in full]
        self.factors, self.scaled = float_factors(self.quantised), has_factors(self.quantised)
        self.float_name: dict[str, str] = {}
        self.faults: list[LevelFault] = []
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.results = Results()

    def run(self) -> Verification:
        """Run the levels and compare them."""
        regions = find_regions(to_relax(self.quantised), self.package.overlay)
        self.layers = find_layers(self.quantised, regions)
        self.operands = find_operands(self.quantised, regions, self.layers)
        self.tensors: list[Layer | Operand] = [*self.layers, *self.operands]
        self.machine = self._machine(regions)
        steps: list[tuple[str, Callable[[], None]]] = [
            (FLOAT, self._float),
            (QUANTISED, self._quantised),
            (GRAPH, lambda: self._graph(regions)),
            (INTEGER, lambda: self._integer(regions)),
            (TILE, self._tile),
        ]
        wanted = [(level, step) for level, step in steps if level in self.levels or level == QUANTISED]
        wanted += [(level, lambda level=level: self._stream(level)) for level in self.streams]  # type: ignore[misc]
        for done, (level, step) in enumerate(wanted):
            if self.progress is not None:
                self.progress(done, len(wanted))
            with self._timed(level):
                step()
        below = [level for level, _ in wanted if level != FLOAT]
        rows, found = compare(
            self.results, self.layers, [value.name for value in self.quantised.graph.output], below
        )
        self.faults += found
        if not any(f.level in self.streams for f in self.faults):
            self.notes += [f"layer {layer}: {text}" for layer, text in self.machine.changed() if layer]
        ran = tuple(level for level, _ in wanted)
        order = {level: i for i, level in enumerate(ran)}
        names = {row.name: i for i, row in reversed(list(enumerate(rows)))}
        self.faults.sort(key=lambda f: (order.get(f.level, 0), names.get(f.layer, len(names))))
        return Verification(
            self.package.name,
            self.package.overlay.name,
            ran,
            self.count,
            tuple(rows),
            tuple(self.faults),
            tuple(self.notes),
            self.seconds,
        )

    @contextmanager
    def _timed(self, level: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except (PackageError, ConfigError):
            raise
        except UnsupportedModel as error:
            self.notes.append(f"the {level} level is left out: {error.faults[0]}")
        except TilewrightError as error:
            self.faults.append(LevelFault(level, layer_of_error(error, self.machine), str(error.faults[0])))
        finally:
            self.seconds[level] = time.perf_counter() - start

    def _machine(self, regions: Regions) -> Machine:
        package = self.package
        if package.plan is None:
            raise PackageError(
                Fault("`verify` needs the plan", f"package {package.name}", "compile the package again")
            )
        plan = Plan.parse(package.plan, package.overlay, "section plan")
        by_name = {p.region: p for p in plan.regions}
        missing = [g.name for g in regions.graphs if g.name not in by_name]
        if missing or len(regions.graphs) != len(package.regions):
            raise PackageError(
                Fault(
                    f"this Tilewright parts the network in {len(regions.graphs)} regions, the package has "
                    f"{len(package.regions)}",
                    f"package {package.name}",
                    "compile the package again",
                )
            )
        tiles = [
            make_tiles(prepare(g, package.overlay, package.batch), by_name[g.name]) for g in regions.graphs
        ]
        return Machine(package, tiles, regions.graphs)

    # The levels, from the top.

    def _each(self, run: Callable[[Feeds], Mapping[str, Array]]) -> Values:
        """What a level for one image gives of all of them."""
        found: dict[str, list[Array]] = {}
        for feeds in self.images:
            for name, array in run(feeds).items():
                found.setdefault(name, []).append(array)
        return {name: np.stack(arrays) for name, arrays in found.items()}

    def _float(self) -> None:
        assert self.float is not None
        model, graph = self.float, self.float.graph
        present = {name for node in graph.node for name in node.output}
        for layer in self.layers:
            # The last tensor before an output has a name of its own in the quantised network.
            found_name = next((n for n in (layer.real, layer.dequantised) if n in present), None)
            if found_name is not None:
                self.float_name[layer.variable] = found_name
        outputs = [value.name for value in graph.output]
        wanted = [*self.float_name.values(), *outputs]

        def run(feeds: Feeds) -> Mapping[str, Array]:
            fitted = fit_inputs(feeds, graph)
            return run_onnx(model, {n: self._unscaled(a, n) for n, a in fitted.items()}, wanted, False)

        found = self._each(run)
        self.results.real = {
            variable: _scaled(found[name], self.factors.get(name))
            for variable, name in self.float_name.items()
            if name in found
        }
        self.results.outputs[FLOAT] = {name: found[name] for name in outputs if name in found}

    def _quantised(self) -> None:
        tensors = [x.tensor for x in self.tensors if x.tensor is not None]
        outputs = [value.name for value in self.quantised.graph.output]
        found = self._each(lambda feeds: run_onnx(self.quantised, feeds, [*tensors, *outputs]))
        self.results.values[QUANTISED] = {
            x.variable: found[x.tensor] for x in self.tensors if x.tensor in found
        }
        self.results.outputs[QUANTISED] = {name: found[name] for name in outputs if name in found}
        if self.results.real and not self.scaled:
            self.notes.append(
                "the quantised model does not say how it scales tensors; none is checked against float"
            )
        elif self.results.real:
            self._float_on_quantised(found)

    def _float_on_quantised(self, integers: Values) -> None:
        """The float level's layers on the numbers that the quantised level's operands stand for."""
        assert self.float is not None
        model = self.float
        tensors = {name for node in model.graph.node for name in node.output}
        tensors |= {value.name for value in model.graph.input}
        fed: Values = {}
        for x in self.tensors:
            if x.real in tensors and x.scale is not None and x.tensor in integers:
                plain = x.scale.values(integers[x.tensor])
                fed[x.real] = np.stack([self._unscaled(a, x.real) for a in plain]).astype(np.float32)
        names = list(dict.fromkeys(self.float_name.values()))
        numbers = iter(range(len(self.images)))

        def run(feeds: Feeds) -> Mapping[str, Array]:
            image = next(numbers)
            arrays = {name: array[image] for name, array in fed.items()}
            return run_fed(model, fit_inputs(feeds, model.graph), arrays, names)

        found = self._each(run)
        self.results.fed_real = {
            variable: _scaled(found[name], self.factors.get(name))
            for variable, name in self.float_name.items()
            if name in found
        }

    def _unscaled(self, array: Array, name: str) -> Array:
        """Values of the quantised network's tensor as the float one has them. Shapes: (1, C, ...)."""
        factor = self.factors.get(name)
        if factor is None:
            return array
        # A channel that was dead when factors were measured was not made smaller, nor was the widest.
        known = np.where(np.isnan(factor), np.nanmin(factor), factor)
        return np.asarray(_scaled(array[np.newaxis], 1 / known)[0], array.dtype)

    def _graph(self, regions: Regions) -> None:
        known = [x for x in self.layers if x.tensor is not None]
        level = GraphLevel(regions.stages.imported, known, self.macs < QUICK_MACS)
        reference = self.results.values[QUANTISED]
        numbers = iter(range(len(self.images)))

        def run(feeds: Feeds) -> Mapping[str, Array]:
            image = next(numbers)
            values = {name: array[image] for name, array in reference.items()}
            return level.run([feeds[name] for name in level.inputs], values)

        self.results.fed[GRAPH] = self._each(run)

    def _integer(self, regions: Regions) -> None:
        engine = self.engine or ("numpy" if self.macs > LARGE_MACS else "llvm")
        run = ENGINES[engine](regions.stages.integer, self.macs < QUICK_MACS)
        reference = self.results.values[QUANTISED]
        layer_of = {(x.region, x.region_tensor): x for x in self.layers if x.region is not None}
        fed: dict[str, list[Array]] = {}
        for image in range(len(self.images)):
            known = {name: array[image] for name, array in reference.items()}
            for layer in self.layers:
                if all(name in known for name in layer.operands):
                    array = run(layer.composite, [known[name] for name in layer.operands])
                    known.setdefault(layer.variable, array)
                    fed.setdefault(layer.variable, []).append(array)
        self.results.fed[INTEGER] = {name: np.stack(arrays) for name, arrays in fed.items()}
        found: dict[str, list[Array]] = {}

        def region(number: int, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
            values: dict[str, list[Array]] = {}
            for node in self.machine.graphs[number].nodes:
                layer = layer_of[number, node.output.name]
                values[node.output.name] = [
                    run(layer.composite, [_image(values, arrays, t.name, i) for t in node.inputs])
                    for i in range(self.package.batch)
                ]
                found.setdefault(layer.variable, []).extend(values[node.output.name])
            return {t.name: np.concatenate(values[t.name]) for t in self.machine.graphs[number].outputs}

        self.results.outputs[INTEGER] = self._batches(lambda feeds: self.machine.run_host(feeds, region))
        self.results.values[INTEGER] = {name: np.stack(arrays) for name, arrays in found.items()}
        self._host(layer_of)

    def _host(self, layer_of: Mapping[tuple[int, str], Layer]) -> None:
        """The package's host part on the quantised level's integers."""
        reference = self.results.values[QUANTISED]
        ends = [(n, m.name) for n, region in enumerate(self.package.regions) for m in region.outputs]
        if not all(layer_of[end].variable in reference for end in ends if end in layer_of):
            return
        firsts = iter(range(0, len(self.images), self.package.batch))
        first = 0

        def region(number: int, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
            some = slice(first, first + self.package.batch)
            return {
                m.name: np.concatenate(list(reference[layer_of[number, m.name].variable][some]))
                for m in self.package.regions[number].outputs
            }

        def run(feeds: Feeds) -> Mapping[str, Array]:
            nonlocal first
            first = next(firsts)
            return self.machine.run_host(feeds, region)

        if all(end in layer_of for end in ends):
            self.results.host_outputs = self._batches(run)

    def _tile(self) -> None:
        found: dict[str, list[Array]] = {}

        def run(feeds: Feeds) -> Mapping[str, Array]:
            outputs, tensors = self.machine.run_tiles(feeds)
            self._gather(found, tensors)
            return outputs

        self.results.outputs[TILE] = self._batches(run)
        self.results.values[TILE] = {name: np.concatenate(arrays) for name, arrays in found.items()}

    def _stream(self, level: str) -> None:
        backend = self.streams[level]
        failure: TilewrightError | None = None
        try:
            session = self.open_backend(self.package, backend)
            self.results.outputs[level] = self._batches(lambda feeds: session.run(feeds).outputs)
        except (PackageError, ConfigError, DataError):
            raise
        except TilewrightError as error:
            failure = error  # of tokens perhaps: what the instructions compute is looked at all the same
        found: dict[str, list[Array]] = {}
        try:
            for variant, added in self.machine.observed():
                looking = self.open_backend(variant, backend)

                def run(
                    feeds: Feeds, added: Mapping[str, tuple[int, str]] = added, s: Runs = looking
                ) -> Feeds:
                    outputs = s.run(feeds).outputs
                    self._gather(found, {where: outputs[name] for name, where in added.items()})
                    return {name: array for name, array in outputs.items() if name not in added}

                outputs = self._batches(run)
                if level in self.results.outputs and any(
                    not np.array_equal(outputs[n], a) for n, a in self.results.outputs[level].items()
                ):
                    text = "gives other outputs by its own tokens than in order: its units are not ordered rightly"
                    self.faults.append(LevelFault(level, "", text))
        except (PackageError, ConfigError, DataError):
            raise
        except TilewrightError as error:
            failure = failure or error
        self.results.values[level] = {name: np.concatenate(arrays) for name, arrays in found.items()}
        if failure is not None:
            raise failure

    def _gather(self, found: dict[str, list[Array]], tensors: Mapping[tuple[int, str], Array]) -> None:
        """Add a batch's tensors of regions, each image's with a first dimension of 1."""
        for layer in self.layers:
            array = None if layer.region is None else tensors.get((layer.region, layer.region_tensor))
            if array is not None:
                found.setdefault(layer.variable, []).append(array[:, np.newaxis])

    def _batches(self, run: Callable[[Feeds], Mapping[str, Array]]) -> Values:
        """Outputs of a level that takes a batch at a time."""
        batch = self.package.batch
        found: dict[str, list[Array]] = {}
        for first in range(0, len(self.images), batch):
            some = self.images[first : first + batch]
            feeds = {name: np.concatenate([x[name] for x in some]) for name in some[0]}
            for name, array in run(feeds).items():
                parts = [array] if batch == 1 else [array[i : i + 1] for i in range(batch)]
                found.setdefault(name, []).extend(parts)
        return {
            name: np.stack(arrays) for name, arrays in found.items() if len({a.shape for a in arrays}) == 1
        }


def _image(values: Mapping[str, list[Array]], arrays: Mapping[str, Array], name: str, image: int) -> Array:
    return values[name][image] if name in values else arrays[name][image : image + 1]


def _scaled(array: Array, factor: Array | None) -> Array:
    """Values of the float network as the quantised one scales them. Shapes: (images, 1, C, ...), (C,) or ()."""
    if factor is None:
        return array
    shape = (1, 1, -1, *[1] * (array.ndim - 3)) if factor.size > 1 else ()
    return np.asarray(array * factor.reshape(shape))
