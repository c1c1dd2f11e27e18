"""Damaged inputs of every kind, by seed: only TilewrightError comes of them; and the harness catches what it must."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.benchmark.fuzz.misbehave import quick_job

from tilewright.benchmark.fuzz import inputs, isolated
from tilewright.benchmark.fuzz.inputs import KINDS, READ, REFUSED, attempt, damaged
from tilewright.benchmark.fuzz.isolated import Result, run_isolated
from tilewright.benchmark.fuzz.mutate import change_json, change_text
from tilewright.benchmark.fuzz.subjects import SUBJECTS

COUNTS = {"qdq": 10, "package": 60, "plan": 15, "listing": 15, "stream": 15}


@pytest.mark.parametrize("kind", KINDS)
def test_only_our_errors_come_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"input{SUBJECTS[kind].suffix}"
    outcomes = set()
    for number in range(COUNTS.get(kind, 40)):
        path.write_bytes(damaged(kind, 11, number))
        found = attempt(kind, path, number)
        assert found.kind in (READ, REFUSED), f"{kind} {number}: {found.text}"
        outcomes.add(found.kind)
    assert outcomes == {READ, REFUSED} or kind == "stream"  # the damage is neither blind nor in vain


@pytest.mark.parametrize("kind", KINDS)
def test_valid_ones_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"input{SUBJECTS[kind].suffix}"
    for data in SUBJECTS[kind].seeds():
        path.write_bytes(data)
        assert attempt(kind, path).kind == READ


def test_damage_is_repeatable() -> None:
    for kind in ("prototxt", "log", "mean"):
        first = [damaged(kind, 3, n) for n in range(20)]
        assert first == [damaged(kind, 3, n) for n in range(20)]
        assert len(set(first)) > 10


def test_json_stays_json_and_text_stays_near() -> None:
    rng = np.random.default_rng(0)
    text = b'{"a": [1, 2, {"b": null}], "c": "x"}'
    changed = {change_json(rng, text, [text]) for _ in range(50)}
    assert len(changed) > 20
    assert any(change_text(rng, b"a = 1\nb = 2\n", [b"a"]) != b"a = 1\nb = 2\n" for _ in range(5))


@pytest.mark.skipif(not isolated.supported(), reason="limits of processes are Linux's")
def test_crashes_hangs_and_memory_are_known_by_their_case() -> None:
    found = {r.number: (r.kind, r.place) for r in run_isolated(partial(quick_job, 0.2), range(7))}
    assert found == {
        0: (READ, ""), 1: ("crash", "SIGSEGV"), 2: (READ, ""), 3: ("hang", "hang"), 4: (READ, ""),
        5: ("MemoryError", ""), 6: (READ, ""),
    }  # fmt: skip


def test_findings_are_kept_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [Result(4, READ), Result(5, "KeyError", "a.py:1", "trace"), Result(6, REFUSED)]
    monkeypatch.setattr(inputs, "run_isolated", lambda make, numbers: iter(results))
    lines: list[str] = []
    tally = inputs.fuzz("mean", range(4, 7), 1, tmp_path, lines.append)
    assert (tally.read, tally.refused, dict(tally.findings)) == (1, 1, {"KeyError at a.py:1": 1})
    assert lines == ["mean 5: KeyError at a.py:1"]
    (path,) = tally.kept
    assert path.read_bytes() == damaged("mean", 1, 5)
    assert f"fuzz inputs --kind mean --replay {path}" in path.with_name(f"{path.name}.txt").read_text()
