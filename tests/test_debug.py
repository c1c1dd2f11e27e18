"""The ladder of TILEWRIGHT_DEBUG: what each level tells, where it goes, and that results do not depend on it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import tilewright as tw
from tests.cli.commands import TARGET, fault, invoke, small_model
from tilewright import debug
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.listing import parse


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[list[str], bytes]]:
    """Of each level the lines on stderr and the package."""
    folder = tmp_path_factory.mktemp("ladder")
    model = small_model(folder / "net.onnx")
    found = {}
    for level in (0, 1, 2, 3):
        package = folder / f"{level}.twp"
        arguments = ("compile", model, *TARGET, "--calibration", "random:1", "-o", package)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TILEWRIGHT_DEBUG", str(level))
            result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"{package}: ")
        lines = [line for line in result.stderr.splitlines() if line.startswith("tilewright: ")]
        found[level] = ([line.removeprefix("tilewright: ") for line in lines], package.read_bytes())
    return found


def kinds(lines: list[str]) -> set[str]:
    return {line.split(" ")[0] for line in lines}


def test_results_do_not_depend_on_it(told: dict[int, tuple[list[str], bytes]]) -> None:
    assert len({package for _, package in told.values()}) == 1


def test_each_level_tells_what_those_below_tell(told: dict[int, tuple[list[str], bytes]]) -> None:
    assert told[0][0] == []
    assert kinds(told[1][0]) == {"stage"}
    assert kinds(told[2][0]) == {"stage", "pass", "plan"}
    stages = [line.split(":")[0] for line in told[1][0]]
    assert stages == [
        f"stage {name}"
        for name in ("import", "import", "quantise", "relax", "lower", "lower", "emit", "write")
    ]
    assert any(line.startswith("pass qdq_to_integer: ") for line in told[2][0])
    assert sum(line.startswith("plan of region tilewright_0: {") for line in told[2][0]) == 1


def test_instructions_are_those_of_the_package(
    told: dict[int, tuple[list[str], bytes]], tmp_path: Path
) -> None:
    (tmp_path / "net.twp").write_bytes(told[3][1])
    (region,) = tw.Package.load(tmp_path / "net.twp").regions
    lines = [line for line in told[3][0] if line.startswith("tilewright_0 ")]
    assert [parse(line.split(": ", 1)[1])[0] for line in lines] == decode_stream(region.stream)


@pytest.mark.parametrize(("text", "level"), [("", 0), ("0", 0), (" 2 ", 2), ("3", 3), ("9", 3)])
def test_levels(text: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", text)
    assert debug.level() == level


@pytest.mark.parametrize("text", ["yes", "-1", "1.5", "²"])
def test_no_level(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", text)
    message = f"TILEWRIGHT_DEBUG: expected 0, 1, 2 or 3, found {text!r}; unset TILEWRIGHT_DEBUG"
    assert fault(invoke("targets")) == message


def test_a_program_with_handlers_of_its_own_gets_the_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "1")
    debug.tell(debug.STAGES, "stage %s", "import")
    debug.tell(debug.PASSES, "pass %s", "partition")
    assert caplog.record_tuples == [("tilewright", logging.INFO, "stage import")]
