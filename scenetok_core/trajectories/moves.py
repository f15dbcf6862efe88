"""Paths of one camera that moves, turns or zooms: dolly, zoom, pan, tilt."""

from __future__ import annotations

import math

from ..types import Cameras
from .framing import zoomed
from .pace import Pace, fractions, sweep
from .rig import start_rig
from .splines import rotation_about


def dolly(
    cameras: Cameras,
    frames: int | Pace,
    *,
    distance: float = 0.5,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Move straight along the reference camera's viewing direction; it does not turn.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        distance: length of the path as a fraction of the distance to the focus point; negative moves back.
        reference: as for `orbit`.
        focus_distance: as for `orbit`.

    Raises:
        ValueError: as for `orbit`.
    """
    rig = start_rig(cameras, reference, focus_distance)
    step = rig.rotation[:, 2] * rig.distance * distance
    return rig.path(rig.position + fractions(frames)[:, None] * step, rig.rotation)


def zoom(
    cameras: Cameras,
    frames: int | Pace,
    *,
    zoom: float = 2.0,
    dolly_zoom: bool = False,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Change the reference camera's focal length at an even rate; it neither moves nor turns.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        zoom: focal length of the last camera as a multiple of the first one's; above 1 the field of view narrows.
        dolly_zoom: move along the viewing direction meanwhile, so that what is as far away as the focus point keeps
            its size in the picture (backwards when the field of view narrows).
        reference: as for `orbit`.
        focus_distance: as for `orbit`.

    Raises:
        ValueError: as for `orbit`, or a zoom that is not positive.
    """
    if not (math.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom must be a positive multiple of the focal length, got {zoom}")
    rig = start_rig(cameras, reference, focus_distance)
    factor = zoom ** fractions(frames)
    count = len(factor)
    position = rig.position.expand(count, 3)
    if dolly_zoom:
        position = position + (1 - factor)[:, None] * rig.distance * rig.rotation[:, 2]
    return rig.zoomed(position, rig.rotation.expand(count, 3, 3), zoomed(rig.intrinsics.expand(count, 3, 3), factor))


def pan(cameras: Cameras, frames: int | Pace, *, degrees: float = 45.0, reference: int | None = None) -> Cameras:
    """Turn the reference camera about the world's up direction; positive degrees look to the right.

    Arguments and errors as for `orbit`.
    """
    rig = start_rig(cameras, reference, None)
    return rig.path(rig.position, rotation_about(rig.up, -sweep(degrees, frames)) @ rig.rotation)


def tilt(cameras: Cameras, frames: int | Pace, *, degrees: float = 30.0, reference: int | None = None) -> Cameras:
    """Turn the reference camera about its own x axis; positive degrees look up.

    Arguments and errors as for `orbit`.
    """
    rig = start_rig(cameras, reference, None)
    return rig.path(rig.position, rotation_about(rig.rotation[:, 0], sweep(degrees, frames)) @ rig.rotation)
