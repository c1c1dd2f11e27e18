"""Results drawn into a copy of the image."""

from __future__ import annotations

from PIL import Image, ImageDraw

from tilewright.errors import DataError
from tilewright.vision.detections import Classes, Detections

_COLOURS = ("#00d060", "#ff9020", "#40a0ff", "#ff50a0", "#e0e000", "#a070ff")  # of boxes, by class
_MOST_SIDE = 1 << 20  # of what is drawn, in pixels: Pillow's coordinates are C integers


def draw(image: Image.Image, found: object) -> Image.Image:
    """A copy, RGB, with boxes, landmarks and scores, or with the likeliest classes in the upper left.

    Raises:
        DataError: it is known how to draw Classes and Detections only.
    """
    picture = image.convert("RGB")
    if picture is image:
        picture = image.copy()
    pen = ImageDraw.Draw(picture)
    if isinstance(found, Classes):
        _text(pen, (2, 2), "\n".join(found.lines()), _COLOURS[0])
    elif isinstance(found, Detections):
        _boxes(pen, found, max(round(max(image.size) / 300), 1))
    else:
        raise DataError(f"expected Classes or Detections to draw, found {type(found).__name__}")
    return picture


def _boxes(pen: ImageDraw.ImageDraw, found: Detections, line: int) -> None:
    rows = zip(
        found.boxes.clip(-_MOST_SIDE, _MOST_SIDE), found.classes, found.landmarks, found.lines(), strict=True
    )
    for box, kind, points, text in rows:
        colour = _COLOURS[int(kind) % len(_COLOURS)]
        x1, y1, x2, y2 = box.tolist()
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
        for x, y in points.tolist():
            pen.ellipse((x - line, y - line, x + line, y + line), fill=colour)
        _text(pen, (max(x1, 0.0), max(y1 - 12, 0.0)), text, colour)


def _text(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str) -> None:
    # The built-in font has Latin letters only.
    safe = text.encode("latin-1", "replace").decode("latin-1")
    pen.rectangle(pen.multiline_textbbox(at, safe), fill="#000000")
    pen.multiline_text(at, safe, fill=colour)
