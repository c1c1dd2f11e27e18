"""Networks that are built: rows of the tables without files."""

from __future__ import annotations

from pathlib import Path

import onnx

from tilewright.benchmark.architectures import ALL
from tilewright.benchmark.built import built
from tilewright.benchmark.compile_time import arguments_of
from tilewright.benchmark.quantised import Quantised
from tilewright.zoo import shufflenet_v2


def test_a_built_network_needs_no_folder(tmp_path: Path) -> None:
    row = ALL["shufflenet_v2"]
    assert not row.needs_data
    path = built("shufflenet_v2")
    assert row.case(None).path(*row.files) == path == built("shufflenet_v2")
    assert onnx.load(path) == shufflenet_v2()
    given = arguments_of(row, Quantised(None, tmp_path), None, True)
    assert given == [str(path), "--calibration", "random:1"]
