"""Where things stand in the preview of a camera path: three orthogonal planes of one scale, and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import camera_extent
from ..trajectories.framing import estimate_up, focus_distance, focus_point, one_scene
from ..types import Cameras
from ..views.selection import middle_view
from .canvas import Box

ASPECT = 0.74  # height of the whole preview by its width
_MARGIN, _GAP, _LEGEND = 0.0125, 0.01, 0.045  # of the width
_HEADROOM, _FOOTROOM, _SIDEROOM = 0.15, 0.14, 0.09  # of a plane: title, scale bar, labels
_FRUSTUM = 0.07  # of what a plane shows
PATH_FRUSTUM = 1.5  # length of the path's frustums by that of the inputs'
_FARTHEST_PIVOT = 1.5  # times the size of everything else; beyond, the pivot is left out
_NICE = (1.0, 2.0, 5.0, 10.0)
_BAR = 0.3  # longest scale bar, of a plane's width
_CORNERS = torch.tensor([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=torch.float64)


@dataclass(frozen=True)
class Plane:
    """An orthogonal view."""

    name: str
    axes: Tensor  # [2, 3] unit vectors of the world: to the right and upwards in the drawing
    axis_names: tuple[str, str]
    centre: Tensor  # [3] world point in the middle
    scale: float  # pixels per scene unit
    box: Box  # in the whole preview

    def project(self, points: Tensor) -> Tensor:
        """World points [..., 3] as pixels (x, y) [..., 2] of the whole preview."""
        local = (points.double() - self.centre) @ self.axes.T * self.scale
        middle = torch.tensor([(self.box[0] + self.box[2]) / 2, _middle_height(self.box)], dtype=torch.float64)
        return middle + local * torch.tensor([1.0, -1.0], dtype=torch.float64)


@dataclass(frozen=True)
class PictureView:
    """What an input camera sees."""

    camera: Cameras  # one
    box: Box  # of the picture, in the whole preview

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [..., 3] as pixels [..., 2] of the whole preview and depths [...] before the camera."""
        c2w, K = self.camera.c2w[0].double(), self.camera.K[0].double()
        local = (points.double() - c2w[:3, 3]) @ c2w[:3, :3]
        depth = local[..., 2]
        safe = torch.where(depth.abs() > torch.finfo(torch.float32).tiny, depth, 1.0)
        place = (local / safe[..., None]) @ K.T
        left, top, right, bottom = self.box
        size = torch.tensor([right - left, bottom - top], dtype=torch.float64)
        return place[..., :2] * size + torch.tensor([left, top], dtype=torch.float64), depth


@dataclass(frozen=True)
class Layout:
    """All views of a preview."""

    size: tuple[int, int]  # (width, height)
    planes: tuple[Plane, ...]  # top, front, side
    picture: PictureView
    picture_panel: Box  # around the picture
    pivot: Tensor | None  # [3], None when it is too far away to be shown
    frustum: float  # length of an input camera's frustum, scene units
    bar: float  # length of the scale bar, scene units


def panel_boxes(width: int) -> tuple[Box, Box, Box, Box]:
    """The upper left (top), lower left (front), lower right (side) and upper right (picture) panels."""
    margin, gap, legend = (round(share * width) for share in (_MARGIN, _GAP, _LEGEND))
    height = round(ASPECT * width)
    across, down = (width - 2 * margin - gap) // 2, (height - 2 * margin - gap - legend) // 2
    left, right = margin, margin + across + gap
    top, bottom = margin, margin + down + gap

    def box(x: int, y: int) -> Box:
        return float(x), float(y), float(x + across), float(y + down)

    return box(left, top), box(left, bottom), box(right, bottom), box(right, top)


