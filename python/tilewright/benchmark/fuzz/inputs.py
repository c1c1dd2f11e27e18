"""`fuzz inputs`: damaged files of every kind that is read. Only TilewrightError may come of them.

Each is read in a process of its own with limits, so that a crash or a hang is known by its input. Anything else than a
TilewrightError is kept in a folder with the input, and `fuzz inputs --replay FILE --kind KIND` reads it again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from tilewright.benchmark.fuzz.isolated import Job, Result, run_isolated
from tilewright.errors import TilewrightError

KINDS = (
    "prototxt", "caffemodel", "onnx", "qonnx", "qdq", "package", "plan", "log", "overlay", "board", "listing", "stream",
    "mean",
)  # fmt: skip
KEPT = 3
"""Inputs that are kept of findings at the same place."""
REFUSED, READ = "refused", "read"


@dataclass
class Tally:
    """What came of the inputs of a kind.

    Attributes:
        read, refused: inputs.
        findings: by kind and place.
        kept: files of findings.
    """

    read: int = 0
    refused: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/tilewright/" in f.filename and "/benchmark/fuzz/" not in f.filename]
    frame = (ours or frames)[-1]
    return f"{frame.filename.rpartition('/tilewright/')[2]}:{frame.lineno}"


def attempt(kind: str, path: Path, number: int = 0) -> Result:
    """Read a file: kinds "read" and "refused" are well, others are findings."""
    from tilewright.benchmark.fuzz.subjects import SUBJECTS, WARNINGS

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in WARNINGS:
            warnings.simplefilter("ignore", known)
        try:
            SUBJECTS[kind].read(path)
        except TilewrightError as error:
            if error.faults and all(fault.message for fault in error.faults):
                return Result(number, REFUSED)
            return Result(number, "no message", _place(error), repr(error))
        except Exception as error:  # noqa: BLE001 - every exception is a finding
            name = type(error).__name__
            return Result(number, name, _place(error), "".join(traceback.format_exception(error)))
    return Result(number, READ)


def damaged(kind: str, seed: int, number: int) -> bytes:
    """The input of this number."""
    from tilewright.benchmark.fuzz.mutate import mutate
    from tilewright.benchmark.fuzz.subjects import SUBJECTS

    subject = SUBJECTS[kind]
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    return mutate(rng, _seeds(kind), subject.mutators)


_made: dict[str, Sequence[bytes]] = {}


def _seeds(kind: str) -> Sequence[bytes]:
    from tilewright.benchmark.fuzz.subjects import SUBJECTS

    if kind not in _made:
        _made[kind] = SUBJECTS[kind].seeds()
    return _made[kind]


def make_job(kind: str, seed: int) -> Job:
    """What runs in the worker; all seeds are read once first, so that libraries are loaded before memory is limited."""
    from tilewright.benchmark.fuzz.subjects import SUBJECTS

    folder = Path(tempfile.mkdtemp(prefix="tilewright-fuzz-"))
    path = folder / f"input{SUBJECTS[kind].suffix}"
    for data in _seeds(kind):
        path.write_bytes(data)
        found = attempt(kind, path)
        if found.kind != READ:
            raise RuntimeError(f"a valid {kind} is not read: {found}")

    def run(number: int) -> Result:
        path.write_bytes(damaged(kind, seed, number))
        return attempt(kind, path, number)

    return run


def fuzz(
    kind: str,
    numbers: range,
    seed: int,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Read damaged inputs of a kind in a worker; `folder` is where findings are kept."""
    tally = Tally()
    for result in run_isolated(partial(make_job, kind, seed), numbers):
        if result.kind == READ:
            tally.read += 1
        elif result.kind == REFUSED:
            tally.refused += 1
        else:
            key = f"{result.kind} at {result.place}"
            tally.findings[key] += 1
            if tally.findings[key] == 1:
                say(f"{kind} {result.number}: {key}")
            if folder is not None and tally.findings[key] <= KEPT:
                tally.kept.append(_keep(folder, kind, seed, result))
    return tally


def _keep(folder: Path, kind: str, seed: int, result: Result) -> Path:
    from tilewright.benchmark.fuzz.subjects import SUBJECTS

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{seed}-{result.number}{SUBJECTS[kind].suffix}"
    path.write_bytes(damaged(kind, seed, result.number))
    command = f"python -m tilewright.benchmark fuzz inputs --kind {kind} --replay {path}"
    text = f"{command}\n\n{result.kind} at {result.place}\n{result.text}\n"
    path.with_name(f"{path.name}.txt").write_text(text)
    return path


def main(arguments: list[str]) -> int:
    """Run the command; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tilewright.benchmark fuzz inputs", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=1000, help="inputs of all kinds together (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind (default: 0)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    parser.add_argument(
        "--folder", type=Path, default=Path("findings"), help="of findings (default: findings)"
    )
    parser.add_argument("--replay", type=Path, help="read one file as the kind that is given")
    options = parser.parse_args(arguments)
    kinds = options.kind or KINDS
    if options.replay is not None:
        if len(kinds) != 1:
            parser.error("--replay needs --kind")
        result = attempt(kinds[0], options.replay)
        print(result.kind, result.text, sep="\n")  # noqa: T201
        return int(result.kind not in (READ, REFUSED))
    total = 0
    for i, kind in enumerate(kinds):
        count = options.count // len(kinds) + (i < options.count % len(kinds))
        start = time.perf_counter()
        numbers = range(options.first, options.first + count)
        tally = fuzz(kind, numbers, options.seed, options.folder, lambda line: print(line, flush=True))  # noqa: T201
        found = sum(tally.findings.values())
        total += found
        print(  # noqa: T201
            f"{kind:10} {count} inputs in {time.perf_counter() - start:.0f} s: {tally.refused} refused, {tally.read} "
            f"read, {found} findings at {len(tally.findings)} places",
            flush=True,
        )
    return int(total > 0)
