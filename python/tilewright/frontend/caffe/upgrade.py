"""Bring old network files to today's form, on the tree and before it gets types.

Three generations are in use. V0: `layers { layer { type: "conv" kernelsize: 5 ... } bottom: ... }`. V1:
`layers { type: CONVOLUTION convolution_param { ... } }`. V2, today's: `layer { type: "Convolution" ... }`.
The rules are those of Caffe's upgrade tool, as its published tests state them input by input.
"""

from __future__ import annotations

from collections.abc import Iterable

from tilewright.errors import FaultList
from tilewright.frontend.caffe.records import suggest
from tilewright.frontend.caffe.text import Block, Field, Scalar

_V1_TYPES: dict[str, tuple[int, str]] = {
    "ABSVAL": (35, "AbsVal"),
    "ACCURACY": (1, "Accuracy"),
    "ARGMAX": (30, "ArgMax"),
    "BNLL": (2, "BNLL"),
    "CONCAT": (3, "Concat"),
    "CONTRASTIVE_LOSS": (37, "ContrastiveLoss"),
    "CONVOLUTION": (4, "Convolution"),
    "DATA": (5, "Data"),
    "DECONVOLUTION": (39, "Deconvolution"),
    "DROPOUT": (6, "Dropout"),
    "DUMMY_DATA": (32, "DummyData"),
    "EUCLIDEAN_LOSS": (7, "EuclideanLoss"),
    "ELTWISE": (25, "Eltwise"),
    "EXP": (38, "Exp"),
    "FLATTEN": (8, "Flatten"),
    "HDF5_DATA": (9, "HDF5Data"),
    "HDF5_OUTPUT": (10, "HDF5Output"),
    "HINGE_LOSS": (28, "HingeLoss"),
    "IM2COL": (11, "Im2col"),
    "IMAGE_DATA": (12, "ImageData"),
    "INFOGAIN_LOSS": (13, "InfogainLoss"),
    "INNER_PRODUCT": (14, "InnerProduct"),
    "LRN": (15, "LRN"),
    "MEMORY_DATA": (29, "MemoryData"),
    "MULTINOMIAL_LOGISTIC_LOSS": (16, "MultinomialLogisticLoss"),
    "MVN": (34, "MVN"),
    "POOLING": (17, "Pooling"),
    "POWER": (26, "Power"),
    "RELU": (18, "ReLU"),
    "SIGMOID": (19, "Sigmoid"),
    "SIGMOID_CROSS_ENTROPY_LOSS": (27, "SigmoidCrossEntropyLoss"),
    "SILENCE": (36, "Silence"),
    "SOFTMAX": (20, "Softmax"),
    "SOFTMAX_LOSS": (21, "SoftmaxWithLoss"),
    "SPLIT": (22, "Split"),
    "SLICE": (33, "Slice"),
    "TANH": (23, "TanH"),
    "WINDOW_DATA": (24, "WindowData"),
    "THRESHOLD": (31, "Threshold"),
}
"""V1 word -> its number and the V2 type."""

_V1_NUMBERS = {str(number): name for number, name in _V1_TYPES.values()}

_V0_TYPES = {
    "conv": "CONVOLUTION",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
    "images": "IMAGE_DATA",
}
"""V0 type -> V1 word where it is not simply upper case."""

_PARAMS: dict[str, tuple[str, ...]] = {
    "num_output biasterm:bias_term weight_filler bias_filler": ("Convolution", "InnerProduct"),
    "pad kernelsize:kernel_size stride": ("Convolution", "Pooling"),
    "group": ("Convolution",),
    "pool": ("Pooling",),
    "dropout_ratio": ("Dropout",),
    "local_size alpha beta k": ("LRN",),
    "source": ("Data", "HDF5Data", "ImageData", "WindowData", "InfogainLoss"),
    "batchsize:batch_size": ("Data", "HDF5Data", "ImageData", "WindowData"),
    "rand_skip": ("Data", "ImageData"),
    "shuffle_images:shuffle new_height new_width": ("ImageData",),
    "concat_dim": ("Concat",),
    "det_fg_threshold:fg_threshold det_bg_threshold:bg_threshold det_fg_fraction:fg_fraction "
    "det_context_pad:context_pad det_crop_mode:crop_mode": ("WindowData",),
}
"""V0 fields (old:new) -> the types in whose parameter block they go."""

