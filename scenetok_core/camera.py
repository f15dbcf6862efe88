"""Camera geometry: ray maps, poses in the scene's own frame, scene scale, resize-and-crop.

Conventions in `docs/conventions.md`: OpenCV camera-to-world poses, intrinsics divided by picture width and height.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .types import Cameras, Views

# Float32 poses of a camera that only turned differ by rounding: world-to-camera poses that were inverted in float32 by
# up to 2.5 epsilons of their distance from the origin.
_STANDSTILL = 8 * torch.finfo(torch.float32).eps


def ray_map(
    c2w: Tensor,  # [..., 4, 4]
    K: Tensor,  # [..., 3, 3] divided by width and height
    size: tuple[int, int],  # (rows, columns)
) -> tuple[Tensor, Tensor]:
    """World rays through the pixel centres ((i + 0.5) / n) of a `size` grid, in float32.

    Returns:
        origins [..., 3, rows, columns] in scene units and unit directions of the same shape.
    """
    c2w, K = c2w.float(), K.float()
    rows, columns = size
    y = (torch.arange(rows, device=c2w.device) + 0.5) / rows
    x = (torch.arange(columns, device=c2w.device) + 0.5) / columns
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(rows, columns, device=c2w.device)], -1)
    local = torch.einsum("...ij,hwj->...hwi", torch.linalg.inv(K), pixels)
    directions = torch.einsum("...ij,...hwj->...ihw", c2w[..., :3, :3], F.normalize(local, dim=-1))
    origins = c2w[..., :3, 3, None, None].expand_as(directions)
    return origins, directions


def ray_features(c2w: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """The six network channels (direction, origin) of every camera: [..., 6, rows, columns]."""
    origins, directions = ray_map(c2w, K, size)
    return torch.cat([directions, origins], dim=-3)


def plucker_features(c2w: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """The six network channels (direction, origin x direction) of every camera: [..., 6, rows, columns].

    Pluecker coordinates, which the scene generator takes; they do not depend on where on the ray the camera stands.
    """
    origins, directions = ray_map(c2w, K, size)
    return torch.cat([directions, torch.linalg.cross(origins, directions, dim=-3)], dim=-3)


def scale_focal(K: Tensor, factors: tuple[float, float]) -> Tensor:
    """Intrinsics [..., 3, 3] with fx and fy times `factors`; the given ones stay as they are."""
    K = K.clone()
    K[..., 0, 0] *= factors[0]
    K[..., 1, 1] *= factors[1]
    return K


def relative_poses(c2w: Tensor, reference_c2w: Tensor) -> Tensor:
    """Poses [..., V, 4, 4] seen from one reference pose [..., 4, 4]: `inv(reference) @ c2w`."""
    return torch.linalg.inv(reference_c2w.double())[..., None, :, :].matmul(c2w.double()).float()


def invert_poses(poses: Tensor) -> Tensor:
    """Camera-to-world of world-to-camera poses [..., 3 or 4, 4], and the other way round: [..., 4, 4] float64."""
    poses = poses.double()
    inverse = torch.eye(4, dtype=torch.float64, device=poses.device).repeat(*poses.shape[:-2], 1, 1)
    inverse[..., :3, :3] = poses[..., :3, :3].mT
    inverse[..., :3, 3:] = -poses[..., :3, :3].mT @ poses[..., :3, 3:]
    return inverse


def pose_distance(c2w: Tensor) -> Tensor:
    """Squared distance between poses [V, 4, 4]: squared translation plus squared rotation angle (radians); [V, V]."""
    centers, rotation = c2w[:, :3, 3], c2w[:, :3, :3]
    moved = (centers[:, None] - centers[None]).square().sum(-1)
    trace = torch.einsum("aij,bij->ab", rotation, rotation)
    return moved + torch.acos(((trace - 1) / 2).clamp(-1, 1)).square()


def camera_extents(centers: Tensor) -> Tensor:
    """Largest distance between two of the camera centres [..., V, 3] of each scene, [...] float64.

    0 where they stand still: where the distance is below 8 float32 epsilons (about 1e-6) of the centres' distance from
    the world's origin, because poses in float32 do not resolve more (0.5 m at 500 km, 1 mm at 1 km).
    """
    centers = centers.double()
    magnitude = centers.norm(dim=-1).amax(-1)
    centers = centers - centers.mean(-2, keepdim=True)
    extents = torch.cdist(centers, centers).amax((-2, -1))
    return torch.where(extents > _STANDSTILL * magnitude, extents, 0.0)


def camera_extent(cameras: Cameras) -> float:
    """Largest distance between two cameras of one scene, in scene units; 0 for one camera or a standing one."""
    return float(camera_extents(cameras.centers))


def scene_scale(cameras: Cameras, scale: str | float, target_extent: float) -> float:
    """Network units per input unit.

    Args:
        cameras: the cameras that are encoded.
        scale: "auto" brings the cameras' extent to `target_extent`, so that the unit of the capture does not matter
            (cameras that only turn keep scale 1: there is nothing to measure); "none" keeps the input's units; a
            positive number is used as it is.
        target_extent: the extent the model was trained around (`SceneTokConfig.scene_extent`).

    Raises:
        ValueError: `scale` is something else.
    """
    return float(scene_scales(cameras.centers, scale, target_extent))


def scene_scales(
    centers: Tensor,  # [..., V, 3]
    scale: str | float,
    target_extent: float,
) -> Tensor:
    """`scene_scale` of every scene of a batch, from its camera centres: [...] float64."""
    check_scale(scale)
    if scale == "auto":
        return scale_to(camera_extents(centers), target_extent)
    factor = 1.0 if scale == "none" else float(scale)
    return torch.full(centers.shape[:-2], factor, dtype=torch.float64, device=centers.device)


def reference_scale(centers: Tensor, origin: Tensor, scale: str | float) -> float:
    """Network units per input unit of a scene whose farthest camera is at distance 1 from its origin (3DRAE, app. C).

    Args:
        centers: camera centres [V, 3].
        origin: [3], the centre of the reference camera.
        scale: as for `scene_scale`; cameras that only turn keep scale 1.

    Raises:
        ValueError: `scale` is something else.
    """
    check_scale(scale)
    return float(reference_scales(centers, origin)) if scale == "auto" else 1.0 if scale == "none" else float(scale)


def reference_scales(
    centers: Tensor,  # [..., V, 3]
    origins: Tensor,  # [..., 3]
) -> Tensor:
    """`reference_scale` "auto" of every scene of a batch, [...] float64."""
    centers, origins = centers.double(), origins.double()
    magnitude = torch.maximum(centers.norm(dim=-1).amax(-1), origins.norm(dim=-1))
    radius = (centers - origins[..., None, :]).norm(dim=-1).amax(-1)
    return scale_to(torch.where(radius > _STANDSTILL * magnitude, radius, 0.0), 1.0)


def check_scale(scale: str | float) -> None:
    """Raise `ValueError` unless `scale` is one that `scene_scale` takes."""
    positive = isinstance(scale, (int, float)) and math.isfinite(scale) and scale > 0
    if not positive and scale not in ("auto", "none"):
        raise ValueError(f"scene scale must be 'auto', 'none' or a positive number, got {scale!r}")


def scale_to(extents: Tensor, target_extent: float) -> Tensor:
    """Factors that bring extents of cameras [...] to `target_extent`; 1 where there is no extent."""
    measured = extents > 0
    return torch.where(measured, target_extent / torch.where(measured, extents, 1.0), 1.0)


def to_scene_frame(
    cameras: Cameras,
    reference_c2w: Tensor,  # [..., 4, 4]
    scale: float | Tensor,  # one number, or one per scene [...]
) -> Cameras:
    """Cameras as the networks see them: relative to the reference pose, translations times `scale`."""
    c2w = relative_poses(cameras.c2w, reference_c2w.to(cameras.c2w.device))
    c2w[..., :3, 3] *= torch.as_tensor(scale, dtype=c2w.dtype, device=c2w.device)[..., None, None]
    return cameras.replace(c2w=c2w, unit="relative")


def flip_opengl(c2w: Tensor) -> Tensor:
    """Exchange OpenGL camera axes (x right, y up, z backward) and OpenCV's; its own inverse. [..., 4, 4]."""
    return c2w * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=c2w.dtype, device=c2w.device)


