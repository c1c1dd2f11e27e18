"""Damaged packages under sanitizers: refused with a message, or run; never a crash or an access out of bounds."""

from __future__ import annotations

import re
import shutil

import pytest
from tests.runtime import corpus
from tests.runtime.fuzz import fuzz

from tilewright.targets.host_ops import HOST_OPS


def test_the_corpus_uses_every_operator() -> None:
    used = {step.op for package in corpus.packages().values() for step in package.program.steps}
    assert used == {op.name for op in HOST_OPS}


@pytest.mark.slow
def test_damaged_packages_under_sanitizers() -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    done = fuzz(3000)
    assert (done.returncode, done.stderr) == (0, "")
    counts = {name: int(count) for count, name in re.findall(r"(\d+) ([a-z ]+?)(?:,|\n)", done.stdout)}
    # All kinds of outcome occur, so damage gets behind the checksums and to the machine.
    assert counts["run"] > 100
    assert counts["package refused"] > 1000
    assert counts["fault of the machine"] > 100
