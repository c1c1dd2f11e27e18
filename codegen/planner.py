"""The default plan."""

from __future__ import annotations

from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import make_schedule


def default_plan(prepared: Prepared) -> RegionPlan:
    groups = []
    flow = prepared.flow
    for i, name in enumerate(flow.names):
        groups.append(Group(layers=(name,)))

    def works(groups):
        plan = RegionPlan(region=prepared.name, groups=tuple(groups))
        s = make_schedule(flow, plan)
        bad = set()
        for g in range(len(groups)):
            if (
                sum(b.half_words for b in s.buffers if b.first <= g <= b.last)
                > prepared.overlay.act_half_words
            ):
                bad.add(g)
        return bad

    while True:
        bad = works(groups)
        if not bad:
            break
        for g in bad:
            rows, cols = flow.layers[g].geometry.count
            n = groups[g].stripes
            if n < rows:
                groups[g] = Group(layers=groups[g].layers, stripes=n + 1)
            else:
                groups[g] = Group(layers=groups[g].layers, stripes=n, strips=groups[g].strips + 1)
    return RegionPlan(region=prepared.name, groups=tuple(groups))
