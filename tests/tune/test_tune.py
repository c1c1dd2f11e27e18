"""Tuning real networks: legality as the compiler sees it, the back ends, the command and `tilewright.tune`."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tilewright as tw
from tests.cli.commands import document, fault, invoke, node, process, write_model
from tests.codegen.build import Builder
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.tune.synthetic import header
from tests.tune.workers import registered, tracker, wait_until, worker
from tilewright.codegen.allocate import place_buffers
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.plan import Plan, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.codegen.schedule import make_schedule
from tilewright.errors import ConfigError, DataError, ScheduleError, UnsupportedModel
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast, timing
from tilewright.targets.sim.program import Program
from tilewright.tune.local import Serial
from tilewright.tune.log import Log, best_plan, read, search_points
from tilewright.tune.measurement import Measurement
from tilewright.tune.space import Space
from tilewright.tune.tuner import run
from tilewright.tune.workload import (
    TunedRegion,
    backend_of,
    fingerprint,
    open_network,
    payload,
    tuned_regions,
)

TARGET = overlay("ultra96-w8")
RANDOM = ("--calibration", "random:1", "--target", "ultra96-w8")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual block between convolutions, a pool and a classifier, of 40x40 images: room for some choices."""
    rng = np.random.default_rng(7)

    def weight(out: int, channels: int, kernel: int) -> NDArray[np.float32]:
        found = rng.standard_normal((out, channels, kernel, kernel)) / (channels * kernel**2) ** 0.5
        return np.asarray(found, np.float32)

    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        node("Conv", ["x", "w0"], ["stem"], **same),
        node("Relu", ["stem"], ["stem_relu"]),
        node("Conv", ["stem_relu", "w1"], ["left"], **same),
        node("Relu", ["left"], ["left_relu"]),
        node("Conv", ["left_relu", "w2"], ["right"], **same),
        node("Add", ["right", "stem_relu"], ["sum"]),
        node("Relu", ["sum"], ["sum_relu"]),
        node("MaxPool", ["sum_relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pool", "w3"], ["last"], kernel_shape=[1, 1]),
        node("GlobalAveragePool", ["last"], ["mean"]),
        node("Flatten", ["mean"], ["y"]),
    ]
    weights = {
        "w0": weight(32, 3, 3),
        "w1": weight(48, 32, 3),
        "w2": weight(32, 48, 3),
        "w3": weight(10, 32, 1),
    }
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    return write_model(path, nodes, weights, {"x": (1, 3, 40, 40)}, ["y"])


@pytest.fixture(scope="module")
def quantised(network: Path) -> tw.Model:
    """The network in int8."""
    return tw.quantize(tw.load(network), "random:1")


@pytest.fixture(scope="module")
def region(quantised: tw.Model) -> TunedRegion:
    """Its only region."""
    (found,) = tuned_regions(quantised.proto, TARGET)
    return found


def _compiles(region: TunedRegion, plan: RegionPlan) -> bool:
    try:
        schedule = make_schedule(region.prepared.flow, plan)
        place_buffers(schedule.buffers, region.prepared.overlay, [group.layers[0] for group in plan.groups])
    except ScheduleError:
        return False
    return True


def test_legality_is_the_compilers(quantised: tw.Model) -> None:
    """On an overlay whose ACT is so small that many plans do not fit: what the tuner calls legal compiles, no less."""
    small = replace(TARGET, act_kib=128)
    (region,) = tuned_regions(quantised.proto, small)
    space, rng = Space(region), random.Random(2)
    point, seen = space.default, [0, 0]
    for _ in range(60):
        step = space.step(point, rng)
        point = step[1] if step else point
        edits = [edit for kind in space.edits(point) for edit in kind]
        for edit in rng.sample(edits, min(3, len(edits))):
            for other in space.apply(point, edit):
                legal = space.legal(other)
                assert legal == _compiles(region, space.plan(other)), space.plan(other)
                seen[legal] += 1
    assert min(seen) > 20, "this test must see legal and illegal plans"


@pytest.mark.parametrize("name", ["ultra96-w8", "pynq-z1-w8"])
def test_what_a_search_measures_computes_the_same_bits(name: str) -> None:
    """A branching region, simulated under every plan that a search by the timing simulator measured."""
    b = Builder(7)
    x = b.input(24, 12, 14)
    left = b.conv(b.conv(x, 24, (1, 1)), 20, (3, 3), padding=(1, 1, 1, 1))
    right = b.conv(b.max_pool(x, (3, 3), (1, 1), (1, 1, 1, 1)), 20, (1, 1))
    graph = b.graph(b.conv(b.max_pool(b.add(left, right), (2, 2), (2, 2), (0, 0, 0, 0)), 30, (3, 3)))
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    target = overlay(name)
    region = TunedRegion(prepare(graph, target), fingerprint(graph), 1)
    head = replace(header([]), regions={region.name: region.fingerprint})
    with Log(None, head) as log:
        run([region], Serial(backend_of("timing", [region])), log, head, 40)
    assert len(log.records) == 40
    for record in log.records:
        assert isinstance(record.outcome, Measurement), record
        found = run_region(compile_prepared(region.prepared, record.plan), target, feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=str(record.plan))


