"""The page of the command line, from its own options and help."""

from __future__ import annotations

import inspect
import re

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from tilewright.cli.app import app
from tilewright.docs.markdown import code, table

_MARKUP = re.compile(r"\[/?[a-z ]+\]")


def page() -> str:
    """Every command with its usage, help and options."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parts = ["# Commands", _text(group.help)]
    for name, command in sorted(group.commands.items()):
        assert isinstance(command, TyperCommand)
        parts.append(_section(command, name))
    return "\n\n".join(parts) + "\n"


def _section(command: TyperCommand, name: str) -> str:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if isinstance(p, TyperOption) and not p.hidden]
    usage = ["tilewright", name, *(str(p.metavar or p.name).upper() for p in arguments), "[OPTIONS]"]
    rows = [[f"`{p.metavar or p.name}`", _text(p.help)] for p in arguments]
    for p in options:
        names = ", ".join(f"`{text}`" for text in (*p.opts, *p.secondary_opts))
        rows.append([names, _text(p.help)])
    return "\n\n".join(
        [f"## {name}", code(" ".join(usage)), _text(command.help), table(["option", "meaning"], rows)]
    )


def _text(text: str | None) -> str:
    """Help without rich's markup; examples become blocks."""
    plain = _MARKUP.sub("", inspect.cleandoc(text or "")).replace("\b", "").replace("\f", "")
    paragraphs = (p.strip("\n") for p in re.split(r"\n\s*\n", plain))
    return "\n\n".join(
        code(inspect.cleandoc(p)) if p.lstrip().startswith("tilewright ") else p.strip()
        for p in paragraphs
        if p.strip()
    )
