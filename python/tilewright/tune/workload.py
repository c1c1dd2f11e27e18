"""A quantised network made ready for the tuner: its regions lowered, their weights arranged.

Workers get it as bytes: a line of JSON (version, overlay, back end) and the ONNX file. Data only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from importlib import metadata

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from tilewright.codegen.compile import compile_default
from tilewright.codegen.graph import Graph
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.errors import DataError, Fault, UnsupportedModel
from tilewright.frontend.relax_import import to_relax
from tilewright.relay_passes.regions import find_regions
from tilewright.report.bound import Limits, bound
from tilewright.targets.config import Overlay
from tilewright.tune.backends import BACKENDS
from tilewright.tune.judge import Judge
from tilewright.tune.measurement import Backend, LayerFacts, MapFacts, Measurement
from tilewright.tune.worker import Opened


@dataclass(frozen=True)
class TunedRegion:
    """A region as the search sees it; see :class:`tilewright.tune.measurement.Region`."""

    prepared: Prepared
    fingerprint: str
    macs: int

    @property
    def name(self) -> str:
        """As in the plan."""
        return self.prepared.name

    @cached_property
    def layers(self) -> Sequence[LayerFacts]:
        """In order."""
        flow = self.prepared.flow
        found = []
        for name, layer in zip(flow.names, flow.layers, strict=True):
            slices = len(layer.source.blocks) if isinstance(layer, VectorLayer) else 1
            found.append(LayerFacts(name, *layer.geometry.count, slices))
        return found

    @cached_property
    def maps(self) -> Sequence[MapFacts]:
        """Those that later layers read."""
        flow, unit = self.prepared.flow, self.prepared.overlay.half_word_bytes
        return [
            MapFacts(
                name, m.half_words * unit, tuple(sorted(flow.writers.get(m, ()))), tuple(flow.readers[m])
            )
            for name, m in flow.maps.items()
            if m in flow.readers
        ]

    @cached_property
    def default(self) -> RegionPlan:
        """The planner's."""
        return compile_default(self.prepared)[0]

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self.prepared, self.macs)

    def faults(self, plan: RegionPlan) -> Sequence[Fault]:
        """What makes a plan illegal."""
        return self._judge.faults(plan)

    def estimate(self, plan: RegionPlan) -> Measurement:
        """The analytic price of a legal plan."""
        return self._judge.estimate(plan)


def tuned_regions(model: onnx.ModelProto, overlay: Overlay) -> list[TunedRegion]:
    """The regions of a quantised network, ready to be measured.

    Raises UnsupportedModel where nothing of it runs on the accelerator, ScheduleError where a layer fits in no way.
    """
    limits = Limits.of(overlay)
    found = [
        TunedRegion(prepare(graph, overlay), fingerprint(graph), bound(graph, limits).macs)
        for graph in find_regions(to_relax(model), overlay).graphs
    ]
    if not found:
        raise UnsupportedModel(
            Fault(
                "nothing of the network runs on the accelerator: there is no plan to tune",
                f"overlay {overlay.name}",
                "`tilewright supported` tells why",
            )
        )
    return found


def fingerprint(graph: Graph) -> str:
    """A hash of all that a region is: operators, weights, shapes, names. Equal for equal regions in any process."""
    digest = hashlib.sha256()

    def walk(value: object) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif is_dataclass(value):
            digest.update(type(value).__name__.encode())
            for f in fields(value):
                walk(getattr(value, f.name))
        elif isinstance(value, tuple | list):
            digest.update(f"[{len(value)}".encode())
            for item in value:
                walk(item)
        else:
            digest.update(f"{value!r};".encode())

    walk(graph)
    return digest.hexdigest()


def backend_of(name: str, regions: Sequence[TunedRegion]) -> Backend:
    """A back end for the regions."""
    return BACKENDS[name](*prepared_regions(regions))


def prepared_regions(regions: Sequence[TunedRegion]) -> tuple[dict[str, Prepared], dict[str, int]]:
    """Prepared regions and their multiply-accumulates, by name."""
    return {r.name: r.prepared for r in regions}, {r.name: r.macs for r in regions}


def payload(model: onnx.ModelProto, overlay: Overlay, backend: str) -> bytes:
    """A network as bytes for workers."""
    head = {"version": metadata.version("tilewright"), "overlay": overlay.to_dict(), "backend": backend}
    return json.dumps(head).encode() + b"\n" + model.SerializeToString()


def open_network(data: bytes) -> Opened:
    """What :func:`payload` made, ready to be measured. Raises DataError where another version made it."""
    line, _, model = data.partition(b"\n")
    try:
        head: Mapping[str, object] = json.loads(line)
        version, overlay, backend = head["version"], head["overlay"], str(head["backend"])
        proto = onnx.ModelProto.FromString(model)
    except (ValueError, TypeError, KeyError, DecodeError):
        raise DataError(
            Fault("what came from the tuner is no network", remedy="install equal versions")
        ) from None
    ours = metadata.version("tilewright")
    if version != ours or backend not in BACKENDS:
        text = f"the tuner has version {version} and back end {backend}, this worker version {ours}"
        raise DataError(Fault(text, remedy="install the same version on all machines"))
    assert isinstance(overlay, dict)
    regions = tuned_regions(proto, Overlay.from_dict(overlay, "the tuner"))
    return Opened(backend_of(backend, regions), {r.name: r.fingerprint for r in regions})
