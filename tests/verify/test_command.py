"""`tilewright verify` as a user runs it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import tilewright as tw
from tests.cli.commands import document, fault, invoke
from tilewright.verify.tables import COLUMNS

QUICK = ("--levels", "integer,fast")


@pytest.fixture(scope="session")
def file(package: tw.Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's package as a file."""
    path = tmp_path_factory.mktemp("verify") / "digits.twp"
    package.save(path)
    return path


def test_table_page_and_csv(file: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "levels.html", tmp_path / "levels.csv"
    levels = "float,quantised,integer,fast"
    result = invoke("verify", file, "--input", "random:1", "--levels", levels, "--html", page, "--csv", table)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["layer", "op", "quantised", "integer", "fast"]
    assert re.fullmatch(r"res_a +conv2d +\d+\.\d dB \(\d+\.\d dB\) +[01] +0", lines[3]), lines[3]
    assert lines[-1] == "passed: 17 layers agree at float, quantised, integer, fast"
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 18 and "src=" not in text and "href=" not in text
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {row["unequal"] for row in rows if row["level"] == "fast" and row["op"] != "output"} == {"0"}


def test_document(file: Path) -> None:
    found = document(invoke("verify", file, "--input", "random:1", *QUICK, "--json"))
    assert (found["schema"], found["passed"], found["first"], found["faults"]) == (1, True, None, [])
    (layer,) = (x for x in found["layers"] if x["name"] == "conv2")
    assert layer["levels"]["fast"] == {
        "snr_db": None,
        "fed_snr_db": None,
        "elements": 4096,
        "unequal": 0,
        "largest_difference": 0,
        "fault": "",
    }


def test_refusals(file: Path, package: tw.Package, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.twp"
    package.strip().save(stripped)
    message = fault(invoke("verify", stripped, "--input", "random:1"))
    assert message.endswith("this package was stripped of it; compile without --strip")
    message = fault(invoke("verify", file, "--input", "random:1", "--levels", "integers"))
    assert message.startswith("levels: expected levels of float, quantised, graph")
    message = fault(invoke("verify", file, "--input", tmp_path / "none.png"))
    assert "no such file" in message
    model = Path(__file__).resolve().parents[2] / "tutorials" / "demo" / "digits.onnx"
    message = fault(invoke("verify", model, "--input", "random:1"))
    assert message == "--target: a network needs a target; `tilewright targets` lists them"
