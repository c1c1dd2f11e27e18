"""A network as the user holds it: its ONNX graph, how images are prepared for it, and where it comes from.

model = load("squeezenet.prototxt", "squeezenet.caffemodel")
model = load("model.onnx")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, Fault, FaultList, ModelError, UnsupportedModel
from tilewright.frontend.caffe import load_caffe
from tilewright.frontend.canonical import PASSES, RewritePass, canonicalise
from tilewright.frontend.graph import node_origins
from tilewright.frontend.labels import read_class_names
from tilewright.frontend.onnx_file import read_model
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.frontend.preprocess import Preprocess
from tilewright.frontend.qonnx_nodes import quantiser_operators
from tilewright.frontend.quantised import is_quantised
from tilewright.targets.region import MOST_IMAGES

if TYPE_CHECKING:
    from tvm.ir import IRModule

    from tilewright.quantize.steps import Step

Feeds = Mapping[str, NDArray[np.generic]]

_WRONG_FILES = {
    ".caffemodel": ("holds the weights of a Caffe network", "give its prototxt, and this file as weights"),
    ".twp": ("is a compiled package", "give it to `tilewright run` or `tilewright evaluate`"),
    ".tflite": ("is a TensorFlow Lite model", "convert it to ONNX, with tf2onnx for instance"),
    ".pth": ("is a PyTorch checkpoint", "export the network with torch.onnx.export"),
    ".h5": ("is a Keras model", "convert it to ONNX, with tf2onnx for instance"),
    ".pb": ("is a TensorFlow graph", "convert it to ONNX, with tf2onnx for instance"),
}
_PROTOTXT = re.compile(
    rb"^\s*(name|input|input_dim|input_shape|layer|layers|state|force_backward)\s*[:{]", re.MULTILINE
)


@dataclass(frozen=True)
class SourceNode:
    """A node of the graph as it was imported, before any rewrite."""

    name: str
    op: str


@dataclass(frozen=True)
class Model:
    """A network.

    Attributes:
        proto: canonical ONNX: float, or quantised (QDQ).
        name: for messages, reports and the package.
        preprocess: what is done to an image before it goes in.
        labels: names of the classes by index; "" where one is not known.
        label_offset: what is added to the labels of data sets (1 for networks of 1001 classes).
        batch: images that a compiled network takes at a time; `proto` is that of one.
        nodes: of the graph as imported; `folded_nodes(proto)` tells what became of those that are gone.
        float_proto: what a quantised model was made from; None where it came quantised.
        steps: what each step of the quantiser was worth, where that was measured.
        random_weights, random_calibration: made for studies of speed, the answers mean nothing.
    """

    proto: onnx.ModelProto = field(repr=False)
    name: str = "network"
    preprocess: Preprocess = field(default_factory=Preprocess)
    labels: tuple[str, ...] | None = field(default=None, repr=False)
    label_offset: int = 0
    batch: int = 1
    nodes: tuple[SourceNode, ...] = field(default=(), repr=False)
    float_proto: onnx.ModelProto | None = field(default=None, repr=False)
    random_weights: bool = False
    random_calibration: bool = False
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def is_quantised(self) -> bool:
        """Whether `proto` holds quantised values."""
        return is_quantised(self.proto)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs by name."""
        return {value.name: shape_of(value) for value in self.proto.graph.input}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs by name; -1 where a length is known at run time only."""
        return {value.name: shape_of(value) for value in self.proto.graph.output}

    @property
    def classes(self) -> int | None:
        """Number of classes of a classifier: elements of its only output; None for other networks."""
        shapes = list(self.output_shapes.values())
        return count_classes(shapes[0]) if len(shapes) == 1 else None

    def relax(self) -> IRModule:
        """The model in Relax, to be given to `tvm.compile`.

        Raises:
            UnsupportedModel: nodes that cannot be imported, all at once.
        """
        from tilewright.frontend.relax_import import to_relax  # starts TVM

        return to_relax(self.proto)

    def quantised(self, proto: onnx.ModelProto, *, random_calibration: bool) -> Model:
        """The model with `proto` in place of its float graph, which is kept beside it."""
        return replace(self, proto=proto, float_proto=self.proto, random_calibration=random_calibration)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of a graph's input or output; -1 where a dimension is open."""
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


