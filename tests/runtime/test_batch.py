"""Packages of a batch: every image gets the bits that it gets alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cli.commands import DEMO, document, fault, invoke

import tilewright as tw
from tilewright.errors import ConfigError, DataError, PackageError, ScheduleError
from tilewright.quantize.options import QuantizeOptions
from tilewright.report import analyse
from tilewright.runtime import Session

QUICK = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)
BATCH = 3
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def model() -> tw.Model:
    return tw.quantize(tw.load(DEMO / "digits.onnx", batch=BATCH), "random:1", options=QUICK)


@pytest.fixture(scope="module")
def batched(model: tw.Model) -> tw.Package:
    return tw.Package.from_bytes(tw.compile(model, "ultra96-w8").to_bytes())


@pytest.fixture(scope="module")
def single(model: tw.Model) -> tw.Package:
    return tw.compile(dataclasses.replace(model, batch=1), "ultra96-w8")


def _images(package: tw.Package, count: int) -> list[dict[str, NDArray[Any]]]:
    (tensor,) = package.inputs
    shape = (1, *tensor.shape[1:])
    return [{tensor.name: RNG.normal(0, 1, shape).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("backend", ["sim", "reference"])
@pytest.mark.parametrize("count", [BATCH, BATCH + 1])
def test_images_are_those_of_single_runs(
    batched: tw.Package, single: tw.Package, backend: Any, count: int
) -> None:
    images = _images(single, count)
    found = Session(batched, backend).run_images(images)
    expected = Session(single).run_images(images)
    assert len({y.tobytes() for result in expected for y in result.values()}) == count
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, y in other.items():
            np.testing.assert_array_equal(one[name], y)


def test_shapes_have_the_batch_first(batched: tw.Package, single: tw.Package) -> None:
    for many, one in zip((*batched.inputs, *batched.outputs), (*single.inputs, *single.outputs), strict=True):
        assert one.shape[0] == 1 and many.shape == (BATCH, *one.shape[1:])
    with pytest.raises(DataError, match=rf"expected float32 \({BATCH}, .*found float32 \(1, "):
        batched.run(_images(single, 1)[0])


def test_the_report_counts_all_images(batched: tw.Package, single: tw.Package) -> None:
    many, one = analyse(batched), analyse(single)
    assert many.batch == BATCH
    assert many.macs == BATCH * one.macs
    assert many.fps == pytest.approx(BATCH * 1e3 / many.accelerator_ms)
    assert one.bound_cycles < many.bound_cycles <= BATCH * one.bound_cycles


def test_a_plan_of_another_batch_is_refused(model: tw.Model) -> None:
    plan = tw.plan(dataclasses.replace(model, batch=2), "ultra96-w8")
    with pytest.raises(ScheduleError, match="made for a batch of 2, not of 3; plan for this batch anew"):
        tw.compile(model, "ultra96-w8", plan=plan)


def test_a_region_of_another_batch_is_refused(batched: tw.Package) -> None:
    broken = dataclasses.replace(batched, program=dataclasses.replace(batched.program, batch=2))
    with pytest.raises(PackageError, match="expected a batch of 2, found 3"):
        Session(broken)
    with pytest.raises(PackageError, match="expected a batch from 1 to 16, found 99"):
        dataclasses.replace(batched, program=dataclasses.replace(batched.program, batch=99)).to_bytes()


def test_tuning_wants_a_batch_of_one(model: tw.Model, batched: tw.Package) -> None:
    with pytest.raises(ConfigError, match="expected a batch of 1, found 3"):
        tw.tune(model, "ultra96-w8")
    with pytest.raises(ConfigError, match="expected a package for a batch of 1, found 3"):
        tw.tune(batched)


def test_several_inputs_on_the_command_line(batched: tw.Package, single: tw.Package, tmp_path: Path) -> None:
    (tensor,) = single.inputs
    images = _images(single, 2)
    paths = [tmp_path / f"{i}.npy" for i in range(2)]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image[tensor.name])
    batched.save(tmp_path / "net.twp")
    result = invoke("run", tmp_path / "net.twp", "--input", paths[0], "--input", paths[1], "--json")
    found = document(result)
    best = [single.run(image) for image in images]
    assert [row["image"] for row in found["top"]] == [0] * 5 + [1] * 5
    for number, outputs in enumerate(best):
        (scores,) = outputs.values()
        top = next(row for row in found["top"] if row["image"] == number)
        assert top["index"] == int(scores.argmax())
    assert found["outputs"][0]["shape"][0] == 2
    text = invoke("run", tmp_path / "net.twp", "--input", paths[0], "--input", paths[1]).output
    assert str(paths[1]) in text.replace("\n", "") or "1.npy" in text
    assert fault(invoke("run", tmp_path / "net.twp", "--input", tmp_path / "none.npy")).endswith(
        "no such file; give an image, an NPY or an NPZ file"
    )
