"""The command line: `tilewright COMMAND`, or `python -m tilewright COMMAND`; one file a command."""

from __future__ import annotations

import gc
import os

_OBJECTS = 200_000
"""Between two looks for garbage cycles."""


def main() -> None:
    """Run the command line on `sys.argv` and exit.

    A command is a process of a second or two, a third of which would go to Python's and TVM's upkeep: imports make many
    objects and no garbage, and TVM looks for the back ends of devices that no command compiles for.
    """
    gc.set_threshold(_OBJECTS)
    os.environ.setdefault("TVM_DEVICE_BACKEND_AUTOLOAD", "0")
    from tilewright.cli.app import app  # typer and rich are not needed to import tilewright

    try:
        app()
    finally:
        gc.freeze()  # what is left goes with the process; Python would look through all of it twice
