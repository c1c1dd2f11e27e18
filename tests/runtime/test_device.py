"""The Zynq back end on the device model: same results, every fault with its cause, and correct again after it."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import re
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.limits import SLOWNESS
from tests.runtime.test_session import OVERLAY, REGION, _feed, _package

from tilewright.errors import ConfigError, DataError, DeviceError, PackageError
from tilewright.runtime import Session
from tilewright.runtime.device_model import DeviceModel
from tilewright.runtime.native import NativeProgram
from tilewright.targets.config import overlay
from tilewright.targets.package import Package
from tilewright.targets.program import encode_program, encode_region
from tilewright.targets.registers import ALIGNMENT, BY_NAME, config_words
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program

PACKAGE = _package()
TIMEOUT_MS = 150 * SLOWNESS
SHORT = {"timeout_ms": TIMEOUT_MS}
"""A launch of the small package takes well below a millisecond; loaded machines need room."""


@pytest.fixture(scope="module")
def shared() -> Iterator[DeviceModel]:
    """A model whose tests leave it as they found it."""
    with DeviceModel(OVERLAY, memory_bytes=1 << 20) as model:
        yield model


def _same(session: Session, reference: Session, runs: int = 1) -> None:
    for _ in range(runs):
        feeds = _feed()
        found, expected = session.run(feeds), reference.run(feeds)
        assert list(found.outputs) == list(expected.outputs)
        for name, value in expected.outputs.items():
            np.testing.assert_array_equal(found.outputs[name], value)


@pytest.mark.parametrize("how", [{}, {"interrupt": True}, {"coherent": False}], ids=str)
def test_outputs_and_counts_are_the_simulators(how: dict[str, Any]) -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, **how) as model:
        session, sim = Session(PACKAGE, model.uri()), Session(PACKAGE)
        _same(session, sim, 5)
        feeds = _feed()
        found, expected = session.run(feeds).counts, sim.run(feeds).counts
        assert expected.pop("cycles") == 0
        assert found.pop("cycles") == timing.run(Program(REGION.stream, OVERLAY)).cycles
        assert found == expected
        assert model.launches == 6


def test_polling_from_the_start_and_never(shared: DeviceModel) -> None:
    for spin in (0, 100000):
        _same(Session(PACKAGE, shared.uri(spin_us=spin)), Session(PACKAGE), 3)


WRONG_TEXTS = [
    ("zynq", "device zynq: registers= is missing"),
    ("zynq:registers=a", "device zynq:registers=a: memory= is missing"),
    (
        "zynq:registers=a,memory=b,speed=3",
        "device zynq:registers=a,memory=b,speed=3: unknown key speed, known are registers, memory, bytes, cache, sysfs, "
        "interrupt, timeout_ms, spin_us",
    ),
    ("zynq:registers=a,registers=b", "device zynq:registers=a,registers=b: registers is given twice"),
    ("zynq:registers=,memory=b", "device zynq:registers=,memory=b: expected a value behind registers="),
    (
        "zynq:registers=a,memory=b,timeout_ms=long",
        "device zynq:registers=a,memory=b,timeout_ms=long: expected a number of 0 to 86400000 for timeout_ms, found long",
    ),
    (
        "zynq:registers=a,memory=b@c",
        "device zynq:registers=a,memory=b@c: expected a number behind @ of memory, found c",
    ),
    (
        "zynq:registers=a,memory=b,cache=warm",
        "device zynq:registers=a,memory=b,cache=warm: expected cache=none, sync or uncached, found warm",
    ),
    (
        "zynq:registers=a,memory=/dev/mem",
        "device zynq:registers=a,memory=/dev/mem: memory=/dev/mem needs @PHYSICAL and bytes=",
    ),
    (
        "zynq:registers=a,memory=/dev/null@3",
        "device zynq:registers=a,memory=/dev/null@3: expected a physical address below 2^48 that is a multiple of "
        f"{ALIGNMENT} for the memory, found 3",
    ),
    (
        "zynq:registers=a,memory=/dev/null,cache=sync",
        "device zynq:registers=a,memory=/dev/null,cache=sync: cache=sync needs a u-dma-buf, and /dev/null is none; "
        "give sysfs=DIR",
    ),
]


@pytest.mark.parametrize(("uri", "message"), WRONG_TEXTS, ids=[u for u, _ in WRONG_TEXTS])
def test_a_wrong_text_is_told(uri: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Session(PACKAGE, uri)
    assert str(caught.value) == message


def test_no_device_is_told(tmp_path: Path, shared: DeviceModel) -> None:
    def fails(registers: Path, memory: Path, *more: str) -> str:
        with pytest.raises(DeviceError) as caught:
            Session(PACKAGE, ",".join([f"zynq:registers={registers}", f"memory={memory}", *more]))
        return str(caught.value).partition(": ")[2]

    page, memory = tmp_path / "page", tmp_path / "memory"
    assert fails(page, memory) == f"memory {memory} cannot be opened: No such file or directory"
    assert fails(page, Path("/dev/null"), "bytes=4096") == (
        "4096 bytes of memory cannot be mapped: No such device"
    )
    memory.write_bytes(b"")
    assert fails(page, memory) == f"{memory} has 0 usable bytes; give bytes="
    memory.write_bytes(bytes(4096))
    assert fails(page, memory, "bytes=8192") == "expected 8192 bytes of memory at 0, the file has 4096"
    assert fails(page, memory) == f"registers {page} cannot be opened: No such file or directory"
    page.write_bytes(b"\xff" * 100)
    assert fails(page, memory) == "expected 4096 bytes of registers at 0, the file has 100"
    page.write_bytes(b"\xff" * 4096)
    assert fails(page, memory) == (
        "expected a Tilewright accelerator (1297241940 in the first register), found 4294967295; "
        "load the bitstream, and see that the address is its register block's"
    )
    registers = bytearray((shared.folder / "registers").read_bytes())
    registers[BY_NAME["CONTRACT"].offset] += 1
    page.write_bytes(registers)
    assert fails(page, memory) == (
        "expected registers of version 1 with 58 words of configuration, found version 2 with 58; "
        "the bitstream and this runtime are of different releases"
    )
    assert fails(page, shared.folder / "memory", "sysfs=/nowhere") == (
        "/nowhere has no phys_addr and size: is it a u-dma-buf's?"
    )


def test_another_overlay_is_told_by_its_fields(shared: DeviceModel) -> None:
    other = dataclasses.replace(OVERLAY, block_out=16, acc_kib=64, mhz=200)
    session = Session(PACKAGE, uri := shared.uri())
    shared.load(other)
    expected = (
        f"device {uri} has another overlay than region net_0 was compiled for; block_out: 32 in the package, 16 on the "
        "device; acc_kib: 128 in the package, 64 on the device; mhz: 250 in the package, 200 on the device; load the "
        "bitstream of ultra96-w8, or compile for ultra96-w8 as the device has it"
    )
    with pytest.raises(PackageError) as caught:
        Session(PACKAGE, uri)
    assert str(caught.value) == expected
    # A session that was there before the other bitstream: nothing is run on a machine that is another one.
    with pytest.raises(PackageError) as caught:
        session.run(_feed())
    assert str(caught.value) == expected
    shared.load(OVERLAY)
    _same(session, Session(PACKAGE))


def test_a_hash_alone_decides(shared: DeviceModel) -> None:
    """What a device cannot show, here the end of a long name, makes it another one all the same."""
    long = "x" * 32
    for name in (long + "1", long + "2"):
        shared.load(dataclasses.replace(OVERLAY, name=name))
        package = _package(overlay=dataclasses.replace(OVERLAY, name=long + "1"))
        if name.endswith("1"):
            Session(package, shared.uri())
            continue
        with pytest.raises(
            PackageError, match=r"; the hashes differ, and no field that a device shows; load"
        ):
            Session(package, shared.uri())
    shared.load(OVERLAY)


def _needed(package: Package) -> int:
    """Bytes of DMA memory for streams, constants, inputs and outputs."""
    return sum(
        -(-size // ALIGNMENT) * ALIGNMENT
        for r in package.regions
        for size in (len(r.stream), len(r.constants), r.input_bytes, r.output_bytes)
    )


def test_too_little_memory_is_told_by_how_much() -> None:
    workspace = 8192
    region = dataclasses.replace(REGION, workspace_bytes=workspace - 1)
    package = _package(regions=(region,))
    with DeviceModel(OVERLAY, memory_bytes=8192) as model:
        with pytest.raises(DeviceError) as caught:
            Session(package, model.uri())
        assert str(caught.value) == (
            f"device {model.uri()}: the memory is too small: {_needed(package)} bytes for streams, constants, inputs and "
            f"outputs and {workspace} more of workspace are needed, 8192 of 8192 are free, "
            f"{_needed(package) + workspace - 8192} too few; make it larger (u-dma-buf: its size), or close other packages"
        )
    pages = -(-(_needed(package) + workspace) // 4096) * 4096
    with DeviceModel(OVERLAY, memory_bytes=pages) as model:
        _same(Session(package, model.uri()), Session(package), 2)


def test_packages_share_a_device_and_give_back_what_they_had(shared: DeviceModel) -> None:
    gc.collect()  # sessions in tracebacks of other tests
    sim = Session(PACKAGE)
    most = (1 << 20) // _needed(PACKAGE)
    sessions = [Session(PACKAGE, shared.uri()) for _ in range(most)]
    with pytest.raises(DeviceError, match="the memory is too small"):
        Session(PACKAGE, shared.uri())
    for session in sessions[::2]:
        session.close()
    with pytest.raises(DataError, match=r"^this program was closed$"):
        sessions[0].run(_feed())
    del sessions[::2]
    sessions += [Session(PACKAGE, shared.uri()) for _ in range(2)]
    # Packages of one device that differ: changed weights must not be mistaken for the others'.
    constants = bytearray(REGION.constants)
    constants[next(offset for offset, count in REGION.products.items() if count)] ^= 0x40
    changed = _package(regions=(dataclasses.replace(REGION, constants=bytes(constants)),))
    other, other_sim = Session(changed, shared.uri()), Session(changed)
    for session in (*sessions[:4], *sessions[-2:]):
        _same(session, sim)
        _same(other, other_sim)


def test_threads_share_a_device(shared: DeviceModel) -> None:
    failures: list[BaseException] = []

    def work(session: Session, sim: Session) -> None:
        try:
            for _ in range(10):
                _same(session, sim)
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that can
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(Session(PACKAGE, shared.uri()), Session(PACKAGE)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_another_text_for_a_device_in_use_is_refused(shared: DeviceModel) -> None:
    session = Session(PACKAGE, shared.uri())
    with pytest.raises(
        DeviceError, match=r"is in use by another process, or by this one under another text$"
    ):
        Session(PACKAGE, shared.uri(spin_us=1))
    _same(session, Session(PACKAGE))


def test_the_cache_is_maintained_over_what_is_exchanged() -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, coherent=False) as model:
        session = Session(PACKAGE, model.uri())

        def parts(name: str) -> list[tuple[int, int, int]]:
            words = [int(line, 16) for line in (model.folder / name).read_text().split()]
            assert all(w & 1 for w in words)
            return [(w >> 32, w & 0xFFFFFFF0, w >> 2 & 3) for w in words]

        _same(session, Session(PACKAGE), 3)
        code, *data = parts("sync_for_device")
        assert (
            code[1] == -(-len(REGION.stream) // ALIGNMENT + -len(REGION.constants) // ALIGNMENT) * ALIGNMENT
        )
        assert len(set(data)) == 1 and len(data) == 3
        assert data[0][0] >= code[0] + code[1] or data[0][0] + data[0][1] <= code[0]
        back = parts("sync_for_cpu")
        assert len(set(back)) == 1 and len(back) == 3
        ends = (back[0][0] + back[0][1], data[0][0] + data[0][1])
        assert back[0][0] > data[0][0] and ends[0] == ends[1] and back[0][2] == 2


def test_regions_for_another_release(shared: DeviceModel) -> None:
    """With fewer words of configuration than the device's registers hold."""
    data = encode_region(REGION, OVERLAY)
    words = config_words(OVERLAY)
    listed = struct.pack(f"<{len(words) + 1}I", len(words), *words)
    assert data.count(listed) == 1
    data = data.replace(listed, struct.pack(f"<{len(words)}I", len(words) - 1, *words[:-1]))
    native = NativeProgram(encode_program(PACKAGE.program), [(data, REGION.stream, REGION.constants)])
    with pytest.raises(PackageError) as caught:
        native.open_device(shared.uri())
    assert str(caught.value) == (
        f"region {REGION.name}: expected an overlay of {len(words)} words, found {len(words) - 1}"
    )


