"""Calibration data: checked against the model's inputs, taken once from the caller, handed on in batches."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import DataError, FaultList
from tilewright.quantize.graph import Graph

Sample = Mapping[str, NDArray[np.generic]]
Progress = Callable[[int, int], None]

# ONNX Runtime's calibrators hold every tensor of a batch: 40 images at once took 1.5 GiB, in fives 0.29.
BATCH = 8


class Samples:
    """The calibration set: the first samples are kept for passes over statistics, the others streamed once.

    Args:
        graph: the model whose inputs the samples must fit.
        source: the caller's samples; read once.
        kept: how many to keep.
        progress: called with the samples done and those in all passes, 0 where the source has no length.
    """

    def __init__(self, graph: Graph, source: Iterable[Sample], kept: int, progress: Progress | None) -> None:
        self._graph = graph
        self._source = iter(source)
        self._count = 0
        self._progress = progress
        self._done = 0
        self.kept = [self._check(sample) for sample in islice(self._source, kept)]
        if not self.kept:
            raise DataError("the calibration set is empty: expected at least one sample")
        self._length = max(operator.length_hint(source, 0), 0)
        self._total = 0

    def plan(self, statistics_passes: int) -> None:
        """Tell how many passes over the kept samples there will be beside the one over all."""
        if self._length:
            self._total = self._length + statistics_passes * len(self.kept)

    def report(self, count: int) -> None:
        """Tell of as much work as a pass over `count` samples is."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done) if self._total else 0)

    def batches_of_kept(self) -> Iterator[list[Sample]]:
        """Yield the kept samples in batches; progress is reported when the caller comes for the next."""
        return self._batches(iter(self.kept))

    def batches_of_all(self) -> Iterator[list[Sample]]:
        """Yield all samples in batches; to be called once."""
        return self._batches(self._all())

    def _all(self) -> Iterator[Sample]:
        yield from self.kept
        for sample in self._source:
            yield self._check(sample)

    def _batches(self, samples: Iterator[Sample]) -> Iterator[list[Sample]]:
        while batch := list(islice(samples, BATCH)):
            yield batch
            self.report(len(batch))

    def _check(self, sample: Sample) -> Sample:
        where = f"calibration sample {self._count}"
        self._count += 1
        faults = FaultList()
        if not isinstance(sample, Mapping):
            raise DataError(
                f"{where}: expected a mapping from input name to array, found {type(sample).__name__}"
            )
        expected = self._graph.inputs
        for name in [name for name in sample if name not in expected]:
            faults.add(f"the model has no input {name!r}: expected {', '.join(expected)}", where=where)
        for name in expected:
            if name not in sample:
                found = ", ".join(map(str, sample)) or "none"
                faults.add(f"input {name!r} is missing, found {found}", where=where)
                continue
            _check_array(self._graph, name, np.asarray(sample[name]), where, faults)
        faults.raise_if_any(DataError)
        return {name: np.asarray(sample[name]) for name in expected}


def _check_array(graph: Graph, name: str, array: NDArray[np.generic], where: str, faults: FaultList) -> None:
    shape, dtype = graph.shapes[name], onnx.helper.tensor_dtype_to_np_dtype(graph.types[name])
    if array.shape != shape:
        faults.add(f"input {name!r}: expected shape {shape}, found {array.shape}", where=where)
    if array.dtype != dtype:
        faults.add(f"input {name!r}: expected {dtype}, found {array.dtype}", where=where)
    elif np.issubdtype(dtype, np.floating) and not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        faults.add(f"input {name!r}: {bad} of {array.size} values are NaN or infinite", where=where)
