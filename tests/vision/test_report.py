"""Amdahl's table."""

from __future__ import annotations

import math

import pytest

from tilewright.errors import ConfigError
from tilewright.vision.report import PipelineReport, StageTime

REPORT = PipelineReport(
    (
        StageTime("acquire", "host", 0, 1.0),
        StageTime("pnet", "accelerator", 1, 3.0),
        StageTime("crop", "host", 2, 2.0),
        StageTime("onet", "accelerator", 3, 2.0),
        StageTime("draw", "host", 4, 0.0),
    ),
    images=100,
    failed=1,
    seconds=5.0,
    caller_seconds=0.2,
)


def test_shares_and_limits() -> None:
    rows = {row.name: row for row in REPORT.rows}
    assert [row.ms for row in REPORT.rows] == [10.0, 30.0, 20.0, 20.0, 0.0]
    assert sum(row.share for row in REPORT.rows) == 1
    # 8 s one after another; the accelerator, 5 s in two lanes, is slowest.
    assert [rows[n].limit for n in ("acquire", "pnet", "draw")] == [8 / 7, 8 / 5, 1.0]
    assert rows["pnet"].overlapped_limit == 5 / 2, "onet and crop then take 2 s"
    assert rows["onet"].overlapped_limit == 5 / 3
    assert rows["acquire"].overlapped_limit == rows["crop"].overlapped_limit == 1
    assert REPORT.images_per_second == 20
    assert REPORT.overlap == 8 / 5
    assert REPORT.overlapped_per_second == 20


def test_text() -> None:
    assert REPORT.text().splitlines() == [
        "stage    unit         ms/image   share    limit  overlapped",
        "acquire  host           10.000   12.5%   1.14 x      1.00 x",
        "pnet     accelerator    30.000   37.5%   1.60 x      2.50 x",
        "crop     host           20.000   25.0%   1.33 x      1.00 x",
        "onet     accelerator    20.000   25.0%   1.33 x      1.67 x",
        "draw     host            0.000    0.0%   1.00 x      1.00 x",
        "100 images, 1 of them failed, 20.0 images/s; one after another 12.5, by the slowest lane 20.0; "
        "the caller took 2.000 ms/image",
    ]


def test_other_times() -> None:
    changed = REPORT.with_ms({"pnet": 1.0, "onet": 2.0})
    assert changed.sequential_seconds == pytest.approx(3.3)
    assert changed.seconds == 2.0, "crop is slowest now"
    assert changed.images_per_second == 50
    with pytest.raises(ConfigError) as caught:
        REPORT.with_ms({"rnet": 1.0})
    assert str(caught.value) == "unknown stage rnet; known are acquire, pnet, crop, onet, draw"


def test_of_one_stage_and_of_no_image() -> None:
    alone = PipelineReport((StageTime("acquire", "host", 0, 1.0),), 1, 0, 1.0)
    assert alone.rows[0].limit == alone.rows[0].overlapped_limit == math.inf
    assert "no limit" in alone.text()
    nothing = PipelineReport((StageTime("acquire", "host", 0, 0.0),), 0, 0, 0.0)
    assert nothing.rows[0].share == 0
    assert nothing.text().endswith(
        "0 images, 0.0 images/s; one after another 0.0, by the slowest lane 0.0; the caller took 0.000 ms/image"
    )
