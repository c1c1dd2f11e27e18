"""The command line: `tilewright COMMAND`, or `python -m tilewright COMMAND`; one file a command."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
from typing import Any

_OBJECTS = 200_000
"""Between two looks for garbage cycles."""

EXIT_STOPPED = 130
"""After Ctrl-C, as shells have it: 128 and the signal's number."""

_interrupted = threading.Event()


def main() -> None:
    """Run the command line on `sys.argv` and exit.

    A command is a process of a second or two, a third of which would go to Python's and TVM's upkeep: imports make many
    objects and no garbage, and TVM looks for the back ends of devices that no command compiles for.
    """
    gc.set_threshold(_OBJECTS)
    os.environ.setdefault("TVM_DEVICE_BACKEND_AUTOLOAD", "0")
    _open_streams()
    _heed_interrupts()
    try:
        from tilewright.cli.app import app  # typer and rich are not needed to import tilewright

        app(prog_name="tilewright")  # also where it was started as a module; completion goes by this name
    except KeyboardInterrupt:
        _stopped()
    except ImportError as error:
        if _interrupted.is_set():  # what a library makes of an interrupt while it is loaded
            _stopped()
        if os.environ.get("TILEWRIGHT_DEBUG", "0") != "0":
            raise
        sys.stderr.write(
            f"error: the installation is not complete: {error}; `python -m tilewright.doctor` tells what to do\n"
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == EXIT_STOPPED:
            _stopped()
        raise
    finally:
        gc.freeze()  # what is left goes with the process; Python would look through all of it twice


def _heed_interrupts() -> None:
    """Let no Ctrl-C be lost: libraries drop the exception in finalisers and callbacks, or turn it into one of theirs."""

    def interrupt(number: int, frame: object) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    def dropped(what: Any) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # again, once this hook and the finaliser are left
        else:
            sys.__unraisablehook__(what)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGALRM, interrupt)
        sys.unraisablehook = dropped


def _stopped() -> None:
    """End as one who pressed Ctrl-C expects: a line, no traceback, no waiting for what runs in threads."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("stopped\n")
        sys.stderr.flush()
    os._exit(EXIT_STOPPED)


def _open_streams() -> None:
    """Make stdin, stdout and stderr fit to use, whatever the process was started with.

    A closed one becomes the null device: else the first file that is opened gets its number, and what is printed goes
    into it. A locale that lacks a character of a layer's or a file's name gets its number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
