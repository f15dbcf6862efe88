"""A point cloud seen from all around, with the frustums of the cameras that saw it, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..pictures.sheets import evenly_spread
from ..sampling import Progress
from ..trajectories.framing import estimate_up, look_at, single_camera
from ..trajectories.splines import rotation_about
from ..types import Cameras
from .fusion import PointCloud, inner_box, project

INPUT_COLOUR, PATH_COLOUR = (0.95, 0.15, 0.1), (0.35, 0.75, 1.0)
_BACKGROUND = 0.094
_FOV = 40.0  # degrees
_FINE = 2  # a picture is drawn with so many pixels along an edge of each of its own
_MOST_POINTS, _MOST_FRUSTUMS = 300_000, 12
_FRUSTUM = 0.03  # its length as a share of the scene's extent
_LINE_POINTS = 96
_LARGEST_SPLAT = 4  # pixels to each side
_MEASURED = 5000  # points that the viewer's distance is measured on
_MARGIN = 1.05
_EMPTY = torch.iinfo(torch.int64).max
_INDEX_BITS = 32


def turntable(
    cloud: PointCloud,
    inputs: Cameras | None = None,
    *,
    frames: int = 64,
    size: int = 512,
    elevation: float = 30.0,
    frustums: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """One turn around the points, which are seen from the side that the cameras saw; so walls do not hide a room.

    Args:
        cloud: the points; of more than 300 000, an even choice is drawn.
        inputs: cameras that the scene was made from; their frustums are red, those of the cloud's cameras blue.
        frames: pictures of the turn, at least 1; the first looks the way the first camera does.
        size: side of the square pictures, in pixels, at least 16.
        elevation: of the viewer above the points, in degrees, -90 to 90.
        frustums: draw them; of many cameras, an even choice of 12.
        progress: called after every picture; may raise to cancel.

    Returns:
        Pictures [frames, 3, size, size] in [0, 1].

    Raises:
        ValueError: too few frames or pixels.
    """
    if frames < 1 or size < 16:
        raise ValueError(f"a turntable needs at least 1 frame of 16 pixels, got {frames} of {size}")
    drawn = [cameras for cameras in (cloud.cameras, inputs) if cameras is not None] if frustums else []
    low, high = inner_box(cloud.xyz)
    shown = torch.cat([evenly_spread(cloud.xyz, _MEASURED).clamp(low, high), *(c.centers.cpu() for c in drawn)])
    viewers = _around(cloud.cameras.to("cpu"), shown, frames, elevation)
    keep = evenly_spread(torch.arange(len(cloud)), _MOST_POINTS)
    xyz, rgb, normals = cloud.xyz[keep], cloud.rgb[keep], cloud.normals[keep]
    splat = _splat(len(keep), size * _FINE)
    if frustums:
        lines, colours = _frustums(drawn, float((high - low).norm()) * _FRUSTUM)
        xyz, rgb = torch.cat([xyz, lines]), torch.cat([rgb, colours])
        normals = torch.cat([normals, torch.zeros_like(lines)])  # seen from everywhere
    pictures = torch.empty(frames, 3, size, size)
    for i, viewer in enumerate(viewers):
        facing = ((viewer.centers[0] - xyz) * normals).sum(-1) >= 0
        pictures[i] = _draw(xyz[facing], rgb[facing], viewer, size, splat)
        if progress is not None:
            progress(i + 1, frames, None)
    return pictures


def _around(cameras: Cameras, shown: Tensor, frames: int, elevation: float) -> Cameras:
    """Cameras on a circle around points [n, 3], far enough to see them all."""
    up, first = estimate_up(cameras), cameras.c2w[0, :3, :3]
    level = look_at(torch.zeros(3), first[:, 2] - (first[:, 2] @ up) * up, up, first)
    down = rotation_about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([-math.radians(elevation)]))[0]
    rotation = rotation_about(up, torch.arange(frames) * 2 * math.pi / frames) @ level @ down
    middle = (shown.amin(0) + shown.amax(0)) / 2
    local = (shown - middle) @ rotation.float()  # [frames, n, 3]
    reach = local[..., :2].abs().amax(-1) / math.tan(math.radians(_FOV) / 2) - local[..., 2]
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, :3, :3] = rotation.float()
    c2w[:, :3, 3] = middle - (_MARGIN * reach.amax() or 1.0) * c2w[:, :3, 2]
    return Cameras(c2w, single_camera((1, 1), _FOV).K.repeat(frames, 1, 1))


def _splat(points: int, side: int) -> int:
    """Pixels to each side of a point that close most gaps: points spread over the whole picture would touch."""
    spacing = side / math.sqrt(max(points, 1))
    return min(max(math.ceil((spacing - 1) / 2), 0), _LARGEST_SPLAT)


def _draw(xyz: Tensor, rgb: Tensor, viewer: Cameras, size: int, splat: int) -> Tensor:
    """The nearest of the points [N, 3] in every pixel: a picture [3, size, size]."""
    side = size * _FINE
    place, depth = (values[0] for values in project(xyz, viewer))
    seen = (((place >= 0) & (place < 1)).all(-1) & (depth > 0)).nonzero()[:, 0]
    column, row = (place[seen] * side).long().clamp(max=side - 1).unbind(-1)
    # The bits of positive floats are ordered as they are: the least number is the nearest point.
    keys = (depth[seen].view(torch.int32).long() << _INDEX_BITS) + seen
    nearest = torch.full((side * side,), _EMPTY)
    nearest.scatter_reduce_(0, row * side + column, keys, "amin")
    nearest = _least_around(nearest.view(side, side), splat)
    index = torch.where(nearest == _EMPTY, len(xyz), nearest & (2**_INDEX_BITS - 1))
    colours = torch.cat([rgb, rgb.new_full((1, 3), _BACKGROUND)])
    return colours[index].view(size, _FINE, size, _FINE, 3).mean((1, 3)).movedim(-1, 0)


def _least_around(values: Tensor, reach: int) -> Tensor:
    """The least value [H, W] within a square of `reach` to each side."""
    for dim in (0, 1):
        least = values.clone()
        for shift in range(1, reach + 1):
            inner, outer = values.shape[dim] - shift, values.narrow(dim, shift, values.shape[dim] - shift)
            first, last = least.narrow(dim, 0, inner), least.narrow(dim, shift, inner)
            torch.minimum(first, outer, out=first)
            torch.minimum(last, values.narrow(dim, 0, inner), out=last)
        values = least
    return values


def _frustums(drawn: Sequence[Cameras], length: float) -> tuple[Tensor, Tensor]:
    """Points on the lines of the frustums of a path and of inputs, and their colours: [n, 3] each."""
    lines = [_frustum_lines(cameras.to("cpu"), length) for cameras in drawn]
    colours = [torch.tensor(c).expand_as(line) for line, c in zip(lines, (PATH_COLOUR, INPUT_COLOUR), strict=False)]
    return torch.cat(lines), torch.cat(colours)


def _frustum_lines(cameras: Cameras, length: float) -> Tensor:
    chosen = cameras[evenly_spread(torch.arange(len(cameras)), _MOST_FRUSTUMS)]
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    rays = torch.cat([ends, torch.ones(4, 1)], 1) @ torch.linalg.inv(chosen.K).transpose(-1, -2)  # [V, 4, 3]
    corners = chosen.centers[:, None] + length * rays @ chosen.c2w[:, :3, :3].transpose(-1, -2)
    apex = chosen.centers[:, None].expand_as(corners)
    starts, stops = torch.cat([apex, corners], 1), torch.cat([corners, corners.roll(1, 1)], 1)
    return torch.lerp(starts[..., None, :], stops[..., None, :], torch.linspace(0, 1, _LINE_POINTS)[:, None]).reshape(
        -1, 3
    )
