"""A small canvas on Pillow: smooth lines, discs and text, and labels that find a free place."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[int, ...]  # RGB or RGBA, 0 to 255

_SUPERSAMPLING = 3
_RIM = 0.12  # of the background around text, of its height
_LABEL_DISTANCES = (1.0, 1.6, 2.4, 3.4)


@functools.lru_cache(maxsize=32)
def _font(pixels: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(pixels)


class Canvas:
    """A drawing of `size` (width, height) pixels; coordinates are pixels from its upper left corner."""

    def __init__(self, size: tuple[int, int], background: Colour) -> None:
        self.size = size
        self._image = Image.new("RGB", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), background)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._background = background
        self.taken: list[Box] = []  # where there is text

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """An open line with round corners and ends."""
        scaled = [_scaled(point) for point in points]
        self._draw.line(scaled, fill=colour, width=max(1, round(width * _SUPERSAMPLING)), joint="curve")
        if width > 1 and len(colour) == 3:
            for point in (points[0], points[-1]):
                self.disc(point, width / 2, colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled shape."""
        self._draw.polygon([_scaled(point) for point in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour, ring: Colour | None = None, width: float = 0) -> None:
        """A filled circle, with a ring of `width` inside its edge."""
        (x, y), r = _scaled(centre), radius * _SUPERSAMPLING
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=ring, width=round(width * _SUPERSAMPLING))

    def text(self, at: Point, text: str, colour: Colour, pixels: float, anchor: str = "la") -> Box:
        """Text of a height, anchored as Pillow anchors it; returns the box it takes, which later labels avoid."""
        left, top, right, bottom = (edge / _SUPERSAMPLING for edge in self._write(at, text, colour, pixels, anchor))
        self.reserve((left, top, right, bottom))
        return left, top, right, bottom

    def _write(self, at: Point, text: str, colour: Colour, pixels: float, anchor: str) -> Box:
        font = _font(round(pixels * _SUPERSAMPLING))
        rim = {"stroke_width": round(pixels * _RIM * _SUPERSAMPLING), "stroke_fill": self._background}
        self._draw.text(_scaled(at), text, fill=colour, font=font, anchor=anchor, **rim)
        return self._draw.textbbox(_scaled(at), text, font=font, anchor=anchor)

    def reserve(self, box: Box) -> None:
        """Keep labels out of a box."""
        self.taken.append(box)

    def label(self, beside: Point, text: str, colour: Colour, pixels: float, avoid: Sequence[Point] = ()) -> None:
        """Text near a point, where it covers no other text and as few of the points to avoid as possible."""
        width = self._draw.textlength(text, font=_font(round(pixels * _SUPERSAMPLING))) / _SUPERSAMPLING
        places = [
            _place(beside, reach * pixels, across, down, width, pixels)
            for reach in _LABEL_DISTANCES
            for across, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
        ]
        best = min(places, key=lambda box: self._faults(box, avoid))
        self._write((best[0], (best[1] + best[3]) / 2), text, colour, pixels, "lm")
        self.reserve((best[0] - pixels / 2, best[1], best[2] + pixels / 2, best[3]))

    def _faults(self, box: Box, avoid: Sequence[Point]) -> int:
        width, height = self.size
        outside = box[0] < 2 or box[1] < 2 or box[2] > width - 2 or box[3] > height - 2
        covered = sum(_overlap(box, other) for other in self.taken)
        return 10_000 * (outside + covered) + sum(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in avoid)

    def paste(self, image: Image.Image, at: Point) -> None:
        """Put a picture with its upper left corner at a place."""
        size = (image.width * _SUPERSAMPLING, image.height * _SUPERSAMPLING)
        x, y = _scaled(at)
        self._image.paste(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), (round(x), round(y)))

    def embed(self, canvas: Canvas, at: Point) -> None:
        """Put another canvas with its upper left corner at a place."""
        x, y = _scaled(at)
        self._image.paste(canvas._image, (round(x), round(y)))

    def image(self) -> Image.Image:
        """The drawing, antialiased."""
        return self._image.reduce(_SUPERSAMPLING)


def dense_line(places: Sequence[Point], step: float) -> list[Point]:
    """Points at most `step` pixels apart along a line."""
    dense = list(places[:1])
    for a, b in itertools.pairwise(places):
        count = max(1, math.ceil(math.dist(a, b) / step))
        dense += [(a[0] + (b[0] - a[0]) * i / count, a[1] + (b[1] - a[1]) * i / count) for i in range(1, count + 1)]
    return dense


def _scaled(point: Point) -> Point:
    return point[0] * _SUPERSAMPLING, point[1] * _SUPERSAMPLING


def _place(beside: Point, reach: float, across: int, down: int, width: float, height: float) -> Box:
    """The box of a text whose nearest edge is `reach` away from a point."""
    x = beside[0] + across * reach - (width if across < 0 else width / 2 if across == 0 else 0)
    y = beside[1] + down * reach - (height if down < 0 else height / 2 if down == 0 else 0)
    return x, y, x + width, y + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
