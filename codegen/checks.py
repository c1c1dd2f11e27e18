"""What is wrong with a plan, all of it: regions, names and merges, numbers of parts, memory.

`merging.check` knows what a schedule can be made of; the rest is here: numbers beyond what there is to cut, which
would only make empty parts (a plan of a billion stripes must not take a day), and groups that do not fit ACT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tilewright.codegen.buffers import Schedule
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.merging import check
from tilewright.codegen.plan import Plan, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.errors import Fault, FaultList, ScheduleError
from tilewright.targets.config import Overlay


def stop(faults: Sequence[Fault]) -> None:
    """Raise ScheduleError with the faults, if there are any."""
    if faults:
        raise ScheduleError(*faults)


def plan_faults(plan: Plan, regions: Sequence[str], overlay: Overlay, batch: int) -> list[Fault]:
    """Another overlay or batch, and regions that the network lacks, or the plan."""
    faults = FaultList()
    if plan.overlay_hash != overlay.hash:
        faults.faults.append(plan.of_another(overlay))
    if plan.batch != batch:
        faults.add(
            f"the plan was made for a batch of {plan.batch}, not of {batch}",
            where="plan",
            remedy="plan for this batch anew",
        )
    found = Counter(region.region for region in plan.regions)
    for name in regions:
        if name not in found:
            faults.add(f"region {name} has no plan", where="plan", remedy="plan every region of the network")
    for name, count in found.items():
        if name not in regions:
            known = f"it has {', '.join(regions)}" if regions else "it has none"
            faults.add(
                f"the network has no region {name}; {known}",
                where="plan",
                remedy="take it out, or plan the network anew",
            )
        elif count > 1:
            faults.add(f"region {name} is planned {count} times", where="plan", remedy="plan it once")
    return list(faults)


def region_faults(prepared: Prepared, plan: RegionPlan) -> list[Fault]:
    """What is wrong with the plan of a region, ACT aside."""
    flow = prepared.flow
    named = _name_faults(flow.names, plan)
    if named:
        return named
    faults = FaultList(check(flow, plan))
    number = {name: i for i, name in enumerate(flow.names)}
    for g, group in enumerate(plan.groups):
        layers = [flow.layers[number[name]] for name in group.layers]
        last = layers[-1]
        parts = [
            ("stripes", group.stripes, max(layer.geometry.count[0] for layer in layers), "rows"),
            ("images", group.images, prepared.batch, "images"),
        ]
        if len(group.layers) == 1:
            parts.append(("strips", group.strips, last.geometry.count[1], "columns"))
            if isinstance(last, VectorLayer):
                parts.append(("slices", group.slices, len(last.source.blocks), "half words"))
        for name, wanted, most, what in parts:
            if wanted > most:
                faults.add(
                    f"expected {name} from 1 to {most}, found {wanted}",
                    where=f"plan of {plan.region}, group {g + 1} ({group.layers[0]})",
                    remedy=f"there are no more {what}",
                )
    return list(faults)


def _name_faults(names: Sequence[str], plan: RegionPlan) -> list[Fault]:
    """Layers that are missing, unknown, named twice; where there are none, the first out of order."""
    faults = FaultList()
    found = [name for group in plan.groups for name in group.layers]
    counts, where = Counter(found), f"plan of {plan.region}"
    for name in names:
        if name not in counts:
            faults.add(f"layer {name} is missing", where=where, remedy="put it into a group")
    known = set(names)
    for name, count in counts.items():
        if name not in known:
            faults.add(f"the region has no layer {name}", where=where, remedy="take it out")
        elif count > 1:
            faults.add(f"layer {name} is named {count} times", where=where, remedy="name it once")
    if not faults:
        wrong = next((pair for pair in zip(names, found, strict=True) if pair[0] != pair[1]), None)
        if wrong is not None:
            remedy = "keep the region's order: " + ", ".join(names)
            faults.add(f"expected layer {wrong[0]} next, found {wrong[1]}", where=where, remedy=remedy)
    return list(faults)


def act_faults(schedule: Schedule, plan: RegionPlan, overlay: Overlay) -> list[Fault]:
    """Groups whose buffers are larger than ACT, wherever they are placed."""
    faults = FaultList()
    sizes = [0] * len(plan.groups)
    for g, used in zip(schedule.groups, schedule.sizes(), strict=True):
        sizes[g] = max(sizes[g], used)
    for group, size in zip(plan.groups, sizes, strict=True):
        if size > overlay.act_half_words:
            over = size - overlay.act_half_words
            faults.add(
                f"needs {size} half words of ACT, {over} more than {overlay.name} has",
                where=f"layer {group.layers[0]}",
                remedy="cut it into more stripes, merge fewer layers, keep fewer maps or take fewer images",
            )
    return list(faults)