def crop_intrinsics(K: Tensor, size_in: tuple[int, int], size_out: tuple[int, int]) -> Tensor:
    """Intrinsics after resizing a `size_in` picture to cover `size_out` and cropping its centre.

    Args:
        K: [..., 3, 3] divided by the width and height of the input picture.
        size_in: (height, width) of the input picture.
        size_out: (height, width) of the result.

    Returns:
        K divided by the width and height of the result.
    """
    (h_in, w_in), (h_out, w_out) = size_in, size_out
    zoom = max(h_out / h_in, w_out / w_in)
    stretch_x, stretch_y = zoom * w_in / w_out, zoom * h_in / h_out
    out = K.clone()
    out[..., 0, :] = K[..., 0, :] * stretch_x
    out[..., 1, :] = K[..., 1, :] * stretch_y
    out[..., 0, 2] = (K[..., 0, 2] - 0.5) * stretch_x + 0.5
    out[..., 1, 2] = (K[..., 1, 2] - 0.5) * stretch_y + 0.5
    return out


def fit_image(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize pictures [..., 3, H, W] to cover `size` (height, width), antialiased, and crop the exact centre."""
    height, width = rgb.shape[-2:]
    if (height, width) == tuple(size):
        return rgb
    zoom = max(size[0] / height, size[1] / width)
    crop_h, crop_w = size[0] / zoom, size[1] / zoom
    top, left = (height - crop_h) / 2, (width - crop_w) / 2
    flat = rgb.reshape(-1, *rgb.shape[-3:])
    resized = _resample(_resample(flat, -2, top, crop_h, size[0]), -1, left, crop_w, size[1])
    return resized.clamp(0, 1).reshape(*rgb.shape[:-2], *size)


def _resample(x: Tensor, dim: int, start: float, length: float, count: int) -> Tensor:
    """Triangle-filter the interval [start, start + length) of `dim` down (or up) to `count` samples.

    Fractional crops keep the principal point exact, which rounding a resized picture to whole pixels would not.
    """
    step = length / count
    support = max(step, 1.0)
    centers = start + (torch.arange(count, dtype=torch.float64, device=x.device) + 0.5) * step
    pixels = torch.arange(x.shape[dim], dtype=torch.float64, device=x.device) + 0.5
    weights = (1 - (pixels[None] - centers[:, None]).abs() / support).clamp_min(0)
    weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
    return (weights @ x) if dim == -2 else (x @ weights.T)


def fit_views(views: Views, size: tuple[int, int]) -> Views:
    """Views resized to cover `size` (height, width) and centre-cropped, with the intrinsics that belong to them."""
    source = (views.rgb.shape[-2], views.rgb.shape[-1])
    cameras = views.cameras.replace(K=crop_intrinsics(views.cameras.K, source, size), size=tuple(size))
    return Views(fit_image(views.rgb, size), cameras)


def fit_cameras(cameras: Cameras, size: tuple[int, int]) -> Cameras:
    """Cameras for pictures of `size`: intrinsics cropped from `cameras.size` when that is known, else kept."""
    if cameras.size is None or tuple(cameras.size) == tuple(size):
        return cameras.replace(size=tuple(size))
    return cameras.replace(K=crop_intrinsics(cameras.K, cameras.size, size), size=tuple(size))
