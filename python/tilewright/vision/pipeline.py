"""Images through stages, the host preparing the next while the accelerator runs one.

Stages beside each other on one unit make a lane, which is a thread; bounded queues lie between lanes. With `ahead=1`
that is double buffering: image n+1 is prepared while n is on the accelerator, and n-1 decoded and drawn.

    source -> [acquire resize layout normalise] -> queue -> [infer] -> queue -> [decode draw] -> queue -> caller

Queues keep the order, and a full one makes the lane before it wait, back to the source. The runtime runs without
Python's lock, as Pillow's and most of NumPy's work does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal, get_args

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.runtime.session import Backend
from tilewright.targets.package import Package
from tilewright.vision.channel import Channel
from tilewright.vision.decoders import Decoder
from tilewright.vision.network import network_stages
from tilewright.vision.report import PipelineReport, StageTime
from tilewright.vision.sources import Loader, Source, open_source
from tilewright.vision.stages import Frame, Stage, failed

OnError = Literal["raise", "keep"]
ACQUIRE = "acquire"
MOST_AHEAD = 64  # images in each queue: more only take memory
PATIENCE_SECONDS = 10.0  # for stages that are at work when the caller leaves


class Pipeline:
    """Runs images through stages, in order, each lane in a thread of its own::

        pipeline = tw.Pipeline.of(tw.Package.load("net.twp"), "classes")
        for frame in pipeline.run("photos/"):
            print(frame.name, frame.value)
        print(pipeline.report().text())

    Not for two runs at once.
    """

    def __init__(self, stages: Sequence[Stage], *, ahead: int = 1, on_error: OnError = "raise") -> None:
        """Set up.

        Args:
            stages: after reading the image, which is the first stage always.
            ahead: images that may wait between two lanes, 1 to 64.
            on_error: "raise" ends the run at the first image that fails, after those before it were given;
                "keep" gives that image with its `error`, and goes on.

        Raises:
            ConfigError: no stages, two of one name, or options out of range; all faults together.
        """
        faults = FaultList()
        names = [ACQUIRE, *(stage.name for stage in stages)]
        if not stages:
            faults.add("expected at least one stage, found none", where="stages")
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.add(f"expected stages of different names, found {name!r} twice", where="stages")
        if isinstance(ahead, bool) or not isinstance(ahead, int) or not 1 <= ahead <= MOST_AHEAD:
            faults.add(f"expected 1 to {MOST_AHEAD} images, found {ahead!r}", where="ahead")
        if on_error not in get_args(OnError):
            faults.add(f"expected raise or keep, found {on_error!r}", where="on_error")
        faults.raise_if_any(ConfigError)
        self._stages = tuple(stages)
        self._ahead = ahead
        self._on_error = on_error
        self._threads: list[threading.Thread] = []
        self._accelerator = threading.Lock()
        self._begin()

    @classmethod
    def of(
        cls,
        package: Package,
        decoder: str | Decoder = "classes",
        *,
        draw: bool = True,
        backend: Backend = "sim",
        ahead: int = 1,
        on_error: OnError = "raise",
    ) -> Pipeline:
        """Of one network: resize, layout, normalise, infer, decode and draw.

        Args:
            package: of a batch of 1, with one input (1, C, H, W); its preprocessing is used.
            decoder: a name in `tilewright.vision.DECODERS`, or any function of outputs and geometry.
            draw: whether the results are drawn into pictures.
            backend: as for :class:`tilewright.Session`.
            ahead, on_error: as above.

        Raises ConfigError where package, decoder and back end do not go together.
        """
        stages = network_stages(package, decoder, draw=draw, backend=backend)
        return cls(stages, ahead=ahead, on_error=on_error)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages after reading."""
        return self._stages

    def run(self, source: Source) -> Iterator[Frame]:
        """Give the frames in the source's order, each as soon as it is through.

        Leaving the iterator early ends the threads and closes the source.

        Args:
            source: see `tilewright.vision.sources`; may be endless.

        Raises:
            DataError: there is no such file or folder.
            ConfigError: an earlier run is still going on.
            PipelineError: while iterating: a stage failed; it names image and stage. A source that fails ends the run.
        """
        self._check_idle()
        return self._frames(open_source(source))

    def report(self) -> PipelineReport:
        """Times of the last run, so far."""
        times = [
            StageTime(name, unit, lane, self._seconds[name])
            for lane, stages in enumerate(self._lanes())
            for name, unit in [(stage.name, stage.unit) for stage in stages]
        ]
        return PipelineReport(tuple(times), self._count, self._failed, self._wall, self._caller)

    def _check_idle(self) -> None:
        if any(thread.is_alive() for thread in self._threads):
            raise ConfigError(
                Fault("an earlier run is still going on", "pipeline", "finish or close it, or make another")
            )

    def _begin(self) -> None:
        self._seconds = {ACQUIRE: 0.0, **{stage.name: 0.0 for stage in self._stages}}
        self._count = self._failed = 0
        self._wall = self._caller = 0.0

    def _lanes(self) -> list[list[Stage]]:
        """Stages by thread, reading among the first; reading itself is done by `_acquire`."""
        reading = Stage(ACQUIRE, lambda frame: frame.image)
        return [
            list(stages) for _, stages in itertools.groupby((reading, *self._stages), key=lambda s: s.unit)
        ]

    def _frames(self, source: Iterator[tuple[str, Loader]]) -> Iterator[Frame]:
        """Start the lanes, and give what comes out of the last."""
        self._check_idle()  # again: another may have begun since `run` was called
        self._begin()
        first, *others = self._lanes()
        channels: list[Channel[Frame]] = [Channel(self._ahead) for _ in range(len(others) + 1)]
        work: list[Callable[[], None]] = [lambda: self._read(source, first[1:], channels[0])]
        for number, stages in enumerate(others):
            before, after = channels[number : number + 2]
            work.append(lambda s=stages, b=before, a=after: self._work(b, s, a))  # type: ignore[misc]
        self._threads = [
            threading.Thread(target=lane, name=f"tilewright {n}", daemon=True) for n, lane in enumerate(work)
        ]
        start = time.perf_counter()
        try:
            for thread in self._threads:
                thread.start()
            for frame in channels[-1]:
                self._count += 1
                self._wall = time.perf_counter() - start
                if frame.error is not None:
                    self._failed += 1
                    if self._on_error == "raise":
                        raise frame.error
                given = time.perf_counter()
                yield frame
                self._caller += time.perf_counter() - given
        finally:
            for channel in channels:
                channel.cancel()
            end = time.perf_counter() + PATIENCE_SECONDS
            for thread in filter(threading.Thread.is_alive, self._threads):
                thread.join(max(end - time.perf_counter(), 0))

    def _read(
        self, source: Iterator[tuple[str, Loader]], stages: Sequence[Stage], sink: Channel[Frame]
    ) -> None:
        """The first lane."""
        try:
            for index in itertools.count():
                frame = Frame(index, f"number {index}")
                more = self._acquire(frame, source)
                if frame.error is None and frame.image is None:
                    return
                self._pass(frame, stages)
                if not sink.put(frame) or not more:
                    return
        finally:
            sink.close()
            source.close()  # type: ignore[attr-defined]  # a generator of `open_source`

    def _acquire(self, frame: Frame, source: Iterator[tuple[str, Loader]]) -> bool:
        """Read the next image into the frame; without image and error there is none. False: nothing comes after."""
        start = time.perf_counter()
        more = False
        try:
            frame.name, load = next(source)
            more = True
            frame.image = load()
        except StopIteration:
            return False
        except BaseException as error:  # noqa: BLE001 - it is the caller's to raise
            frame.error = failed(frame, ACQUIRE, error)
        self._spent(frame, ACQUIRE, start)
        return more

    def _work(self, source: Channel[Frame], stages: Sequence[Stage], sink: Channel[Frame]) -> None:
        """Any other lane."""
        try:
            for frame in source:
                self._pass(frame, stages)
                if not sink.put(frame):
                    return
        finally:
            sink.close()

    def _pass(self, frame: Frame, stages: Sequence[Stage]) -> None:
        for stage in stages:
            if frame.error is not None:
                return
            with self._accelerator if stage.unit == "accelerator" else nullcontext():
                start = time.perf_counter()
                try:
                    frame.value = stage.run(frame)
                except BaseException as error:  # noqa: BLE001 - it is the caller's to raise
                    frame.error = failed(frame, stage.name, error)
                self._spent(frame, stage.name, start)

    def _spent(self, frame: Frame, stage: str, start: float) -> None:
        frame.seconds[stage] = time.perf_counter() - start
        self._seconds[stage] += frame.seconds[stage]
