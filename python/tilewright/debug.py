"""What the compiler tells of its work, by one knob: the environment variable TILEWRIGHT_DEBUG.

    0   nothing (also where it is not set)
    1   each stage with its seconds
    2   each pass that changed something, and each region's plan; ONNX graphs are checked after every pass
    3   each instruction, with its region and source layer

A level tells what those below it tell. Lines go to the logger `tilewright` of Python's `logging`, and to stderr where
the program has set up none; stdout stays a command's result.
"""

from __future__ import annotations

import logging
import os
import sys

from tilewright.errors import ConfigError, Fault

VARIABLE = "TILEWRIGHT_DEBUG"
STAGES, PASSES, INSTRUCTIONS = 1, 2, 3

_LEVELS = {STAGES: logging.INFO, PASSES: logging.DEBUG, INSTRUCTIONS: logging.DEBUG - 5}
_logger = logging.getLogger("tilewright")


class _Stderr(logging.Handler):
    """Writes to what is stderr at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"tilewright: {self.format(record)}\n")


def show() -> None:
    """Let the lines go to stderr, whatever else gets them: what a program does that is started by a user."""
    if not any(isinstance(handler, _Stderr) for handler in _logger.handlers):
        _logger.addHandler(_Stderr())


def level() -> int:
    """The level that is asked for, 0 to 3. Raises ConfigError where it is no number from 0 up."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(Fault(f"expected 0, 1, 2 or 3, found {text!r}", VARIABLE, f"unset {VARIABLE}"))
    return min(int(text[:9]), INSTRUCTIONS)


def enabled(at: int) -> bool:
    """Whether lines of a level are told."""
    return level() >= at


def tell(at: int, message: str, *values: object) -> None:
    """Tell a line of a level; `values` fill `message` as in :mod:`logging`."""
    if not enabled(at):
        return
    _logger.setLevel(min(_logger.level or logging.INFO, _LEVELS[at]))
    if not _logger.hasHandlers():
        show()
    _logger.log(_LEVELS[at], message, *values)
