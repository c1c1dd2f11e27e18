"""Each timing rule on a stream made for it; the expected cycles are worked out here from targets/timing.md."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tilewright.targets
from tilewright.errors import EncodingError, SimError
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import (
    Base,
    Finish,
    Instruction,
    Load,
    Loop,
    Matrix,
    Memory,
    Source,
    Store,
    Unit,
    Vector,
    VectorOp,
)
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.rules import ACTIVITY_MEANING, Activity, Rules
from tilewright.targets.sim.timing import Timing, run
from tilewright.targets.sim.trace import LAYER_TRACK, chrome_trace, write_chrome_trace

R = Rules()
U96 = overlay("ultra96-w8")
PYNQ = overlay("pynq-z1-w8")


def timed(*body: Instruction, o: Overlay = U96, layers: list[str] | None = None) -> Timing:
    """Time instructions followed by FINISH."""
    return run(Program(encode_stream([*body, Finish()]), o, layers or ()))


def took(timing: Timing, index: int = 0) -> int:
    """Cycles from an instruction's start to its retirement."""
    return int(timing.end[index] - timing.start[index])


def matrix_time(steps_and_stalls: int) -> int:
    """Start to retirement of a MATRIX whose first step to last step takes so many cycles."""
    return R.start_cycles + R.tile_cycles + steps_and_stalls - 1 + R.matrix_depth


def test_matrix_makes_a_step_a_cycle() -> None:
    t = timed(Matrix(n_y=10, n_x=12, height=10, width=12, acc_y=12, acc_x=1))
    assert took(t) == matrix_time(120)
    assert t.activity[Unit.MATRIX][Activity.BUSY] == 120
    assert t.activity[Unit.MATRIX][Activity.START] == R.start_cycles + R.tile_cycles


@pytest.mark.parametrize(("pixels", "cycles_a_tile"), [(2, 4), (3, 4), (4, 4), (7, 7)])
def test_a_tile_lasts_four_steps_at_least(pixels: int, cycles_a_tile: int) -> None:
    t = timed(Matrix(n_ic=5, n_x=pixels, wgt_ic=1, acc_x=1, width=pixels))
    assert took(t) == matrix_time(4 * cycles_a_tile + pixels)
    stalls = t.activity[Unit.MATRIX].get(Activity.TILE, 0) + t.activity[Unit.MATRIX].get(Activity.ACC, 0)
    assert stalls == 4 * (cycles_a_tile - pixels)


@pytest.mark.parametrize(("vectors", "cycles"), [(1, 9), (2, 8 * 4 + 2), (3, 8 * 4 + 3), (4, 36)])
def test_repeats_of_a_vector_of_acc(vectors: int, cycles: int) -> None:
    """Distance 1 is forwarded; 2 and 3 wait until 4. All taps use tile 0, so none changes."""
    order = {
        f"order_{k}": int(loop) for k, loop in enumerate((Loop.OC, Loop.IC, Loop.Y, Loop.KY, Loop.KX, Loop.X))
    }
    t = timed(Matrix(n_ky=3, n_kx=3, n_x=vectors, acc_x=1, fresh=0, height=9, width=9, **order))
    assert took(t) == matrix_time(cycles)


