"""The levels below the integer level: tile operations in NumPy, and the package's streams on back ends.

Host operators run in the C++ interpreter at all of these levels. What a region's layers give is seen through a variant
of the region that stores their results as well (`codegen/observe.py`): a package of the same instructions, so that any
back end that runs packages can be looked into. The package itself runs too, as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tilewright.codegen.compile import Tiles, output_layouts
from tilewright.codegen.graph import Graph
from tilewright.codegen.observe import Observed, in_order, observable, observe
from tilewright.codegen.run_tiles import run_tiles
from tilewright.errors import Fault, SimError, TilewrightError
from tilewright.runtime.native import NativeProgram
from tilewright.targets.host_ops import MANY
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.listing import line
from tilewright.targets.isa.spec import Finish, Instruction
from tilewright.targets.memory_map import pack, unpack
from tilewright.targets.package import Package
from tilewright.targets.program import HostStep, HostTensor, encode_program, encode_region
from tilewright.targets.region import CompiledRegion, MapLayout
from tilewright.targets.sim.program import Bytes, DramImage
from tilewright.verify.layers import Array

AT_A_TIME = 200
"""Results of a region's layers that one run gives; a step of the host part has at most MANY results."""
assert AT_A_TIME < MANY

RunRegion = Callable[[int, Mapping[str, Array]], Mapping[str, Array]]
"""Gives the tensors of region number n, its results among them, by name from those that it reads."""


