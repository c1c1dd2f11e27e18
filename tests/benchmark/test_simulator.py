"""The simulator's benchmark measures a legal layer, and says so when results differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tilewright.benchmark import __main__ as benchmark
from tilewright.benchmark import low_bit, simulator
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast, reference


@pytest.mark.parametrize("name", simulator.OVERLAYS)
def test_the_layer_runs_on_both_simulators(name: str) -> None:
    o = overlay(name)
    program, dram = simulator.make_program(simulator.make_layer(o))
    found, expected = fast.run(program, dram), reference.run(program, dram)
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    assert found.outputs_written.all()
    assert found.statistics.steps * o.block_in * o.block_out == simulator.MACS
    assert len(np.unique(found.outputs)) > 8


@pytest.mark.slow
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulator", "--json", "--seconds", "0", "--networks", "light_shufflenet"]
    assert benchmark.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    rows = document["overlays"]["ultra96-w8"]
    assert [r["what"] for r in rows[-2:]] == ["plain tile loop", "ONNX Runtime ConvInteger"]
    assert all(r["gmac_per_second"] > 0 for r in rows)
    assert {r["overlay"] for r in document["low_bit"]} == set(low_bit.OVERLAYS)
    assert all(r["giga_per_second"] > 0 for r in document["low_bit"])
    [network] = document["networks"]
    assert network["network"] == "light_shufflenet"
    assert network["cycles"] > 0
    both = network["functional_s"] + network["timing_s"]
    assert network["ratio"] == pytest.approx(
        both / network["functional_s"]
    )  # the same division, written twice


def test_unknown_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["nonsense"]) == 2
    assert "simulator    Speed of the fast simulator" in capsys.readouterr().err


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert benchmark.main(["simulator"]) == 2
    assert capsys.readouterr().err == "the benchmark found no C++ compiler; install one or set CXX\n"
