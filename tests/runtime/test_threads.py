"""The C++ from several threads at once, each with what it opened: equal results, and no race under `make sanitize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.runtime.test_session import OVERLAY, PACKAGE, REGION, _feed

from tilewright.errors import SimError
from tilewright.runtime import Session
from tilewright.runtime.device_model import DeviceModel
from tilewright.targets.package import Package
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program

THREADS, TURNS = 4, 6


def _at_once(work: Callable[[int], None]) -> None:
    """Call it in every thread, with the thread's number; raises what one of them raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, number) for number in range(THREADS)]:
            done.result()


def _damaged() -> Package:
    """Its second instruction has no opcode."""
    stream = bytearray(REGION.stream)
    stream[64] = 0
    return dataclasses.replace(PACKAGE, regions=(dataclasses.replace(REGION, stream=bytes(stream)),))


def test_sessions_on_simulators() -> None:
    """Every other thread's stream is damaged: a message is its thread's own."""
    feeds = [_feed() for _ in range(THREADS)]
    expected = [Session(PACKAGE).run(one).outputs for one in feeds]

    def work(number: int) -> None:
        for _ in range(TURNS):
            if number % 2:
                with Session(_damaged()) as session, pytest.raises(SimError, match="instruction 1 "):
                    session.run(feeds[number])
                continue
            with Session(PACKAGE) as session:
                for name, value in session.run(feeds[number]).outputs.items():
                    np.testing.assert_array_equal(value, expected[number][name])

    _at_once(work)


def test_sessions_come_and_go_on_one_device() -> None:
    feeds = [_feed() for _ in range(THREADS)]
    expected = [Session(PACKAGE).run(one).outputs for one in feeds]
    with DeviceModel(OVERLAY, memory_bytes=1 << 20) as model:

        def work(number: int) -> None:
            for _ in range(TURNS):
                with Session(PACKAGE, model.uri()) as session:
                    for _ in range(2):
                        for name, value in session.run(feeds[number]).outputs.items():
                            np.testing.assert_array_equal(value, expected[number][name])

        _at_once(work)
        assert model.launches == 2 * THREADS * TURNS


def test_timing() -> None:
    program = Program(REGION.stream, OVERLAY)
    cycles = timing.run(program).cycles

    def work(number: int) -> None:
        for _ in range(TURNS):
            assert timing.run(program).cycles == cycles

    _at_once(work)
