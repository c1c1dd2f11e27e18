"""The plan: which layers are merged, in how many stripes they run, and which maps stay on chip between them.

A plan is data that a person can read, edit and give back:

```json
{"schema": 1, "overlay": "ultra96-w8", "overlay_hash": "...", "regions": [{"region": "tilewright_0", "groups": [
   {"layers": ["conv1", "pool1"], "stripes": 14, "strips": 1, "lag": 1, "keep": ["pool1"]}, ...]}]}
```

Layers are run in their order, group by group. A group's results are made stripe by stripe from its first layer to its
last: what its layers hand to each other stays in ACT, in buffers of as many rows as are still needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tilewright.errors import Fault, FaultList, ScheduleError
from tilewright.targets.config import Overlay


class Group(BaseModel):
    """Layers that run together.

    Attributes:
        layers: their names, neighbours in the region's order.
        stripes: into how many parts the rows of the last layer's results are cut.
        strips: into how many parts the columns are cut; 1 where there are several layers.
        slices: into how many parts the half words of a single VECTOR layer's channels are cut; 1 elsewhere.
        lag: stripes by which each layer runs behind those that it reads, so that MATRIX and VECTOR work on
            different stripes; 0 or 1.
        keep: maps, by the name of the layer (or region input) that they come from, that stay in ACT, whole, for the
            next group. All others that are needed later go through DRAM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...] = Field(min_length=1)
    stripes: int = Field(default=1, ge=1)
    strips: int = Field(default=1, ge=1)
    slices: int = Field(default=1, ge=1)
    lag: int = Field(default=0, ge=0, le=1)
    keep: tuple[str, ...] = ()


class RegionPlan(BaseModel):
    """The plan of a region: its groups in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    groups: tuple[Group, ...]


class Plan(BaseModel):
    """The plan of a network on an overlay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(default=1, alias="schema")
    overlay: str
    overlay_hash: str
    regions: tuple[RegionPlan, ...]

    @staticmethod
    def of(regions: Sequence[RegionPlan], overlay: Overlay) -> Plan:
        """The plan of these regions on an overlay."""
        return Plan(overlay=overlay.name, overlay_hash=overlay.hash, regions=tuple(regions))

    @staticmethod
    def read(path: str | Path, overlay: Overlay) -> Plan:
        """Read a plan made for an overlay. Raises ScheduleError with every fault of the file."""
        try:
            plan = Plan.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ScheduleError(
                Fault(f"the plan cannot be read: {error.strerror}", str(path), "check the path")
            ) from None
        except ValidationError as error:
            faults = FaultList()
            for e in error.errors():
                at = ".".join(str(p) for p in e["loc"])
                faults.add(
                    f"{e['msg']} (found {str(e['input'])[:60]!r})",
                    where=f"{path}, {at or 'document'}",
                    remedy="compare with a plan written by `tilewright compile --save-plan`",
                )
            raise ScheduleError(*faults) from None
        if plan.overlay_hash != overlay.hash:
            text = (
                f"the plan was made for overlay {plan.overlay} ({plan.overlay_hash[:12]}), "
                f"not for {overlay.name} ({overlay.hash[:12]})"
            )
            raise ScheduleError(Fault(text, str(path), "plan for this overlay anew"))
        return plan

    def text(self) -> str:
        """As JSON, a group a line."""
        head = json.dumps({"schema": 1, "overlay": self.overlay, "overlay_hash": self.overlay_hash})[:-1]
        regions = []
        for region in self.regions:
            groups = ",\n    ".join(json.dumps(g.model_dump(mode="json")) for g in region.groups)
            regions.append(f'{{"region": {json.dumps(region.region)}, "groups": [\n    {groups}]}}')
        return head + ', "regions": [\n  ' + ",\n  ".join(regions) + "]}\n"

    def region(self, name: str) -> RegionPlan:
        """The plan of a region. Raises ScheduleError where there is none."""
        for region in self.regions:
            if region.region == name:
                return region
        known = ", ".join(r.region for r in self.regions)
        raise ScheduleError(
            Fault(f"the plan has no region {name}, only {known}", "plan", "plan the network anew")
        )
