"""How the input cameras frame the scene: the world's up direction, the point they look at, and aiming a camera."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .camera import camera_extent
from .selection import middle_view
from .types import Cameras

# A squared sine: axes within about 2 degrees of each other span no plane, such rays never meet.
_PARALLEL = 1e-3
_WELL_SPREAD = 4.0  # ratio of the two smallest spreads above which the smallest one is a direction, not chance
_IN_FRONT = 0.75  # share of the cameras that must have the focus point before them
_NEAREST_FOCUS = 0.1  # of the camera extent
_SIGN_CLEAR = 0.05
_COHERENT = 0.5


def one_scene(cameras: Cameras) -> Cameras:
    """The cameras on the CPU. Raises `ValueError` for a batch of scenes."""
    if cameras.c2w.ndim != 3:
        raise ValueError(f"a camera path needs the cameras of one scene [V, 4, 4], got c2w {list(cameras.c2w.shape)}")
    return cameras.to("cpu")


def estimate_up(cameras: Cameras) -> Tensor:
    """The world's up direction, a unit vector [3], float32.

    People hold cameras level: the up direction is the one most orthogonal to the cameras' x axes, signed like the
    mean of their -y axes (or against the mean viewing direction when they look straight down). When the x axes do not
    single out such a direction (a straight walk, random rolls) it is the mean of the -y axes.

    Raises:
        ValueError: cameras of several scenes.
    """
    rotation = one_scene(cameras).c2w[:, :3, :3].double()
    right, up, forward = rotation[..., 0], -rotation[..., 1].mean(0), rotation[..., 2].mean(0)
    spread, axes = torch.linalg.eigh(right.T @ right / len(right))
    if spread[1] > max(_PARALLEL, _WELL_SPREAD * float(spread[0])):
        axis = axes[:, 0]
        agreement = axis @ up
        if agreement.abs() < _SIGN_CLEAR:
            agreement = -(axis @ forward)
        up = axis * (-1.0 if agreement < 0 else 1.0)
    if up.norm() < _SIGN_CLEAR:
        up = -rotation[0, :, 1]
    return F.normalize(up, dim=0).float()


def focus_point(cameras: Cameras) -> Tensor:
    """The point [3] the cameras look at, scene units, float32: the nearest one to all viewing rays.

    When the rays are nearly parallel, or the point lies behind or among the cameras (a walk, a panorama), it is the
    point in front of the cameras' middle at a distance of one camera extent; one scene unit for a camera that never
    moved.

    Raises:
        ValueError: cameras of several scenes.
    """
    cameras = one_scene(cameras)
    centers, forward = cameras.centers.double(), F.normalize(cameras.forward.double(), dim=-1)
    extent = camera_extent(cameras)
    middle = centers.mean(0)
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    if torch.linalg.eigvalsh(across.mean(0))[0] > _PARALLEL:
        offset = torch.linalg.solve(across.sum(0), (across @ (centers - middle)[..., None]).sum(0))[:, 0]
        depth = ((middle + offset - centers) * forward).sum(-1)
        if extent > 0 and (depth > _NEAREST_FOCUS * extent).double().mean() >= _IN_FRONT:
            return (middle + offset).float()
    ahead = forward.mean(0)
    if ahead.norm() < _COHERENT:
        view = middle_view(cameras)
        middle, ahead = centers[view], forward[view]
    return (middle + F.normalize(ahead, dim=0) * (extent or 1.0)).float()


def look_at(
    position: Tensor,  # [..., 3]
    target: Tensor,  # [..., 3]
    up: Tensor,  # [3]
    fallback: Tensor,  # [3, 3] rotation that settles what `target` and `up` leave open
) -> Tensor:
    """Camera-to-world rotations [..., 3, 3] that look from `position` at `target` with `up` pointing up in the picture.

    `fallback` is returned where position and target coincide; looking straight up or down, the picture's up is that of
    `fallback`.
    """
    fallback = fallback.double()
    ahead = target.double() - position.double()
    distance = ahead.norm(dim=-1, keepdim=True)
    forward = ahead / distance.clamp(min=torch.finfo(torch.float64).tiny)
    right = torch.linalg.cross(forward, F.normalize(up.double(), dim=-1).expand_as(forward))
    spare = torch.linalg.cross(forward, -fallback[:, 1].expand_as(forward))
    right = torch.where(right.norm(dim=-1, keepdim=True) < math.sqrt(_PARALLEL), spare, right)
    right = F.normalize(right, dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1)
    return torch.where(distance[..., None] > 0, rotation, fallback.expand_as(rotation))
