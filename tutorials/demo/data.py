"""The demo's images: scikit-learn's 1,797 digits, enlarged to 32x32 and split once.

Source, licence and citation: README.md beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
SIDE = 32
TEST_COUNT = 400
CALIBRATION_COUNT = 100
SPLIT_SEED = 2026

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """Images (N, 32, 32) uint8 and labels (N,) uint8."""

    images: Images
    labels: npt.NDArray[np.uint8]

    def at(self, indices: npt.NDArray[np.int64]) -> Part:
        """The images at `indices`."""
        return Part(self.images[indices], self.labels[indices])


def enlarge(images: npt.NDArray[np.float64]) -> Images:
    """8x8 values 0..16 -> 32x32 bytes 0..255, bilinear (Pillow)."""
    as_bytes = np.rint(images * 255 / 16).astype(np.uint8)
    large = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in as_bytes]
    return np.stack([np.asarray(image) for image in large])


def split() -> tuple[Part, Part, Part]:
    """Training, calibration and test images. Calibration images are 100 of the training images.

    Every digit has its share of each part (to within one image). Identical images, if there are any, never
    lie on both sides of the split.
    """
    digits = load_digits()
    everything = Part(enlarge(digits.images), digits.target.astype(np.uint8))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(everything.labels))
    by_digit = [order[everything.labels[order] == digit] for digit in range(10)]
    # Dealing the digits in turn keeps every prefix balanced.
    turns = max(len(group) for group in by_digit)
    dealt = np.array([group[turn] for turn in range(turns) for group in by_digit if turn < len(group)])
    test, training = everything.at(dealt[:TEST_COUNT]), everything.at(dealt[TEST_COUNT:])
    seen = {image.tobytes() for image in test.images}
    kept = np.array([index for index, image in enumerate(training.images) if image.tobytes() not in seen])
    training = training.at(kept)
    return training, training.at(np.arange(CALIBRATION_COUNT)), test


def save(part: Part, path: Path) -> None:
    """Write an NPZ of `images` and `labels`."""
    np.savez_compressed(path, images=part.images, labels=part.labels)


if __name__ == "__main__":
    _, calibration, test = split()
    save(calibration, HERE / "digits_calibration.npz")
    save(test, HERE / "digits_test.npz")
