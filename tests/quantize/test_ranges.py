"""Calibration against ONNX Runtime's calibrators used plainly, and what surrounds them."""

from __future__ import annotations

import contextlib
import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import calibrate
from tests.quantize.builders import Feed, build, node, noise_samples, normal
from tests.quantize.unit_check import parameters

from tilewright.quantize import QuantizeOptions, quantize_onnx
from tilewright.quantize.graph import Graph
from tilewright.quantize.options import Method
from tilewright.quantize.ranges import calibrate_ranges
from tilewright.quantize.samples import BATCH, Samples

MAP = (1, 3, 8, 8)
PLAIN = calibrate.CalibrationMethod


def _model() -> onnx.ModelProto:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Conv", "r v", "y")]
    return build(nodes, {"x": MAP}, ["y"], {"w": normal((4, 3, 3, 3)), "v": normal((5, 4, 1, 1), 1)})


class _Reader:
    def __init__(self, samples: list[Feed]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Feed | None:
        return next(self._samples, None)


@pytest.mark.parametrize(
    ("method", "plain", "extra"),
    [
        ("minmax", PLAIN.MinMax, {}),
        ("percentile", PLAIN.Percentile, {"num_bins": 4096, "percentile": 99.0, "symmetric": False}),
        ("entropy", PLAIN.Entropy, {"num_bins": 512}),
    ],
)
def test_ranges_are_those_of_onnx_runtime(
    tmp_path: Path, method: Method, plain: Any, extra: dict[str, Any]
) -> None:
    model = _model()
    samples = noise_samples(model, 20)
    onnx.save(model, tmp_path / "model.onnx")
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        calibrator = calibrate.create_calibrator(
            tmp_path / "model.onnx", None, str(tmp_path / "augmented.onnx"), plain, extra_options=extra
        )
        for start in range(0, len(samples), BATCH):
            calibrator.collect_data(_Reader(samples[start : start + BATCH]))
        expected = calibrator.compute_data()
    options = QuantizeOptions(method=method, percentile=99.0)
    graph = Graph(model)
    found = calibrate_ranges(
        graph, ["x", "r", "y"], {"y"}, Samples(graph, samples, 8, None).batches_of_all(), options
    )
    for name in ("x", "r"):
        low, high = (np.min(value) for value in expected[name].range_value)
        # Another level of optimisation may order the convolution's sums otherwise.
        assert found[name].low == pytest.approx(min(float(low), 0.0), rel=1e-5)
        assert found[name].high == pytest.approx(max(float(high), 0.0), rel=1e-5)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_nothing_is_cut_off_what_is_read_in_float(method: Method) -> None:
    model = _model()
    samples = noise_samples(model, 20)
    plain = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)
    cut = parameters(quantize_onnx(model, samples, replace(plain, method=method, percentile=99.0)))
    whole = parameters(quantize_onnx(model, samples, plain))
    assert cut["y"].scale == whole["y"].scale
    assert cut["r"].scale < whole["r"].scale


def test_percentile_cuts_half_of_the_rest_on_either_side() -> None:
    model = build([node("Tanh", "x", "t"), node("Relu", "t", "y")], {"x": (1, 1, 100, 100)}, ["y"])
    values = np.linspace(-1.0, 3.0, 10_000, dtype=np.float32).reshape(1, 1, 100, 100)
    options = QuantizeOptions(method="percentile", percentile=90.0, exact_sums=False)
    found = parameters(quantize_onnx(model, [{"x": values}], options))
    # 5 % of 4 is cut on either side, to within a bin of 6/4096.
    assert found["x"].scale * 255 == pytest.approx(3.6, abs=2 * 6 / 4096)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("first", [0.0, 1e-30, 1e-6])
def test_a_batch_of_nearly_zeros_first(method: Method, first: float) -> None:
    """Histograms that keep their bins' width would need 10^6 to 10^30 times as many bins."""
    model = _model()
    small = [{"x": np.full(MAP, first, np.float32)} for _ in range(BATCH)]
    samples = [*small, *noise_samples(model, BATCH, 1e-3), *noise_samples(model, BATCH)]
    found = parameters(quantize_onnx(model, samples, QuantizeOptions(method=method, percentile=100.0)))
    limit = max(float(np.abs(sample["x"]).max()) for sample in samples)
    assert 0.2 * limit < found["x"].scale * 255 <= 2.01 * limit


def test_standard_output_stays_empty(capfd: pytest.CaptureFixture[str]) -> None:
    model = _model()
    methods: tuple[Method, ...] = ("minmax", "percentile", "entropy")
    for method in methods:
        quantize_onnx(model, noise_samples(model), QuantizeOptions(method=method))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 8, 19])
def test_progress_counts_samples_of_all_passes(count: int) -> None:
    model = _model()
    calls: list[tuple[int, int]] = []
    options = QuantizeOptions(statistics_samples=10)
    samples = noise_samples(model, count)
    quantize_onnx(model, samples, options, lambda done, total: calls.append((done, total)))
    total = count + 2 * min(count, 10)  # equalisation and bias correction look at ten
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert all(later - earlier <= BATCH for (earlier, _), (later, _) in itertools.pairwise(calls))
    calls.clear()
    quantize_onnx(model, iter([*samples]), options, lambda done, total: calls.append((done, total)))
    generator = (sample for sample in samples)
    calls.clear()
    quantize_onnx(model, generator, options, lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls][-1] == total and {total for _, total in calls} == {0}


def test_a_generator_and_a_list_give_the_same_bytes_every_time() -> None:
    model = _model()
    samples = noise_samples(model, 12)
    before = model.SerializeToString(deterministic=True)
    first = quantize_onnx(model, samples).SerializeToString(deterministic=True)
    assert quantize_onnx(model, (sample for sample in samples)).SerializeToString(deterministic=True) == first
    assert model.SerializeToString(deterministic=True) == before, "the float model is not changed"
