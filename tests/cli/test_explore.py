"""`tilewright explore` and what `targets` says of the part."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.cli.commands import DEMO, document, fault, invoke
from tilewright.targets.config import overlay
from tilewright.targets.resources import resources

SHORT = (
    str(DEMO / "digits.onnx"), "--board", "pynq-z1", "--calibration", "random:1", "--widths", "8/8", "--trials", "2",
)  # fmt: skip


def test_table_and_files(tmp_path: Path) -> None:
    result = invoke("explore", *SHORT, "--csv", tmp_path / "o.csv", "--html", tmp_path / "o.html")
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    assert first.split()[:4] == ["overlay", "bits", "blocks", "lanes"]
    assert "pynq-z1-w8" in result.stdout
    assert "overlays fit pynq-z1: 2 timed," in last
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and {row["inp_bits"] for row in rows} == {"8"}
    page = (tmp_path / "o.html").read_text(encoding="utf-8")
    assert (
        page.count("<svg ") == 3
        and "pynq-z1-w8" in page
        and "http" not in page.replace("http://www.w3.org", "")
    )


def test_json() -> None:
    found = document(invoke("explore", *SHORT, "--objective", "area", "--json"))
    areas = [point["area"] for point in found["points"]]
    assert found["objective"] == "area" and areas == sorted(areas) and len(areas) == 2
    assert found["considered"] == 2 + found["skipped"] + found["left"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--board", "zybo"), "unknown board 'zybo', known are pynq-z1, ultra96"),
        (("--board", "ultra96", "--widths", "8"), "--widths: expected widths like 8/8,4/4, found '8'"),
        (("--board", "ultra96", "--csv", "x.html", "--html", "x.html"),
         "x.html: two outputs have the same name; give each its own file"),
        (("--board", "ultra96"), "model digits is float and needs a calibration set; "
         "give --calibration DIR or NPZ, or random:1 for studies of speed"),
    ],
)  # fmt: skip
def test_wrong_options(options: tuple[str, ...], message: str) -> None:
    assert fault(invoke("explore", DEMO / "digits.onnx", *options)) == message


def test_targets_tell_what_of_the_part_is_used() -> None:
    text = invoke("targets").stdout
    lut, there = resources(overlay("ultra96-w8")).amounts["lut"]
    assert f"{lut:,} {lut / there:.0%}" in text
    rows = {row["name"]: row for row in document(invoke("targets", "--json"))["targets"]}
    used = rows["ultra96-w8"]["resources"]
    assert used["total"]["lut"] == sum(term["lut"] for term in used["terms"]) == lut
    assert used["total"]["bram36"] == -(-sum(2 * term["bram36"] for term in used["terms"]) // 2)
