"""Random float networks through all levels on random overlays, and what becomes of a finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.benchmark.fuzz import case as cases
from tilewright.benchmark.fuzz import networks
from tilewright.benchmark.fuzz.case import Case, check
from tilewright.benchmark.fuzz.draw import draw_network, draw_overlay
from tilewright.benchmark.fuzz.layers import KINDS, LayerPlan, NetworkPlan
from tilewright.benchmark.fuzz.networks import draw_case, fuzz, main
from tilewright.benchmark.fuzz.shrink import shrink
from tilewright.errors import DataError
from tilewright.integer.evaluate import evaluate


def test_a_few_are_equal_at_all_levels() -> None:
    counts, findings = fuzz(8, seed=7)
    assert findings == []
    assert counts["equal"] >= 5
    assert counts["regions"] >= 8


@pytest.mark.slow
def test_fifty_are_equal_at_all_levels() -> None:
    counts, findings = fuzz(50, seed=8)
    assert findings == []
    assert counts["equal"] >= 40


def test_what_is_drawn_differs() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_network(rng) for _ in range(100)]
    assert {layer.kind for plan in drawn for layer in plan.layers} == set(KINDS)
    assert {plan.inputs for plan in drawn} == {1, 2, 3}
    machines = [draw_overlay(rng) for _ in range(40)]
    assert len({machine.hash for machine in machines}) > 20
    assert {m.inp_bits for m in machines} == {1, 4, 8}


def test_shrinking_keeps_only_what_fails() -> None:
    layer = LayerPlan("conv", 2, 1, (3, 3), (2, 1), (1, 2), (1, 1, 0, 0), 17, "Relu")
    bad = replace(layer, kind="shuffle", channels=24)
    plan = NetworkPlan(1, (9, 12, 11), "uint8", (layer, layer, bad, layer, layer), inputs=3)
    found = shrink(plan, lambda p: any(x.kind == "shuffle" and x.channels >= 6 for x in p.layers))
    assert found.layers == (replace(layer, kind="shuffle", kernel=(1, 1), strides=(1, 1), dilation=(1, 1),
                                    pads=(0, 0, 0, 0), after="", source=0, channels=6),)  # fmt: skip
    assert (found.shape, found.inputs) == ((1, 1, 1), 1)


def test_a_fault_is_found_kept_small_and_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The integer level of maximum pools is made wrong by one."""
    sound = evaluate

    def wrong(operator: object, inputs: object) -> object:
        found = sound(operator, inputs)  # type: ignore[arg-type]
        return found + 1 if type(operator).__name__ == "MaxPool2d" else found

    monkeypatch.setattr(cases, "evaluate", wrong)
    numbers = (n for n in range(100) if any(x.kind == "max" for x in draw_case(5, n)[0].layers))
    number = next(n for n in numbers if check(draw_case(5, n)[1]).kind == "levels")
    _, findings = fuzz(1, 5, tmp_path, first=number)
    assert [(n, outcome.kind) for n, outcome in findings] == [(number, "levels")]
    folder = tmp_path / f"network-5-{number}"
    small = Case.load(folder)
    assert len(small.model.graph.node) <= 3
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "inputs.npz", "case.json", "finding.txt"}
    assert f"fuzz networks --replay {folder}" in (folder / "finding.txt").read_text()
    assert main(["--replay", str(folder)]) == 1
    assert capsys.readouterr().out.startswith("levels\n")
    monkeypatch.setattr(cases, "evaluate", sound)
    assert main(["--replay", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("equal\n")


def test_exceptions_and_warnings_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    _, case = draw_case(1, 0)

    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cases, "compile", broken)
    assert check(case).kind == "KeyError"
    assert check(case).found


def test_a_missing_finding_has_a_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finding is kept here"):
        Case.load(tmp_path / "none")


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert networks.main(["--count", "1", "--seed", "7", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 networks in ")
