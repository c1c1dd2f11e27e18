"""Mixed precision: the order by sensitivity, both budgets, and the measures that they rest on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from tests.quantize.builders import build, constants_of, node, noise_samples, normal

from tilewright.errors import ConfigError
from tilewright.quantize import Mixed, QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.graph import Graph
from tilewright.quantize.mixed import count_macs, within_points, within_width
from tilewright.quantize.scoring import agreement, certainty_lost, decibels, noise, score_names
from tilewright.quantize.steps import PLAIN, quantize_in_steps, variants
from tilewright.quantize.widths import Operands, Widths, edge_units

LOW, WHOLE = Operands(4, 4), Operands(8, 8)


def _classifier(outlier: bool = False) -> onnx.ModelProto:
    """Five layers; with `outlier` those of `c2` are large for a channel that is always zero: 4 bits lose the others."""
    weights = {f"w{k}": normal((6, 3 if k == 0 else 6, 3, 3), k, 0.3) for k in range(4)}
    if outlier:
        weights["w1"][0] = 0.0
        weights["w2"][:, 0] = 6.0
    nodes: list[onnx.NodeProto] = []
    name = "x"
    for k in range(4):
        nodes += [node("Conv", f"{name} w{k}", f"c{k}", pads=[1, 1, 1, 1]), node("Relu", f"c{k}", f"r{k}")]
        name = f"r{k}"
    nodes += [
        node("Flatten", name, "f"),
        node("Gemm", "f v", "s", transB=1),
        node("Softmax", "s", "y"),
    ]
    return build(nodes, {"x": (1, 3, 6, 6)}, ["y"], {**weights, "v": normal((5, 216), 9, 0.3)})


def _weight_bits(model: onnx.ModelProto) -> dict[str, int]:
    constants = constants_of(model)
    found = {}
    for name in ("w0", "w1", "w2", "w3", "v"):
        largest = int(np.abs(constants[f"{name}_quantized"].astype(int)).max())
        found[name] = 8 if largest > 7 else 4
    return found


def _options(**mixed: float) -> QuantizeOptions:
    return QuantizeOptions(bits=4, adaptive_rounding=False, mixed=Mixed(**mixed))


def test_macs_of_all_kinds() -> None:
    nodes = [
        node("Conv", "x a", "p", strides=[2, 2]),
        node("Conv", "p b", "q", group=4),
        node("ConvTranspose", "q c", "t", strides=[2, 2]),
        node("Flatten", "t", "f"),
        node("Gemm", "f d", "y"),
    ]
    weights = {
        "a": normal((4, 3, 1, 1)),
        "b": normal((4, 1, 3, 3)),
        "c": normal((4, 2, 2, 2)),
        "d": normal((8, 5)),
    }
    graph = Graph(build(nodes, {"x": (1, 3, 6, 6)}, ["y"], weights))
    counts = {unit.head.name: count_macs(graph, unit) for unit in find_units(graph) if unit.kind == "mac"}
    assert counts == {"p": 9 * 12, "q": 36, "t": 1 * 32, "y": 40}


def test_first_and_last_layers_are_those_without_another_before_or_after() -> None:
    nodes = [
        node("Conv", "x a", "p"),
        node("Conv", "p b", "q"),
        node("Add", "p q", "s"),
        node("Conv", "s a", "head1"),
        node("Conv", "q a", "head2"),
        node("Conv", "z a", "other"),
        node("Add", "other q", "joined"),
        node("Conv", "joined b", "head3"),
    ]
    weights = {"a": normal((3, 3, 1, 1)), "b": normal((3, 3, 1, 1), 1)}
    outputs = ["head1", "head2", "head3"]
    graph = Graph(build(nodes, {"x": (1, 3, 4, 4), "z": (1, 3, 4, 4)}, outputs, weights))
    assert edge_units(graph, find_units(graph)) == {"p", "other", *outputs}


def test_the_most_sensitive_layer_is_raised_first() -> None:
    model = _classifier(outlier=True)
    samples = noise_samples(model, 24)
    quantised = quantize_onnx(model, samples, _options(width=5.9))
    assert _weight_bits(quantised) == {"w0": 8, "w1": 4, "w2": 8, "w3": 4, "v": 8}


def test_all_low_within_a_narrow_budget_and_all_high_within_a_wide_one() -> None:
    model = _classifier()
    samples = noise_samples(model, 16)
    assert set(_weight_bits(quantize_onnx(model, samples, _options(width=8.0))).values()) == {8}
    low = _weight_bits(quantize_onnx(model, samples, _options(width=4.8)))
    assert [low[name] for name in ("w1", "w2", "w3")] == [4, 4, 4]


def test_points_end_at_a_network_within_them() -> None:
    model = _classifier(outlier=True)
    samples = noise_samples(model, 32)
    options = QuantizeOptions(bits=2, adaptive_rounding=False, mixed=Mixed(points=3.0))
    _, steps = quantize_in_steps(model, samples, options)
    assert steps[-1].certainty_lost is not None and steps[-2].certainty_lost is not None
    assert steps[-1].certainty_lost <= 3.0 < steps[-2].certainty_lost


def _width_of(widths: Widths) -> float:
    return float(np.mean([operands.weights for operands in widths.values()]))


def test_a_layer_too_large_for_the_budget_is_passed_over() -> None:
    widths = dict.fromkeys("abcd", LOW)
    cost = {"a": 4.0, "b": 1.0, "c": 1.0, "d": 1.0}

    def width_of(trial: Widths) -> float:
        return 4 + sum(cost[name] for name, operands in trial.items() if operands == WHOLE)

    found = within_width("abcd", widths, Mixed(width=6.0), width_of)
    assert [name for name, operands in found.items() if operands == WHOLE] == ["b", "c"]


@pytest.mark.parametrize("needed", range(9))
def test_points_raise_no_more_layers_than_needed(needed: int) -> None:
    order = "abcdefgh"
    widths = dict.fromkeys(order, LOW)

    def points_of(trial: Widths) -> float:
        return float(needed - sum(operands == WHOLE for operands in trial.values()))

    found = within_points(order, widths, Mixed(points=0.5), points_of)
    assert [name for name in order if found[name] == WHOLE] == list(order[:needed])


def _refuses(model: onnx.ModelProto, options: QuantizeOptions, pattern: str) -> None:
    with pytest.raises(ConfigError, match=pattern):
        quantize_onnx(model, noise_samples(model, 16), options)


def test_budgets_that_cannot_be_kept() -> None:
    _refuses(
        _classifier(),
        _options(width=4.1),
        r"^mixed width=4\.1: with the first and last layers at their width the average is 4\.\d\d bits already;"
        r" give at least width=4\.\d+, or lower edge_bits$",
    )
    with pytest.raises(ConfigError) as caught:
        within_points("ab", {"a": LOW, "b": LOW}, Mixed(points=1.0), lambda _: 2.5)
    assert str(caught.value) == (
        "mixed points=1: 8 bits in all layers lose 2.50 points on the calibration set;"
        " give at least points=2.5, or better calibration samples"
    )


def test_points_need_a_classifier() -> None:
    nodes = [node("Conv", "x w", "a"), node("Conv", "a w", "y"), node("Conv", "a w", "z")]
    model = build(nodes, {"x": (1, 3, 4, 4)}, ["y", "z"], {"w": normal((3, 3, 1, 1))})
    _refuses(model, _options(points=1.0), "expected a classifier with one output of scores")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy=1", "mixed: expected points=P or width=W, found 'accuracy=1'"),
        ("points", "mixed: expected points=P or width=W, found 'points'"),
        ("points=few", "mixed: expected points=P or width=W, found 'points=few'"),
        ("points=0", "mixed points=0.0: expected more than 0 and less than 100"),
        ("points=nan", "mixed points=nan: expected more than 0 and less than 100"),
        ("width=9", "mixed width=9.0: expected from 1 to 8 bits"),
    ],
)
def test_budgets_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Mixed.parse(text)


def test_budgets_are_read() -> None:
    assert Mixed.parse("points=1.5") == Mixed(points=1.5)
    assert Mixed.parse(" width = 5") == Mixed(width=5.0)
    for arguments in ({}, {"points": 1.0, "width": 5.0}):
        with pytest.raises(ConfigError, match=r"^mixed: expected points or width, one of them"):
            Mixed(**arguments)


def test_measures() -> None:
    exact = [np.array([[1.0, 3.0], [2.0, 0.0]])]
    assert (
        noise(exact, exact) == 0.0
        and agreement(exact, exact) == 100.0
        and certainty_lost(exact, exact) == 0.0
    )
    assert decibels(0.01) == pytest.approx(20.0) and decibels(0.0) == 200.0
    other = [np.array([[3.0, 1.0], [2.0, 0.0]])]
    assert noise(exact, other) == pytest.approx(8 / 14)
    assert agreement(exact, other) == 50.0
    sure = 1 / (1 + np.exp(-2.0))
    assert certainty_lost(exact, other) == pytest.approx(100 * (sure - (1 - sure)) / 2)


def test_scores_are_taken_before_a_softmax() -> None:
    assert score_names(_classifier()) == ["s"]


def _names(**options: Any) -> list[str]:
    return [name for name, _ in variants(QuantizeOptions(**options))]


def test_steps_are_those_that_the_options_ask_for() -> None:
    assert _names() == [PLAIN, "+ equalisation", "+ bias correction"]
    assert _names(bits=4, mixed=Mixed(width=5)) == [
        PLAIN,
        "+ clipping",
        "+ equalisation",
        "+ bias correction",
        "+ adaptive rounding",
        "+ mixed precision",
    ]
    assert _names(bits=4, clipping=False, equalise=False) == [
        PLAIN,
        "+ bias correction",
        "+ adaptive rounding",
    ]
    assert _names(bits=8, activation_bits=4, equalise=False) == [PLAIN, "+ clipping", "+ bias correction"]


def test_the_last_step_is_the_whole_quantiser() -> None:
    model = _classifier()
    samples = noise_samples(model, 16)
    options = QuantizeOptions(bits=4)
    done: list[tuple[int, int]] = []
    result, steps = quantize_in_steps(model, samples, options, lambda now, of: done.append((now, of)))
    assert result.SerializeToString() == quantize_onnx(model, samples, options).SerializeToString()
    assert done == [(k, 5) for k in range(1, 6)] and len(steps) == 5
    assert steps[-1].snr > steps[0].snr
