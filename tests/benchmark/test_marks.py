"""The marks: every one names networks and overlays that exist, and its verdict is what it says."""

from __future__ import annotations

import pytest

from tilewright.benchmark.architectures import ALL, ZOO
from tilewright.benchmark.compile_time import DEFAULT
from tilewright.benchmark.marks import FIGURES, Mark, judged, marks
from tilewright.targets.config import overlays


def test_the_zoo_is_in_the_table() -> None:
    assert set(ZOO) <= set(ALL)
    assert len(set(ZOO)) == len(ZOO)


def test_every_mark_belongs_to_a_network_of_the_zoo() -> None:
    from tilewright.benchmark import marks as module

    for names, target, mark in module._all():
        assert names <= set(ZOO), names - set(ZOO)
        assert target in overlays()
        assert mark.source
        better = mark.aim >= mark.must if FIGURES[mark.figure] else mark.aim <= mark.must
        assert better, str(mark)


def test_every_network_has_a_mark_on_the_small_overlay() -> None:
    for name in ZOO:
        assert [str(mark) for mark in marks(name, "pynq-z1-w8")] == ["ratio >= 0.8 (0.9)"]


def test_networks_that_compile_against_the_clock() -> None:
    timed = {name for name in ZOO for mark in marks(name, "ultra96-w8") if mark.figure == "compile_s"}
    assert set(DEFAULT) <= timed


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        ("fps", 72, "aim"),
        ("fps", 71.9, "pass"),
        ("fps", 66, "pass"),
        ("fps", 65.9, "miss"),
        ("cycles", 59, "aim"),
        ("cycles", 60, "aim"),
        ("cycles", 61, "pass"),
        ("cycles", 101, "miss"),
    ],
)
def test_verdicts(figure: str, value: float, verdict: str) -> None:
    must, aim = (66, 72) if figure == "fps" else (100, 60)
    assert Mark(figure, must, aim, "").judge(value) == verdict


def test_marks_without_a_figure_are_left_out() -> None:
    figures = {"cycles": 2_000_000, "dram_bytes": 7_000_000}
    found = [(mark.figure, verdict) for mark, verdict in judged("mobilenet_v2", "ultra96-w8", figures)]
    assert found == [("cycles", "miss"), ("dram_bytes", "pass")]
    assert judged("mobilenet_v2", "ultra96-w8", {"conv_ratio": None}) == []
    assert judged("demo", "ultra96-w8", figures) == []


def test_a_mark_in_words() -> None:
    (mark,) = marks("googlenet", "ultra96-w8")
    assert str(mark) == "fps >= 66 (72)"
    assert "71.6" in mark.source
