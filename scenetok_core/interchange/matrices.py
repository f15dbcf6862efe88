"""World-to-camera matrices with OpenCV axes and intrinsics in pixels: the types EXTRINSICS and INTRINSICS."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import invert_poses
from ..trajectories.framing import one_scene
from ..trajectories.splines import matrix_from_quaternion, quaternion_from_matrix
from ..types import Cameras

# Networks give rotations in half precision, whose R R^T is off by 0.02; what is further off is no rotation.
_ROUNDING = 0.05
_NORMALISED_CENTRE = 4.0  # a principal point below is in widths and heights, not in pixels


def from_matrices(extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int] | None = None) -> Cameras:
    """Cameras of world-to-camera matrices.

    Args:
        extrinsics: [V, 4, 4] or [V, 3, 4], with or without leading dimensions of 1, in scene units. Rotations that are
            rounded (to half precision, say) are replaced by the nearest exact ones.
        intrinsics: [V, 3, 3] in pixels; one [3, 3] serves all views.
        size: (height, width) of the pictures the intrinsics belong to; None puts the principal point in the middle of
            the first picture, so its size is 2 cy x 2 cx.

    Returns:
        V cameras, whose `size` is filled in.

    Raises:
        ValueError: other shapes, intrinsics that are not in pixels, matrices that are no poses.
    """
    w2c = _views("EXTRINSICS", extrinsics, ((4, 4), (3, 4)))
    K = _views("INTRINSICS", intrinsics, ((3, 3),))
    if len(K) not in (1, len(w2c)):
        raise ValueError(f"{len(w2c)} EXTRINSICS but {len(K)} INTRINSICS; expected one for each view, or one for all")
    if float(K[:, :2, 2].abs().max()) <= _NORMALISED_CENTRE:
        raise ValueError(
            f"INTRINSICS must be in pixels, got the principal point {K[0, :2, 2].tolist()}; multiply row 0 by the "
            "picture width and row 1 by its height"
        )
    height, width = size or _centred_size(K)
    K = K / torch.tensor([[width], [height], [1.0]], dtype=torch.float64)
    return cameras_from_w2c(w2c, K.expand(len(w2c), 3, 3), (height, width))


def to_matrices(cameras: Cameras, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """World-to-camera matrices and intrinsics of cameras.

    Args:
        cameras: V cameras of one scene.
        size: (height, width) in pixels of the pictures; None takes `cameras.size`.

    Returns:
        extrinsics [V, 4, 4] in scene units and intrinsics [V, 3, 3] in pixels, float32.

    Raises:
        ValueError: cameras of several scenes, or a size that is neither given nor known.
    """
    cameras = one_scene(cameras)
    size = size or cameras.size
    if size is None:
        raise ValueError("these cameras do not know the size of their pictures, which pixels need; give it")
    height, width = size
    return invert_poses(cameras.c2w).float(), cameras.K * torch.tensor([[width], [height], [1.0]])


def cameras_from_w2c(
    w2c: Tensor,  # [V, 4, 4] or [V, 3, 4]
    K: Tensor,  # [V, 3, 3] divided by width and height
    size: tuple[int, int] | None,
) -> Cameras:
    """Cameras of world-to-camera matrices, whose rotations may be rounded. Raises `ValueError` for other matrices."""
    w2c = w2c.detach().cpu().double().clone()
    if bool(torch.isfinite(w2c).all()):
        exact = matrix_from_quaternion(quaternion_from_matrix(w2c[:, :3, :3]))
        rounded = (exact - w2c[:, :3, :3]).abs().amax((-2, -1), keepdim=True) <= _ROUNDING
        w2c[:, :3, :3] = torch.where(rounded, exact, w2c[:, :3, :3])
    c2w = invert_poses(w2c)
    c2w[:, 3:] = w2c[:, 3:] if w2c.shape[-2] == 4 else c2w[:, 3:]  # for Cameras to check
    return Cameras(c2w, K, size)


def _views(name: str, value: object, shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """The matrices [V, rows, columns] float64 of a value with any leading dimensions of 1."""
    expected = " or ".join(f"[V, {rows}, {columns}]" for rows, columns in shapes)
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor {expected}, got {type(value).__name__}")
    shape = tuple(value.shape)
    if shape[-2:] not in shapes or 0 in shape or sum(size > 1 for size in shape[:-2]) > 1:
        raise ValueError(f"{name} must have shape {expected}, got {list(shape)}")
    return value.detach().cpu().double().reshape(-1, *shape[-2:])


def _centred_size(K: Tensor) -> tuple[int, int]:
    width, height = (2 * K[0, :2, 2]).round().int().tolist()
    if min(width, height) < 1:
        raise ValueError(
            f"INTRINSICS put the principal point at {K[0, :2, 2].tolist()}, outside of any picture; give the size"
        )
    return height, width
