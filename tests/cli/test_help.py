"""`--help` of every command has examples that parse, and the shell completes commands, options and overlays."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer

from tests.cli.commands import invoke
from tilewright.cli.app import app
from tilewright.targets.config import overlays

GROUP = typer.main.get_group(app)
COMMANDS = sorted(GROUP.commands)


def examples(command: str) -> list[list[str]]:
    """The command lines under "Examples" in a command's help, as words; a paragraph each."""
    text = GROUP.commands[command].help or ""
    _, found, rest = text.partition("[bold]Examples[/bold]")
    assert found, f"`tilewright {command} --help` has no examples"
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", rest))
    return [shlex.split(part) for part in paragraphs if part]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_parse(command: str) -> None:
    lines = examples(command)
    assert lines
    for words in lines:
        if words[:2] == ["python", "-m"]:
            continue  # another program; documents that run it are tested elsewhere
        assert words[:2] == ["tilewright", command], words
        # Wrong options, missing arguments and wrong types raise here; nothing is run.
        GROUP.commands[command].make_context(command, words[2:], parent=typer.Context(GROUP))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    for parameter in GROUP.commands[command].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert getattr(parameter, "help", None), f"{command} --{parameter.name}"


def test_the_list_of_commands() -> None:
    text = invoke("--help").stdout
    assert all(command in text for command in COMMANDS)
    assert "--install-completion" in text


def complete(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    environment = os.environ | {
        "_TILEWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-m", "tilewright"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_completion() -> None:
    assert complete("tilewright comp") == ["compile"]
    assert complete("tilewright compile net.onnx --target ultra") == [
        name for name in overlays() if name.startswith("ultra")
    ]


def test_the_script_for_the_shell_calls_the_command() -> None:
    environment = os.environ | {"_TILEWRIGHT_COMPLETE": "source_bash"}
    command = [sys.executable, "-m", "tilewright"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert "_TILEWRIGHT_COMPLETE=complete_bash" in done.stdout
    assert done.stdout.rstrip().endswith(" tilewright")
