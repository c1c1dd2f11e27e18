"""Random plans of a prepared region, legal by construction or not at all."""

from __future__ import annotations

import numpy as np

from tilewright.codegen.allocate import place_buffers
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.merging import check
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import make_schedule
from tilewright.errors import ScheduleError


def random_plan(prepared: Prepared, rng: np.random.Generator) -> RegionPlan | None:
    """A plan with random groups, stripes, lags and kept maps; None where it turned out illegal."""
    flow, names = prepared.flow, prepared.flow.names
    groups: list[Group] = []
    first = 0
    while first < len(names):
        count = int(min(rng.geometric(0.35), len(names) - first))
        columns = flow.layers[first].geometry.count[1]
        rows = max(layer.geometry.count[0] for layer in flow.layers[first : first + count])
        alone = count == 1 and rng.random() < 0.3
        blocks = len(flow.layers[first].source.blocks)
        alone_vector = alone and isinstance(flow.layers[first], VectorLayer)
        groups.append(
            Group(
                layers=tuple(names[first : first + count]),
                stripes=int(rng.integers(1, rows + 1)) if rng.random() < 0.8 else 1,
                strips=int(rng.integers(1, columns + 1)) if alone else 1,
                slices=int(rng.integers(1, blocks + 1)) if alone_vector else 1,
                lag=int(rng.integers(2)),
                images=int(rng.integers(1, prepared.batch + 1)),
            )
        )
        first += count
    plan = RegionPlan(region=prepared.name, groups=tuple(groups))
    # Keep what can be kept, of each group a random share.
    for g, group in enumerate(groups):
        names_now = [n for n in flow.maps if rng.random() < 0.6] if group.strips == group.slices == 1 else []
        best: list[str] = []
        for name in names_now:
            trial = groups.copy()
            trial[g] = group.model_copy(update={"keep": (*best, name)})
            found = check(flow, RegionPlan(region=prepared.name, groups=tuple(trial)))
            if not any("kept" in str(f) for f in found):
                best.append(name)
        groups[g] = group.model_copy(update={"keep": tuple(best)})
    plan = RegionPlan(region=prepared.name, groups=tuple(groups))
    try:
        schedule = make_schedule(flow, plan, prepared.batch)
        names = [groups[g].layers[0] for g in schedule.groups]
        place_buffers(schedule.buffers, prepared.overlay, names)
    except ScheduleError:
        return None
    return plan
