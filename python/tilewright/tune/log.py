"""The log of a search: JSON lines, a header and then a line for each measurement, on disk before it counts.

```json
{"schema": 1, "log": "tilewright tune", "version": "0.1.0", "overlay": "ultra96-w8", "overlay_hash": "..",
 "model": "net", "regions": {"tilewright_0": "<fingerprint>"}, "objective": "cycles", "backend": "timing", "seed": 1}
{"trial": 0, "region": "tilewright_0", "origin": "default", "cycles": 91, "dram_bytes": 9, "energy_mj": 0.1,
 "groups": [..]}
{"trial": 1, "region": "tilewright_0", "origin": "..", "error": "why it was not measured", "groups": [..]}
```

A process that is killed leaves at most one torn line, the last; it is dropped when the log is opened again. Lines
stand in the order in which they were measured; `trial` counts in the order in which plans were proposed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import FileIO
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter

from tilewright.codegen.plan import Plan, RegionPlan
from tilewright.errors import DataError, Fault, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.tune.measurement import Measurement, Objective, Outcome, Refusal

KIND = "tilewright tune"


class LogWarning(UserWarning):
    """Something of a log was dropped."""


@dataclass(frozen=True)
class Header:
    """What a log's measurements depend on.

    Attributes:
        version: of Tilewright.
        overlay, overlay_hash: the machine.
        model: the network's name, for people.
        regions: fingerprint of each region by name.
        objective, backend, seed: of the search.
    """

    version: str
    overlay: str
    overlay_hash: str
    model: str
    regions: Mapping[str, str]
    objective: Objective
    backend: str
    seed: int


@dataclass(frozen=True)
class Record:
    """A measurement."""

    trial: int
    plan: RegionPlan
    origin: str
    outcome: Outcome


_HEAD = b'{"schema": 1, "log": "tilewright tune"'
"""How each log begins: a file that is torn earlier may be overwritten, any other file may not."""
_HEADER = TypeAdapter(Header)
_PLAN = TypeAdapter(RegionPlan)
_MEASUREMENT = TypeAdapter(Measurement)
_BADLY = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What comes of a line that is damaged; JSON's and pydantic's errors are ValueErrors."""

_REMEDIES = {
    "version": "give another --log: other versions compile the same plan to other streams",
    "overlay": "give another --log, or the target that this one is for",
    "overlay_hash": "the overlay's file was changed since: give another --log",
    "regions": "give another --log, or the network that this one is for",
    "objective": "give another --log: what was proposed depends on the objective",
    "backend": "give another --log: back ends do not measure alike",
    "seed": "give another --log, or the seed that this one was begun with",
}
"""Field of the header -> what to do where it differs. The network's name alone decides nothing."""


def _decode_header(line: bytes) -> Header:
    document = json.loads(line)
    if (
        not isinstance(document, dict)
        or document.pop("log", None) != KIND
        or document.pop("schema", None) != 1
    ):
        raise ValueError("no header")
    return _HEADER.validate_python(document)


def _decode_record(line: bytes) -> Record:
    document = json.loads(line)
    plan = _PLAN.validate_python({"region": document["region"], "groups": document["groups"]})
    outcome: Outcome
    if "error" in document:
        outcome = Refusal(str(document["error"]))
    else:
        outcome = _MEASUREMENT.validate_python({f.name: document[f.name] for f in fields(Measurement)})
    return Record(int(document["trial"]), plan, str(document["origin"]), outcome)


def _encode(record: Record) -> bytes:
    outcome = record.outcome
    result = {"error": outcome.message} if isinstance(outcome, Refusal) else asdict(outcome)
    groups = [group.model_dump(mode="json") for group in record.plan.groups]
    head = {"trial": record.trial, "region": record.plan.region, "origin": record.origin}
    return json.dumps({**head, **result, "groups": groups}).encode() + b"\n"


def _parse(data: bytes, path: Path) -> tuple[Header | None, list[Record], int]:
    """Header, records and the length of the sound part. A torn last line is dropped with a warning."""
    lines = data.split(b"\n")
    torn = lines.pop()
    sound = len(data) - len(torn)
    header: Header | None = None
    records: list[Record] = []
    position = 0
    for number, line in enumerate(lines, 1):
        try:
            if header is None:
                header = _decode_header(line)
            else:
                records.append(_decode_record(line))
        except _BADLY:
            if header is None:
                raise DataError(
                    Fault(
                        f"expected a log of `tilewright tune`, line 1 is {line[:40]!r}",
                        str(path),
                        "give another --log",
                    )
                ) from None
            if number < len(lines) or torn:
                raise DataError(
                    Fault(
                        f"line {number} is damaged: {line[:40]!r}",
                        str(path),
                        "delete that line; it will be measured again",
                    )
                ) from None
            torn, sound = line, position
        position += len(line) + 1
    if header is None and torn and not _HEAD.startswith(torn[: len(_HEAD)]):
        raise DataError(
            Fault(
                f"expected a log of `tilewright tune`, found {torn[:40]!r}", str(path), "give another --log"
            )
        )
    if torn:
        text = f"{path}: dropped the torn last line ({len(torn)} bytes): the process that wrote it was ended"
        warnings.warn(LogWarning(text), stacklevel=4)
    return header, records, sound


def _require_file(path: Path) -> None:
    """A device may never end. Raises DataError."""
    if path.exists() and not path.is_file():
        raise DataError(Fault("is no file that a log can be", str(path), "give another --log"))