_BLOCKS = {
    "Convolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Pooling": "pooling_param",
    "Dropout": "dropout_param",
    "LRN": "lrn_param",
    "Data": "data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
    "InfogainLoss": "infogain_loss_param",
    "Concat": "concat_param",
}
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "mean_file": "mean_file",
    "cropsize": "crop_size",
    "crop_size": "crop_size",
    "mirror": "mirror",
}
"""Fields of data layers that moved into transform_param."""

_V0_LAYER_LEVEL = ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param")


def _renames(layer_type: str) -> dict[str, str]:
    """V0 field -> V2 field, of one layer type."""
    pairs: dict[str, str] = {}
    for names, types in _PARAMS.items():
        if layer_type in types:
            for name in names.split():
                old, _, new = name.partition(":")
                pairs[old] = new or old
    return pairs


def _string(name: str, text: str, line: int) -> Field:
    return Field(name, Scalar(text, "string"), line)


def _drop_padding(layers: list[Block], faults: FaultList, where: str) -> list[Block]:
    """Move each V0 padding layer's amount into the convolutions and poolings that read it."""
    padding: dict[str, tuple[str, Scalar]] = {}  # top of a padding layer -> its bottom and amount
    kept: list[Block] = []
    for layers_block in layers:
        inner = next(layers_block.blocks("layer"))
        fields = list(layers_block.fields)
        if inner.scalar("type") == "padding":
            amount = next((f.value for f in inner.named("pad") if isinstance(f.value, Scalar)), None)
            bottom, top = layers_block.scalar("bottom"), layers_block.scalar("top")
            if bottom is None or top is None:
                faults.add("a padding layer needs a bottom and a top", where=f"{where}, line {inner.line}")
                continue
            padding[top] = (bottom, amount or Scalar("0", "number"))
            continue
        for index, entry in enumerate(fields):
            source = padding.get(entry.value.text) if isinstance(entry.value, Scalar) else None
            if entry.name != "bottom" or source is None:
                continue
            if inner.scalar("type") not in ("conv", "pool"):
                faults.add(
                    f"a padding layer feeds type {inner.scalar('type')!r}: only conv and pool can pad",
                    where=f"{where}, line {entry.line}",
                )
                continue
            fields[index] = _string("bottom", source[0], entry.line)
            padded = Block([*inner.without(["pad"]), Field("pad", source[1], inner.line)], inner.line)
            fields = [Field("layer", padded, f.line) if f.value is inner else f for f in fields]
        kept.append(Block(fields, layers_block.line))
    return kept


def _from_v0(block: Block, faults: FaultList, where: str) -> Block:
    """A V0 entry as V2, except for `blobs_lr` and `weight_decay`, which V1 has as well."""
    inner = next(block.blocks("layer"))
    word = inner.scalar("type") or ""
    word = _V0_TYPES.get(word, word.upper())
    layer_type = _V1_TYPES.get(word, (0, inner.scalar("type") or ""))[1]
    renames = _renames(layer_type)
    fields: list[Field] = [_string("type", layer_type, inner.line)]
    params, transform = Block(line=inner.line), Block(line=inner.line)
    for entry in inner.without(["type"]):
        if entry.name in _V0_LAYER_LEVEL:
            fields.append(entry)
        elif entry.name in renames:
            params.fields.append(Field(renames[entry.name], entry.value, entry.line))
        elif entry.name in _TRANSFORM and layer_type.endswith("Data"):
            transform.fields.append(Field(_TRANSFORM[entry.name], entry.value, entry.line))
        else:
            faults.add(
                f"field {entry.name!r} does not belong to a V0 layer of type {inner.scalar('type')!r}",
                where=f"{where}, line {entry.line}",
            )
    if params.fields:
        fields.append(Field(_BLOCKS[layer_type], params, inner.line))
    if transform.fields:
        fields.append(Field("transform_param", transform, inner.line))
    return Block([*fields, *block.without(["layer"])], block.line)


