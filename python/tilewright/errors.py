"""Errors that users see: what was expected, what was found, where, and what to do.

Every error holds one or more :class:`Fault`; a checker gathers all faults of its input in a
:class:`FaultList` before it raises, so that a user mends a file once and not fault by fault.
"""

from __future__ import annotations

import inspect
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
    """A model file cannot be read, or what it says contradicts itself.

    Causes: a missing, cut off or damaged file; weights that do not belong to the prototxt; shapes, types or names in
    the file that exclude each other; another kind of file (a checkpoint, a package).

    Remedy: check the path and copy the file again; export the model anew; give the weights that were trained with the
    prototxt. `onnx.checker.check_model` or Caffe itself should take the file.
    """


class UnsupportedModel(TilewrightError):
    """A valid model needs something that is not supported.

    Causes: operators, types or open shapes that neither accelerator nor host have; a model that is quantised already
    where a float one is needed, or the other way round; widths that no overlay has.

    Remedy: `tilewright supported MODEL --target T` lists every operator with the reason; relay_passes/SUPPORTED.md has
    the rules. Fix shapes with --input-shape, or cut the model before the operator.
    """


class ConfigError(TilewrightError):
    """An overlay, board, option or preprocessing setting is wrong.

    Causes: a name that does not exist, values out of their range, options that exclude each other, a TOML file with
    unknown fields; a pass that does not run at its level.

    Remedy: the message has the legal values or the nearest name; `tilewright targets` lists overlays, `tilewright opt
    --list` passes, `--help` options.
    """


class DataError(TilewrightError):
    """Images, labels or arrays do not fit what was asked for.

    Causes: an empty calibration set, arrays of other shapes or types than the network's inputs, values that are not
    finite, labels outside the classes; an output that cannot be written.

    Remedy: compare with the shapes in the message; tell the order of an array by --layout, how pixels become numbers by
    --mean, --std, --channels, and an offset of classes by --label-offset.
    """


class ScheduleError(TilewrightError):
    """A layer does not fit the overlay's memories under the plan, or the plan contradicts itself.

    Causes: a plan that was edited or made for another network, overlay or batch; groups that keep more in ACT than it
    holds; a layer that fits in no way.

    Remedy: the message says by how much; cut the group into more stripes or smaller groups, leave the plan out, or take
    an overlay with more memory.
    """


class EncodingError(TilewrightError):
    """An instruction field is out of range, bytes do not decode, or a listing cannot be assembled.

    Causes: a listing with unknown mnemonics, fields or values; a damaged stream.

    Remedy: the message names the line or instruction, the field and its range; compare with `tilewright disassemble`.
    """


class PackageError(TilewrightError):
    """A package is damaged, or was made for another overlay or version.

    Causes: a file that was cut off or changed on its way, a newer or older format, an installed overlay of the same
    name that differs; a stripped package where models are needed.

    Remedy: copy the file again, or compile again, without --strip where the command needs the models.
    """


class SimError(TilewrightError):
    """The simulated machine found a fault in a stream.

    Causes: a stream that was written or changed by hand: reads of what nothing wrote, races between units, addresses
    beyond a memory, a unit that waits for ever. From compiled packages it is a bug of the compiler.

    Remedy: the message names region, instruction and layer; look at it by `tilewright disassemble --layer`. If the
    compiler made the stream, report it with the package.
    """


class VerificationError(TilewrightError):
    """Two levels of a network, or the network before and after a pass, give different results.

    Causes: a pass or a level that computes something else than the one before it, by more than rounding explains.

    Remedy: the message names the pass, and how to look at what it did; a pass of the compiler that does this has a bug.
    """


class RemoteError(TilewrightError):
    """A board's server cannot be reached, is busy, does not answer in time, or ended.

    Causes: no server at the address, or none that is free; a board that was switched off or whose server ended in the
    middle of a call; a run that takes longer than `--timeout`.

    Remedy: look at what the server printed, start it again, or give a longer `--timeout`. A tuner's log continues.
    """


class DeviceError(TilewrightError):
    """An accelerator does not answer, reports an error, takes too long, or has too little memory.

    Causes: no bitstream, a wrong address, a device in use by another process, a launch that stopped or took longer than
    `timeout_ms`, a DMA buffer that is too small for the packages that are open.

    Remedy: the message tells what the device showed. Load the bitstream, give the right files in the device's text, a
    longer `timeout_ms`, or a larger buffer; the next run resets the device.
    """


class PipelineError(TilewrightError):
    """A stage of an image pipeline failed on an image; `__cause__` is what it raised.

    Causes: images of a size or type that the stage does not take; a stage of one's own that raises.

    Remedy: the message names the stage and the image; run the stage on that image alone.
    """


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


def page() -> str:
    """All kinds of errors as Markdown: what each means, its causes, and what to do."""
    parts = [
        "# Errors",
        "Printed by `python -m tilewright.errors` from the classes' docstrings; a test holds this file equal. Each"
        "\nmessage says what was expected, what was found, where, and what to do; all faults of an input come together."
        "\nThe command line exits with 2 for these, and with 1 and a traceback for bugs of its own.",
    ]
    for kind in TilewrightError.__subclasses__():
        parts += [f"## {kind.__name__}", inspect.getdoc(kind) or ""]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
