"""How the input cameras frame the scene: the world's up direction, the point they look at, and aiming a camera."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import camera_extent
from ..types import Cameras
from ..views.selection import middle_view

DEFAULT_FOV = 60.0  # degrees across the longer side, for pictures of which nothing is known
# A squared sine: axes within about 2 degrees of each other span no plane, such rays never meet.
_PARALLEL = 1e-3
_WELL_SPREAD = 4.0  # ratio of the two smallest spreads above which the smallest one is a direction, not chance
_IN_FRONT = 0.75  # share of the cameras that must have the focus point before them
_NEAREST_FOCUS = 0.1  # of the camera extent
_SIGN_CLEAR = 0.05
_REWEIGHTINGS = 20
_LEVEL = math.sin(math.radians(15))
_LEVEL_SHARE = 0.6  # of the cameras that must be held level to within that
_MEETING = 1e-3  # of the camera extent: rays that meet this closely all count alike
_GROUND_FLATNESS = 25.0  # ratio of the variances along and across the ground
# From here on the ground cannot be mistaken for a wall before which the cameras look down or up.
_GROUND_NEAR = 0.75
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

    People hold cameras level: the up direction is the one most orthogonal to the cameras' x axes (cameras that were
    rolled count less), signed like the mean of their -y axes, or against the mean viewing direction when they look
    straight down. When the x axes do not single out such a direction (a straight walk, random rolls) it is the normal
    of the plane in which the cameras stand, if the pictures' up lies near it, else the mean of the -y axes.

    Raises:
        ValueError: cameras of several scenes.
    """
    scene = one_scene(cameras)
    rotation = scene.c2w[:, :3, :3].double()
    up, forward = -rotation[..., 1].mean(0), rotation[..., 2].mean(0)
    level = _level_direction(rotation[..., 0])
    if level is not None:
        agreement = level @ up
        if agreement.abs() < _SIGN_CLEAR:
            agreement = -(level @ forward)
        up = level * (-1.0 if agreement < 0 else 1.0)
    elif up.norm() < _SIGN_CLEAR:
        up = -rotation[0, :, 1]
    else:
        up = _ground_normal(scene.centers.double(), F.normalize(up, dim=0))
    return F.normalize(up, dim=0).float()


def _level_direction(right: Tensor) -> Tensor | None:
    """The direction [3] orthogonal to most of the axes [V, 3], or None when they single out no such direction."""
    weight = torch.ones(len(right), dtype=right.dtype)
    spread, axes, off = torch.zeros(3), torch.eye(3), weight
    for _ in range(_REWEIGHTINGS):
        spread, axes = torch.linalg.eigh((weight[:, None] * right).T @ right / weight.sum())
        off = (right @ axes[:, 0]).abs()
        weight = _cauchy_weights(off, _LEVEL / 4)
    most = (off < _LEVEL).double().mean() >= _LEVEL_SHARE
    return axes[:, 0] if most and spread[1] > max(_PARALLEL, _WELL_SPREAD * float(spread[0])) else None


def _ground_normal(centers: Tensor, up: Tensor) -> Tensor:
    """The normal [3] of the plane in which the centres [V, 3] lie; `up` where they lie in none that is near it."""
    offset = centers - centers.mean(0)
    spread, axes = torch.linalg.eigh(offset.T @ offset)
    normal = axes[:, 0] * (axes[:, 0] @ up).sign()
    flat = spread[1] > _GROUND_FLATNESS * spread[0] and spread[1] > _PARALLEL * spread[2]
    return normal if flat and normal @ up > _GROUND_NEAR else up


def _cauchy_weights(residuals: Tensor, least: float) -> Tensor:
    """Weights [V] of a robust fit: a residual of the median (or `least`, if that is more) has half the full weight."""
    scale = residuals.median().clamp(min=max(least, torch.finfo(residuals.dtype).tiny))
    return 1 / (1 + (residuals / scale).square())


def focus_point(cameras: Cameras) -> Tensor:
    """The point [3] the cameras look at, scene units, float32: the nearest one to all viewing rays.

    Rays that pass it by far count less than the others. Three quarters of the cameras must have it in front of them,
    most of them near the middle of the picture. Otherwise:

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
    """The robust nearest point [3] to rays [V, 3], or None when it is not what the cameras look at."""
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    weight = torch.ones(len(centers), dtype=torch.float64)
    point = centers.mean(0)
    for _ in range(_REWEIGHTINGS):
        weighted = weight[:, None, None] * across / weight.sum()
        if extent == 0 or torch.linalg.eigvalsh(weighted.sum(0))[0] < _PARALLEL:
            return None
        point = torch.linalg.solve(weighted.sum(0), (weighted @ centers[..., None]).sum(0))[:, 0]
        missed = (across @ (point - centers)[..., None])[..., 0].norm(dim=-1)
        weight = _cauchy_weights(missed, _MEETING * extent)
    toward = point - centers
    depth = (toward * forward).sum(-1)
    in_front = (depth > _NEAREST_FOCUS * extent).double().mean() >= _IN_FRONT
    central = (depth > _CENTRAL * toward.norm(dim=-1)).double().mean() >= 0.5
    return point if in_front and central else None


def focus_distance(cameras: Cameras) -> float:
    """From the middle one of the cameras to their focus point (`focus_point`), in scene units."""
    return float((focus_point(cameras) - one_scene(cameras).centers[middle_view(cameras)]).norm())


def reach(cameras: Cameras) -> float:
    """The size of what cameras saw, in scene units: their extent, or their distance to the focus point if larger."""
    return max(camera_extent(cameras), focus_distance(cameras))


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


def with_fov(
    K: Tensor,  # [..., 3, 3] normalised
    fov: float,
) -> Tensor:
    """Intrinsics with another vertical field of view in degrees; pixel shape and principal point are kept.

    Raises:
        ValueError: a field of view outside of 0 to 180 degrees.
    """
    if not 0 < fov < 180:
        raise ValueError(f"fov must be a vertical angle between 0 and 180 degrees, got {fov!r}")
    return zoomed(K, 0.5 / math.tan(math.radians(fov) / 2) / K[..., 1, 1])


def zoomed(
    K: Tensor,  # [..., 3, 3] normalised
    factor: Tensor,  # [...], > 0
) -> Tensor:
    """Intrinsics with both focal lengths times `factor`; the principal point is kept."""
    stretch = torch.stack([factor, factor, torch.ones_like(factor)], dim=-1)
    return torch.where(torch.eye(3, dtype=torch.bool, device=K.device), K * stretch[..., None], K)
