"""The camera path of one capture, walked in the scene of another (trajectory transfer, SceneTok, section 4)."""

from __future__ import annotations

import math

from .camera import camera_extent, relative_poses
from .types import Cameras
from .views.selection import middle_view


def transfer_path(path: Cameras, onto: Cameras, scale: float | None = None, reference: int | None = None) -> Cameras:
    """Carry a path over from its own world into that of another scene; the intrinsics stay the path's.

    The path's reference camera is laid onto the scene's most central camera, and the other cameras keep their places
    around it.

    Args:
        path: T cameras of one capture.
        onto: the cameras of the scene that is to be seen.
        scale: scene units per unit of the path; None gives the path the extent of the scene's cameras (1 where either
            of them does not move).
        reference: the path's camera that is laid onto the scene's; None = its most central one.

    Returns:
        T cameras in the world of `onto`.

    Raises:
        ValueError: cameras of several scenes, an unknown reference, or a scale that is not positive.
    """
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number of scene units, got {scale}")
    if reference is not None and not 0 <= reference < len(path):
        raise ValueError(f"the path's reference must be between 0 and {len(path) - 1}, got {reference}")
    first = middle_view(path) if reference is None else reference
    if scale is None:
        own, wanted = camera_extent(path), camera_extent(onto)
        scale = wanted / own if own > 0 and wanted > 0 else 1.0
    local = relative_poses(path.c2w, path.c2w[first]).double()
    local[:, :3, 3] *= scale
    c2w = onto.c2w[middle_view(onto)].double().to(local.device) @ local
    return path.replace(c2w=c2w.float(), unit=onto.unit)