def read(path: str | Path) -> tuple[Header, list[Record]]:
    """A log's header, and its records by trial.

    Raises DataError where there is no such file or it is no log; warns of a torn last line.
    """
    path = Path(path)
    _require_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            Fault(f"the log cannot be read: {error.strerror}", str(path), "check the path")
        ) from None
    header, records, _ = _parse(data, path)
    if header is None:
        raise DataError(Fault("the log is empty", str(path), "tune first: `tilewright tune --log`"))
    return header, sorted(records, key=lambda r: r.trial)


class Log:
    """A log that is being written; a context manager.

    Opening an existing file continues it: `records` holds what it has. With no path nothing is written.

    Raises:
        DataError: the file cannot be written, is no log, another process writes to it, or it was made for something
            else: every field that differs, with both values.
    """

    def __init__(self, path: str | Path | None, header: Header) -> None:
        self.records: list[Record] = []
        self._path = None if path is None else Path(path)
        self._file: FileIO | None = None
        if self._path is not None:
            self._open(self._path, header)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, record: Record) -> None:
        """Write a record; it is on the disk when this returns."""
        self.records.append(record)
        self._write(_encode(record))

    def _open(self, path: Path, header: Header) -> None:
        _require_file(path)
        try:
            # Append mode: nobody's line can be overwritten, whatever happens.
            file = self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise DataError(
                Fault(f"the log cannot be written: {error.strerror}", str(path), "check the path")
            ) from None
        try:
            self._lock(file, path)
            file.seek(0)
            found, self.records, sound = _parse(file.read(), path)
            if found is not None:
                compare(found, header, path)
            file.truncate(sound if found is not None else 0)
            if found is None:
                document = {"schema": 1, "log": KIND, **asdict(header)}
                self._write(json.dumps(document).encode() + b"\n")
                self._sync_folder(path)
        except BaseException:
            file.close()
            raise

    @staticmethod
    def _lock(file: FileIO, path: Path) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                Fault(
                    "another process is tuning with this log", str(path), "wait for it, or give another --log"
                )
            ) from None
        except OSError:
            pass  # a file system without locks: the user is trusted to start one tuner a log

    @staticmethod
    def _sync_folder(path: Path) -> None:
        """A new file's name is safe only once its folder is."""
        with contextlib.suppress(OSError):
            folder = os.open(path.resolve().parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _write(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(
                Fault(
                    f"the log cannot be written: {error.strerror}",
                    str(self._path),
                    "what was measured before is safe: free space and start again",
                )
            ) from None


def compare(found: Header, expected: Header, path: Path) -> None:
    """Raises DataError with every field in which a log differs from what is to be tuned."""
    faults = []
    for name, remedy in _REMEDIES.items():
        old, new = getattr(found, name), getattr(expected, name)
        if old == new or (name == "overlay_hash" and found.overlay != expected.overlay):
            continue
        if name == "regions":
            text = f"the log is for network {found.model} ({_regions(old)}), not for {expected.model} ({_regions(new)})"
        else:
            text = f"the log is for {name.replace('_', ' ')} {old}, not for {new}"
        faults.append(Fault(text, str(path), remedy))
    if faults:
        raise DataError(*faults)


def _regions(fingerprints: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {fingerprint[:12]}" for name, fingerprint in sorted(fingerprints.items()))


def best_records(header: Header, records: Sequence[Record]) -> dict[str, Record]:
    """The best record of each region that has one; the earlier of equal ones."""
    best: dict[str, Record] = {}
    values: dict[str, float] = {}
    for record in sorted(records, key=lambda r: r.trial):
        if isinstance(record.outcome, Measurement):
            region, value = record.plan.region, record.outcome.value(header.objective)
            if region not in values or value < values[region]:
                best[region], values[region] = record, value
    return best


def best_plan(path: str | Path, overlay: Overlay) -> Plan:
    """The best plan in a log, for an overlay.

    Raises:
        DataError: the file is no log, or holds no measurement of some region.
        ScheduleError: it was made for another overlay.
    """
    header, records = read(path)
    if header.overlay_hash != overlay.hash:
        text = (
            f"the log is for overlay {header.overlay} ({header.overlay_hash[:12]}), "
            f"not for {overlay.name} ({overlay.hash[:12]})"
        )
        raise ScheduleError(Fault(text, str(path), "tune for this overlay"))
    best = best_records(header, records)
    missing = [name for name in header.regions if name not in best]
    if missing:
        text = f"the log holds no measurement of region {', '.join(missing)}"
        raise DataError(Fault(text, str(path), "tune on: more --trials"))
    return Plan.of([best[name].plan for name in header.regions], overlay)


@dataclass(frozen=True)
class SearchPoint:
    """A trial: the network's `value` with this plan in its region and the best ones elsewhere, and `best` so far."""

    trial: int
    region: str
    value: float | None
    best: float | None


def search_points(path: str | Path) -> list[SearchPoint]:
    """A log as points of a plot, by trial.

    `value` is None where a plan was refused, both are until every region has a measurement.
    """
    header, records = read(path)
    best: dict[str, float] = {}
    points = []
    for record in records:
        region, value = record.plan.region, None
        if isinstance(record.outcome, Measurement):
            found = record.outcome.value(header.objective)
            best[region] = min(found, best.get(region, found))
            if len(best) == len(header.regions):
                value = sum(v for name, v in best.items() if name != region) + found
        total = sum(best.values()) if len(best) == len(header.regions) else None
        points.append(SearchPoint(record.trial, region, value, total))
    return points
