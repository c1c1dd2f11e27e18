"""The benchmarks of whole networks, on the demo, which needs no files from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilewright.benchmark import __main__ as command
from tilewright.benchmark.accuracy import JUDGED
from tilewright.benchmark.networks import NETWORKS, find_data
from tilewright.targets.sim import fast
from tilewright.targets.sim.program import DramImage, Program, RunResult


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = command.main(list(arguments))
    return code, json.loads(capsys.readouterr().out)


def test_equality(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = _json(capsys, "equality", "demo", "--json")
    assert code == 0
    assert document["elements_that_differ"] == 0
    rows = document["rows"]
    assert [(row["network"], row["overlay"]) for row in rows] == [
        ("demo", o) for o in NETWORKS["demo"].overlays
    ]
    assert all(row["elements"] == 10 and row["fast_s"] > 0 for row in rows)


def test_equality_tells_a_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fast.run

    def wrong(program: Program, dram: DramImage) -> RunResult:
        result = run(program, dram)
        result.outputs[:] ^= 255
        return result

    monkeypatch.setattr(fast, "run", wrong)
    code, document = _json(capsys, "equality", "demo", "--json")
    assert code == 1
    assert document["elements_that_differ"] == 20


def test_equality_of_single_layers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilewright.benchmark.networks.LARGEST_WHOLE", 1)
    code, document = _json(capsys, "equality", "demo", "--json", "--layers")
    assert code == 0
    rows = document["rows"]
    names = [row["compared"] for row in rows]
    assert len(names) > 2 * 6
    assert all(row["differ"] == 0 for row in rows)


def test_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = _json(capsys, "accuracy", "demo", "--json")
    assert code == 0
    (row,) = document["rows"]
    assert row["images"] == 400
    assert row["float"] > 99
    assert row["loss"] == pytest.approx(row["float"] - row["simulated"])


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["accuracy", "demo"]) == 0
    text = capsys.readouterr().out
    assert "simulated" in text and "demo" in text and "mean loss" in text


@pytest.mark.parametrize("name", ["accuracy", "compile", "equality"])
def test_unknown_networks_are_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, "nonsense"]) == 2
    assert "no network nonsense: expected some of demo, squeezenet_v1.1" in capsys.readouterr().err


def test_files_that_are_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILEWRIGHT_DATA", str(tmp_path / "none"))
    assert find_data() is None
    assert find_data(str(tmp_path)) == tmp_path
    assert command.main(["accuracy", "lenet"]) == 2
    assert "lenet needs the folder of models and images; give --data DIR" in capsys.readouterr().err
    assert command.main(["accuracy"]) == 0  # nothing to measure without it


def test_judged_networks_are_float_classifiers() -> None:
    assert all(NETWORKS[n].kind == "classifier" and not NETWORKS[n].quantised for n in JUDGED)