def count_classes(shape: Sequence[int]) -> int | None:
    """Elements of an output (1, ...) if it can be scores of classes: two or more, all along one axis."""
    long = [d for d in shape[1:] if d != 1]
    return long[0] if len(shape) > 1 and len(long) == 1 and long[0] > 1 else None


def fit_inputs(
    feeds: Mapping[str, NDArray[np.float32]], graph: onnx.GraphProto
) -> dict[str, NDArray[np.generic]]:
    """Bring prepared inputs to the types of a graph's inputs.

    Raises:
        DataError: an input takes integers, and a value is none of its type.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    faults = FaultList()
    fitted: dict[str, NDArray[np.generic]] = {}
    for name, array in feeds.items():
        dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name])
        fitted[name] = fit_input(array, dtype, name, faults)
    faults.raise_if_any(DataError)
    return fitted


def fit_input(
    array: NDArray[np.generic], dtype: np.dtype[np.generic], name: str, faults: FaultList
) -> NDArray[np.generic]:
    """One input as `dtype`; values that it cannot hold are a fault."""
    if dtype.kind == "f":
        return array.astype(dtype, copy=False)
    with np.errstate(invalid="ignore"):
        fitted = array.astype(dtype)
    if not np.array_equal(fitted, array):
        low, high = np.asarray(array).min(), np.asarray(array).max()
        faults.add(
            f"expected values that {dtype} holds, found {low}..{high}",
            where=f"input {name}",
            remedy="preprocess to what the network was trained with (--mean, --std)",
        )
    return fitted


def load(
    path: str | Path,
    weights: str | Path | int | None = None,
    *,
    preprocess: Preprocess | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int = 1,
    labels: str | Path | Sequence[str] | None = None,
    label_offset: int = 0,
    name: str | None = None,
    rewrites: Sequence[RewritePass] = PASSES,
) -> Model:
    """Read a network from a Caffe prototxt or an ONNX file.

    Args:
        path: told apart by suffix, or else by content.
        weights: the caffemodel; or `random:SEED` (or the seed) for random weights, which for ONNX files
            replace the weights that the file makes by ConstantOfShape.
        preprocess: what is done to an image; default: it is resized to the input's size.
        input_shapes: shapes of inputs by name, in place of those of the file.
        batch: images that the compiled network takes at a time, 1 to 16; in place of the first dimension of the
            inputs.
        labels: names of the classes, or a file of them, one a line.
        label_offset: added to the labels of data sets.
        name: default: the file's.
        rewrites: what brings the graph into canonical form; `()` leaves it as it was read, for looking at.

    Raises:
        ModelError: a file is missing or damaged, contradicts itself, or weights do not fit.
        UnsupportedModel: operators or layers that are not supported, all at once.
        ConfigError: the preprocessing does not fit the inputs, or `weights` is no seed.
        DataError: the file of class names cannot be read, or holds more or fewer than there are classes.
    """
    path = Path(path)
    seed = _seed(weights)
    if not 1 <= batch <= MOST_IMAGES:
        raise ConfigError(Fault(f"expected a batch of 1 to {MOST_IMAGES}, found {batch}", "batch"))
    if is_caffe(path):
        source = seed if seed is not None else weights
        proto = load_caffe(path, source, input_shapes=input_shapes)
    else:
        proto = _load_onnx(path, weights, seed, input_shapes)
    settings = preprocess or Preprocess()
    graph = proto.graph
    if not settings.is_default:
        for value in graph.input:
            settings.check(shape_of(value))
    if batch > 1:
        _check_batch(graph, batch)
    found = Model(
        proto=canonicalise(proto, rewrites),
        name=name or _text(path.stem) or "network",
        preprocess=settings,
        label_offset=label_offset,
        batch=batch,
        nodes=_source_nodes(proto),
        random_weights=seed is not None,
    )
    return found if labels is None else replace(found, labels=_labels(labels, found))


def _text(name: str) -> str:
    """A file's name as text: in a locale other than UTF-8 Python hands out bytes that it cannot decode."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def of_proto(proto: onnx.ModelProto, name: str = "network") -> Model:
    """A model in memory as a network, checked but not rewritten. Raises ModelError and UnsupportedModel."""
    loaded = load_onnx(proto)
    return Model(proto=canonicalise(loaded, ()), name=name, nodes=_source_nodes(loaded))