def test_a_cache_that_cannot_be_maintained() -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, coherent=False) as model:
        sync = model.folder / "sync_for_device"
        sync.unlink()
        sync.symlink_to("/dev/full")
        with pytest.raises(DeviceError, match=r": the cache cannot be maintained: No space left on device$"):
            Session(PACKAGE, model.uri()).run(_feed())


def test_memory_that_is_not_cached_is_copied_in_words(shared: DeviceModel) -> None:
    _same(Session(PACKAGE, shared.uri(cache="uncached")), Session(PACKAGE), 3)


LAYER = r"device \S+, region net_0"
STEPS = len(REGION.stream) // 64
FAULTS: list[tuple[str, tuple[int, ...], str]] = [
    (
        "hang",
        (3,),
        rf"^{LAYER}: no end within {TIMEOUT_MS} ms: STATE RUNNING, 3 of {STEPS} instructions fetched \(layer conv1\); LOAD retired 0, "
        r"waits for DRAM; MATRIX retired 0, waits for a token; VECTOR retired 0, has nothing to do; STORE retired 0, has "
        r"nothing to do; give timeout_ms= if it needs longer$",
    ),
    (
        "ignore",
        (),
        rf"^{LAYER}: no end within {TIMEOUT_MS} ms: START was not taken \(STATE \w+\): has the accelerator a clock, is it alive\?$",
    ),
    (
        "error",
        (1, 2),
        rf"^{LAYER}, instruction 2 \(layer conv1\): error ENCODING: an unknown opcode, or bits behind",
    ),
    ("error", (3, 0), rf"^{LAYER}, instruction 0 \(layer conv1\): error ADDRESS: "),
    ("error", (9, STEPS - 1), rf"^{LAYER}, instruction {STEPS - 1} \(layer conv1\): error TOKEN: "),
    (
        "error",
        (17, 4, 0xDEAD0000),
        rf"^{LAYER}, instruction 4 .*: error BUS: a SLVERR or DECERR .*; physical address 0xdead0000$",
    ),
    ("error", (77, 0xFFFFFFFF), rf"^{LAYER}: unknown error 77$"),
    ("scribble", (), rf"^{LAYER}, instruction 0 .*: error BUS: .*; physical address 0x[0-9a-f]+$"),
    ("reset", (), rf"^{LAYER}: the launch is lost: the device was reset while it ran; run again$"),
    ("stale", (), rf"^{LAYER}: no end within {TIMEOUT_MS} ms: STATE RUNNING, "),
    ("vanish", (), rf"^{LAYER}: no end within {TIMEOUT_MS} ms: the registers are gone; load the bitstream$"),
    ("dead", (), rf"^{LAYER}: no end within {TIMEOUT_MS} ms: START was not taken"),
    (
        "die",
        (5,),
        rf"^{LAYER}: no end within {TIMEOUT_MS} ms: STATE RUNNING, 5 of {STEPS} instructions fetched",
    ),
]
LASTING: dict[str, Callable[[DeviceModel], None]] = {
    "vanish": DeviceModel.revive,
    "dead": DeviceModel.revive,
    "die": DeviceModel.start,
}
"""Faults after which somebody has to bring the device back, and how."""


