"""Whole compilations as processes: every second belongs to a stage, and failures are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.benchmark import __main__ as benchmark
from tilewright.benchmark.compile_time import arguments_of, measure
from tilewright.benchmark.networks import DEMO, NETWORKS
from tilewright.benchmark.quantised import Quantised
from tilewright.errors import TilewrightError
from tilewright.stages import STAGES, record, stage

needs_demo = pytest.mark.skipif(
    not (DEMO / "digits.onnx").is_file(), reason="the demo comes with the source tree"
)


@needs_demo
@pytest.mark.parametrize("options", [[], ["--float"]])
def test_the_command(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert benchmark.main(["compile", "demo", "--json", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]
    assert "apache-tvm" in document["versions"]
    (row,) = document["rows"]
    assert row["compile_s"] == pytest.approx(row["start"] + sum(row[name] for name in STAGES))
    assert (row["quantise"] > 0) == bool(options)
    assert min(row["start"], row["relax"], row["lower"], row["emit"], row["write"], row["cpu_s"]) > 0
    assert 100 < row["peak_mib"] < 2048  # TVM alone takes more


def test_a_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(TilewrightError, match=r"no\.onnx: no such file; check the path"):
        measure([str(tmp_path / "no.onnx")], "ultra96-w8", tmp_path / "out.twp")


def test_what_is_measured_whole(tmp_path: Path) -> None:
    quantised = Quantised(tmp_path, tmp_path)

    def whole(name: str) -> list[str]:
        return arguments_of(NETWORKS[name], quantised, tmp_path, True)

    assert whole("light_resnet50")[1:] == ["--weights", "random:0", "--calibration", "random:1"]
    assert whole("kws_qdq") == [str(tmp_path / NETWORKS["kws_qdq"].files[0])]
    folder = tmp_path / "caffe" / "mtcnn"
    assert whole("det1") == [
        str(folder / "det1.prototxt"),
        *("--weights", str(folder / "det1.caffemodel")),
        *("--input-shape", "data=1,3,120,96"),
        *("--calibration", "random:1"),
    ]


def test_stages_add_up() -> None:
    with stage("emit"):
        pass  # nobody records
    with record() as seconds:
        for _ in range(2):
            with stage("relax"):
                pass
        with pytest.raises(ValueError, match="within"), stage("emit"):
            raise ValueError("within")
        inside = dict(seconds)
    with stage("lower"):
        pass
    assert seconds == inside
    assert list(seconds) == list(STAGES)
    assert seconds["relax"] > 0
    assert seconds["emit"] > 0
    assert seconds["lower"] == 0
