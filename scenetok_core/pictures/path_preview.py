"""A picture of a camera path: from above, from behind, from the side, and in the first input picture. Pillow only."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from ..trajectories.framing import one_scene
from ..types import Cameras
from ..views.seen import measure_seen
from .canvas import Box, Canvas, Colour, Point, dense_line
from .path_glyphs import (
    BACKGROUND,
    GRID,
    INPUTS,
    MUTED,
    OUTSIDE,
    PANEL,
    SHADOW,
    TEXT,
    draw_axes,
    draw_bar,
    draw_frustum,
    draw_grid,
    draw_key,
    draw_pivot,
    time_colour,
)
from .path_layout import PATH_FRUSTUM, Layout, PictureView, Plane, frustums, preview_layout
from .sheets import to_image

_SMALL, _LARGE = 18.5, 23.0  # height of text, in units
_MOST_FRUSTUMS = 40  # of input cameras that are drawn
_PATH_FRUSTUMS = 6
_BOLD = 1.45
_NEAR = 0.25  # of a frustum's length: the path is cut off this far before the camera of the picture
_DIMMED = 0.72


@dataclass(frozen=True)
class _Scene:
    """What is drawn."""

    path: Cameras
    inputs: Cameras
    keys: Cameras | None
    outside: Tensor  # [T] bool
    layout: Layout
    unit: float  # pixels by which all strokes and texts are measured: 1 in a preview of 1280 pixels

    @property
    def text(self) -> float:
        return _SMALL * self.unit


def draw_path(
    path: Cameras,
    inputs: Cameras,
    picture: Tensor | None = None,  # [3, H, W] in [0, 1]
    *,
    keys: Cameras | None = None,
    width: int = 1280,
) -> Image.Image:
    """Draw a camera path among the input cameras.

    Args:
        path: T cameras.
        inputs: the input cameras of the scene.
        picture: that of the first input camera, over which the path is drawn; None = a grey one.
        keys: cameras to mark as keys of the path.
        width: of the drawing in pixels, at least 320.

    Returns:
        An RGB image, `width` by about 3/4 of it.

    Raises:
        ValueError: cameras of several scenes, or a width that is too small.
    """
    if width < 320:
        raise ValueError(f"a path preview needs at least 320 pixels of width, got {width}")
    scene = _scene(path, inputs, keys, width)
    sheet = Canvas(scene.layout.size, BACKGROUND)
    for plane in scene.layout.planes:
        sheet.embed(_draw_plane(scene, plane), plane.box[:2])
    sheet.embed(_draw_picture(scene, picture), scene.layout.picture_panel[:2])
    _draw_legend(sheet, scene)
    return sheet.image()


def draw_view(path: Cameras, inputs: Cameras, name: str, width: int = 480) -> Image.Image:
    """One plane of the drawing alone: "Top", "Front" or "Side", `width` pixels wide, in bold strokes, no legend."""
    whole = preview_layout(path, inputs)
    left, _, right, _ = whole.planes[0].box
    scene = _scene(path, inputs, None, round(width * whole.size[0] / (right - left)))
    scene = dataclasses.replace(scene, unit=_BOLD * scene.unit)
    plane = next(plane for plane in scene.layout.planes if plane.name == name)
    return _draw_plane(scene, plane).image()


def _scene(path: Cameras, inputs: Cameras, keys: Cameras | None, width: int) -> _Scene:
    path, inputs = one_scene(path), one_scene(inputs)
    outside = measure_seen(path, inputs).outside
    return _Scene(path, inputs, keys, outside, preview_layout(path, inputs, keys, width), width / 1280)


def _panel(box: Box) -> Canvas:
    return Canvas((round(box[2] - box[0]), round(box[3] - box[1])), PANEL)


def _draw_title(canvas: Canvas, title: str, scene: _Scene) -> None:
    canvas.text((14 * scene.unit, 12 * scene.unit), title, TEXT, _LARGE * scene.unit)


def _points(pixels: Tensor, box: Box) -> list[Point]:
    """Pixels [N, 2] of the whole preview as points of a panel."""
    return [(float(x) - box[0], float(y) - box[1]) for x, y in pixels]


def _draw_plane(scene: _Scene, plane: Plane) -> Canvas:
    """One orthogonal view."""
    canvas = _panel(plane.box)
    middle = _points(plane.project(plane.centre[None]), plane.box)[0]
    draw_grid(canvas, middle, scene.layout.bar * plane.scale, scene.unit)
    _draw_title(canvas, plane.name, scene)
    solids: list[tuple[Tensor, Colour, Colour]] = [
        (corners, INPUTS, INPUTS) for corners in frustums(_some(scene.inputs), scene.layout.frustum)
    ]
    for frame in _spread(len(scene.path), _PATH_FRUSTUMS):
        colour = _colour_of(frame, scene)
        rim = OUTSIDE if scene.outside[frame] else colour
        solids.append((frustums(scene.path[[frame]], scene.layout.frustum * PATH_FRUSTUM)[0], colour, rim))
    obstacles = []
    for corners, colour, rim in solids:
        points = _points(plane.project(corners), plane.box)
        draw_frustum(canvas, points, colour, rim, scene.unit)
        obstacles += points
    places = _points(plane.project(scene.path.centers), plane.box)
    _draw_line(canvas, places, scene)
    if scene.keys is not None:
        for place in _points(plane.project(scene.keys.centers.cpu()), plane.box):
            draw_key(canvas, place, scene.unit)
    draw_axes(canvas, plane.axis_names, scene.unit, scene.text)
    unit = "m" if scene.path.unit == "metric" else "unit" if scene.layout.bar == 1 else "units"
    length = f"{scene.layout.bar:g} {unit}"
    draw_bar(canvas, scene.layout.bar * plane.scale, length, scene.unit, scene.text)
    _draw_marks(
        canvas,
        scene,
        [(name, plane.project(point), frame) for name, point, frame in _marks(scene)],
        plane.box,
        [*dense_line(places, 6 * scene.unit), *obstacles],
    )
    return canvas


def _marks(scene: _Scene) -> list[tuple[str, Tensor, int | None]]:
    """Name, world point [3] and frame of what is labelled."""
    marks: list[tuple[str, Tensor, int | None]] = []
    if scene.layout.pivot is not None:
        marks.append(("pivot", scene.layout.pivot, None))
    if len(scene.path) > 1:
        marks.append(("end", scene.path.centers[-1], len(scene.path) - 1))
    return [*marks, ("start", scene.path.centers[0], 0)]


def _draw_marks(
    canvas: Canvas, scene: _Scene, marks: Sequence[tuple[str, Tensor, int | None]], box: Box, avoid: Sequence[Point]
) -> None:
    """Markers at pixels [2] of the whole preview, and then their labels."""
    placed = [(name, _points(pixel[None], box)[0], frame) for name, pixel, frame in marks]
    for _, at, frame in placed:
        if frame is None:
            draw_pivot(canvas, at, scene.unit)
        else:
            canvas.disc(at, 8.5 * scene.unit, SHADOW)
            canvas.disc(at, 7 * scene.unit, _colour_of(frame, scene), TEXT, 2 * scene.unit)
    for name, at, frame in _named_once(placed, 12 * scene.unit):
        canvas.label(at, name, MUTED if frame is None else TEXT, scene.text, [*avoid, *(at for _, at, _ in placed)])


def _named_once(placed: Sequence[tuple[str, Point, int | None]], near: float) -> list[tuple[str, Point, int | None]]:
    """Start and end as one label where they lie within `near` pixels of each other."""
    ends = [mark for mark in placed if mark[2] is not None]
    others = [mark for mark in placed if mark[2] is None]
    if len(ends) == 2 and math.dist(ends[0][1], ends[1][1]) < near:
        ends = [("start, end", ends[1][1], 0)]
    return [*others, *ends]


def _draw_line(canvas: Canvas, places: Sequence[Point], scene: _Scene) -> None:
    """The path: red edges where it leaves what was seen, colours of time above."""
    for i, (a, b) in enumerate(itertools.pairwise(places)):
        if scene.outside[i] or scene.outside[i + 1]:
            canvas.line((a, b), OUTSIDE, 11 * scene.unit)
    for i, (a, b) in enumerate(itertools.pairwise(places)):
        canvas.line((a, b), _colour_of(i + 0.5, scene), 4.5 * scene.unit)
    for i, place in enumerate(places):
        canvas.disc(place, 3 * scene.unit, _colour_of(i, scene))


def _draw_picture(scene: _Scene, picture: Tensor | None) -> Canvas:
    """The path over the first input picture, what is far away first."""
    panel, view, unit = scene.layout.picture_panel, scene.layout.picture, scene.unit
    canvas = _panel(panel)
    _draw_title(canvas, "In the first picture", scene)
    left, top, right, bottom = view.box
    size = (round(right - left), round(bottom - top))
    ground = Image.new("RGB", size, GRID) if picture is None else to_image(picture.cpu()).resize(size)
    inner = Canvas(size, GRID)
    inner.paste(ImageEnhance.Brightness(ground).enhance(1.0 if picture is None else _DIMMED), (0, 0))
    pieces = _visible_pieces(scene, view)
    for _, a, b, _, width in pieces:
        inner.line((a, b), SHADOW, width + 3.5 * unit)
    for _, a, b, colour, width in pieces:
        inner.line((a, b), colour, width)
    _draw_picture_marks(inner, scene, view, [a for _, a, *_ in pieces])
    canvas.embed(inner, (left - panel[0], top - panel[1]))
    return canvas


def _visible_pieces(scene: _Scene, view: PictureView) -> list[tuple[float, Point, Point, Colour, float]]:
    """Pieces of the path before the camera, the farthest first: depth, ends, colour, width."""
    near = _NEAR * scene.layout.frustum
    _, depth = view.project(scene.path.centers)
    centers, usual = scene.path.centers.double(), float(depth.clamp(min=near).median())
    pieces = []
    for i in range(len(centers) - 1):
        ends = _clip(centers[i : i + 2], depth[i : i + 2], near)
        if ends is not None:
            a, b = _points(view.project(ends)[0], view.box)
            away = float(depth[i : i + 2].clamp(min=near).mean())
            width = min(max(5 * (usual / away) ** 0.5, 3), 9) * scene.unit
            pieces.append((away, a, b, _colour_of(i + 0.5, scene), width))
    return sorted(pieces, key=lambda piece: -piece[0])


def _clip(ends: Tensor, depth: Tensor, near: float) -> Tensor | None:
    """The part of a segment [2, 3] that is at least `near` before the camera, or None."""
    before, after = (float(value) for value in depth)
    if max(before, after) <= near:
        return None
    if min(before, after) < near:
        crossing = torch.lerp(ends[0], ends[1], (near - before) / (after - before))
        return torch.stack([crossing, ends[1]] if before < near else [ends[0], crossing])
    return ends


def _draw_picture_marks(canvas: Canvas, scene: _Scene, view: PictureView, avoid: Sequence[Point]) -> None:
    near, shown = _NEAR * scene.layout.frustum, []
    for name, point, frame in _marks(scene):
        pixel, depth = view.project(point)
        if float(depth) > near and _contains(view.box, pixel):
            shown.append((name, pixel, frame))
    _draw_marks(canvas, scene, shown, view.box, avoid)
    if not any(0 <= x <= canvas.size[0] and 0 <= y <= canvas.size[1] for x, y in avoid):
        middle = (canvas.size[0] / 2, canvas.size[1] - 14 * scene.unit)
        canvas.text(middle, "the path is not in this picture", TEXT, scene.text, "mb")


def _contains(box: Box, pixel: Tensor) -> bool:
    x, y = (float(value) for value in pixel)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _draw_legend(sheet: Canvas, scene: _Scene) -> None:
    """One row under the panels."""
    unit = scene.unit
    y = (scene.layout.planes[1].box[3] + scene.layout.size[1]) / 2
    x = scene.layout.planes[0].box[0]
    length = 150 * unit
    x = sheet.text((x, y), "frame 0", TEXT, scene.text, "lm")[2] + 10 * unit
    for i in range(60):
        piece = ((x + length * i / 60, y), (x + length * (i + 1) / 60, y))
        sheet.line(piece, time_colour(i / 59), 8 * unit)
    x = sheet.text((x + length + 10 * unit, y), f"{len(scene.path) - 1}", TEXT, scene.text, "lm")[2] + 34 * unit
    apex, h = (x, y), 9 * unit
    corners = [(x + 16 * unit, y - h), (x + 20 * unit, y - h / 2), (x + 20 * unit, y + h), (x + 16 * unit, y + h / 2)]
    draw_frustum(sheet, [apex, *corners], INPUTS, INPUTS, unit)
    count = len(scene.inputs)
    text = "input camera" if count == 1 else f"{count} input cameras"
    x = sheet.text((x + 30 * unit, y), text, TEXT, scene.text, "lm")[2] + 34 * unit
    if scene.keys is not None:
        draw_key(sheet, (x + 9 * unit, y), unit)
        x = sheet.text((x + 28 * unit, y), "keys", TEXT, scene.text, "lm")[2] + 34 * unit
    if scene.layout.pivot is not None:
        draw_pivot(sheet, (x + 9 * unit, y), unit)
        x = sheet.text((x + 28 * unit, y), "point the cameras look at", TEXT, scene.text, "lm")[2] + 34 * unit
    if bool(scene.outside.any()):
        sheet.line(((x, y), (x + 30 * unit, y)), OUTSIDE, 11 * unit)
        sheet.line(((x, y), (x + 30 * unit, y)), time_colour(0.5), 4.5 * unit)
        sheet.text((x + 44 * unit, y), "leaves what was seen", TEXT, scene.text, "lm")


def _colour_of(frame: float, scene: _Scene) -> Colour:
    return time_colour(frame / max(len(scene.path) - 1, 1))


def _spread(count: int, most: int) -> list[int]:
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()


def _some(cameras: Cameras) -> Cameras:
    return cameras[_spread(len(cameras), _MOST_FRUSTUMS)]