def vector_time(reads: int, records: int) -> int:
    """Start to retirement of a VECTOR that makes one read a cycle, the last one completing a result."""
    return R.start_cycles + -(-records // R.param_records) + reads - 1 + R.vector_depth


@pytest.mark.parametrize(
    ("kernel", "stride", "reads"),
    [
        (1, 1, 8 * 8),
        (3, 1, 3 * 8 * 10),
        (3, 2, 3 * 8 * 17),
        (2, 2, 2 * 8 * 16),
        (5, 1, 5 * 8 * 12 * 2),
        (1, 2, 64),
    ],
)
def test_windows_reuse_columns(kernel: int, stride: int, reads: int) -> None:
    """8 x 8 results of a map without padding: rows x columns once, twice where five windows run."""
    size = 7 * stride + kernel
    t = timed(
        Vector(op=VectorOp.MAX, kernel_y=kernel, kernel_x=kernel, stride_y=stride, stride_x=stride, n_y=8, n_x=8,
               height=size, width=size, src_row=size, src_x=1, dst_base=4096, dst_row=8, dst_x=1),
    )  # fmt: skip
    assert took(t) == vector_time(reads, 16)


def test_padding_is_not_read() -> None:
    t = timed(
        Vector(op=VectorOp.MAX, kernel_y=3, kernel_x=3, n_y=8, n_x=8, offset_y=-1, offset_x=-1, height=8, width=8,
               src_row=8, src_x=1, dst_base=4096, dst_row=8, dst_x=1),
    )  # fmt: skip
    rows = 3 * 8 - 2
    # The last column completes two windows; the second result is written a cycle later.
    assert took(t) == vector_time(rows * 8, 16) + 1


def test_channels_in_pairs_where_there_are_lanes() -> None:
    fields = {"source": Source.ACC, "n_c": 4, "n_x": 32, "width": 32, "src_x": 1, "src_c": 32, "param_c": 16}
    wide = timed(Vector(dst_x=4, **fields))
    assert took(wide) == vector_time(2 * 32, 32)
    apart = timed(Vector(dst_x=1, **fields | {"dst_c": 32}))
    assert took(apart) == vector_time(4 * 32, 16)
    narrow = timed(Vector(dst_x=4, **fields), o=Overlay.from_dict(U96.to_dict() | {"vector_lanes": 16}))
    assert took(narrow) == vector_time(4 * 32, 16)


def test_parameters_load_behind_the_group_before() -> None:
    """Groups of 32 channels take 8 cycles to load; with 2 reads each, VECTOR waits for six of them."""
    t = timed(Vector(source=Source.ACC, n_c=6, n_x=2, width=2, src_x=1, src_c=2, dst_x=6, param_c=16))
    assert t.activity[Unit.VECTOR][Activity.PARAM] == 2 * 6
    shared = timed(Vector(source=Source.ACC, n_c=6, n_x=2, width=2, src_x=1, src_c=2, dst_x=6, param_c=0))
    assert Activity.PARAM not in shared.activity[Unit.VECTOR]


def test_planes_and_second_operands_are_reads_of_their_own() -> None:
    base = {"n_x": 20, "width": 20, "src_x": 1, "dst_base": 4096, "dst_x": 1}
    assert took(timed(Vector(in_planes=1, src_plane=64, **base))) == vector_time(40, 16)
    add = {"op": VectorOp.SCALED_ADD, "src2_base": 100}
    assert took(timed(Vector(src2_x=1, **add, **base))) == vector_time(40, 32)
    assert took(timed(Vector(src2_x=1, in2_planes=1, src2_plane=50, **add, **base))) == vector_time(60, 32)
    assert took(timed(Vector(src2_x=0, **add, **base))) == vector_time(21, 32)
    out = timed(Vector(out_planes=1, dst_plane=64, hi=65535, **base))
    assert (
        took(out) == vector_time(39, 16) + 1
    )  # a result every second cycle, its second half in the cycle after
    assert out.activity[Unit.VECTOR][Activity.RESULT] == 19


def test_a_table_waits_for_the_results_before() -> None:
    copy = {"source": Source.ACC, "n_x": 40, "width": 40, "src_x": 1, "dst_x": 1}
    t = timed(Vector(**copy), Vector(table=1, table_base=32, **copy | {"dst_base": 64}))
    assert t.start[1] == t.end[0] + 1
    assert took(t, 1) == vector_time(40, 16) + R.table_cycles


def test_matrix_goes_before_vector_at_a_bank() -> None:
    """MATRIX reads bank 0 in every step: VECTOR's reads of even half words wait until it is done."""
    matrix = Matrix(n_x=200, width=200, act_x=2, acc_x=1)
    vector = Vector(n_x=50, width=50, src_base=1000, src_x=2, dst_base=8192, dst_x=1)
    both, alone = timed(matrix, vector), timed(vector)
    assert took(both) == matrix_time(200)
    held = both.activity[Unit.VECTOR][Activity.PORT]
    assert took(both, 1) == took(alone) + held
    assert held > 150
    for other in ({"src_base": 1001}, {"src_base": 4096}):  # the odd bank, another pair
        free = timed(matrix, Vector(**vector.__dict__ | other))
        assert Activity.PORT not in free.activity[Unit.VECTOR]


def test_displaced_steps_take_both_banks() -> None:
    matrix = Matrix(n_x=200, n_ky=1, width=200, act_x=2, acc_x=1, displaced=1)
    odd = Vector(n_x=50, width=50, src_base=1001, src_x=2, dst_base=8192, dst_x=1)
    assert timed(matrix, odd).activity[Unit.VECTOR][Activity.PORT] > 150


@pytest.mark.parametrize("o", [U96, PYNQ], ids=["ultra96", "pynq-z1"])
def test_a_long_load_runs_at_the_widths_of_dram(o: Overlay) -> None:
    for ports in (1, 2):
        board = replace(o.board, dram_read_ports=ports)
        t = timed(Load(memory=Memory.WGT, dram_stride2=o.tile_bytes, n2=128), o=replace(o, board=board))
        data = -(-128 * o.tile_bytes // board.dram_most_read_bytes_per_cycle)
        assert t.dram_read_bytes == 128 * o.tile_bytes
        # Latency once: eight bursts on their way cover it. Then the buffer's cycle; and until two ports
        # have filled, one after the other, a burst of the first.
        waits = took(t) - data
        burst = board.dram_burst_bytes // board.dram_read_bytes_per_cycle if ports > 1 else 0
        assert o.board.dram_latency_cycles <= waits <= o.board.dram_latency_cycles + 8 + burst


def test_act_takes_a_half_word_a_cycle_whatever_the_ports() -> None:
    for ports in (1, 2):
        board = replace(U96.board, dram_read_ports=ports)
        t = timed(Load(dram_stride2=16, n2=2048), o=replace(U96, board=board))
        assert took(t) == pytest.approx(U96.board.dram_latency_cycles + 2048, abs=8)


def test_bursts_go_to_the_port_with_less_to_come() -> None:
    """Rows of 256 and 16 bytes in turn: were they dealt in turn as well, one port would carry nearly all."""
    rows = Load(memory=Memory.PARAM, dram_stride1=512, dram_stride2=16, n2=17, n1=200, stride1=17)
    one, two = (timed(rows, o=replace(U96, board=replace(U96.board, dram_read_ports=n))) for n in (1, 2))
    assert took(two) < 0.62 * took(one)


def test_bursts_of_one_half_word_are_bound_by_latency() -> None:
    """Half words 32 bytes apart: eight requests a port in each round trip."""
    t = timed(Load(dram_stride2=32, n2=256))
    rounds = 256 / U96.board.dram_outstanding / U96.board.dram_read_ports
    assert took(t) == pytest.approx(rounds * (U96.board.dram_latency_cycles + 1), rel=0.02)


def test_rows_that_follow_on_join_into_bursts() -> None:
    apart = Load(dram_stride1=4 * 16, dram_stride2=16, n1=64, n2=2, stride1=2)
    joined = Load(dram_stride1=2 * 16, dram_stride2=16, n1=64, n2=2, stride1=2)
    assert took(timed(joined)) < 300 < took(timed(apart))


def test_both_ways_share_a_budget() -> None:
    """LOAD and STORE both stream: each port gets a third of the 24 bytes that move in a cycle, of 48 that they have."""
    n = 2000
    store = Store(base=Base.OUTPUT, dram_stride2=16, n2=n)
    load = Load(memory=Memory.WGT, dram_stride2=512, n2=2 * n // 32)
    together = timed(store, load)
    moved = n * 16 + 2 * n // 32 * 512
    for k in (0, 1):
        assert took(together, k) == pytest.approx(moved / 24, rel=0.1)
    assert took(timed(store)) == pytest.approx(n, rel=0.15)


def test_tokens_arrive_in_the_cycle_after_the_gift() -> None:
    t = timed(
        Load(memory=Memory.PARAM, dram_stride2=16, n2=16, give=1 << Unit.VECTOR),
        Vector(source=Source.ACC, wait=1 << Unit.LOAD, give=1 << Unit.STORE),
        Store(base=Base.OUTPUT, wait=1 << Unit.VECTOR),
    )
    assert t.start[1] == t.end[0] + 1
    assert t.start[2] == t.end[1] + 1
    assert t.cycles >= t.end[2] + 1
    assert t.activity[Unit.VECTOR][Activity.TOKEN_LOAD] > U96.board.dram_latency_cycles


def test_queues_are_sixteen_deep() -> None:
    """A long MATRIX blocks sixteen behind it; the LOAD behind those is dispatched when one has started."""
    matrix = Matrix(n_ic=50, n_x=100, width=100, acc_x=1)
    queued = timed(*[matrix] * 18, Load(memory=Memory.PARAM))
    assert queued.dispatched[18] > queued.start[1]
    free = timed(*[matrix] * 17, Load(memory=Memory.PARAM))
    assert free.dispatched[17] < free.start[1]


def test_the_layers_of_a_run() -> None:
    t = timed(
        Load(memory=Memory.PARAM, give=1 << Unit.VECTOR),
        Vector(source=Source.ACC, wait=1 << Unit.LOAD),
        Matrix(),
        layers=["a", "b", "c", "c"],
    )
    a, b, c = t.layers()
    assert [x.name for x in (a, b, c)] == ["a", "b", "c"]
    assert (a.cycles, b.cycles, c.cycles) == (t.end[0] + 1, t.end[1] - t.end[0], 0)
    assert b.busy[Unit.VECTOR] == t.end[1] - t.start[1] + 1
    assert b.busy[Unit.LOAD] == 0


def test_a_chrome_trace(tmp_path: Path) -> None:
    t = timed(Load(memory=Memory.PARAM, give=1 << Unit.VECTOR), Vector(source=Source.ACC, wait=1 << Unit.LOAD),
              layers=["a", "b", "b"])  # fmt: skip
    write_chrome_trace(t, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    assert document == chrome_trace(t)
    events = [e for e in document["traceEvents"] if e["ph"] == "X"]
    assert [(e["name"], e["tid"]) for e in events] == [
        ("a", Unit.LOAD), ("b", Unit.VECTOR), ("a", LAYER_TRACK), ("b", LAYER_TRACK)
    ]  # fmt: skip
    assert events[1]["ts"] == pytest.approx(int(t.start[1]) / U96.mhz)
    assert events[1]["dur"] == pytest.approx((took(t, 1) + 1) / U96.mhz)
    names = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    assert names == {0: "LOAD", 1: "MATRIX", 2: "VECTOR", 3: "STORE", 4: "layers"}


def test_figures_in_the_text_are_the_rules() -> None:
    text = (Path(tilewright.targets.__file__).parent / "timing.md").read_text(encoding="utf-8")
    quoted = dict(re.findall(r"\*(\w+)\* (\d+)", text))
    assert set(quoted) >= set(Rules.__dataclass_fields__)
    for name, value in quoted.items():
        found = getattr(R, name) if hasattr(R, name) else getattr(U96.board, name)
        assert int(value) == found, name
    for name in ("matrix_depth", "vector_depth"):
        row = next(line for line in text.splitlines() if f"*{name}*" in line)
        stages = re.sub(r" \([^)]*\)", "", row.strip(" |").rpartition("|")[2])
        assert sum(int(n) for n in re.findall(r" (\d+)(?:,|$)", stages)) == getattr(R, name)
    assert set(ACTIVITY_MEANING) == set(Activity)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ((Vector(wait=1 << Unit.LOAD),), r"instruction 0 (.*): waits for a token from LOAD, but none was given before; "
         "an earlier LOAD must give to VECTOR"),
        ((Load(give=1 << Unit.MATRIX),), "tokens are left: LOAD->MATRIX 1; each token given must be waited for"),
    ],
)  # fmt: skip
def test_tokens_that_do_not_match_are_refused(body: tuple[Instruction, ...], message: str) -> None:
    with pytest.raises(SimError, match=message.replace("(.*)", r"\(.*\)")):
        timed(*body)


def test_damaged_streams_are_refused() -> None:
    with pytest.raises(SimError, match="the stream of 0 instructions has no FINISH"):
        run(Program(b"", U96))
    with pytest.raises(EncodingError):
        run(Program(bytes(64), U96))
    with pytest.raises(EncodingError):
        run(Program(encode_stream([Finish()])[:40], U96))
    with pytest.raises(SimError, match="runs for more than 50 cycles"):
        run(Program(encode_stream([Finish()]), U96), limit=50)
    with pytest.raises(SimError, match="2 layer names for 1 instructions"):
        run(Program(encode_stream([Finish()]), U96, ["a", "b"]))


def test_damaged_bytes_never_hang() -> None:
    rng = np.random.default_rng(0)
    good = bytearray(encode_stream([Load(n2=9, dram_stride2=16), Matrix(n_x=9, acc_x=1, width=9), Finish()]))
    ends = 0
    for _ in range(300):
        data = bytearray(good)
        for bit in rng.integers(0, len(data) * 8, 3).tolist():
            data[bit // 8] ^= 1 << bit % 8
        try:
            ends += run(Program(bytes(data), U96), limit=200_000).cycles > 0
        except (SimError, EncodingError):
            continue
    assert ends > 10
