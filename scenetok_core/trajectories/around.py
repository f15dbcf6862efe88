"""Paths around the focus point: orbit, arc, spiral."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..types import Cameras
from .framing import look_at
from .pace import Pace, fractions, sweep
from .rig import Rig, start_rig
from .splines import rotation_about


def _circle(rig: Rig, angles: Tensor) -> Cameras:
    turn = rotation_about(rig.up, angles)
    return rig.path(rig.pivot + turn @ (rig.position - rig.pivot), turn @ rig.aimed)


def orbit(
    cameras: Cameras,
    frames: int | Pace,
    *,
    degrees: float = 360.0,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Circle around the focus point at the reference camera's height and distance, always looking at that point.

    Starts where the reference camera stands; positive degrees move the camera to its right. Whole turns leave out the
    last camera, which would repeat the first, so that the video loops.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        degrees: angle of the path.
        reference: input view to start from; None = the middle one (`selection.middle_view`).
        focus_distance: put the pivot this far in front of the reference camera, scene units; None = `focus_point`.

    Raises:
        ValueError: no frames, an unknown reference view, or a focus distance that is not positive.
    """
    return _circle(start_rig(cameras, reference, focus_distance), sweep(degrees, frames))


def arc(
    cameras: Cameras,
    frames: int | Pace,
    *,
    degrees: float = 60.0,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Swing on a circle around the focus point: half of `degrees` to the right, to the left, and back; the video loops.

    Arguments and errors as for `orbit`.
    """
    swing = torch.sin(2 * math.pi * fractions(frames, closed=True)) * math.radians(degrees) / 2
    return _circle(start_rig(cameras, reference, focus_distance), swing)


def spiral(
    cameras: Cameras,
    frames: int | Pace,
    *,
    radius: float = 0.2,
    turns: float = 2.0,
    forward: float = 0.2,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Wind around the line from the reference camera to the focus point, looking at that point all the time.

    The spiral opens from the line to `radius` halfway and closes again, so it starts at the reference camera and ends
    straight ahead of it.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        radius: largest distance from the line, as a fraction of the distance to the focus point.
        turns: number of turns, the sign sets the direction.
        forward: motion along the line, as a fraction of the distance to the focus point, below 1.
        reference: as for `orbit`.
        focus_distance: as for `orbit`.

    Raises:
        ValueError: as for `orbit`, or `forward` that reaches the focus point.
    """
    if not forward < 1:
        raise ValueError(f"forward must stay below 1, the focus point itself, got {forward}")
    rig = start_rig(cameras, reference, focus_distance)
    time = fractions(frames)
    distance, aimed = rig.distance, rig.aimed
    angle = 2 * math.pi * turns * time
    opening = radius * torch.sin(math.pi * time)
    local = torch.stack([opening * angle.cos(), opening * angle.sin(), forward * time], dim=-1) * distance
    position = rig.position + local @ aimed.T
    return rig.path(position, look_at(position, rig.pivot, rig.up, aimed))