def preview_layout(path: Cameras, inputs: Cameras, keys: Cameras | None = None, width: int = 1280) -> Layout:
    """The views of a preview `width` pixels wide.

    The world is drawn upright (`framing.estimate_up`), seen from above, from behind the middle one of the input
    cameras, and from its right. All three planes have one scale, in which path, input cameras, keys and, if it is not
    too far away, the focus point fit.

    Raises:
        ValueError: cameras of several scenes.
    """
    path, inputs = one_scene(path), one_scene(inputs)
    shown = [cameras for cameras in (path, inputs, keys) if cameras is not None]
    points = torch.cat([cameras.centers.double().cpu() for cameras in shown])
    right, ahead, up = _world_axes(inputs)
    pivot = focus_point(inputs).double()
    span = float((points.amax(0) - points.amin(0)).norm())
    near = float((pivot - points.mean(0)).norm()) <= _FARTHEST_PIVOT * max(span, focus_distance(inputs))
    everything = torch.cat([points, pivot[None]]) if near else points
    frustum = _FRUSTUM * max(float((everything.amax(0) - everything.amin(0)).norm()), _smallest(inputs))
    tips = (frustums(cameras, frustum * PATH_FRUSTUM).flatten(0, 1) for cameras in (path, inputs))
    everything = torch.cat([everything, *tips])
    boxes = panel_boxes(width)
    frames = (
        ("Top", (right, ahead), ("right", "ahead")),
        ("Front", (right, up), ("right", "up")),
        ("Side", (ahead, up), ("ahead", "up")),
    )
    axes = torch.stack([right, ahead, up])
    local = everything @ axes.T
    centre = ((local.amax(0) + local.amin(0)) / 2) @ axes
    scale = _common_scale([everything @ torch.stack(pair).T for _, pair, _ in frames], boxes[0])
    planes = tuple(
        Plane(name, torch.stack(pair), names, centre, scale, box)
        for (name, pair, names), box in zip(frames, boxes, strict=False)
    )
    picture = PictureView(inputs[[0]], _fit(inputs[[0]], boxes[3]))
    bar = _nice_length(_BAR * (boxes[0][2] - boxes[0][0]) / scale)
    return Layout((width, round(ASPECT * width)), planes, picture, boxes[3], pivot if near else None, frustum, bar)


def frustums(cameras: Cameras, length: float) -> Tensor:
    """Apex and four corners of every camera's frustum in world coordinates, [V, 5, 3] float64.

    The corners lie `length` along the viewing direction: upper left, upper right, lower right, lower left.
    """
    c2w, K = cameras.c2w.cpu().double(), cameras.K.cpu().double()
    corners = torch.einsum("vij,nj->vni", torch.linalg.inv(K), _CORNERS) * length
    local = torch.cat([torch.zeros_like(corners[:, :1]), corners], dim=1)
    return torch.einsum("vij,vnj->vni", c2w[:, :3, :3], local) + c2w[:, None, :3, 3]


def _world_axes(inputs: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors right, ahead and up [3]: ahead is the level part of the middle view's viewing direction."""
    up = estimate_up(inputs).double()
    view = inputs.c2w[middle_view(inputs), :3, :3].double()
    right = torch.linalg.cross(view[:, 2], up)
    if right.norm() < 0.1:  # looking straight up or down
        right = view[:, 0] - view[:, 0] @ up * up
    right = F.normalize(right, dim=0)
    return right, torch.linalg.cross(up, right), up


def _smallest(inputs: Cameras) -> float:
    """What is shown at least where nothing moves, scene units."""
    return max(camera_extent(inputs), focus_distance(inputs) / 2)


def _common_scale(planar: Sequence[Tensor], box: Box) -> float:
    """Pixels per unit at which every set of points [N, 2] fits into a panel as large as `box`."""
    room = (
        (box[2] - box[0]) * (1 - 2 * _SIDEROOM),
        (box[3] - box[1]) * (1 - _HEADROOM - _FOOTROOM),
    )
    tiny = torch.finfo(torch.float64).tiny
    sizes = [(points.amax(0) - points.amin(0)).clamp(min=tiny) for points in planar]
    return min(pixels / float(size[axis]) for size in sizes for axis, pixels in enumerate(room))


def _middle_height(box: Box) -> float:
    """Where the middle of a plane is drawn: between its title and its scale bar."""
    return box[1] + (box[3] - box[1]) * (1 + _HEADROOM - _FOOTROOM) / 2


def _fit(camera: Cameras, panel: Box) -> Box:
    """The largest box of the camera's proportions under the title of a panel."""
    left, top, right, bottom = panel
    rim = (right - left) * 0.02
    left, top, right, bottom = left + rim, top + (bottom - top) * _HEADROOM * 0.8, right - rim, bottom - rim
    height, width = camera.size or (float(camera.K[0, 0, 0]), float(camera.K[0, 1, 1]))
    zoom = min((right - left) / width, (bottom - top) / height)
    across, down = round(width * zoom), round(height * zoom)
    x, y = round((left + right - across) / 2), round((top + bottom - down) / 2)
    return float(x), float(y), float(x + across), float(y + down)


def _nice_length(longest: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step for step in (factor * power for factor in _NICE) if step <= longest * (1 + 1e-9))
