"""A folder with the files that the documentation's commands speak of: a small network, images, a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from tilewright.frontend.caffe import load_caffe, write_caffemodel

SIDE, CLASSES = 227, 4
PROTOTXT = f"""name: "net"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: {SIDE} dim: {SIDE} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 16 kernel_size: 7 stride: 8 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {{ num_output: {CLASSES} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
"""


def lay_out(folder: Path, repository: Path) -> None:
    """Write net.prototxt, net.caffemodel, net.onnx, images/, validation/ and cat.jpg; the tutorials are linked."""
    random = np.random.default_rng(0)
    (folder / "net.prototxt").write_text(PROTOTXT)
    blobs = {
        "conv": [random.normal(0, 0.01, (16, 3, 7, 7)), random.normal(0, 0.1, 16)],
        "fc": [random.normal(0, 0.01, (CLASSES, 16 * 14 * 14)), np.zeros(CLASSES)],
    }
    write_caffemodel(folder / "net.caffemodel", blobs)
    onnx.save(load_caffe(folder / "net.prototxt", folder / "net.caffemodel"), folder / "net.onnx")
    for name, count in (("images", 16), ("validation", 4)):
        images = folder / name / "images"
        images.mkdir(parents=True)
        rows = ["file,label"]
        for i in range(count):
            _picture(random).save(images / f"{i}.png")
            rows.append(f"{i}.png,{i % CLASSES}")
        (folder / name / "labels.csv").write_text("\n".join(rows) + "\n")
    _picture(random).save(folder / "cat.jpg")
    (folder / "tutorials").symlink_to(repository / "tutorials")


def _picture(random: np.random.Generator) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (240, 300, 3), np.uint8))
