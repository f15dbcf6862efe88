"""How the input cameras frame the scene: the world's up direction, the point they look at, and aiming a camera."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .camera import camera_extent
from .selection import middle_view
from .types import Cameras

DEFAULT_FOV = 60.0  # degrees across the longer side, for pictures of which nothing is known
# A squared sine: axes within about 2 degrees of each other span no plane, such rays never meet.
_PARALLEL = 1e-3
_WELL_SPREAD = 4.0  # ratio of the two smallest spreads above which the smallest one is a direction, not chance
_IN_FRONT = 0.75  # share of the cameras that must have the focus point before them
_NEAREST_FOCUS = 0.1  # of the camera extent
_SIGN_CLEAR = 0.05
_CENTRAL = math.cos(math.radians(25))
_SAME_WAY = 0.9  # length of the mean viewing direction
_WALK_FOCUS = 0.25  # of the camera extent


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

    Three quarters of the cameras must have it in front of them, most of them near the middle of the picture. Otherwise:

    - cameras that all look the same way: in front of their mean, at a distance of one camera extent;
    - a walk or a panorama: in front of the middle view, at a quarter of the extent;
    - cameras that never moved: one scene unit in front, as there is nothing to measure.

    Raises:
        ValueError: cameras of several scenes.
    """
    cameras = one_scene(cameras)
    centers, forward = cameras.centers.double(), F.normalize(cameras.forward.double(), dim=-1)
    extent, mean = camera_extent(cameras), centers.mean(0)
    meeting = _ray_meeting(centers - mean, forward, extent)
    if meeting is not None:
        return (mean + meeting).float()
    ahead = forward.mean(0)
    if ahead.norm() > _SAME_WAY:
        return (mean + F.normalize(ahead, dim=0) * (extent or 1.0)).float()
    view = middle_view(cameras)
    return (centers[view] + forward[view] * (_WALK_FOCUS * extent or 1.0)).float()


def _ray_meeting(centers: Tensor, forward: Tensor, extent: float) -> Tensor | None:
    """The least-squares nearest point [3] to rays [V, 3], or None when it is not what the cameras look at."""
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    if extent == 0 or torch.linalg.eigvalsh(across.mean(0))[0] < _PARALLEL:
        return None
    point = torch.linalg.solve(across.sum(0), (across @ centers[..., None]).sum(0))[:, 0]
    toward = point - centers
    depth = (toward * forward).sum(-1)
    in_front = (depth > _NEAREST_FOCUS * extent).double().mean() >= _IN_FRONT
    central = (depth > _CENTRAL * toward.norm(dim=-1)).double().mean() >= 0.5
    return point if in_front and central else None


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


def single_camera(size: tuple[int, int], fov_degrees: float) -> Cameras:
    """A camera at the origin that looks along z, for a picture whose pose is not known.

    Args:
        size: (height, width) of the picture.
        fov_degrees: field of view across its longer side.

    Raises:
        ValueError: a field of view outside of 0 to 180 degrees.
    """
    if not 0 < fov_degrees < 180:
        raise ValueError(f"the field of view must lie between 0 and 180 degrees, got {fov_degrees}")
    focal = max(size) / (2 * math.tan(math.radians(fov_degrees) / 2))  # pixels
    K = torch.tensor([[focal / size[1], 0.0, 0.5], [0.0, focal / size[0], 0.5], [0.0, 0.0, 1.0]])
    return Cameras(torch.eye(4)[None], K[None], size=size)
