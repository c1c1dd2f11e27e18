"""The table of accuracies below 8 bits."""

from __future__ import annotations

import json

import pytest

from tilewright.benchmark.accuracy import main
from tilewright.benchmark.accuracy_steps import settings
from tilewright.quantize.steps import PLAIN


def test_what_is_measured_at_a_width() -> None:
    found = dict(settings(4))
    assert list(found) == ["W8A8", "W4A4", "W4A8"]
    widths = [(options.bits, options.activation_width) for options in found.values()]
    assert widths == [(8, 8), (4, 4), (4, 8)]
    assert [options.mixed is not None for options in found.values()] == [False, True, False]


@pytest.mark.slow
def test_the_demo_keeps_its_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bits", "4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    by_step = {(row["operands"], row["step"]): row for row in rows}
    assert len(rows) == len(by_step) == 3 + 6 + 5
    for operands in ("W4A4", "W4A8"):
        plain, adaptive = by_step[operands, PLAIN], by_step[operands, "+ adaptive rounding"]
        assert adaptive["snr_db"] > plain["snr_db"] + 5
        assert adaptive["loss"] <= 1.0
