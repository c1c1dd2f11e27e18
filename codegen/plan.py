"""The plan: which layers are merged, in how many stripes they run, and which maps stay on chip between them.

A plan is data that a person can read, edit and give back:

```json
{"schema": 1, "overlay": "ultra96-w8", "overlay_hash": "...", "batch": 1, "regions": [
  {"region": "tilewright_0", "groups": [
   {"layers": ["conv1", "pool1"], "stripes": 14, "strips": 1, "lag": 1, "keep": ["pool1"]}, ...]}]}
```

Layers are run in their order, group by group. A group's results are made stripe by stripe from its first layer to its
last: what its layers hand to each other stays in ACT, in buffers of as many rows as are still needed.

Of a batch, neighbouring groups that take equally many images at a time run one after the other for those images, then
for the next ones; only then come the groups that take more or fewer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tilewright.errors import Fault, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.targets.region import MOST_IMAGES


class Group(BaseModel):
    """Layers that run together.

    Attributes:
        layers: their names, neighbours in the region's order.
        stripes: into how many parts the rows of the last layer's results are cut; no more than the tallest of its
            layers has rows. Parts without a row are passed over.
        strips: into how many parts the columns are cut; 1 where there are several layers.
        slices: into how many parts the half words of a single VECTOR layer's channels are cut; 1 elsewhere.
        lag: how layers run behind those that they read, so that MATRIX and VECTOR work on different stripes: 0 not at
            all; 1 a stripe, where MATRIX reads what a VECTOR layer makes; 2 a stripe wherever one reads another.
        keep: maps, by the name of the layer (or region input) that they come from, that stay in ACT, whole, for the
            next group. All others that are needed later go through DRAM.
        images: of a batch that run side by side, each piece of weights serving all of them before the next is loaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...] = Field(min_length=1)
    stripes: int = Field(default=1, ge=1, strict=True)
    strips: int = Field(default=1, ge=1, strict=True)
    slices: int = Field(default=1, ge=1, strict=True)
    lag: int = Field(default=0, ge=0, le=2, strict=True)
    keep: tuple[str, ...] = ()
    images: int = Field(default=1, ge=1, strict=True)


class RegionPlan(BaseModel):
    """The plan of a region: its groups in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    groups: tuple[Group, ...]


class Plan(BaseModel):
    """The plan of a network on an overlay, for a batch of images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(default=1, alias="schema")
    overlay: str
    overlay_hash: str
    batch: int = Field(default=1, ge=1, le=MOST_IMAGES, strict=True)
    regions: tuple[RegionPlan, ...]

    @staticmethod
    def of(regions: Sequence[RegionPlan], overlay: Overlay, batch: int = 1) -> Plan:
        """The plan of these regions on an overlay."""
        return Plan(overlay=overlay.name, overlay_hash=overlay.hash, batch=batch, regions=tuple(regions))

    @staticmethod
    def read(path: str | Path, overlay: Overlay) -> Plan:
        """Read a plan made for an overlay. Raises ScheduleError with every fault of the file."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            text = f"the plan cannot be read: {error.strerror or error}"
            raise ScheduleError(Fault(text, str(path), "check the path")) from None
        return Plan.parse(data, overlay, str(path))

    @staticmethod
    def parse(data: str | bytes, overlay: Overlay, source: str = "plan") -> Plan:
        """Take a plan from its JSON, as :meth:`text` gives it and a package keeps it.

        Args:
            overlay: that it must have been made for.
            source: names it in messages.

        Raises ScheduleError with every fault of the text.
        """
        try:
            plan = Plan.model_validate_json(data)
        except ValidationError as error:
            raise ScheduleError(*(_fault(e, source) for e in error.errors())) from None
        if plan.overlay_hash != overlay.hash:
            raise ScheduleError(plan.of_another(overlay, source))
        return plan

    def of_another(self, overlay: Overlay, source: str = "plan") -> Fault:
        """The fault that it was made for another overlay."""
        text = (
            f"the plan was made for overlay {self.overlay} ({self.overlay_hash[:12]}), "
            f"not for {overlay.name} ({overlay.hash[:12]})"
        )
        return Fault(text, source, "plan for this overlay anew")

    def text(self) -> str:
        """As JSON, a group a line."""
        about = {"schema": 1, "overlay": self.overlay, "overlay_hash": self.overlay_hash, "batch": self.batch}
        head = json.dumps(about)[:-1]
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


_EXAMPLE = "compare with a plan written by `tilewright compile --save-plan`"


def _fault(error: ErrorDetails, source: str) -> Fault:
    """What the schema's check found, as a fault."""
    if error["type"] == "json_invalid":
        problem = error["msg"].partition(": ")[2]
        return Fault(f"expected JSON: {problem}", source, _EXAMPLE)
    where = f"{source}, {'.'.join(str(part) for part in error['loc'])}" if error["loc"] else source
    if error["type"] == "extra_forbidden":
        return Fault("there is no such field", where, "take it out")
    if error["type"] == "missing":
        return Fault("is missing", where, _EXAMPLE)
    found = json.dumps(error["input"], default=repr)
    shown = found if len(found) <= 60 else f"{found[:57]}..."
    return Fault(f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {shown}", where, _EXAMPLE)
