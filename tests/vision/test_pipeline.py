"""Stages in threads: order, errors, backpressure, overlap, and real networks."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tilewright as tw
from tilewright.errors import ConfigError, DataError, PipelineError
from tilewright.vision import Frame, Pipeline, Stage
from tilewright.vision import pipeline as module

DEMO = Path(__file__).resolve().parents[2] / "tutorials" / "demo"
WAIT = 20.0  # seconds, for what comes at once unless something hangs
UNITS: tuple[Literal["host", "accelerator"], ...] = ("host", "accelerator")
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def _image(value: int) -> Pixels:
    return np.full((2, 3), value % 256, np.uint8)


def _images(count: int) -> list[tuple[str, Pixels]]:
    return [(f"i{index}", _image(index)) for index in range(count)]


def _value(frame: Frame) -> int:
    assert frame.image is not None
    return int(np.asarray(frame.image)[0, 0])


def _lanes_alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.daemon and t.name.startswith("tilewright ")]


class _Log:
    """Stages that append their number, and fail where they were told to."""

    def __init__(self, units: list[str], failing: set[tuple[int, int]]) -> None:
        self.running = 0
        self.most_running = 0
        self.failing = failing
        self.lock = threading.Lock()
        self.stages = [
            Stage(f"s{number}", self._stage(number, unit), "accelerator" if unit == "accelerator" else "host")
            for number, unit in enumerate(units)
        ]

    def _stage(self, number: int, unit: str) -> Callable[[Frame], list[int]]:
        def run(frame: Frame) -> list[int]:
            if unit == "accelerator":
                with self.lock:
                    self.running += 1
                    self.most_running = max(self.most_running, self.running)
            try:
                if (frame.index, number) in self.failing:
                    raise ValueError(f"no {frame.index}.{number}")
                return [*(frame.value or [_value(frame)]), number]
            finally:
                if unit == "accelerator":
                    with self.lock:
                        self.running -= 1

        return run


_UNITS = st.lists(st.sampled_from(UNITS), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    count=st.integers(0, 12),
    units=_UNITS,
    ahead=st.integers(1, 3),
    failing=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 4)), max_size=6),
)
def test_no_image_is_lost_and_the_order_is_kept(
    count: int, units: list[str], ahead: int, failing: set[tuple[int, int]]
) -> None:
    log = _Log(units, failing)
    pipeline = Pipeline(log.stages, ahead=ahead, on_error="keep")
    frames = list(pipeline.run(_images(count)))
    assert [(f.index, f.name) for f in frames] == [(i, f"i{i}") for i in range(count)]
    for frame in frames:
        first = min((s for i, s in failing if i == frame.index and s < len(units)), default=None)
        if first is None:
            assert frame.error is None
            assert frame.value == [frame.index, *range(len(units))]
            assert list(frame.seconds) == ["acquire", *(f"s{n}" for n in range(len(units)))]
        else:
            name = f"image i{frame.index}, stage s{first}: ValueError: no {frame.index}.{first}"
            assert str(frame.error) == name
            assert list(frame.seconds) == ["acquire", *(f"s{n}" for n in range(first + 1))]
    assert log.most_running <= 1, "there is one accelerator"
    report = pipeline.report()
    assert report.images == count
    assert report.failed == sum(f.error is not None for f in frames)
    assert not _lanes_alive()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(1, 9), units=_UNITS, data=st.data())
def test_a_failure_is_raised_after_the_images_before_it(
    count: int, units: list[str], data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, count - 1))
    stage = data.draw(st.integers(0, len(units) - 1))
    pipeline = Pipeline(_Log(units, {(bad, stage)}).stages)
    found = []
    with pytest.raises(PipelineError) as caught:
        for frame in pipeline.run(_images(count)):
            found.append(frame.index)
    assert found == list(range(bad))
    assert str(caught.value) == f"image i{bad}, stage s{stage}: ValueError: no {bad}.{stage}"
    assert isinstance(caught.value.__cause__, ValueError)
    assert not _lanes_alive()


def test_faults_keep_their_place_and_remedy() -> None:
    def fail(frame: Frame) -> None:
        raise DataError(tw.errors.Fault("expected 3, found 4", "input x", "give 3"), "and this")

    (frame,) = Pipeline([Stage("infer", fail)], on_error="keep").run([("a", _image(0))])
    assert str(frame.error) == (
        "image a, stage infer: input x: expected 3, found 4; give 3\nimage a, stage infer: and this"
    )


def test_an_exception_that_ends_programs_ends_no_thread_unseen() -> None:
    def leave(frame: Frame) -> None:
        raise SystemExit

    (frame,) = Pipeline([Stage("a", leave)], on_error="keep").run([("a", _image(0))])
    assert str(frame.error) == "image a, stage a: SystemExit"


def test_a_file_that_is_no_image_is_named_and_the_others_come(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    bad = tmp_path / "b.png"
    bad.write_bytes(b"no image")
    frames = list(Pipeline([Stage("size", lambda f: f.image.size)], on_error="keep").run(tmp_path))  # type: ignore[union-attr]
    assert [f.value for f in frames] == [(2, 2), None, (2, 2)]
    assert str(frames[1].error).startswith(f"image {bad}, stage acquire: cannot be read as an image (")


def test_a_source_that_fails_ends_the_run_after_what_it_gave() -> None:
    def source() -> Iterator[Pixels]:
        yield from (_image(1), _image(2))
        raise OSError("camera gone")

    frames = list(Pipeline([Stage("v", _value)], on_error="keep").run(source()))
    assert [f.value for f in frames] == [1, 2, None]
    assert str(frames[2].error) == "image number 2, stage acquire: OSError: camera gone"


@settings(max_examples=15, deadline=None, derandomize=True)
@given(units=_UNITS, ahead=st.integers(1, 3), taken=st.integers(1, 6))
def test_an_endless_source_is_read_no_further_than_the_queues_reach(
    units: list[str], ahead: int, taken: int
) -> None:
    read = 0
    closed = threading.Event()

    def endless() -> Iterator[Pixels]:
        nonlocal read
        try:
            for index in itertools.count():
                read = index + 1
                yield _image(index)
        finally:
            closed.set()

    pipeline = Pipeline(_Log(units, set()).stages, ahead=ahead)
    frames = pipeline.run(endless())
    assert [next(frames).index for _ in range(taken)] == list(range(taken))
    lanes = 1 + sum(a != b for a, b in itertools.pairwise(["host", *units]))
    # Taken, one at work in each lane, and what waits in the queue behind each.
    assert read <= taken + lanes * (1 + ahead)
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    assert closed.wait(WAIT), "the source is closed"
    assert not _lanes_alive()


def test_the_next_image_is_prepared_while_the_accelerator_runs() -> None:
    """Each side waits for the other: without overlap neither would go on."""
    prepared = [threading.Event() for _ in range(4)]

    def prepare(frame: Frame) -> None:
        prepared[frame.index].set()

    def infer(frame: Frame) -> bool:
        return frame.index == 3 or prepared[frame.index + 1].wait(WAIT)

    stages = [Stage("prepare", prepare), Stage("infer", infer, "accelerator")]
    assert [f.value for f in Pipeline(stages).run(_images(4))] == [True] * 4


def test_the_last_image_is_decoded_while_the_accelerator_runs() -> None:
    decoded = [threading.Event() for _ in range(4)]

    def infer(frame: Frame) -> bool:
        return frame.index == 0 or decoded[frame.index - 1].wait(WAIT)

    def decode(frame: Frame) -> Any:
        decoded[frame.index].set()
        return frame.value

    stages = [Stage("infer", infer, "accelerator"), Stage("decode", decode)]
    assert [f.value for f in Pipeline(stages).run(_images(4))] == [True] * 4


def test_a_second_run_waits_for_the_first_to_end() -> None:
    pipeline = Pipeline([Stage("v", _value)])
    frames, others = pipeline.run(_images(50)), pipeline.run(_images(50))
    next(frames)
    with pytest.raises(ConfigError) as caught:
        pipeline.run(_images(1))
    with pytest.raises(ConfigError, match="an earlier run is still going on"):
        next(others)
    assert str(caught.value) == (
        "pipeline: an earlier run is still going on; finish or close it, or make another"
    )
    frames.close()  # type: ignore[attr-defined]
    assert [f.value for f in pipeline.run(_images(3))] == [0, 1, 2]
    assert pipeline.report().images == 3, "of the last run"


def test_a_stage_that_hangs_does_not_keep_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    release = threading.Event()

    def hang(frame: Frame) -> None:
        if frame.index == 1:
            release.wait(WAIT)

    pipeline = Pipeline([Stage("hang", hang)])
    frames = pipeline.run(_images(3))
    assert next(frames).index == 0
    frames.close()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="an earlier run is still going on"):
        pipeline.run(_images(1))
    release.set()


def test_settings_that_are_wrong_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline([Stage("a", _value), Stage("a", _value), Stage("acquire", _value)], ahead=0, on_error="x")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "stages: expected stages of different names, found 'a' twice\n"
        "stages: expected stages of different names, found 'acquire' twice\n"
        "ahead: expected 1 to 64 images, found 0\n"
        "on_error: expected raise or keep, found 'x'"
    )
    with pytest.raises(ConfigError, match="stages: expected at least one stage, found none"):
        Pipeline([])


@pytest.fixture(scope="module")
def digits() -> tw.Package:
    preprocess = tw.Preprocess(mean=128, std=128)
    model = tw.load(DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=preprocess)
    return tw.compile(tw.quantize(model, DEMO / "digits_calibration.npz"))


@pytest.fixture(scope="module")
def digit_images() -> Any:
    with np.load(DEMO / "digits_test.npz") as file:
        return file["images"][:40]


def test_a_network_gives_what_it_gives_without_a_pipeline(digits: tw.Package, digit_images: Any) -> None:
    pipeline = Pipeline.of(digits)
    assert [s.name for s in pipeline.stages] == ["resize", "layout", "normalise", "infer", "decode", "draw"]
    frames = list(pipeline.run(list(digit_images)))
    assert len(frames) == len(digit_images)
    preprocess = tw.Preprocess(mean=128, std=128)
    for frame, image in zip(frames, digit_images, strict=True):
        scores = digits.run({"data": preprocess.apply(image, (1, 1, 32, 32))})["prob"].ravel()
        best = np.argsort(-scores, kind="stable")[:5]
        assert np.array_equal(frame.value.indices, best)
        assert np.array_equal(frame.value.scores, scores[best])
        assert frame.picture is not None
        assert frame.picture.size == (32, 32) and frame.picture.mode == "RGB"


def test_the_runtime_lets_other_threads_run(digits: tw.Package, digit_images: Any) -> None:
    """A waiting thread gets Python's lock during a run: nothing else gives it away with so long an interval."""
    session = tw.Session(digits)
    feeds = {"data": tw.Preprocess(mean=128, std=128).apply(digit_images[0], (1, 1, 32, 32))}
    session.run(feeds)
    gate, ran = threading.Lock(), []
    gate.acquire()

    def wait() -> None:
        with gate:
            ran.append(True)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        for _ in range(2000):
            if ran:
                break
            session.run(feeds)
        found = list(ran)
    finally:
        sys.setswitchinterval(interval)
    thread.join(WAIT)
    assert found == [True]


def test_packages_that_no_pipeline_takes(digits: tw.Package) -> None:
    batched = dataclasses.replace(digits, program=dataclasses.replace(digits.program, batch=2))
    with pytest.raises(ConfigError) as caught:
        Pipeline.of(batched)
    assert str(caught.value) == "package: expected a batch of 1, found 2; compile it for a batch of 1"
    with pytest.raises(ConfigError) as caught:
        Pipeline.of(digits, "boxes")
    assert str(caught.value) == ("decoder: unknown decoder 'boxes', known are classes, ssd, detection_output")