def _source_nodes(proto: onnx.ModelProto) -> tuple[SourceNode, ...]:
    """The nodes of the file; those that its reader made for one are left out."""
    made, were = node_origins(proto), quantiser_operators(proto)
    names = [(node.name or node.output[0], node.op_type) for node in proto.graph.node]
    return tuple(SourceNode(name, were.get(name, op)) for name, op in names if made.get(name, name) == name)


def _load_onnx(
    path: Path,
    weights: str | Path | int | None,
    seed: int | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
) -> onnx.ModelProto:
    if weights is None:
        return load_onnx(path, input_shapes)
    if seed is None:
        raise ConfigError(
            Fault(
                f"{path} is an ONNX file, which holds its weights itself",
                "weights",
                f"leave {weights} out, or give the prototxt that belongs to it",
            )
        )
    from tilewright.frontend.seeded import seed_weights  # brings ONNX Runtime, which nobody else here needs

    seeded = seed_weights(read_model(path), seed)
    return load_onnx(seeded, input_shapes) if input_shapes else seeded


def _check_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Raise ConfigError where inputs or outputs have no dimension that could count images."""
    faults = FaultList()
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            shape = shape_of(value)
            if not shape or shape[0] != 1 or -1 in shape:
                faults.add(
                    f"expected a fixed shape (1, ...) for a batch of {batch}, found {shape}",
                    where=f"{kind} {value.name}",
                    remedy="compile for a batch of 1",
                )
    faults.raise_if_any(ConfigError)


def _seed(weights: str | Path | int | None) -> int | None:
    """The seed of `random:SEED`; None where weights come from a file."""
    text = f"random:{weights}" if isinstance(weights, int) else str(weights)
    if not text.startswith("random:"):
        return None
    digits = text.removeprefix("random:")
    if not re.fullmatch(r"[0-9]{1,18}", digits):
        raise ConfigError(Fault(f"expected a number as seed, found {digits!r}", "weights", "give random:1"))
    return int(digits)


def is_caffe(path: Path) -> bool:
    """Whether the file is a prototxt. Raises ModelError where it is neither that nor ONNX by its looks."""
    suffix = path.suffix.lower()
    if suffix in _WRONG_FILES:
        message, remedy = _WRONG_FILES[suffix]
        raise ModelError(Fault(f"expected an ONNX file or a prototxt; this {message}", str(path), remedy))
    if not path.exists():
        raise ModelError(Fault("no such file", str(path), "check the path"))
    if path.is_dir():
        raise ModelError(Fault("expected an ONNX file or a prototxt, found a folder", str(path)))
    if suffix == ".prototxt":
        return True
    if suffix == ".onnx":
        return False
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise ModelError(Fault(f"cannot be read: {error.strerror or error}", str(path))) from error
    return b"\0" not in head and _PROTOTXT.search(head) is not None


def _labels(labels: str | Path | Sequence[str], model: Model) -> tuple[str, ...]:
    """Names by class; the first `label_offset` classes of a network have none in a list of data sets.

    Raises DataError where there are more or fewer names than classes.
    """
    names = tuple(read_class_names(labels) if isinstance(labels, str | Path) else labels)
    if model.classes is None or len(names) == model.classes:
        return names
    if len(names) + model.label_offset == model.classes:
        return ("",) * model.label_offset + names
    where = str(labels) if isinstance(labels, str | Path) else "labels"
    message = f"expected names of {model.classes} classes, found {len(names)}"
    remedy = "give one name a line in the order of the classes"
    if len(names) + 1 == model.classes:
        remedy += "; a network with a first class for background takes --label-offset 1"
    raise DataError(Fault(message, where, remedy))


def require_float(model: Model) -> None:
    """Raise UnsupportedModel where there is nothing left to quantise."""
    if model.is_quantised:
        raise UnsupportedModel(
            Fault(
                "the model is quantised already and keeps its own scales",
                f"model {model.name}",
                "leave the calibration out",
            )
        )


def require_quantised(model: Model) -> None:
    """Raise UnsupportedModel for a float model."""
    if not model.is_quantised:
        raise UnsupportedModel(
            Fault(
                "expected a quantised model, found a float one",
                f"model {model.name}",
                "quantise it first: tilewright.quantize(model, calibration=...)",
            )
        )
