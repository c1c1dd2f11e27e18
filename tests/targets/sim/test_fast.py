"""The fast simulator against the reference simulator, which is the specification."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import ConfigError, SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Memory, Store
from tilewright.targets.sim import fast, reference, timing
from tilewright.targets.sim.fast import FastSimulator, SimdLevel, simd_levels
from tilewright.targets.sim.program import DramImage, Program
from tilewright.targets.sim.testing import chain, random_matrix, random_vector, scene

NAMES = [
    "pynq-z1-w8", "ultra96-w8", "8x8-w8", "8x16-w8-acc20", "32x32-w4", "16x32-a8w4", "32x32-a4w8", "32x32-w2",
    "128x128-w1",
]  # fmt: skip


def agree(program: Program, dram: DramImage) -> bool:
    """Run a program on the reference and on every level of the fast simulator; whether it is legal."""
    try:
        expected = reference.run(program, dram)
    except SimError as refused:
        with pytest.raises(SimError) as error:
            FastSimulator(program.overlay).run(program.stream, dram, program.layers)
        assert str(error.value) == str(refused)
        return False
    for level in simd_levels():
        found = FastSimulator(program.overlay, level).run(program.stream, dram)
        np.testing.assert_array_equal(found.outputs, expected.outputs, err_msg=f"{level.name}")
        np.testing.assert_array_equal(found.outputs_written, expected.outputs_written)
        assert found.statistics == expected.statistics
    return True


@pytest.mark.parametrize("name", NAMES)
def test_random_matrix(machines: dict[str, Overlay], name: str) -> None:
    o = machines[name]
    rng = np.random.default_rng(11)
    rounds = 2 if o.block_in > 64 else 12
    for _ in range(rounds):
        s = scene(o, rng)
        most = int(rng.integers(1, 6))
        body: list[Instruction] = [random_matrix(o, rng, most) for _ in range(4)]
        assert agree(*s.program([*body, *s.show_sums()]))


@pytest.mark.parametrize("name", NAMES)
def test_random_vector(machines: dict[str, Overlay], name: str) -> None:
    o = machines[name]
    rng = np.random.default_rng(12)
    rounds = 10 if o.block_in > 64 else 40
    legal = 0
    for _ in range(rounds):
        s = scene(o, rng)
        legal += agree(*s.program([random_vector(o, rng, s.filled), *s.show_act()]))
    assert legal > rounds // 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_random_programs(machines: dict[str, Overlay], name: str) -> None:
    o = machines[name]
    rng = np.random.default_rng(13)
    for _ in range(10 if o.block_in > 64 else 80):
        s = scene(o, rng)
        matrices = [random_matrix(o, rng, int(rng.integers(1, 7))) for _ in range(3)]
        agree(*s.program([*matrices, *s.show_sums()]))
        agree(*s.program([*matrices, random_vector(o, rng, s.filled), *s.show_act()]))


@pytest.mark.parametrize("name", ["ultra96-w8", "32x32-w4", "32x32-w2", "128x128-w1"])
def test_strided_copies(machines: dict[str, Overlay], name: str) -> None:
    """LOAD and STORE with all strides random, through the workspace and back."""
    o = machines[name]
    rng = np.random.default_rng(5)
    half = o.half_word_bytes
    constants = rng.integers(0, 256, 4096 * half, np.uint8)
    legal = 0
    for _ in range(60):
        n0, n1, n2 = (int(v) for v in rng.integers(1, 5, 3))
        strides = [int(v) for v in rng.permutation([1, n2, n2 * n1])]
        dram_strides = [half * int(v) for v in rng.integers(0, 40, 3)]
        counts = {"n0": n0, "n1": n1, "n2": n2}
        out = [half * int(v) for v in (n1 * n2, n2, 1)]
        body: list[Instruction] = [
            Load(memory=Memory.ACT, dram_offset=half * int(rng.integers(0, 40)), dram_stride0=dram_strides[0],
                 dram_stride1=dram_strides[1], dram_stride2=dram_strides[2], address=7, stride0=strides[0],
                 stride1=strides[1], stride2=strides[2], **counts),
            Store(base=Base.WORKSPACE, dram_stride0=out[0], dram_stride1=out[1], dram_stride2=out[2],
                  address=7, stride0=strides[0], stride1=strides[1], stride2=strides[2], **counts),
            Load(base=Base.WORKSPACE, dram_stride2=half, address=2000, n2=n0 * n1 * n2),
            Store(base=Base.OUTPUT, dram_offset=half, dram_stride2=half, address=2000, n2=n0 * n1 * n2),
        ]  # fmt: skip
        size = (n0 * n1 * n2 + 2) * half
        program = Program(encode_stream(chain(body)), o)
        legal += agree(program, DramImage(constants, constants[:0], size, size))
    assert legal >= 20


def test_one_object_runs_many_times(machines: dict[str, Overlay]) -> None:
    """Each run starts with empty scratchpads, also after a fault; objects do not share anything."""
    o = machines["ultra96-w8"]
    rng = np.random.default_rng(1)
    first, second = scene(o, rng), scene(o, rng)
    body: list[Instruction] = [random_matrix(o, rng)]
    program, dram = first.program([*body, *first.show_sums()])
    other, other_dram = second.program([*body, *second.show_sums()])
    a, b = FastSimulator(o), FastSimulator(o)
    expected, other_expected = a.run(program.stream, dram).outputs, b.run(other.stream, other_dram).outputs
    assert not np.array_equal(expected, other_expected)
    for _ in range(2):
        np.testing.assert_array_equal(a.run(other.stream, other_dram).outputs, other_expected)
        np.testing.assert_array_equal(b.run(program.stream, dram).outputs, expected)
        unfilled = encode_stream(chain([*body, *first.show_sums()]))
        with pytest.raises(SimError, match="nothing has written"):
            a.run(unfilled, dram)
    np.testing.assert_array_equal(fast.run(program, dram).outputs, expected)


def test_levels() -> None:
    assert simd_levels()[0] is SimdLevel.PLAIN


def test_a_level_is_used_or_refused(machines: dict[str, Overlay]) -> None:
    o = machines["ultra96-w8"]
    assert FastSimulator(o).simd is simd_levels()[-1]
    for level in SimdLevel:
        if level in simd_levels():
            assert FastSimulator(o, level).simd is level
        else:
            with pytest.raises(
                ConfigError, match=f"simd={level.name}: this processor or build lacks it; it has PLAIN"
            ):
                FastSimulator(o, level)


def test_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Elsewhere())
    with pytest.raises(
        ConfigError, match=r"libtilewright_sim.so: the library of the fast simulator is missing; install"
    ):
        fast.library_path()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(
        ConfigError,
        match=r"the fast simulator needs tilewright installed; install the project \(pip install -e \.\)",
    ):
        fast.library_path()


@pytest.mark.parametrize(
    ("module", "other", "damaged"),
    [
        (
            fast,
            "the library of the fast simulator has interface {}, expected {}; install the project again",
            "the library of the fast simulator does not load: ",
        ),
        (
            timing,
            "the library of the timing simulator has interface {}, expected {}; install the project again",
            "the library of the timing simulator does not load: ",
        ),
    ],
)
def test_libraries_that_are_no_simulator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any, other: str, damaged: str
) -> None:
    """One of another version, and one that is damaged."""
    load, found = module._library.__wrapped__, module.ABI
    with monkeypatch.context() as patch:
        patch.setattr(module, "ABI", found + 1)
        with pytest.raises(ConfigError) as error:
            load()
    assert str(error.value).endswith(": " + other.format(found, found + 1))
    path = tmp_path / "lib.so"
    path.write_bytes(b"no library")
    monkeypatch.setattr(module, "library_path", lambda: path)
    with pytest.raises(ConfigError) as error:
        load()
    assert str(error.value).startswith(f"{path}: {damaged}")


def test_wrong_number_of_layers(machines: dict[str, Overlay]) -> None:
    none = np.zeros(0, np.uint8)
    with pytest.raises(SimError, match="2 layer names for 1 instructions"):
        FastSimulator(machines["ultra96-w8"]).run(
            encode_stream([Finish()]), DramImage(none, none, 0, 0), ["a", "b"]
        )
