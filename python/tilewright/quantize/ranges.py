"""Ranges of activations, by ONNX Runtime's calibrators.

The calibrators are used for what they compute and kept from what they do beside it: they see the tensors
between units only, their sessions are ours (silent, and checked for NaN and infinity), their prints go
nowhere, and their histograms cannot grow without bound.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import calibrate

from tilewright.quantize.affine import Range
from tilewright.quantize.graph import Graph
from tilewright.quantize.observe import open_session, require_finite, run_session, watch_channels
from tilewright.quantize.options import QuantizeOptions
from tilewright.quantize.samples import Sample

# Bins over [-largest, largest]; min-max has none. Percentiles are read from bin edges: 4096 leave an eighth
# of a step of 8 bits, also where all values are positive. The entropy search's cost grows with the bins'
# cube.
_BINS: dict[str, int] = {"minmax": 0, "percentile": 4096, "entropy": 512}
# The calibrators widen a histogram by adding bins of the old width: after a batch of nearly zeros a normal
# one would ask for billions. Past this growth of the first number the counts are put into wider bins.
_LARGEST_GROWTH = 2.0


def calibrate_ranges(
    graph: Graph,
    tensors: list[str],
    whole: Collection[str],
    batches: Iterable[list[Sample]],
    options: QuantizeOptions,
) -> dict[str, Range]:
    """Return the range of each of `tensors` over all samples; of those in `whole` nothing is cut off.

    Raises:
        DataError: an activation is NaN or infinite.
    """
    model = graph.slice_model(tensors)
    infos = {item.name: item for item in (*model.graph.input, *model.graph.output)}
    model.graph.ClearField("output")
    rank = {name: len(graph.shapes[name]) for name in tensors}
    means = watch_channels(model, tensors, rank, "ReduceMean")
    model.graph.value_info.extend(infos[name] for name in tensors if name not in graph.inputs)
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder, _quietly():
        calibrator = _make_calibrator(model, Path(folder), tensors, infos, options)
        session = _CheckedSession(
            open_session(calibrator.augmented_model_path), tensors, means, _BINS[options.method]
        )
        calibrator.infer_session = session
        for batch in batches:
            session.histograms = getattr(getattr(calibrator, "collector", None), "histogram_dict", {})
            calibrator.collect_data(_Reader(batch))
        found = calibrator.compute_data()
    result = {}
    for name in tensors:
        low, high = found[name].range_value
        if name in whole:
            low, high = session.histograms.get(name, (None, None, low, high))[2:4]
        result[name] = Range.around(float(np.min(low)), float(np.max(high)))
    return result


def _make_calibrator(
    model: onnx.ModelProto,
    folder: Path,
    tensors: list[str],
    infos: dict[str, onnx.ValueInfoProto],
    options: QuantizeOptions,
) -> Any:
    """Return a calibrator over `tensors` alone; ONNX Runtime's `create_calibrator` selects by operator."""
    source, augmented = folder / "float.onnx", str(folder / "augmented.onnx")
    onnx.save(model, source)
    make, extra = {
        "minmax": (calibrate.MinMaxCalibrater, {}),
        "percentile": (calibrate.PercentileCalibrater, {"percentile": options.percentile}),
        "entropy": (calibrate.EntropyCalibrater, {}),
    }[options.method]
    if _BINS[options.method]:
        extra = {**extra, "num_bins": _BINS[options.method]}
    calibrator = make(source, None, augmented, **extra)
    calibrator.select_tensors_to_calibrate = lambda _: (tensors, infos)
    calibrator.augment_graph()
    return calibrator


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the calibrators' prints from standard output, and their divisions by zero from warning."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        yield


class _Reader:
    """One batch, as the calibrators read it."""

    def __init__(self, batch: list[Sample]) -> None:
        self._samples = iter(batch)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        sample = next(self._samples, None)
        return None if sample is None else dict(sample)


class _CheckedSession:
    """A session that looks at what it returns before the calibrator does.

    Means carry NaN and infinity along, which minima, maxima and histograms may not.
    """

    def __init__(self, session: Any, tensors: list[str], means: list[str], bins: int) -> None:
        self._session = session
        self._tensors = tensors
        names = [item.name for item in session.get_outputs()]
        self._means = [names.index(name) for name in means]
        self._places = {name: names.index(name) for name in tensors if name in names}
        self._bins = bins
        self.histograms: dict[str, tuple[Any, ...]] = {}

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def run(self, names: None, sample: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        values = run_session(self._session, names, sample)
        require_finite(self._tensors, (values[k] for k in self._means))
        for name, histogram in self.histograms.items():
            largest = float(np.abs(values[self._places[name]]).max(initial=0.0))
            counts, limit = histogram[0], float(histogram[4])
            if limit > 0 and largest > limit and len(counts) * largest > _LARGEST_GROWTH * self._bins * limit:
                self.histograms[name] = _widen(histogram, largest, self._bins)
        return values


def _widen(histogram: tuple[Any, ...], largest: float, bins: int) -> tuple[Any, ...]:
    """Return the histogram with `bins` bins over [-largest, largest]; counts go with their middles."""
    counts, edges, low, high, _ = histogram
    middles = (edges[1:] + edges[:-1]) / 2
    wide, wide_edges = np.histogram(middles, bins, range=(-largest, largest), weights=counts)
    return wide.astype(counts.dtype), wide_edges.astype(edges.dtype), low, high, edges.dtype.type(largest)
