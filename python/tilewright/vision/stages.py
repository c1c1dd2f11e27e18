"""What a pipeline is made of: frames that pass through stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from tilewright.errors import Fault, PipelineError, TilewrightError

Unit = Literal["host", "accelerator"]


@dataclass
class Frame:
    """An image on its way.

    Attributes:
        index: position in the source, from 0.
        name: the file's, or the source's.
        image: as it was read; None where reading failed.
        value: what the last stage gave; at the end the pipeline's result.
        picture: a copy of the image with the result drawn in, where a stage drew one.
        error: what a stage raised; the stages after it were left out.
        seconds: that each stage took.
    """

    index: int
    name: str
    image: Image.Image | None = None
    value: Any = None
    picture: Image.Image | None = None
    error: PipelineError | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        name: in the report and in messages.
        run: takes the frame and returns its next `value`. Only one thread at a time calls it.
        unit: what is busy meanwhile. Neighbours on one unit share a thread; there is one accelerator.
    """

    name: str
    run: Callable[[Frame], Any]
    unit: Unit = "host"


def failed(frame: Frame, stage: str, cause: BaseException) -> PipelineError:
    """The error of a frame: what was raised, with image and stage in front."""
    where = f"image {frame.name}, stage {stage}"
    if isinstance(cause, TilewrightError):
        inner = [f.where if f.where != frame.name else "" for f in cause.faults]
        faults = [
            Fault(f.message, f"{where}: {at}" if at else where, f.remedy)
            for f, at in zip(cause.faults, inner, strict=True)
        ]
    else:
        text = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        faults = [Fault(text, where)]
    error = PipelineError(*faults)
    error.__cause__ = cause
    return error
