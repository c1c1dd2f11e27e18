"""Image pipelines: reading, preprocessing, inference, decoding and drawing, overlapped, with their times.

    pipeline = tw.Pipeline.of(package, "ssd")
    for frame in pipeline.run("photos/"):
        frame.picture.save(...)

`Pipeline` runs stages of any kind; `network_stages` makes those of one network, `mtcnn` those of a cascade.
"""

from __future__ import annotations

from tilewright.vision.decoders import DECODERS, Decoder, DetectionRows, SsdBoxes, TopClasses
from tilewright.vision.detections import Classes, Detections
from tilewright.vision.draw import draw
from tilewright.vision.geometry import Geometry
from tilewright.vision.network import network_stages
from tilewright.vision.pipeline import Pipeline
from tilewright.vision.report import PipelineReport
from tilewright.vision.sources import camera
from tilewright.vision.stages import Frame, Stage

__all__ = [
    "DECODERS",
    "Classes",
    "Decoder",
    "DetectionRows",
    "Detections",
    "Frame",
    "Geometry",
    "Pipeline",
    "PipelineReport",
    "SsdBoxes",
    "Stage",
    "TopClasses",
    "camera",
    "draw",
    "network_stages",
]
