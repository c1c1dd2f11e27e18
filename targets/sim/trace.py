"""A timed run as a Chrome trace: one track for each unit and one for layers.

The format is Chrome's "Trace Event Format" (JSON object form, complete events `X`); Perfetto and chrome://tracing read
it. Times are microseconds at the overlay's clock.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilewright.targets.isa.spec import Opcode, Unit
from tilewright.targets.sim.timing import Timing

LAYER_TRACK = len(Unit)


def chrome_trace(timing: Timing) -> dict[str, Any]:
    """The trace as a document; `json.dump` writes it.

    Instructions of one unit overlap where one is set up while another drains; those tracks hold, for each
    instruction, the time from the end of the one before (or its own start, if later) to its retirement.
    """
    scale = 1.0 / timing.overlay.mhz
    tracks = {int(unit): unit.name for unit in Unit} | {LAYER_TRACK: "layers"}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": 0, "name": "process_name", "args": {"name": timing.overlay.name}}
    ]
    for track, name in tracks.items():
        for kind, args in (("thread_name", {"name": name}), ("thread_sort_index", {"sort_index": track})):
            events.append({"ph": "M", "pid": 0, "tid": track, "name": kind, "args": args})
    free = dict.fromkeys(Unit, 0)
    for index, opcode in enumerate(timing.opcodes.tolist()):
        if opcode == Opcode.FINISH:
            continue
        unit = Unit(opcode - 1)
        start, end = max(int(timing.start[index]), free[unit]), int(timing.end[index]) + 1
        free[unit] = max(free[unit], end)
        layer = timing.layer_names[index] if timing.layer_names else ""
        about = {
            "instruction": index, "layer": layer, "dispatched": int(timing.dispatched[index]),
            "start": int(timing.start[index]), "end": end,
        }  # fmt: skip
        events.append(_event(layer or unit.name, int(unit), start, end, scale, about))
    done = 0
    for found in timing.layers():
        if found.cycles:
            start = max(found.start, done)
            events.append(_event(found.name, LAYER_TRACK, start, found.end, scale, {"cycles": found.cycles}))
            done = found.end
    return {"displayTimeUnit": "ns", "traceEvents": events}


def write_chrome_trace(timing: Timing, path: Path | str) -> None:
    """Write the trace to a file."""
    Path(path).write_text(json.dumps(chrome_trace(timing), separators=(",", ":")), encoding="utf-8")


def _event(name: str, track: int, start: int, end: int, scale: float, args: dict[str, Any]) -> dict[str, Any]:
    duration = max(end - start, 0) * scale
    return {
        "ph": "X",
        "pid": 0,
        "tid": track,
        "name": name,
        "ts": start * scale,
        "dur": duration,
        "args": args,
    }
