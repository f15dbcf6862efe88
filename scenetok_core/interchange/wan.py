"""WAN_CAMERA_EMBEDDING, the camera conditioning of Wan's camera models: ray maps in Pluecker coordinates.

[1, 24, F, H, W] for 4 F - 3 frames: six numbers a ray, (origin x direction, direction), times four frames of a latent;
the numbers vary slowest. The first latent holds the first frame four times. Poses are relative to the first camera.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..camera import fit_cameras, plucker_features, relative_poses
from ..trajectories.framing import one_scene
from ..types import Cameras

_GROUP = 4  # frames in a latent
_TRAVEL = 1.5  # units by which ComfyUI's own camera moves travel at speed 1
_STANDSTILL = 1e-6


def to_wan(cameras: Cameras, size: tuple[int, int], scale: float = 0.0) -> Tensor:
    """The camera conditioning of a video.

    Args:
        cameras: one camera a frame, 4 n + 1 of them.
        size: (height, width) in pixels of the video's frames; the field of view is cropped to it.
        scale: Wan's units per scene unit; 0 brings the largest distance from the first camera to 1.5, as far as
            ComfyUI's own camera moves travel.

    Returns:
        [1, 24, (T + 3) / 4, height, width] float32.

    Raises:
        ValueError: another number of cameras, several scenes, or a negative scale.
    """
    cameras = one_scene(cameras)
    if len(cameras) % _GROUP != 1:
        nearest = round((len(cameras) - 1) / _GROUP) * _GROUP + 1
        raise ValueError(
            f"Wan takes 4 n + 1 frames, got {len(cameras)} cameras; make the path {nearest} frames long, say"
        )
    if not 0 <= scale < float("inf"):
        raise ValueError(f"scale must be a positive number, or 0 for automatic, got {scale}")
    fitted = fit_cameras(cameras, size)
    c2w = relative_poses(fitted.c2w, fitted.c2w[0])
    c2w[:, :3, 3] *= scale or _automatic_scale(c2w)
    first = [0] * (_GROUP - 1)
    groups = torch.tensor([*first, *range(len(cameras))]).reshape(-1, _GROUP)
    embedding = torch.empty(1, 6 * _GROUP, len(groups), *size)
    for latent, group in enumerate(groups):  # a whole video at once would need several times its memory
        direction, moment = plucker_features(c2w[group], fitted.K[group], size).chunk(2, dim=1)
        embedding[0, :, latent] = rearrange(torch.cat([moment, direction], 1), "s c h w -> (c s) h w")
    return embedding


def _automatic_scale(c2w: Tensor) -> float:
    farthest = float(c2w[:, :3, 3].norm(dim=-1).max())
    return _TRAVEL / farthest if farthest > _STANDSTILL else 1.0