def _inject(model: DeviceModel, session: Session, sim: Session, number: int) -> None:
    """One fault, its message, and a correct run after it."""
    name, numbers, message = FAULTS[number % len(FAULTS)]
    model.fault(name, *numbers)
    with pytest.raises(DeviceError, match=message):
        session.run(_feed())
    if name in LASTING:
        LASTING[name](model)
    _same(session, sim)


@pytest.mark.parametrize("interrupt", [False, True])
def test_every_fault_is_told_and_the_next_run_is_right(interrupt: bool) -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, interrupt=interrupt) as model:
        session, sim = Session(PACKAGE, model.uri(**SHORT)), Session(PACKAGE)
        other = Session(PACKAGE, model.uri(**SHORT))
        for number in range(len(FAULTS)):
            _inject(model, session, sim, number)
            _same(other, sim)


@pytest.mark.slow
def test_200_faults_in_any_order() -> None:
    order = np.random.default_rng(5).permutation(200)
    with DeviceModel(OVERLAY, memory_bytes=1 << 20) as model:
        session, sim = Session(PACKAGE, model.uri(**SHORT)), Session(PACKAGE)
        for number in order:
            _inject(model, session, sim, int(number))


def test_a_device_that_stays_dead_is_told_each_time() -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20) as model:
        session, sim = Session(PACKAGE, model.uri(**SHORT)), Session(PACKAGE)
        _same(session, sim)
        model.kill()
        with pytest.raises(DeviceError, match="START was not taken"):
            session.run(_feed())
        with pytest.raises(
            DeviceError,
            match=r"does not answer a reset within 1000 ms \(STATE \w+\); load the bitstream again, or restart the device model",
        ):
            session.run(_feed())
        model.start()
        _same(session, sim)