def test_the_timing_back_end_is_compiler_and_simulator(region: TunedRegion) -> None:
    plan = region.default
    found = backend_of("timing", [region]).measure(plan)
    expected = timing.run(Program(compile_prepared(region.prepared, plan).stream, TARGET))
    macs = 40 * 40 * (9 * 3 * 32 + 9 * 32 * 48 + 9 * 48 * 32) + 20 * 20 * 32 * 10
    energy = (macs * 1.0 + expected.dram_bytes * 8 * 10.0) * 1e-9
    assert found == Measurement(expected.cycles, expected.dram_bytes, found.energy_mj)
    assert found.energy_mj == pytest.approx(energy)


def test_a_measurement_does_not_depend_on_those_before_it(region: TunedRegion) -> None:
    """In whatever order and process plans are measured, each has one price."""
    space, rng = Space(region), random.Random(5)
    plans, point = [region.default], space.default
    for _ in range(6):
        step = space.step(point, rng)
        point = step[1] if step else point
        plans.append(space.plan(point))
    bench = backend_of("timing", [region])
    forward = [bench.measure(plan) for plan in plans]
    other = pickle.loads(pickle.dumps(bench))
    assert [other.measure(plan) for plan in reversed(plans)] == forward[::-1]


def test_the_analytic_back_end_is_the_estimate_and_not_far_off(region: TunedRegion) -> None:
    plan = region.default
    found = backend_of("analytic", [region]).measure(plan)
    assert found == region.estimate(plan)
    measured = backend_of("timing", [region]).measure(plan)
    assert 0.5 < found.cycles / measured.cycles < 2
    assert 0.5 < found.dram_bytes / measured.dram_bytes < 2


def test_fingerprints_tell_regions_apart(network: Path, quantised: tw.Model, region: TunedRegion) -> None:
    (again,) = tuned_regions(quantised.proto, TARGET)
    assert again.fingerprint == region.fingerprint
    other = onnx.ModelProto.FromString(quantised.proto.SerializeToString())
    weights = next(t for t in other.graph.initializer if t.data_type == onnx.TensorProto.INT8)
    changed = bytearray(weights.raw_data)
    changed[5] ^= 1
    weights.raw_data = bytes(changed)
    (different,) = tuned_regions(other, TARGET)
    assert different.fingerprint != region.fingerprint


