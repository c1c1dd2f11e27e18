"""A made-up region whose plans are priced by a formula, so that a search can be tested to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tilewright.codegen.plan import Group, RegionPlan
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.config import overlay
from tilewright.tune.log import Header
from tilewright.tune.measurement import LayerFacts, MapFacts, Measurement, Objective


@dataclass(frozen=True)
class Synthetic:
    """A chain of layers with a second reader two layers on for every third map.

    A plan costs DRAM for each map that crosses a group's end and is not kept, and start-up for each stripe. It is
    illegal where its maps do not fit in `capacity` bytes, by the formula of :meth:`use`.
    """

    size: int = 8
    rows: int = 12
    capacity: int = 3000
    name: str = "tilewright_0"

    @property
    def fingerprint(self) -> str:
        """Of its numbers."""
        return f"{self.size}x{self.rows}x{self.capacity}"

    @property
    def layers(self) -> tuple[LayerFacts, ...]:
        """Maps shrink by half in the middle."""
        return tuple(
            LayerFacts(f"layer{i}", max(1, self.rows >> (i >= self.size // 2)), self.rows, 1 + i % 2)
            for i in range(self.size)
        )

    @property
    def maps(self) -> tuple[MapFacts, ...]:
        """The input, and each layer's results but the last's."""
        found = [MapFacts("data", 600, (), (0,))]
        for i in range(self.size - 1):
            readers = (i + 1, i + 3) if i % 3 == 0 and i + 3 < self.size else (i + 1,)
            found.append(MapFacts(f"layer{i}", 500 + 70 * (i * 7 % 5), (i,), readers))
        return tuple(found)

    @property
    def default(self) -> RegionPlan:
        """Every layer on its own, in as many stripes as must be."""
        stripes = next(s for s in range(1, self.rows + 1) if not self.faults(self._apart(s)))
        return self._apart(stripes)

    def _apart(self, stripes: int) -> RegionPlan:
        groups = tuple(Group(layers=(layer.name,), stripes=min(stripes, layer.rows)) for layer in self.layers)
        return RegionPlan(region=self.name, groups=groups)

    def use(self, plan: RegionPlan) -> list[int]:
        """Bytes of ACT that each group needs."""
        sizes = {m.name: m.size_bytes for m in self.maps}
        found, kept = [], 0
        for group in plan.groups:
            own = sum(sizes.get(name, 400) for name in group.layers) + 600
            parts = group.stripes * group.strips * group.slices
            lagging = 1 + group.lag / 2
            keep = sum(sizes[name] for name in group.keep)
            found.append(int(own * lagging / parts) + kept + keep)
            kept = keep
        return found

    def faults(self, plan: RegionPlan) -> Sequence[Fault]:
        """Names, order and capacity."""
        names = [name for group in plan.groups for name in group.layers]
        if names != [layer.name for layer in self.layers]:
            return [Fault("layers are missing or out of order")]
        rows = {layer.name: layer.rows for layer in self.layers}
        known = {m.name for m in self.maps}
        faults = []
        for group, used in zip(plan.groups, self.use(plan), strict=True):
            if used > self.capacity:
                faults.append(Fault(f"{used} bytes of {self.capacity}", group.layers[0]))
            if group.stripes > rows[group.layers[-1]] or not set(group.keep) <= known:
                faults.append(Fault("no such stripes or maps", group.layers[0]))
        return faults

    def price(self, plan: RegionPlan, accurate: bool) -> Measurement:
        """The formula; less accurate, it knows no lag and no strips."""
        group_of = {name: g for g, group in enumerate(plan.groups) for name in group.layers}
        group_of["data"] = -1
        dram = 400
        for m in self.maps:
            for reader in m.readers:
                made, read = group_of[m.name], group_of[f"layer{reader}"]
                if made < 0 or any(m.name not in plan.groups[g].keep for g in range(made, read)):
                    dram += 2 * m.size_bytes
        cycles = dram
        for group in plan.groups:
            start_up = 40 * group.stripes * len(group.layers)
            work = 300 * len(group.layers)
            if accurate:
                start_up += 25 * group.strips * group.slices
                work = int(work * (0.7 if group.lag else 1.0))
            cycles += start_up + work
        return Measurement.of(cycles, dram, 1000)

    def estimate(self, plan: RegionPlan) -> Measurement:
        """The analytic price."""
        return self.price(plan, accurate=False)


@dataclass
class Bench:
    """The back end: measures by the formula, and notes each measurement as a line of `counter`."""

    regions: Sequence[Synthetic]
    counter: Path | None = None
    seconds: float = 0.0
    refuse_stripes: int = 0
    name: str = field(default="synthetic")

    def measure(self, plan: RegionPlan) -> Measurement:
        """See the tuner's Backend. Refuses plans with a group of `refuse_stripes` stripes."""
        region = next(r for r in self.regions if r.name == plan.region)
        assert not region.faults(plan), "an illegal plan was measured"
        if self.seconds:
            time.sleep(self.seconds)
        if self.counter is not None:
            with self.counter.open("a") as file:
                file.write(f"{os.getpid()} {plan.model_dump_json()}\n")
        if any(group.stripes == self.refuse_stripes for group in plan.groups):
            raise ScheduleError(Fault("this does not compile", plan.groups[0].layers[0]))
        return region.price(plan, accurate=True)

    def measured(self) -> list[str]:
        """The plans measured so far."""
        if self.counter is None or not self.counter.exists():
            return []
        return [line.split(" ", 1)[1] for line in self.counter.read_text().splitlines()]


def header(regions: Sequence[Synthetic], objective: Objective = "cycles", seed: int = 1) -> Header:
    """A log's header for these regions."""
    target = overlay("ultra96-w8")
    return Header(
        version="0.1.0",
        overlay=target.name,
        overlay_hash=target.hash,
        model="made-up",
        regions={r.name: r.fingerprint for r in regions},
        objective=objective,
        backend="synthetic",
        seed=seed,
    )
