"""Errors that users see: what was expected, what was found, where, and what to do.

Every error holds one or more :class:`Fault`; a checker gathers all faults of its input in a
:class:`FaultList` before it raises, so that a user mends a file once and not fault by fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        message: what was expected and what was found, with the value itself.
        where: file, node, layer or field; empty where the message says it.
        remedy: what the reader can do about it; empty where there is nothing to say.
    """

    message: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


class TilewrightError(Exception):
    """Base of all errors that are the input's fault and not ours. The command line exits with 2."""

    def __init__(self, *faults: Fault | str) -> None:
        if not faults:
            raise ValueError("an error needs at least one fault")
        self.faults = tuple(f if isinstance(f, Fault) else Fault(f) for f in faults)
        super().__init__("\n".join(str(f) for f in self.faults))


class ModelError(TilewrightError):
    """A model file cannot be read, or what it says contradicts itself."""


class UnsupportedModel(TilewrightError):
    """A valid model needs something that is not supported."""


class ConfigError(TilewrightError):
    """An overlay, board, option or preprocessing setting is wrong."""


class DataError(TilewrightError):
    """Images, labels or arrays do not fit what was asked for."""


class ScheduleError(TilewrightError):
    """A layer does not fit the overlay's memories under the plan."""


class EncodingError(TilewrightError):
    """An instruction field is out of range, or bytes do not decode."""


class PackageError(TilewrightError):
    """A package is damaged, or was made for another overlay or version."""


class SimError(TilewrightError):
    """The simulated machine found a fault in a stream."""


class PipelineError(TilewrightError):
    """A stage of an image pipeline failed on an image; `__cause__` is what it raised."""


@dataclass
class FaultList:
    """Gathers faults and raises them together.

    >>> faults = FaultList()
    >>> faults.add("expected 3 channels, found 4", where="conv1")
    >>> faults.raise_if_any(ModelError)
    Traceback (most recent call last):
    tilewright.errors.ModelError: conv1: expected 3 channels, found 4
    """

    faults: list[Fault] = field(default_factory=list)

    def add(self, message: str, *, where: str = "", remedy: str = "") -> None:
        """Append one fault."""
        self.faults.append(Fault(message, where, remedy))

    def raise_if_any(self, kind: type[TilewrightError]) -> None:
        """Raise `kind` with all faults gathered so far, or return when there are none."""
        if self.faults:
            raise kind(*self.faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __len__(self) -> int:
        return len(self.faults)
