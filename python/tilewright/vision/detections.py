"""What decoders give: classes of an image, or boxes in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.vision.boxes import Boxes, Floats


@dataclass(frozen=True)
class Classes:
    """The likeliest classes, by falling score.

    Attributes:
        indices: (K,) of the network's classes.
        scores: (K,) as the network gives them.
        labels: of each its name, "" where it is not known.
    """

    indices: NDArray[np.int64]
    scores: Floats
    labels: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """`tabby cat 0.71` of each."""
        rows = zip(self.labels, self.indices, self.scores, strict=True)
        return tuple(f"{label or f'class {index}'} {score:.2f}" for label, index, score in rows)


@dataclass(frozen=True)
class Detections:
    """Boxes in an image, by falling score.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2 in the image's pixels; may reach over its border.
        scores: (N,).
        classes: (N,) of the network's classes.
        landmarks: (N, L, 2) x and y, L = 0 where the network gives none.
        labels: of the network's classes.
    """

    boxes: Boxes
    scores: Floats
    classes: NDArray[np.int64]
    landmarks: Floats
    labels: tuple[str, ...] = ()

    @staticmethod
    def of(
        boxes: Boxes,
        scores: Floats,
        classes: NDArray[np.int64] | None = None,
        landmarks: Floats | None = None,
        labels: tuple[str, ...] = (),
    ) -> Detections:
        """In order of falling score."""
        order = np.argsort(-scores, kind="stable")
        kinds = np.zeros(len(scores), np.int64) if classes is None else classes
        points = np.zeros((len(scores), 0, 2)) if landmarks is None else landmarks
        return Detections(boxes[order], scores[order], kinds[order], points[order], labels)

    def __len__(self) -> int:
        return len(self.boxes)

    def lines(self) -> tuple[str, ...]:
        """`face 0.99` of each."""
        return tuple(
            f"{self.labels[c] if c < len(self.labels) else f'class {c}'} {s:.2f}"
            for c, s in zip(self.classes, self.scores, strict=True)
        )