@dataclass(frozen=True)
class Machine:
    """A package with what its regions were compiled from.

    Attributes:
        tiles, graphs: of each region, made again by the package's plan.
    """

    package: Package
    tiles: Sequence[Tiles]
    graphs: Sequence[Graph]

    @cached_property
    def observable(self) -> list[list[str]]:
        """Names of the tensors of each region that can be seen."""
        return [list(observable(t, g)) for t, g in zip(self.tiles, self.graphs, strict=True)]

    def run_host(self, feeds: Mapping[str, Array], region: RunRegion) -> dict[str, Array]:
        """The network's outputs with regions run by a function."""
        package = self.package
        native = NativeProgram(
            encode_program(package.program),
            [(encode_region(r, package.overlay), r.stream, r.constants) for r in package.regions],
        )

        def accelerator(number: int, inputs: bytes) -> bytes:
            compiled = package.regions[number]
            data = np.frombuffer(inputs, np.uint8)
            arrays = {m.name: self.read(m, data) for m in compiled.inputs}
            results = region(number, arrays)
            segment = np.zeros(compiled.output_bytes, np.uint8)
            for m in compiled.outputs:
                self.write(m, results[m.name], segment)
            return segment.tobytes()

        native.set_accelerator(accelerator)
        outputs, _ = native.run([np.asarray(feeds[t.name], t.dtype) for t in package.inputs])
        return dict(zip((t.name for t in package.outputs), outputs, strict=True))

    def read(self, m: MapLayout, segment: Bytes) -> Array:
        """A tensor of all images from a segment. Shapes: -> (batch, ...)."""
        return np.concatenate(
            [unpack(part, segment, self.package.overlay.inp_bits) for part in self.images(m)]
        )

    def write(self, m: MapLayout, x: Array, segment: Bytes) -> None:
        """The way back."""
        for image, part in enumerate(self.images(m)):
            pack(part, x[image : image + 1], segment, self.package.overlay.inp_bits)

    def images(self, m: MapLayout) -> Iterator[MapLayout]:
        """The layouts of a batch's images, which lie one behind the other."""
        _, _, height, width = (*m.shape, 1, 1)[:4]
        rows, columns = (m.packing.rows, m.packing.columns) if m.packing else (height, width)
        size = rows * columns * len(m.lanes) * self.package.overlay.inp_bits // 8
        for image in range(self.package.batch):
            yield replace(m, offset=m.offset + image * size)

    def run_tiles(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[tuple[int, str], Array]]:
        """The tile operations that the plan gives, in NumPy; outputs, and tensors of regions."""
        found: dict[tuple[int, str], Array] = {}

        def run(number: int, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
            region, tiles, graph = self.package.regions[number], self.tiles[number], self.graphs[number]
            operations = tiles.program.operations
            layers = [operation.layer for operation in operations]
            plain = [*(operation.instruction for operation in operations), Finish()]
            seen = observe(tiles, graph, plain, [*layers, ""])
            named = [
                operations[i] if i < len(operations) and (k == 0 or seen.source[k - 1] != i) else None
                for k, i in enumerate(seen.source)
            ]
            inputs = np.zeros(region.input_bytes, np.uint8)
            for m in region.inputs:
                self.write(m, arrays[m.name], inputs)
            constants = np.frombuffer(tiles.prepared.pool.bytes(), np.uint8)
            dram = DramImage(constants, inputs, region.workspace_bytes, seen.output_bytes)
            try:
                outputs = run_tiles(seen.instructions, named, self.package.overlay, dram)
            except SimError as error:
                raise _in_region(error, region.name) from error
            found.update({(number, m.name): self.read(m, outputs) for m in seen.layouts})
            ends = {m.name: self.read(m, outputs) for m in output_layouts(tiles)}
            found.update({(number, name): array for name, array in ends.items()})
            return ends

        return self.run_host(feeds, run), found

    def observed(self) -> Iterator[tuple[Package, dict[str, tuple[int, str]]]]:
        """Packages of the same instructions with more outputs, and which tensor of which region each of these is.

        Raises SimError, naming the layer, where a stream is not that of its plan.
        """
        ends = [{m.name for m in region.outputs} for region in self.package.regions]
        names = [
            (n, name) for n, found in enumerate(self.observable) for name in found if name not in ends[n]
        ]
        yield self._observed(names[:AT_A_TIME])
        for start in range(AT_A_TIME, len(names), AT_A_TIME):
            yield self._observed(names[start : start + AT_A_TIME])

    def _observed(self, wanted: Sequence[tuple[int, str]]) -> tuple[Package, dict[str, tuple[int, str]]]:
        package = self.package
        tensors = list(package.program.tensors)
        added: dict[str, tuple[int, str]] = {}
        numbers: list[int] = []
        regions = list(package.regions)
        steps: list[HostStep] = []
        for step in package.program.steps:
            number = step.attributes.get("index")
            if step.op != "region" or not isinstance(number, int):
                steps.append(step)
                continue
            regions[number], seen = self._region(number, {name for n, name in wanted if n == number})
            mine: list[int] = []
            for m, result in zip(package.regions[number].outputs, step.outputs, strict=True):
                added[tensors[result].name] = (number, m.name)
                if result not in package.program.outputs:
                    numbers.append(result)
            for m in seen.layouts:
                mine.append(len(tensors))
                tensors.append(HostTensor(f"{package.regions[number].name} {m.name}", m.shape, m.dtype))
                added[tensors[-1].name] = (number, m.name)
            numbers += mine
            steps.append(replace(step, outputs=(*step.outputs, *mine)))
        program = replace(
            package.program,
            tensors=tuple(tensors),
            outputs=(*package.program.outputs, *numbers),
            steps=tuple(steps),
        )
        return replace(package, program=program, regions=tuple(regions)), added

    def _region(self, number: int, wanted: set[str]) -> tuple[CompiledRegion, Observed]:
        region = self.package.regions[number]
        layers = [region.layers[i] for i in region.layer_of]
        try:
            seen = observe(
                self.tiles[number], self.graphs[number], decode_stream(region.stream), layers, wanted
            )
        except SimError as error:
            raise _in_region(error, region.name) from error
        return (
            replace(
                region,
                stream=encode_stream(in_order(seen.instructions)),
                layer_of=tuple(region.layer_of[i] for i in seen.source),
                outputs=(*region.outputs, *seen.layouts),
                output_bytes=seen.output_bytes,
            ),
            seen,
        )

    def changed(self) -> Iterator[tuple[str, str]]:
        """Layer and message for the first instruction, and for constants, that are not what the plan compiles to."""
        for region, tiles in zip(self.package.regions, self.tiles, strict=True):
            found = decode_stream(region.stream)
            made = [operation.instruction for operation in tiles.program.operations]
            for i, (x, y) in enumerate(zip(found, made, strict=False)):
                if _untimed(x) != y:
                    layer = region.layers[region.layer_of[i]]
                    yield layer, f"instruction {i} is {line(_untimed(x))}, its plan gives {line(y)}"
                    break
            if region.constants != tiles.prepared.pool.bytes():
                yield "", f"the constants of region {region.name} are not those of its network"


def _untimed(x: Instruction) -> Instruction:
    return x if isinstance(x, Finish) else replace(x, wait=0, give=0)


def _in_region(error: TilewrightError, name: str) -> SimError:
    return SimError(
        *(
            Fault(f.message, f"region {name}, {f.where}" if f.where else f"region {name}", f.remedy)
            for f in error.faults
        )
    )


_LAYER = re.compile(r"layer ([^,)]+)\)")
_OUTPUT = re.compile(r"output (\S+)")


def layer_of_error(error: TilewrightError, machine: Machine) -> str:
    """The source layer that a simulator's error names; empty where it names none."""
    text = str(error.faults[0])
    number = re.search(r"region (\S+?),? instruction (\d+)", text)
    if number is not None:
        for region in machine.package.regions:
            if region.name == number[1].rstrip(",:") and int(number[2]) < len(region.layer_of):
                return region.layers[region.layer_of[int(number[2])]]
    found = _LAYER.search(text)
    if found is not None:
        return found[1]
    output = _OUTPUT.search(text)
    return "" if output is None else output[1]
