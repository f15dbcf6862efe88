"""What can be done to a finished path: reverse, trim, resample, smooth, offset, another field of view."""

from __future__ import annotations

import math

import torch

from ..types import Cameras
from .framing import focus_distance, with_fov, zoomed
from .pace import fractions
from .rig import from_keys, to_keys
from .splines import constant_pace, interpolate, smooth
from .through import check_smoothing


def reverse_path(path: Cameras) -> Cameras:
    """The same cameras from the last to the first."""
    return path[list(range(len(path) - 1, -1, -1))]


def trim_path(path: Cameras, start: int = 0, end: int = 0) -> Cameras:
    """The path without its first `start` and its last `end` cameras.

    Raises:
        ValueError: negative numbers, or none of the cameras left.
    """
    if min(start, end) < 0 or start + end >= len(path):
        raise ValueError(
            f"cannot take {start} cameras from the start and {end} from the end of a path of {len(path)}; at least one "
            "must stay"
        )
    return path[start : len(path) - end]


def resample_path(path: Cameras, frames: int, *, even: bool = False) -> Cameras:
    """The same path with another number of cameras, from its first camera to its last.

    Args:
        path: the cameras of one path.
        frames: number of cameras, >= 1.
        even: walk it at constant pace (`splines.constant_pace`); otherwise it keeps its pace, easing included.

    Raises:
        ValueError: no frames, or cameras of several scenes.
    """
    keys, places = to_keys(path), fractions(frames)
    if even:
        return from_keys(path, constant_pace(keys, places))
    return from_keys(path, interpolate(keys, places * (len(path) - 1)))


def smooth_path(path: Cameras, smoothing: float) -> Cameras:
    """Take shake out of a path; its ends stay where they are, the pace is kept.

    Args:
        path: the cameras of one path.
        smoothing: standard deviation, as a fraction of the path's frames; 0 changes nothing.

    Raises:
        ValueError: negative smoothing, or cameras of several scenes.
    """
    check_smoothing(smoothing)
    if smoothing == 0 or len(path) < 3:
        return path
    return from_keys(path, smooth(to_keys(path), smoothing * len(path)))


def offset_path(path: Cameras, right: float, down: float, forward: float) -> Cameras:
    """Move every camera along its own axes, in scene units (`framing.focus_distance` is a good measure); none turns.

    Raises:
        ValueError: a length that is no number.
    """
    if not all(map(math.isfinite, (right, down, forward))):
        raise ValueError(f"an offset must be three numbers, got {right}, {down}, {forward}")
    c2w = path.c2w.double()
    c2w[..., :3, 3] += c2w[..., :3, :3] @ torch.tensor([right, down, forward], dtype=c2w.dtype, device=c2w.device)
    return path.replace(c2w=c2w)


def path_fov(path: Cameras, fov: float | None = None, zoom: float = 1.0) -> Cameras:
    """The path with another field of view.

    Args:
        path: the cameras.
        fov: vertical field of view in degrees; None keeps each camera's own.
        zoom: focal length times this, after `fov`; above 1 the field of view narrows.

    Raises:
        ValueError: a field of view outside of 0 to 180 degrees, or a zoom that is not positive.
    """
    if not (math.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom must be a positive multiple of the focal length, got {zoom}")
    K = path.K if fov is None else with_fov(path.K, fov)
    return path if fov is None and zoom == 1 else path.replace(K=zoomed(K, torch.full_like(K[..., 0, 0], zoom)))


def edit_path(
    path: Cameras,
    *,
    trim: tuple[int, int] = (0, 0),
    reverse: bool = False,
    frames: int | None = None,
    even: bool = False,
    smoothing: float = 0.0,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    fov: float | None = None,
    zoom: float = 1.0,
    around: Cameras | None = None,
) -> Cameras:
    """The tools of this module one after another, in the order of the arguments; by default none changes anything.

    Args:
        path: the cameras of one path.
        trim: cameras to take from start and end, see `trim_path`.
        reverse: from the last camera to the first.
        frames: number of cameras after `resample_path`; None = as many as there are.
        even: at constant pace, see `resample_path`.
        smoothing: see `smooth_path`.
        offset: right, down and forward, as fractions of the distance to the focus point of `around`.
        fov: see `path_fov`.
        zoom: see `path_fov`.
        around: the input cameras of the scene; None = the path itself.

    Raises:
        ValueError: what the tools refuse.
    """
    path = trim_path(path, *trim)
    path = reverse_path(path) if reverse else path
    if frames is not None or even:
        path = resample_path(path, len(path) if frames is None else frames, even=even)
    path = smooth_path(path, smoothing)
    if any(offset):
        unit = focus_distance(path if around is None else around)
        path = offset_path(path, *(share * unit for share in offset))
    return path_fov(path, fov, zoom)
