"""The benchmark of tuning: its figures are those of the zoo's benchmark and of `tilewright.tune`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tilewright.benchmark import __main__ as benchmark
from tilewright.benchmark import zoo
from tilewright.benchmark.quantised import Quantised
from tilewright.targets.config import overlay


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target, table = "ultra96-w8", tmp_path / "tuning.csv"
    command = ["tuning", "demo", "--target", target, "--trials", "3", "--json", "--csv", str(table)]
    assert benchmark.main(command) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["network"], row["overlay"], row["trials"]) == ("demo", target, 3)
    (default,) = zoo.rows(["demo"], [overlay(target)], zoo.Networks(Quantised(None, None)))
    assert isinstance(default, zoo.Row)
    assert row["default_cycles"] == default.cycles >= row["tuned_cycles"] > 0
    assert row["gain"] == row["default_cycles"] / row["tuned_cycles"] - 1
    with table.open(newline="") as file:
        (written,) = csv.DictReader(file)
    assert float(written["gain"]) == row["gain"]


def test_too_few_trials_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["tuning", "demo", "--target", "ultra96-w8", "--trials", "0", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert "expected 1 or more, found 0" in row["error"]
