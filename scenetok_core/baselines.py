"""What a rendering is compared with: the inputs, carried over in simple ways, and the truth itself, blurred."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .camera import camera_extent, pose_distance
from .types import Cameras, Views


def view_distance(inputs: Views, targets: Cameras, radian_length: float | None = None) -> Tensor:
    """Squared distance between target and input cameras of one scene, translation and rotation together.

    Args:
        inputs: V views.
        targets: T cameras in the same world.
        radian_length: the translation, in scene units, that counts as much as one radian of rotation; None takes the
            extent of the input cameras, so that the unit of the capture does not matter. Cameras without extent are
            compared by rotation alone.

    Returns:
        [T, V] float64 in squared radians.
    """
    length = (camera_extent(inputs.cameras) or math.inf) if radian_length is None else radian_length
    c2w = torch.cat([targets.c2w, inputs.cameras.c2w]).double()
    c2w[:, :3, 3] = (c2w[:, :3, 3] - c2w[:, :3, 3].mean(0)) / length
    return pose_distance(c2w)[: len(targets), len(targets) :]


def nearest_view(inputs: Views, targets: Cameras, radian_length: float | None = None) -> Tensor:
    """The input picture whose camera is nearest to each target (see `view_distance`): [T, 3, H, W]."""
    return inputs.rgb[view_distance(inputs, targets, radian_length).argmin(1)]


def mean_colour(inputs: Views, count: int) -> Tensor:
    """The mean colour of all inputs, `count` flat pictures: [count, 3, H, W]."""
    return inputs.rgb.mean((0, 2, 3))[None, :, None, None].expand(count, 3, *inputs.rgb.shape[-2:])


def thumbnail(
    truth: Tensor,  # [N, 3, H, W]
    side: int,
) -> Tensor:
    """Pictures averaged down to `side` x `side` pixels and enlarged again, bilinear: [N, 3, H, W]."""
    small = F.interpolate(truth, size=(side, side), mode="area")
    return F.interpolate(small, size=truth.shape[-2:], mode="bilinear", align_corners=False)
