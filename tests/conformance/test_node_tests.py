"""The committed list of ONNX's operator tests says what is so: what it lists as passing passes, nothing else does.

A slice runs by default, all of them with `-m slow`. After a change that makes a test pass, move it from `skips` to
`passes` in node_tests.toml.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance.outcomes import DIFFERS, NodeTests, installed_release, names, outcome

LIST = NodeTests.read()
QUANTISED = ("DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul")
STEP = 60
FOUND = frozenset(names())
PARTS = 40
"""Into which the slow tests are cut."""


def _slice() -> list[str]:
    quantised = [name for op in QUANTISED for name in LIST.passes[op][:2]]
    return sorted({*quantised, *LIST.passing[::STEP]})


def _wrong(chosen: list[str], expected: str) -> dict[str, str]:
    """Names whose outcome is another one; those that the installed onnx has not are left out."""
    found = {name: outcome(name) for name in chosen if name in FOUND}
    return {name: result for name, result in found.items() if result != expected}


def test_every_test_is_in_the_list_once() -> None:
    counts = Counter([*LIST.passing, *LIST.skips])
    assert [name for name, count in counts.items() if count > 1] == []
    if installed_release() != LIST.release:
        pytest.skip(f"the list is of onnx {LIST.release}, {installed_release()} is installed")
    assert set(counts) == FOUND


def test_every_skip_has_a_reason() -> None:
    assert [
        name for name, reason in LIST.skips.items() if len(reason.removeprefix(DIFFERS).split()) < 3
    ] == []


def test_a_slice_of_what_passes() -> None:
    assert _wrong(_slice(), "passes") == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_what_passes(part: int) -> None:
    assert _wrong(LIST.passing[part::PARTS], "passes") == {}


@pytest.mark.slow
@pytest.mark.parametrize("differs", [False, True], ids=["refused", "differs"])
def test_what_is_skipped(differs: bool) -> None:
    """It is refused by a message, unless the list owns up to a result that differs."""
    chosen = [name for name, reason in LIST.skips.items() if reason.startswith(DIFFERS) == differs]
    assert chosen
    assert _wrong(chosen, "differs" if differs else "refused") == {}
