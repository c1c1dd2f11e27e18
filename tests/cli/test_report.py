"""`tilewright report`: table, files and messages."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright as tw
from tests.cli.commands import document, fault, invoke, process
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.timing import run


def test_everything_agrees_with_the_simulator(demo_package: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("html", "csv", "trace")}
    options = [x for name, path in files.items() for x in (f"--{name}", path)]
    result = invoke("report", demo_package, *options, "--json")
    found = document(result)
    package = tw.Package.load(demo_package)
    timings = [run(Program(region.stream, package.overlay)) for region in package.regions]
    total = found["total"]
    assert found["schema"] == 1
    assert total["cycles"] == sum(t.cycles for t in timings) == sum(x["cycles"] for x in found["layers"])
    assert total["dram_bytes"] == sum(t.dram_bytes for t in timings)
    with files["csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["cycles"]) for line in lines] == [x["cycles"] for x in found["layers"]]
    assert [line["name"] for line in lines] == [x["name"] for x in found["layers"]]
    assert f"<b>{total['cycles']:,}</b>" in files["html"].read_text(encoding="utf-8")
    assert json.loads(files["trace"].read_text())["traceEvents"]
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [str(p) for p in files.values()]
    assert not list(tmp_path.glob(".*"))


def test_the_table_puts_the_host_first(demo_package: Path) -> None:
    result = invoke("report", demo_package, "--host-ms", "1.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("host: 1 layer, 0 MACs, 1.500 ms = ")
    assert lines[0].endswith("(measured, as given by --host-ms)")
    assert lines[1].startswith("  estimate by operator: quantize 0.012 ms, region 0.002 ms, ")
    assert lines[3].split()[:2] == ["prob", "Softmax"]
    assert "digits on ultra96-w8" in result.stdout
    assert "more layers are folded into these" in lines[-1]
    assert result.stderr == ""


def test_sweep(demo_package: Path, tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    result = invoke("report", demo_package, "--sweep", "act=100K..2M", "--csv", path, "--json")
    rows = document(result)["sweep"]
    assert [row["bytes"] // 1024 for row in rows] == [128, 256, 448, 832, 1600]
    assert [row["cycles"] is None for row in rows] == [False, False, False, False, True]
    assert len((tmp_path / "layers.sweep.csv").read_text().splitlines()) == 1 + len(rows)
    table = invoke("report", demo_package, "--sweep", "act=100K..100K").stdout.splitlines()
    assert table[-1].split()[:3] == ["act", "100", "128"]


@pytest.mark.parametrize("content", [b"", b"no package at all", None])
def test_no_package(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "net.twp"
    if content is not None:
        path.write_bytes(content)
    message = fault(invoke("report", path))
    assert message.startswith(
        f"{path}: " + ("cannot read" if content is None else "not a Tilewright package")
    )


def test_damaged_and_stripped_packages(demo_package: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.twp"
    data = bytearray(demo_package.read_bytes())
    path.write_bytes(data[:-1])
    assert fault(invoke("report", path)).startswith(f"{path}: truncated: expected {len(data)} bytes")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in fault(invoke("report", path))
    tw.Package.load(demo_package).strip().save(path)
    assert fault(invoke("report", path)) == (
        "package digits: `report` needs the quantised model, and this package was stripped of it; "
        "compile without --strip"
    )


@pytest.mark.parametrize("option", ["--html", "--csv", "--trace"])
def test_outputs_that_cannot_be_written(demo_package: Path, tmp_path: Path, option: str) -> None:
    missing = tmp_path / "no" / "report"
    assert fault(invoke("report", demo_package, option, missing)) == (
        f"{missing}: there is no folder {tmp_path / 'no'}; choose another output"
    )
    assert fault(invoke("report", demo_package, option, tmp_path)) == (
        f"{tmp_path}: is a folder, expected the name of a file; choose another output"
    )
    assert not list(tmp_path.iterdir())


def test_one_file_for_two_outputs(demo_package: Path, tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert fault(invoke("report", demo_package, "--html", path, "--csv", path)) == (
        f"{path}: two outputs have the same name; give each its own file"
    )


def test_bad_options(demo_package: Path) -> None:
    assert fault(invoke("report", demo_package, "--sweep", "act=big")) == (
        "--sweep: expected a memory and sizes in K or M, found 'act=big'; write it like act=64K..1M"
    )
    message = fault(invoke("report", demo_package, "--pj-per-mac", "-1", "--host-mhz", "0"))
    assert message.splitlines() == [
        "2 faults",
        "  --pj-per-mac: expected a finite number from 0 up, found -1.0",
        "  --host-mhz: expected 1..10000 MHz, found 0",
    ]


def write_log(path: Path, overlay_hash: str) -> None:
    """A search of four trials, of which one failed."""
    head = {
        "schema": 1, "log": "tilewright tune", "version": "0.1.0", "overlay": "ultra96-w8",
        "overlay_hash": overlay_hash, "model": "digits", "regions": {"tilewright_0": "f"},
        "objective": "dram", "backend": "timing", "seed": 1,
    }  # fmt: skip
    rows: list[dict[str, object]] = [
        {"cycles": 9, "dram_bytes": n, "energy_mj": 0.1} for n in (9000, 7000, 8000)
    ]
    rows.append({"error": "it does not fit"})
    common = {"region": "tilewright_0", "origin": "default", "groups": [{"layers": ["a"]}]}
    lines = [head, *({"trial": n, **common, **row} for n, row in enumerate(rows))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_tuners_search(demo_package: Path, tmp_path: Path) -> None:
    log, html = tmp_path / "tune.log", tmp_path / "report.html"
    package = tw.Package.load(demo_package)
    write_log(log, package.overlay.hash)
    assert invoke("report", demo_package, "--tuned", log, "--html", html).exit_code == 0
    text = html.read_text()
    assert "<h2>Tuning</h2>" in text
    assert all(f">{label}<" in text for label in ("measured", "best so far", "failed", "DRAM bytes"))
    write_log(log, "0" * 64)
    assert fault(invoke("report", demo_package, "--tuned", log)) == (
        f"{log}: the log is for overlay ultra96-w8 (000000000000), the package for ultra96-w8 "
        f"({package.overlay.hash[:12]}); give the log of this package's overlay"
    )
    assert fault(invoke("report", demo_package, "--tuned", tmp_path / "no.log")).startswith(
        f"{tmp_path}/no.log: "
    )


def test_a_process_of_its_own(demo_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is printed, and matplotlib, which is slow to start, only serves the page."""
    light = "import sys, tilewright.cli.app, tilewright.report.tables; print('matplotlib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", light], text=True) == "False\n"
    found = process("report", demo_package, "--json")
    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)["network"] == "digits"
    path = tmp_path / "page.html"
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "fonts"))  # as at its first start
    found = process("report", demo_package, "--html", path)
    assert found.returncode == 0
    assert found.stderr == f"{path}: {path.stat().st_size:,} bytes\n"
