"""DA3_GEOMETRY, what ComfyUI's Depth Anything 3 nodes give: a dict of pictures, depth and cameras.

In mode multiview `extrinsics` [1, V, 3, 4] are world-to-camera with OpenCV axes and `intrinsics` [1, V, 3, 3] in
pixels of the picture as the network saw it, not of `image`: that one has its sides rounded to multiples of 14, its size
is in the dict nowhere, and only the principal point tells it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..types import Views
from .matrices import cameras_from_w2c

_PATCH = 14


def from_depth_anything(geometry: object) -> Views:
    """Pictures and cameras of a DA3_GEOMETRY of several views, in the network's own world and unit.

    The network's picture size is twice the median principal point, rounded to a multiple of 14: exact where the camera
    decoder gives the cameras, whose principal point is the centre, and near where they are fitted to rays.

    Args:
        geometry: a dict with image [V, H, W, 3] in [0, 1], extrinsics [1, V, 3, 4] and intrinsics [1, V, 3, 3].

    Raises:
        ValueError: something else, one of a single view or of a model without cameras, or poses that failed.
    """
    if not isinstance(geometry, Mapping):
        raise ValueError(f"DA3_GEOMETRY must be a dict, got {type(geometry).__name__}")
    missing = [key for key in ("image", "extrinsics", "intrinsics") if not isinstance(geometry.get(key), Tensor)]
    if missing:
        raise ValueError(
            f"this DA3_GEOMETRY (mode {geometry.get('mode')!r}) has no {', '.join(missing)}; run Depth Anything 3 in "
            "mode multiview, with a Small or Base model and all pictures as one batch"
        )
    image, extrinsics, intrinsics = (geometry[key].detach().cpu() for key in ("image", "extrinsics", "intrinsics"))
    views = len(image)
    w2c = _per_view("extrinsics", extrinsics, views, (3, 4) if extrinsics.shape[-2] == 3 else (4, 4))
    K = _per_view("intrinsics", intrinsics, views, (3, 3))
    sides = (2 * K[:, :2, 2].median(0).values / _PATCH).round() * _PATCH
    if not bool((sides > 0).all()):
        raise ValueError(
            "this DA3_GEOMETRY has no intrinsics: the model has no camera decoder; use a Small or Base model, or pose "
            "method ray_pose"
        )
    K = K / torch.cat([sides, sides.new_ones(1)])[:, None]
    rgb = image[..., :3].movedim(-1, -3).float()
    return Views(rgb, cameras_from_w2c(w2c, K, (rgb.shape[-2], rgb.shape[-1])))


def _per_view(name: str, value: Tensor, views: int, matrix: tuple[int, int]) -> Tensor:
    """Matrices [V, rows, columns] float64 of [1, V, rows, columns]."""
    if value.shape[-2:] != matrix or value.numel() != views * matrix[0] * matrix[1]:
        raise ValueError(
            f"{name} of this DA3_GEOMETRY must have shape [1, {views}, {matrix[0]}, {matrix[1]}] for its {views} "
            f"pictures, got {list(value.shape)}"
        )
    return value.double().reshape(views, *matrix)