def test_a_network_survives_the_way_to_a_worker(quantised: tw.Model, region: TunedRegion) -> None:
    opened = open_network(payload(quantised.proto, TARGET, "timing"))
    assert opened.fingerprints == {region.name: region.fingerprint}
    assert opened.backend.measure(region.default) == backend_of("timing", [region]).measure(region.default)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[40:], "what came from the tuner is no network; install equal versions"),
        (
            lambda data: data.replace(b'"timing"', b'"clock"', 1),
            "the tuner has version .* and back end clock, ",
        ),
        (
            lambda data: data.replace(b'"version": "', b'"version": "9.', 1),
            "the tuner has version 9.*this worker ",
        ),
    ],
)
def test_what_is_no_network_for_a_worker(quantised: tw.Model, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        open_network(change(payload(quantised.proto, TARGET, "timing")))


def test_tune_from_python(quantised: tw.Model, tmp_path: Path) -> None:
    log, seen = tmp_path / "log", []
    found = tw.tune(quantised, TARGET, trials=24, log=log, progress=lambda *a: seen.append(a))
    assert found.trials == found.measured == 24
    assert found.best <= found.default
    assert found.gain == 1 - found.best / found.default
    assert seen[-1] == (24, 24, found.best)
    assert best_plan(log, TARGET) == found.plan
    (region,) = tuned_regions(quantised.proto, TARGET)
    bench = backend_of("timing", [region])
    assert bench.measure(found.plan.regions[0]).cycles == found.best
    again = tw.tune(quantised, TARGET, trials=24, log=log)
    assert (again.measured, again.best, again.plan) == (0, found.best, found.plan)


def test_a_float_model_is_refused(network: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match="expected a quantised model, found a float one; quantise it first"
    ):
        tw.tune(tw.load(network), TARGET)


def test_everything_wrong_is_told_at_once(quantised: tw.Model) -> None:
    with pytest.raises(ConfigError) as caught:
        tw.tune(quantised, TARGET, objective="speed", backend="rtl", trials=0, seed=-1, jobs=0, key="k")
    assert [str(f) for f in caught.value.faults] == [
        "--objective: expected one of cycles, dram, energy, found 'speed'",
        "--backend: expected one of analytic, board, timing, found 'rtl'",
        "--trials: expected 1 or more, found 0",
        "--seed: expected 0 or more, found -1",
        "--jobs: expected 1 or more, found 0",
        "--key: a key is for workers of a tracker; give --tracker HOST:PORT",
    ]


def test_a_tracker_needs_a_key(quantised: tw.Model) -> None:
    with pytest.raises(ConfigError) as caught:
        tw.tune(quantised, TARGET, tracker="nonsense")
    assert [str(f) for f in caught.value.faults] == [
        "--tracker: expected HOST:PORT such as 127.0.0.1:9190, found 'nonsense'; give the tracker's address",
        "--key: a tracker needs the workers' key; give the key that they were given",
    ]


def test_a_network_without_a_region(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("Softmax", ["d"], ["y"]),
    ]
    weights: dict[str, NDArray[np.generic]] = {
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    path = write_model(tmp_path / "host.onnx", nodes, weights, {"x": (1, 10)}, ["y"])
    message = fault(invoke("tune", path, "--target", "ultra96-w8", "--log", tmp_path / "log"))
    assert message == (
        "overlay ultra96-w8: nothing of the network runs on the accelerator: there is no plan to tune; "
        "`tilewright supported` tells why"
    )
    assert not (tmp_path / "log").exists()


def test_the_command(network: Path, tmp_path: Path) -> None:
    """A model, then its package with the same log: the same regions, so nothing is left to measure."""
    log, plan = tmp_path / "net.jsonl", tmp_path / "plan.json"
    arguments = ("--trials", "12", "--log", log, "--jobs", "1")
    first = document(invoke("tune", network, *RANDOM, *arguments, "--plan-out", plan, "--json"))
    assert first["trials"] == first["measured"] == 12
    assert first["best"] <= first["default"]
    assert first["gain"] == pytest.approx(1 - first["best"] / first["default"])
    assert Plan.read(plan, TARGET) == best_plan(log, TARGET)
    assert [r["name"] for r in first["regions"]] == ["tilewright_0"]

    package = tmp_path / "net.twp"
    assert invoke("compile", network, *RANDOM, "-o", package).exit_code == 0
    second = invoke("tune", package, *arguments)
    assert second.exit_code == 0, second.output
    lines = second.stdout.splitlines()
    assert lines[0] == f"default plan: {first['default']:,.0f} cycles"
    assert lines[1] == f"best plan:    {first['best']:,.0f} cycles, {100 * first['gain']:.2f} % less"
    assert lines[2].startswith(f"  tilewright_0: trial {first['regions'][0]['trial']}, ")
    assert lines[3] == "12 plans measured, 0 of them now"
    assert lines[4] == f"use it: tilewright compile ... --tuned {log}"
    assert len(search_points(log)) == 12


def test_a_torn_log_is_told_and_another_objective_refused(network: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = (network, *RANDOM, "--log", log, "--trials", "3", "--backend", "analytic")
    assert invoke("tune", *arguments).exit_code == 0
    log.write_bytes(log.read_bytes()[:-9])
    continued = invoke("tune", *arguments)
    assert continued.exit_code == 0, continued.output
    assert "warning: " in continued.stderr
    assert "dropped the torn last line" in continued.stderr
    assert len(read(log)[1]) == 3
    assert fault(invoke("tune", *arguments, "--objective", "dram")) == (
        f"{log}: the log is for objective cycles, not for dram; "
        "give another --log: what was proposed depends on the objective"
    )


def test_wrong_options_of_the_command(network: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert fault(invoke("tune", network, "--log", log)) == (
        "--target: a network needs a target; `tilewright targets` lists them"
    )
    assert fault(invoke("tune", network, *RANDOM, "--log", tmp_path)) == (
        f"{tmp_path}: is a folder, expected the name of a file; choose another output"
    )
    assert fault(invoke("tune", network, *RANDOM, "--log", log, "--objective", "speed")) == (
        "--objective: expected one of cycles, dram, energy, found 'speed'"
    )
    assert fault(invoke("tune", tmp_path / "absent.onnx", *RANDOM, "--log", log)).startswith(f"{tmp_path}")
    missing = invoke("tune", network, *RANDOM)
    assert missing.exit_code == 2
    assert "--log" in missing.stderr


def test_a_stripped_package_is_refused(network: Path, tmp_path: Path) -> None:
    package = tmp_path / "net.twp"
    assert invoke("compile", network, *RANDOM, "--strip", "-o", package).exit_code == 0
    message = fault(invoke("tune", package, "--log", tmp_path / "log"))
    assert message.endswith(
        "`tune` needs the quantised model, and this package was stripped of it; compile without --strip"
    )


def test_the_command_line_starts_without_xgboost() -> None:
    done = process("tune", "--help")
    assert done.returncode == 0
    assert "--objective" in done.stdout
    code = "import sys, tilewright.cli.app; assert not {'xgboost', 'tvm', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_workers_measure_real_plans(network: Path, tmp_path: Path) -> None:
    """The command with a worker finds what it finds without."""
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    arguments = ("tune", network, *RANDOM, "--trials", "10")
    assert invoke(*arguments, "--log", alone, "--jobs", "1").exit_code == 0
    with tracker() as address, worker(address, "w8", ("tilewright.tune.worker",)):
        wait_until(lambda: registered(address, "w8") == 1)
        where = f"{address[0]}:{address[1]}"
        done = invoke(*arguments, "--log", spread, "--tracker", where, "--key", "w8")
    assert done.exit_code == 0, done.output
    assert read(spread) == read(alone)
