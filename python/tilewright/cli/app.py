"""The commands together, and what becomes of errors.

Exit code 0: done. 2: the input's fault, told in one message without a traceback. 1: our bug, with traceback.
"""

from __future__ import annotations

import errno
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tilewright import debug
from tilewright.cli import (
    EXIT_STOPPED,
    disassemble,
    doctor,
    evaluate,
    explore,
    export,
    opt,
    report,
    run,
    supported,
    targets,
    tune,
)
from tilewright.cli import compile as compile_command
from tilewright.cli import verify as verify_command
from tilewright.cli.console import say
from tilewright.errors import TilewrightError

EXIT_FAULT = 2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class _Group(TyperGroup):
    """Turns errors that are the input's fault into a message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            if debug.level():
                debug.show()
            return super().invoke(ctx)
        except TilewrightError as error:
            say(message_of(error))
            raise typer.Exit(EXIT_FAULT) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_STOPPED) from None
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # Outputs have messages of their own: this is a library's temporary file.
            where = error.filename or "a temporary file"
            say(
                f"error: {where} cannot be written: {error.strerror}; free space, or set TMPDIR to another folder"
            )
            raise typer.Exit(EXIT_FAULT) from None


def message_of(error: TilewrightError) -> str:
    """`error: ...`, or a list where there are several faults."""
    if len(error.faults) == 1:
        return f"error: {error.faults[0]}"
    return "\n".join([f"error: {len(error.faults)} faults", *(f"  {fault}" for fault in error.faults)])


app = typer.Typer(
    name="tilewright",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tilewright {metadata.version('tilewright')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compile trained ONNX and Caffe networks to the Tilewright accelerator, and run them on its simulator.

    [bold]supported[/bold] tells what of a network the accelerator takes, [bold]compile[/bold] makes a package,
    [bold]run[/bold] and [bold]evaluate[/bold] use it, [bold]report[/bold] tells what it costs, [bold]tune[/bold]
    looks for a faster plan, [bold]explore[/bold] for a better overlay, [bold]verify[/bold] for a wrong layer, and
    [bold]export[/bold] makes the folder for a board. Each has --help with examples.
    """


for _command in (
    supported.supported,
    compile_command.compile_model,
    run.run,
    evaluate.evaluate,
    report.report,
    tune.tune,
    explore.explore,
    verify_command.verify,
    export.export,
    opt.opt,
    disassemble.disassemble,
    disassemble.assemble,
    targets.targets,
    doctor.doctor,
):
    app.command(name=_command.__name__.removesuffix("_model"))(_command)
