"""Options that several commands share, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.quantize.options import Mixed, QuantizeOptions

if TYPE_CHECKING:
    from tilewright.frontend.canonical import RewritePass
    from tilewright.frontend.model import Model

_NETWORK = "Network"
_ROUNDINGS = ("adaptive", "nearest")
_IMAGES = "Preprocessing of images (kept in the package)"


def _overlay_names(incomplete: str) -> list[str]:
    """What the shell offers."""
    from tilewright.targets.config import overlays

    return [name for name in overlays() if name.startswith(incomplete)]


ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A Caffe prototxt or an ONNX file.")]
PackagePath = Annotated[Path, typer.Argument(metavar="PKG", help="A package that `compile` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="T",
        help="Overlay to compile for, of those that `tilewright targets` lists, or a TOML file.",
        autocompletion=_overlay_names,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="W|random:SEED",
        help="The caffemodel of a prototxt; or random weights, for studies of speed.",
        rich_help_panel=_NETWORK,
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="DIR|NPZ|random:SEED",
        help="Images that show the ranges of a float model; about a hundred, without labels.",
        rich_help_panel=_NETWORK,
    ),
]
Bits = Annotated[
    int,
    typer.Option(
        "--bits",
        metavar="8|4|2|1",
        help="Width of weights and activations; first and last layers have 8.",
        rich_help_panel=_NETWORK,
    ),
]
ActivationBits = Annotated[
    int | None,
    typer.Option(
        "--activation-bits",
        metavar="8|4|2|1",
        help="Width of activations where it differs from --bits.",
        rich_help_panel=_NETWORK,
    ),
]
MixedBudget = Annotated[
    str | None,
    typer.Option(
        "--mixed",
        metavar="points=P|width=W",
        help="Give the most sensitive layers 8 bits: until at most P points are lost, or W bits on average.",
        rich_help_panel=_NETWORK,
    ),
]
Rounding = Annotated[
    str,
    typer.Option(
        "--rounding",
        metavar="adaptive|nearest",
        help="How weights below 8 bits are rounded; nearest is faster and loses more.",
        rich_help_panel=_NETWORK,
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="NAME=1,3,120,96",
        help="Shape of an input in place of the file's; can be repeated.",
        rich_help_panel=_NETWORK,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch",
        help="Images that a launch works on, 1 to 16; in place of the batch in the file.",
        rich_help_panel=_NETWORK,
    ),
]
LabelOffset = Annotated[
    int,
    typer.Option(
        "--label-offset",
        metavar="N",
        help="Added to the labels of data sets (1 for networks of 1001 classes).",
        rich_help_panel=_NETWORK,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="F",
        help="Names of the classes, one a line, which `run` tells; default: those of the calibration set.",
        rich_help_panel=_NETWORK,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="nhwc|nchw", help="Order of an array that could be either."),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        metavar="N|HxW",
        help="Shorter side, or both, in pixels; default: the input's size.",
        rich_help_panel=_IMAGES,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        "--crop", metavar="N", help="Side of the square cut out of the centre.", rich_help_panel=_IMAGES
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channels", metavar="bgr|rgb|gray", help="What the network takes.", rich_help_panel=_IMAGES
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="V,V,V|FILE.binaryproto",
        help="Subtracted from the stored values, in the network's channel order.",
        rich_help_panel=_IMAGES,
    ),
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="V,V,V", help="Divides, after the mean.", rich_help_panel=_IMAGES),
]


@dataclass(frozen=True)
class ModelOptions:
    """What tells how to read a network; fields are the options' texts."""

    path: Path
    weights: str | None
    input_shape: Sequence[str]
    batch: int
    label_offset: int
    resize: str | None
    crop: str | None
    channels: str | None
    mean: str | None
    std: str | None
    labels: Path | None = None

    def load(self, rewrites: Sequence[RewritePass] | None = None) -> Model:
        """Read the network and bring it into canonical form, or run other rewrites.

        Raises:
            ConfigError: options that are wrong, all at once.
            ModelError, UnsupportedModel: see :func:`tilewright.frontend.model.load`.
        """
        from tilewright.frontend.canonical import PASSES
        from tilewright.frontend.model import load
        from tilewright.frontend.preprocess import Preprocess

        faults = FaultList()
        preprocess = Preprocess()
        try:
            preprocess = Preprocess.parse(
                resize=self.resize, crop=self.crop, channels=self.channels, mean=self.mean, std=self.std
            )
        except ConfigError as error:
            faults.faults.extend(
                Fault(f.message, f"--{f.where}" if f.where else "", f.remedy) for f in error.faults
            )
        shapes = parse_input_shapes(self.input_shape, faults)
        faults.raise_if_any(ConfigError)
        return load(
            self.path,
            self.weights,
            preprocess=preprocess,
            input_shapes=shapes or None,
            batch=self.batch,
            labels=self.labels,
            label_offset=self.label_offset,
            rewrites=PASSES if rewrites is None else rewrites,
        )


def parse_input_shapes(texts: Sequence[str], faults: FaultList) -> dict[str, tuple[int, ...]]:
    """`NAME=1,3,120,96` -> shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        parts = [part.strip() for part in dims.split(",")]
        if not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            faults.add(
                f"expected a name and sizes above 0 such as data=1,3,120,96, found {text!r}",
                where="--input-shape",
            )
        elif name in shapes:
            faults.add(f"{name!r} is given twice", where="--input-shape")
        else:
            shapes[name] = tuple(int(part) for part in parts)
    return shapes


def quantize_options(
    bits: int, activation_bits: int | None, mixed: str | None, rounding: str
) -> QuantizeOptions:
    """Options of the quantiser. Raises ConfigError, and UnsupportedModel for other widths."""
    if rounding not in _ROUNDINGS:
        expected = " or ".join(_ROUNDINGS)
        raise ConfigError(Fault(f"expected {expected}, found {rounding!r}", "--rounding"))
    return QuantizeOptions(
        bits=bits,
        activation_bits=activation_bits,
        mixed=None if mixed is None else Mixed.parse(mixed),
        adaptive_rounding=rounding == _ROUNDINGS[0],
    )
