"""Where a pipeline's time goes, and what a faster stage could give: Amdahl's law.

Without overlap an image takes the sum T of its stages. A stage of t seconds that cost nothing would make that
T / (T - t) times as fast, and no work on it can give more (Amdahl, "Validity of the single processor approach to
achieving large scale computing capabilities", AFIPS 1967). With overlap an image takes as long as the slowest lane, and
lanes on the accelerator share it: the limit is the slowest with the stage over the slowest without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilewright.errors import ConfigError, Fault
from tilewright.vision.stages import Unit


@dataclass(frozen=True)
class StageTime:
    """A stage: its name and unit, the thread that ran it, and its seconds over all images, waiting left out."""

    name: str
    unit: Unit
    lane: int
    seconds: float


@dataclass(frozen=True)
class StageRow:
    """A line of Amdahl's table.

    Attributes:
        ms: of an image.
        share: of an image's time, 0..1.
        limit: speed-up if the stage cost nothing, one image after another.
        overlapped_limit: the same with lanes side by side; 1 where another lane is slower.
    """

    name: str
    unit: Unit
    ms: float
    share: float
    limit: float
    overlapped_limit: float


@dataclass(frozen=True)
class PipelineReport:
    """Times of a run.

    Attributes:
        times: of the stages, in order; those of failed images included.
        images: that came out, `failed` of them with an error.
        seconds: from the start until the last came out.
        caller_seconds: of the caller's own work on images, during which the lanes go on.
    """

    times: tuple[StageTime, ...]
    images: int
    failed: int
    seconds: float
    caller_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """As measured; 0 before the first image."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def sequential_seconds(self) -> float:
        """Of all images one after another: the sum of the stages."""
        return math.fsum(t.seconds for t in self.times)

    @property
    def overlap(self) -> float:
        """How many stages were at work at a time in the mean; above 1 where lanes overlapped."""
        return self.sequential_seconds / self.seconds if self.seconds else 0.0

    @property
    def overlapped_per_second(self) -> float:
        """Images/s if every lane had a core to itself: one by its slowest lane; 0 before the first image."""
        slowest = self._slowest("")
        return self.images / slowest if slowest else 0.0

    def _slowest(self, without: str) -> float:
        lanes: dict[object, float] = {}
        for t in self.times:
            lane = t.lane if t.unit == "host" else t.unit
            lanes[lane] = lanes.get(lane, 0.0) + (0.0 if t.name == without else t.seconds)
        return max(lanes.values(), default=0.0)

    @property
    def rows(self) -> tuple[StageRow, ...]:
        """Amdahl's table."""
        total, slowest = self.sequential_seconds, self._slowest("")
        return tuple(
            StageRow(
                t.name,
                t.unit,
                1e3 * t.seconds / self.images if self.images else 0.0,
                t.seconds / total if total else 0.0,
                _ratio(total, math.fsum(o.seconds for o in self.times if o is not t)),
                _ratio(slowest, self._slowest(t.name)),
            )
            for t in self.times
        )

    def with_ms(self, ms: Mapping[str, float]) -> PipelineReport:
        """The same with other times an image of some stages, such as the hardware's in place of the simulator's.

        `seconds` becomes that of the slowest lane, for no such run was measured. Raises ConfigError for stages that
        there are not.
        """
        names = [t.name for t in self.times]
        unknown = [name for name in ms if name not in names]
        if unknown:
            raise ConfigError(
                Fault(f"unknown stage {', '.join(unknown)}", "", f"known are {', '.join(names)}")
            )
        times = tuple(
            replace(t, seconds=ms[t.name] * self.images / 1e3) if t.name in ms else t for t in self.times
        )
        changed = replace(self, times=times)
        return replace(changed, seconds=changed._slowest(""), caller_seconds=0.0)

    def text(self) -> str:
        """The table, and throughput below it."""
        width = max(len(t.name) for t in self.times)
        lines = [f"{'stage':{width}}  unit         ms/image   share    limit  overlapped"]
        for row in self.rows:
            limits = "  ".join(
                f"{_times(limit):>{w}}" for limit, w in ((row.limit, 7), (row.overlapped_limit, 10))
            )
            lines.append(f"{row.name:{width}}  {row.unit:11}  {row.ms:8.3f}  {row.share:6.1%}  {limits}")
        failed = f", {self.failed} of them failed" if self.failed else ""
        lines.append(
            f"{self.images} images{failed}, {self.images_per_second:.1f} images/s; "
            f"one after another {_rate(self.images, self.sequential_seconds)}, "
            f"by the slowest lane {self.overlapped_per_second:.1f}; "
            f"the caller took {1e3 * self.caller_seconds / max(self.images, 1):.3f} ms/image"
        )
        return "\n".join(lines)


def _ratio(before: float, after: float) -> float:
    if before == 0:
        return 1.0
    return before / after if after else math.inf


def _times(limit: float) -> str:
    return f"{limit:.2f} x" if math.isfinite(limit) else "no limit"


def _rate(images: int, seconds: float) -> str:
    return f"{images / seconds if seconds else 0.0:.1f}"
