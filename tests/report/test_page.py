"""CSV, JSON, trace and HTML page hold the same figures; the page needs nothing from outside."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

import tilewright as tw
from tilewright.report import Report, SweepRow, analyse
from tilewright.report.page import page
from tilewright.report.plots import search_plot, sweep_curve
from tilewright.report.tables import COLUMNS, document, layers_csv, sweep_csv, trace

VOID = {"meta", "br", "img", "link", "input", "hr"}
SWEEP = (
    SweepRow("act", 65536, 65536, 100, 2.5e6, 5000, 4000, 1),
    SweepRow("act", 131072, 131072, dram_bytes_unmerged=4000, reason="<too small> & so on"),
)


@dataclass(frozen=True)
class Trial:
    """A point of a search, as the tuner's log gives it."""

    trial: int
    value: float | None
    best: float | None


class Page(HTMLParser):
    """Checks that elements are closed, and gathers what they refer to and the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def text(demo_report: Report) -> str:
    return page(demo_report, SWEEP, [Trial(0, 5.0, 5.0), Trial(1, None, 5.0), Trial(2, 4.0, 4.0)])


def test_csv_and_json_agree(demo_report: Report) -> None:
    lines = list(csv.DictReader(io.StringIO(layers_csv(demo_report))))
    found = json.loads(json.dumps(document(demo_report)))
    assert tuple(lines[0]) == COLUMNS
    assert COLUMNS == (
        "name",
        "op",
        "place",
        "reason",
        "macs",
        "cycles",
        "utilisation",
        "bound_cycles",
        "roofline_ratio",
        "dram_read_bytes",
        "dram_write_bytes",
        "dram_bytes_unmerged",
        "energy_mj",
    )
    assert len(lines) == len(found["layers"])
    for line, layer in zip(lines, found["layers"], strict=True):
        assert list(layer)[: len(COLUMNS)] == list(COLUMNS)
        for column in COLUMNS:
            value = layer[column]
            assert line[column] == ("" if value is None else str(value))


def test_totals_are_the_layers_sums(demo_report: Report) -> None:
    found = document(demo_report)
    total, layers = found["total"], found["layers"]
    assert total["cycles"] == sum(x["cycles"] for x in layers) == demo_report.cycles
    assert (
        total["dram_bytes"] == total["dram_read_bytes"] + total["dram_write_bytes"] == demo_report.dram_bytes
    )
    assert total["dram_bytes_unmerged"] == sum(x["dram_bytes_unmerged"] for x in layers)
    assert total["macs"] == sum(x["macs"] for x in layers)
    assert total["energy_mj"] == pytest.approx(sum(x["energy_mj"] for x in layers), rel=1e-12)
    assert total["fps"] == pytest.approx(250e6 / total["cycles"])
    assert total["fps_with_host"] < total["fps"]
    assert total["roofline_ratio"] == total["bound_cycles"] / total["cycles"]
    assert total["utilisation"] == total["macs"] / (512 * total["cycles"])
    assert set(total) >= {"host_macs", "host_share", "host_ms"}
    assert found["memory"]["ACT"]["size_bytes"] == 384 * 1024


def test_the_page_agrees(demo_report: Report, text: str) -> None:
    parsed = Page(text)
    rows = {row[0]: row for row in parsed.rows if len(row) == 13}
    for layer in demo_report.layers:
        if layer.folded:
            assert layer.name not in rows
            continue
        row = rows[layer.name]
        assert row[:4] == [layer.name, layer.op, layer.place, f"{layer.macs:,}"]
        assert row[4] == f"{layer.cycles:,}"
        assert row[9:12] == [
            f"{v:,}" for v in (layer.dram_read_bytes, layer.dram_write_bytes, layer.dram_bytes_unmerged)
        ]
    assert f"<b>{demo_report.cycles:,}</b>" in text
    assert f"<b>{demo_report.fps:,.1f}</b>" in text


def test_the_page_needs_nothing(text: str) -> None:
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags
    assert parsed.tags.count("svg") == 10
    assert parsed.references
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in parsed.references)
    assert {r[1:] for r in parsed.references if r.startswith("#")} <= set(parsed.ids)
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert "http:" not in names
    assert "https:" not in names
    assert len(text) < 1_000_000


def test_host_layers_come_first(text: str) -> None:
    assert text.index("On the host: 1 layer,") < text.index("Roofline")
    assert "estimated from its operators for one core at 1000 MHz, plain loops; not measured" in text
    assert [row[0] for row in Page(text).rows if len(row) == 13][1] == "prob"


def test_names_are_text(demo: tw.Package, host_only: tw.Package) -> None:
    """Names with what HTML and formulas give a meaning to."""
    text = page(analyse(host_only), SWEEP)
    assert "soft &lt;max&gt;" in text
    assert "&lt;too small&gt; &amp; so on" in text
    Page(text)
    region = demo.regions[0]
    strange = tuple(f"$\\frac{{<{name}>&" for name in region.layers)
    renamed = dataclasses.replace(region, layers=strange)
    Page(page(analyse(dataclasses.replace(demo, regions=(renamed,)))))


def test_a_page_is_the_same_each_time(demo_report: Report) -> None:
    assert page(demo_report) == page(demo_report)


def test_the_trace(demo_report: Report) -> None:
    found = trace(demo_report)
    (run,) = demo_report.runs
    instructions = [e for e in found["traceEvents"] if e["ph"] == "X" and "instruction" in e["args"]]
    assert len(instructions) == len(run.instructions) - 1
    (process,) = (e for e in found["traceEvents"] if e["name"] == "process_name")
    assert process["args"]["name"].startswith("digits on ultra96-w8, ")
    ends = [e["ts"] + e["dur"] for e in instructions]
    assert max(ends) <= demo_report.cycles / 250


def test_regions_follow_one_another(demo: tw.Package, demo_report: Report) -> None:
    """A region that is called twice counts twice; the second call begins where the first ends."""
    steps = demo.program.steps
    again = next(step for step in steps if step.op == "region")
    twice = dataclasses.replace(demo.program, steps=(*steps, again))
    found = analyse(dataclasses.replace(demo, program=twice))
    assert found.cycles == 2 * demo_report.cycles
    assert [run.start for run in found.runs] == [0, demo_report.cycles]
    events = trace(found)["traceEvents"]
    first = {e["pid"]: e["ts"] for e in reversed(events) if e["ph"] == "X"}
    assert first[1] - first[0] == pytest.approx(demo_report.cycles / 250)
    Page(page(found))


def test_sweep_as_csv() -> None:
    assert sweep_csv(SWEEP).splitlines() == [
        "memory,asked_bytes,bytes,cycles,fps,dram_bytes,dram_bytes_unmerged,host_layers,reason",
        "act,65536,65536,100,2500000.0,5000,4000,1,",
        "act,131072,131072,,,,4000,,<too small> & so on",
    ]
    assert "does not fit" in sweep_curve(SWEEP)
    assert sweep_curve(SWEEP[1:])


def test_search_plot() -> None:
    drawn = search_plot([Trial(0, 7.0, 7.0), Trial(2, 9.0, 3.0), Trial(1, 3.0, 3.0)], "cycles")
    assert ">best so far<" in drawn
    assert ">failed<" not in drawn
    assert ">cycles<" in drawn
    assert ">failed<" in search_plot([Trial(0, 7.0, 7.0), Trial(1, None, 7.0)])
    assert ">best so far<" not in search_plot([Trial(0, None, None)])
    assert search_plot([])