def test_slow_is_not_dead(shared: DeviceModel) -> None:
    session = Session(PACKAGE, shared.uri())
    shared.fault("slow", 30)
    _same(session, Session(PACKAGE))


def test_interrupts_that_are_lost_or_spurious_change_nothing() -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, interrupt=True) as model:
        session, sim = Session(PACKAGE, model.uri(spin_us=0)), Session(PACKAGE)
        for fault in ("lost", "slow", "lost"):
            model.fault(fault)
            model.spurious_interrupt()
            _same(session, sim, 2)


def test_the_device_refuses_what_lies_outside_its_memory() -> None:
    """The host believes in another physical address than the device."""
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, physical=0x40000000) as model:
        uri = re.sub("@0x40000000", "@0x50000000", model.uri())
        with pytest.raises(DeviceError, match=r"region net_0: error BUS: .*; physical address 0x5000\d+$"):
            Session(PACKAGE, uri).run(_feed())


def test_a_fault_of_the_stream_names_instruction_and_layer(shared: DeviceModel) -> None:
    """The device finds what the simulator finds, by registers in place of words."""
    stream = bytearray(REGION.stream)
    stream[64 * 2] = 0  # no opcode
    package = _package(regions=(dataclasses.replace(REGION, stream=bytes(stream)),))
    session = Session(package, shared.uri())
    for _ in range(2):
        with pytest.raises(DeviceError, match=rf"^{LAYER}, instruction 2 \(layer conv1\): error ENCODING"):
            session.run(_feed())
    _same(Session(PACKAGE, shared.uri()), Session(PACKAGE))


