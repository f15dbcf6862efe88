"""What the preview of a camera path is drawn with: its colours, camera frustums, markers, grid, axes and scale bar."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .canvas import Canvas, Colour, Point

BACKGROUND = (24, 24, 24)
PANEL = (34, 35, 38)
GRID = (46, 48, 52)
TEXT = (235, 235, 235)
MUTED = (158, 163, 172)
INPUTS = (108, 119, 136)
PIVOT = (255, 255, 255)
KEYS = (255, 221, 87)
OUTSIDE = (235, 64, 64)
SHADOW = (12, 12, 14)
# Evenly spaced colours from the first frame to the last.
_TIME = torch.tensor([[64.0, 200, 255], [150, 130, 255], [255, 96, 168], [255, 178, 64]])
_FILL = 30  # opacity of frustums, of 255


def time_colour(place: float) -> Colour:
    """The colour of a place on the path: 0 = its first frame, 1 = its last."""
    at = min(max(place, 0.0), 1.0) * (len(_TIME) - 1)
    below = min(int(at), len(_TIME) - 2)
    return tuple(int(value) for value in torch.lerp(_TIME[below], _TIME[below + 1], at - below).round())


def draw_grid(canvas: Canvas, through: Point, step: float, width: float) -> None:
    """Lines in both directions, `step` pixels apart."""
    for axis in (0, 1):
        first = through[axis] % step
        for i in range(int((canvas.size[axis] - first) / step) + 1):
            at = first + i * step
            ends = ((at, 0.0), (at, canvas.size[1])) if axis == 0 else ((0.0, at), (canvas.size[0], at))
            canvas.line(ends, GRID, width)


def draw_frustum(canvas: Canvas, points: Sequence[Point], colour: Colour, rim: Colour, unit: float) -> None:
    """A pyramid from its apex and four corners, with a rim around its picture."""
    apex, corners = points[0], points[1:]
    canvas.polygon(corners, (*rim, _FILL))
    for corner in corners:
        canvas.line((apex, corner), colour, 1.2 * unit)
    canvas.line([*corners, corners[0]], rim, (1.2 if rim == colour else 2.4) * unit)


def draw_key(canvas: Canvas, at: Point, unit: float) -> None:
    """A diamond."""
    x, y = at
    r = 9 * unit
    corners = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
    canvas.line([*corners, corners[0]], KEYS, 2.4 * unit)


def draw_pivot(canvas: Canvas, at: Point, unit: float) -> None:
    """A cross."""
    x, y = at
    r = 9 * unit
    canvas.line(((x - r, y), (x + r, y)), PIVOT, 1.8 * unit)
    canvas.line(((x, y - r), (x, y + r)), PIVOT, 1.8 * unit)


def draw_axes(canvas: Canvas, names: tuple[str, str], unit: float, text: float) -> None:
    """Arrows in the lower left corner with the names of the directions to the right and upwards."""
    size = 34 * unit
    origin = (18 * unit, canvas.size[1] - 18 * unit)
    right, up = (origin[0] + size, origin[1]), (origin[0], origin[1] - size)
    for tip, (dx, dy) in ((right, (1, 0)), (up, (0, -1))):
        canvas.line((origin, tip), MUTED, 1.8 * unit)
        a, b = 7 * unit, 4 * unit
        canvas.polygon(
            [
                (tip[0] + dx * a, tip[1] + dy * a),
                (tip[0] + dy * b, tip[1] + dx * b),
                (tip[0] - dy * b, tip[1] - dx * b),
            ],
            MUTED,
        )
    canvas.reserve((origin[0], up[1], right[0], origin[1]))
    canvas.text((right[0] + 13 * unit, right[1]), names[0], MUTED, text, anchor="lm")
    canvas.text((up[0] + 10 * unit, up[1] - 4 * unit), names[1], MUTED, text, anchor="lm")


def draw_bar(canvas: Canvas, length: float, name: str, unit: float, text: float) -> None:
    """A scale bar of `length` pixels in the lower right corner."""
    right, bottom = canvas.size[0] - 18 * unit, canvas.size[1] - 18 * unit
    tick = 5 * unit
    canvas.line(((right - length, bottom), (right, bottom)), TEXT, 2 * unit)
    for x in (right - length, right):
        canvas.line(((x, bottom - tick), (x, bottom + tick)), TEXT, 2 * unit)
    canvas.text((right - length / 2, bottom - 8 * unit), name, TEXT, text, "mb")