def _v1_type(block: Block, faults: FaultList, where: str) -> str:
    value = next((f.value for f in block.named("type") if isinstance(f.value, Scalar)), None)
    if value is None:
        faults.add("the layer has no type", where=f"{where}, line {block.line}")
        return ""
    if value.kind == "word" and value.text in _V1_TYPES:
        return _V1_TYPES[value.text][1]
    if value.kind == "number" and value.text in _V1_NUMBERS:
        return _V1_NUMBERS[value.text]
    remedy = suggest(value.text.upper(), list(_V1_TYPES))
    if value.kind == "string":
        remedy = "write `layer` instead of `layers` where the type is a quoted string"
    faults.add(
        f"{value.text[:40]!r} is no layer type of the old form `layers {{ ... }}`",
        where=f"{where}, line {block.line}",
        remedy=remedy,
    )
    return ""


def _texts(block: Block, name: str) -> list[Scalar]:
    return [f.value for f in block.named(name) if isinstance(f.value, Scalar)]


def _learning(block: Block) -> list[Field]:
    """V1's parallel lists (names, share modes, rates, decays) as one `param` block for each blob."""
    columns = {
        "name": _texts(block, "param"),
        "share_mode": _texts(block, "blob_share_mode"),
        "lr_mult": _texts(block, "blobs_lr"),
        "decay_mult": _texts(block, "weight_decay"),
    }
    count = max(len(column) for column in columns.values())
    return [
        Field(
            "param",
            Block([Field(n, c[i], block.line) for n, c in columns.items() if i < len(c)], block.line),
            block.line,
        )
        for i in range(count)
    ]


def _to_v2(block: Block, layer_type: str) -> Block:
    dropped = ("type", "param", "blob_share_mode", "blobs_lr", "weight_decay")
    fields = [*block.without(dropped), _string("type", layer_type, block.line), *_learning(block)]
    return Block(fields, block.line)


def _move_transform(layer: Block) -> Block:
    """Old data layers hold crop, mean and scale in their own block: move them into transform_param."""
    names = ("data_param", "image_data_param", "window_data_param")
    moved: list[Field] = []
    fields: list[Field] = []
    for entry in layer.fields:
        if entry.name in names and isinstance(entry.value, Block):
            moved += [
                Field(_TRANSFORM[f.name], f.value, f.line) for f in entry.value.fields if f.name in _TRANSFORM
            ]
            entry = Field(entry.name, Block(entry.value.without(_TRANSFORM), entry.line), entry.line)
        fields.append(entry)
    if not moved:
        return layer
    old = [f for block in layer.blocks("transform_param") for f in block.fields]
    fields = [f for f in fields if f.name != "transform_param"]
    return Block(
        [*fields, Field("transform_param", Block([*old, *moved], layer.line), layer.line)], layer.line
    )


def upgrade(net: Block, faults: FaultList, where: str) -> Block:
    """Return the network in today's form; a network that has it already comes back unchanged in meaning.

    Args:
        faults: gets every fault of the old form, with file and line.
        where: the file, for the faults.
    """
    old = list(net.blocks("layers"))
    if old and net.named("layer"):
        faults.add(
            "the file mixes `layer` (today's form) and `layers` (the old form)",
            where=f"{where}, line {old[0].line}",
            remedy="use one of them",
        )
        return net
    if not old:
        return Block([_moved(f) for f in net.fields], net.line)
    v0 = [any(True for _ in block.blocks("layer")) for block in old]
    if any(v0) and not all(v0):
        at = old[v0.index(not v0[0])].line
        faults.add("the file mixes two old forms of `layers`", where=f"{where}, line {at}")
        return net
    layers: Iterable[Block]
    if any(v0):
        upgraded = [_from_v0(block, faults, where) for block in _drop_padding(old, faults, where)]
        layers = [_to_v2(block, block.scalar("type") or "") for block in upgraded]
    else:
        layers = [_to_v2(block, _v1_type(block, faults, where)) for block in old]
    fields = [Field("layer", _move_transform(block), block.line) for block in layers]
    return Block([*net.without(["layers"]), *fields], net.line)


def _moved(entry: Field) -> Field:
    if entry.name == "layer" and isinstance(entry.value, Block):
        return Field("layer", _move_transform(entry.value), entry.line)
    return entry
