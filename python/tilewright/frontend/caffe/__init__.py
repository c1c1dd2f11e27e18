"""Caffe networks (prototxt and caffemodel) to ONNX.

The prototxt gives the network, the caffemodel the weights, matched by layer name. Old files (V0, V1) are
upgraded, the TEST phase is taken, losses and measures are left out, data layers become inputs. The results
are those of BVLC Caffe and of the forks whose layers are known (SSD, MobileNet, ShuffleNet), to rounding.

Fields that the schema does not know: in a layer's parameter block they are refused, for they may change the
result (`UnsupportedModel`, with line); elsewhere they are ignored with a :class:`CaffeWarning`. Unknown layer
types are refused, all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from tilewright.frontend.caffe.net import CaffeNet, CaffeWarning, read_caffe
from tilewright.frontend.caffe.weights import read_caffemodel, write_caffemodel

__all__ = ["CaffeNet", "CaffeWarning", "load_caffe", "read_caffe", "read_caffemodel", "write_caffemodel"]


def load_caffe(
    prototxt: str | Path,
    weights: str | Path | int | None,
    *,
    batch: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> onnx.ModelProto:
    """Convert a Caffe network to ONNX (opset 21, IR version 10, float32, all shapes known).

    Args:
        prototxt: the network, in any of Caffe's three forms.
        weights: a caffemodel; or a seed of 0 or more for random weights; None is an error that names both.
        batch: replaces the first dimension of inputs of two dimensions or more.
        input_shapes: shapes of inputs by blob name, instead of the file's and of `batch`.

    Returns:
        A checked model. Nodes are named after their layers; where a layer takes several nodes, the last has
        the layer's name and the others are `layer/part`. Results are named after blobs: of a blob that
        several layers write in place, the last version has its name and the earlier ones are `blob/layer`.
        Outputs are the blobs that no layer reads. SSD's DetectionOutput is one call of a local function
        (`detection_function`), whose output has as many rows as there are detections.

    Raises:
        ModelError: a file is missing or damaged, weights do not fit or are not finite, the network
        contradicts
            itself, or a shape is not known. All faults of a stage come together.
        UnsupportedModel: layer types, parameters or fields that are not supported, all together.

    Warns:
        CaffeWarning: an unknown field is ignored, or an input's channels are assumed.
    """
    return read_caffe(prototxt, weights, batch=batch, input_shapes=input_shapes).model
