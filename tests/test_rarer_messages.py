"""Messages of packages, searches and pipelines that no other test brings about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from PIL import Image

import tilewright as tw
from tests.export.test_export import PACKAGE
from tests.relay_passes.qdq_graphs import QdqGraph
from tests.runtime.test_session import _package
from tilewright.cli.run import _stacked
from tilewright.errors import ConfigError, DataError, PackageError, UnsupportedModel
from tilewright.explore import api as explore
from tilewright.export import export
from tilewright.frontend.relax_import import to_relax
from tilewright.report.regions import layer_rows
from tilewright.targets.config import overlay
from tilewright.targets.program import decode_region, encode_region
from tilewright.verify import relax_levels
from tilewright.verify.onnx_levels import run_onnx
from tilewright.vision import mtcnn_build
from tilewright.vision.mtcnn import Settings
from tilewright.vision.network import image_of, network_stages
from tilewright.vision.stages import Frame


def loaded(g: QdqGraph, folder: Path, *results: str) -> tw.Model:
    onnx.save(g.model(*results), folder / "net.onnx")
    return tw.load(folder / "net.onnx")


def convolved(g: QdqGraph, x: str) -> str:
    return g.q(g.op("Conv", x, g.weights((4, 4, 1, 1))), 0.05, 3)


def test_outputs_of_several_images() -> None:
    results: list[dict[str, Any]] = [{"boxes": np.zeros((1, 1, n, 7))} for n in (2, 3)]
    with pytest.raises(DataError) as error:
        _stacked(results)
    assert str(error.value) == (
        "output boxes: expected one shape for all images, found 1x1x2x7, 1x1x3x7; run the images one by one"
    )


def test_boards_without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "clock", lambda board: None)
    with pytest.raises(ConfigError) as error:
        explore._clock("pynq-z1", None)
    assert str(error.value) == "--mhz: board pynq-z1 has no overlay that tells a clock; give the clock"
    assert explore._clock("pynq-z1", 90) == 90


def test_networks_that_no_overlay_runs(tmp_path: Path) -> None:
    g = QdqGraph((1, 4))
    model = loaded(g, tmp_path, g.op("Softmax", g.x))
    with pytest.raises(UnsupportedModel) as error:
        tw.explore(model, "pynq-z1", widths=[(8, 8)], trials=1)
    text = str(error.value)
    assert text.startswith("model net on pynq-z1: nothing of it runs on the accelerator (")
    assert text.endswith(
        "; `tilewright supported` tells of each operator; give --widths that can hold its values"
    )


def test_wheels_for_another_processor(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        export(
            replace(PACKAGE, overlay=overlay("pynq-z1-w8")), tmp_path / "board", arch="aarch64", with_tvm=True
        )
    assert (
        "--arch with --with-tvm: expected armv7, the processor of pynq-z1, found aarch64; leave --arch out"
        in [str(fault) for fault in error.value.faults]
    )


def test_reports_that_are_damaged() -> None:
    with pytest.raises(PackageError) as error:
        layer_rows(replace(_package(), report={"layers": [{"name": 3}]}))
    assert str(error.value) == (
        "package net: expected rows with name, op, place, reason, macs under `layers` of the compile report, found "
        "others; compile again"
    )


def test_fewer_trials_than_regions(tmp_path: Path) -> None:
    g = QdqGraph()
    between = g.q(g.op("Sin", g.op("Relu", convolved(g, g.x))), 0.01, 3)
    model = loaded(g, tmp_path, convolved(g, g.q(g.op("Softmax", between), 0.004, 0)))
    with pytest.raises(ConfigError) as error:
        tw.tune(model, "ultra96-w8", trials=1)
    assert str(error.value) == "--trials: expected 2 or more, one for each region's default plan, found 1"


def test_packages_that_cannot_be_verified(tmp_path: Path) -> None:
    g = QdqGraph()
    package = tw.compile(loaded(g, tmp_path, convolved(g, g.x)), "ultra96-w8")
    for changed, text in (
        (replace(package, plan=None), "`verify` needs the plan"),
        (
            replace(package, regions=package.regions * 2),
            "this Tilewright parts the network in 1 regions, the package has 2",
        ),
    ):
        with pytest.raises(PackageError) as error:
            tw.verify(changed, g.input())
        assert str(error.value) == f"package net: {text}; compile the package again"


def test_levels_that_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    g = QdqGraph()
    proto = g.model(convolved(g, g.x))
    with pytest.raises(DataError, match=r"^level of ONNX: ONNX Runtime refuses the model: .*nput"):
        run_onnx(proto, {"input": np.zeros((2, 2), np.float32)}, [proto.graph.output[0].name])

    def broken(module: object, target: object) -> None:
        raise tvm.error.InternalError("a trace\nno such intrinsic")

    monkeypatch.setattr(tvm, "compile", broken)
    with pytest.raises(UnsupportedModel) as error:
        relax_levels.GraphLevel(to_relax(proto), [], True)
    assert str(error.value) == "level graph: TVM does not compile it: no such intrinsic"


def test_pipelines_of_other_networks(tmp_path: Path) -> None:
    g = QdqGraph((1, 8))
    vector = tw.compile(
        loaded(g, tmp_path, g.q(g.op("MatMul", g.x, g.weights((8, 4), 1)), 0.1, 3)), "ultra96-w8"
    )
    with pytest.raises(ConfigError) as error:
        network_stages(vector)
    assert str(error.value) == "input input: expected an image as input, found 1x8"
    with pytest.raises(ConfigError) as error:
        network_stages(replace(vector, program=replace(vector.program, inputs=vector.program.inputs * 2)))
    assert str(error.value) == "package: expected one input, found input, input"
    with pytest.raises(DataError, match=r"^seventh: has no image$"):
        image_of(Frame(7, "seventh"))


def test_photographs_without_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        """A cascade that finds nothing."""

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: []

    networks = object.__new__(mtcnn_build.Networks)
    object.__setattr__(networks, "settings", Settings())
    monkeypatch.setattr(mtcnn_build.Networks, "cascade", lambda self: Blind())
    with pytest.raises(DataError) as error:
        networks.samples([Image.new("RGB", (24, 24))])
    assert str(error.value) == (
        "expected photographs with faces for calibration, found none by the float networks"
    )


def test_regions_of_another_overlay() -> None:
    package = _package()
    (region,) = package.regions
    o = package.overlay
    data = encode_region(region, o)
    assert decode_region(data, region.stream, region.constants, o).name == region.name
    other = replace(o, name="other", vector_lanes=o.vector_lanes // 2)
    with pytest.raises(PackageError) as error:
        decode_region(data, region.stream, region.constants, other)
    assert str(error.value) == f"region {region.name}: made for another overlay than other"
