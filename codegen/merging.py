"""What a plan may ask for, memories aside: which layers may run together, and which maps may stay."""

from __future__ import annotations

from tilewright.codegen.flow import Flow
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.values import Map
from tilewright.errors import Fault, FaultList


def check(flow: Flow, plan: RegionPlan) -> list[Fault]:
    """What is wrong with a plan, memories aside: names, order, and merges that the layers do not allow."""
    faults = FaultList()
    named = [name for group in plan.groups for name in group.layers]
    if named != flow.names:
        at = next(
            (i for i, (a, b) in enumerate(zip(named, flow.names, strict=False)) if a != b),
            min(len(named), len(flow.names)),
        )
        found = named[at] if at < len(named) else "nothing"
        expected = flow.names[at] if at < len(flow.names) else "nothing"
        text = f"layer {at + 1} of the region is {expected}, the plan has {found}"
        faults.add(
            text, where=f"plan of {plan.region}", remedy="name every layer once, in the region's order"
        )
        return list(faults)
    number = {name: i for i, name in enumerate(flow.names)}
    kept: set[str] = set()
    for g, group in enumerate(plan.groups):
        where = f"plan of {plan.region}, group {g + 1} ({group.layers[0]})"
        inside = {number[name] for name in group.layers}
        if group.strips > 1 and (len(group.layers) > 1 or group.keep):
            faults.add(
                f"{group.strips} strips with {len(group.layers)} layers and {len(group.keep)} kept maps",
                where=where,
                remedy="strips are for a single layer whose maps go through DRAM",
            )
        if group.slices > 1 and (
            len(group.layers) > 1 or group.keep or not isinstance(flow.layers[min(inside)], VectorLayer)
        ):
            faults.add(
                f"{group.slices} slices with {len(group.layers)} layers and {len(group.keep)} kept maps",
                where=where,
                remedy="slices are for a single layer of VECTOR whose maps go through DRAM",
            )
        for i in sorted(inside):
            faults_of_layer(flow, i, inside, group, where, faults)
        for name in group.keep:
            m = flow.maps.get(name)
            if m is None:
                faults.add(f"no map {name} to keep", where=where, remedy="use the name of a layer or input")
            elif name not in kept and not touches(flow, m, inside):
                faults.add(
                    f"{name} is kept, but not on chip", where=where, remedy="keep it from where it is used"
                )
            elif max(flow.readers.get(m, ()), default=-1) <= max(inside):
                faults.add(
                    f"{name} is kept, but no later layer reads it", where=where, remedy="drop it from keep"
                )
            elif not complete(flow, m, inside):
                faults.add(f"{name} is kept before it is complete", where=where, remedy="drop it from keep")
        kept = set(group.keep)
    return list(faults)


def touches(flow: Flow, m: Map, inside: set[int]) -> bool:
    """Whether a group's layers read or write a map."""
    return any(i in inside for i in (*flow.readers.get(m, ()), *flow.writers.get(m, ())))


def complete(flow: Flow, m: Map, inside: set[int]) -> bool:
    """Whether a group that has a map on chip has all of it: made here, or before and loaded."""
    writers = flow.writers.get(m, ())
    return all(w in inside for w in writers) or all(w < min(inside) for w in writers)


def faults_of_layer(
    flow: Flow, i: int, inside: set[int], group: Group, where: str, faults: FaultList
) -> None:
    """A merge that a layer does not allow: stripes of what it reads whole, or of a map that several layers write."""
    for m in flow.read_by(i):
        writers = flow.writers.get(m, ())
        if not any(w in inside for w in writers):
            continue
        if not all(w in inside for w in writers):
            faults.add(
                f"{flow.names[i]} reads {flow.name(m)}, only a part of which is made in its group",
                where=where,
                remedy="part them",
            )
        elif group.stripes > 1 and ((flow.reading[i, m].whole and m.height > 1) or not flow.plain(m)):
            faults.add(
                f"{flow.names[i]} needs all of {flow.name(m)}, made in {group.stripes} stripes",
                where=where,
                remedy="use one stripe, or part them",
            )