def test_another_overlay_runs_on_its_own_model(shared: DeviceModel) -> None:
    with (
        pytest.raises(PackageError, match=r"name: ultra96-w8 in the package, ultra96-w4 on the device"),
        DeviceModel(overlay("ultra96-w4"), memory_bytes=1 << 20) as model,
    ):
        Session(PACKAGE, model.uri())
    _same(Session(PACKAGE, shared.uri()), Session(PACKAGE))


def _resident() -> tuple[int, int]:
    """Bytes of memory and number of descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages, len(list(Path("/proc/self/fd").iterdir()))


def _growth(runs: int, sessions: int) -> tuple[int, int]:
    """By how many bytes and descriptors this process grows in so many runs and sessions, once its caches are full."""
    with DeviceModel(OVERLAY, memory_bytes=1 << 20, zero_time=True) as model:
        session, feeds = Session(PACKAGE, model.uri()), _feed()

        def work(runs: int, sessions: int) -> None:
            for _ in range(runs):
                session.run(feeds)
            for _ in range(sessions):
                with Session(PACKAGE, model.uri()) as one:
                    one.run(feeds)
            gc.collect()

        work(2000, 20)  # allocators and caches fill
        before = _resident()
        work(runs, sessions)
        after = _resident()
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.slow
def test_10000_runs_and_200_sessions_leave_nothing_behind() -> None:
    """In a process of its own: the heap of one that ran other tests moves by megabytes without any leak."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        memory, descriptors = pool.submit(_growth, 10000, 200).result()
    assert descriptors == 0
    # A leak of 32 bytes a run would show; what is left is the allocator's.
    assert memory < 32 * 10000


def test_a_session_closes_what_it_opened() -> None:
    with DeviceModel(OVERLAY, memory_bytes=1 << 20) as model:
        before = _resident()[1]
        with Session(PACKAGE, model.uri()):
            assert _resident()[1] > before
        assert _resident()[1] == before
