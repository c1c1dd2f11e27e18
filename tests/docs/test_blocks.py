"""Every block of code in the documentation runs.

Blocks marked `python` are executed in order, the blocks of a document in one namespace; those marked `console` are
command lines, run in this process in a folder that has the files which they name. Other blocks show files, output or
trees.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from tests.docs.workbench import lay_out
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.docs.readmes import READMES
from tilewright.docs.site import PAGES

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / name for name in READMES] + sorted(PAGES.rglob("*.md"))
COMMAND = re.compile(r"^\s*(tilewright|make|python|\.\S+/python) ", re.MULTILINE)
LONG = ("python -m tilewright.benchmark", "python -m tilewright.docs", "python -m venv", ".train/bin/")
"""Commands that take minutes, or fetch packages; tests of those modules and scripts run them on less."""


def blocks(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, language and text of each fenced block."""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map:
            yield token.map[0] + 1, token.info.strip(), token.content


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_commands_are_marked_as_such() -> None:
    found = [
        f"{name_of(path)}:{line}"
        for path in DOCUMENTS
        for line, language, text in blocks(path)
        if language not in ("console", "python") and COMMAND.search(text)
    ]
    assert found == []


@pytest.fixture
def workbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, REPOSITORY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line: str, where: str) -> None:
    words = shlex.split(line, comments=True)
    if not words or line.startswith(LONG):
        return
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)
        return
    if words[:3] == ["python", "-m", "tilewright"]:
        words = ["tilewright", *words[3:]]
    assert words[0] == "tilewright", f"{where}: nothing is known of `{line}`"
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{where}: {line}\n{done.output}"


def commands(text: str) -> Iterator[str]:
    """Lines with their continuations."""
    yield from (line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip())


RUNNABLE = [
    path for path in DOCUMENTS if any(language in ("python", "console") for _, language, _ in blocks(path))
]


@pytest.mark.parametrize("path", RUNNABLE, ids=name_of)
def test_blocks_run(path: Path, workbench: Path) -> None:
    namespace: dict[str, Any] = {}
    for line, language, text in blocks(path):
        where = f"{name_of(path)}:{line}"
        if language == "console":
            for command in commands(text):
                run_command(command, where)
        elif language == "python":
            exec(compile(text, where, "exec"), namespace)
