"""Errors of camera poses: relative poses of pairs of views, and whole trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenetok_core.camera import camera_extents

AUC_DEGREES = (5, 10, 20, 30)
FAILED_DEGREES = 180.0  # the error of a pose that could not be estimated

_STANDING = 0.01  # share of the largest distance between two cameras below which a pair has no direction


def rotation_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles between rotations [..., 3, 3] in degrees, in [0, 180]: [...] float64, exact for small angles too."""
    chord = (a.double() - b.double()).flatten(-2).norm(dim=-1) / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def pairs(count: int) -> Tensor:
    """All pairs i < j of `count` views, [P, 2]: (0, 1), (0, 2), ..."""
    return torch.combinations(torch.arange(count), 2)


def relative_of(c2w: Tensor) -> Tensor:
    """Pose of the second camera of every pair in the frame of the first, of [T, 4, 4]: [P, 4, 4] float64."""
    first, second = c2w.double()[pairs(len(c2w))].unbind(1)
    return torch.linalg.inv(first) @ second


def relative_pose_errors(relative: Tensor, c2w: Tensor, signed: bool = False) -> Tensor:
    """Error of every pair: the larger of the angle between rotations and the angle between translation directions.

    As in the evaluation of relative poses since SuperGlue (2020). A pair whose true cameras stand closer than a
    hundredth of the largest distance has no direction and is judged by its rotation alone.

    Args:
        relative: [P, 4, 4] estimated poses in the order of `pairs`, translation in any unit; NaN where none was found.
        c2w: [T, 4, 4] true camera-to-world poses.
        signed: opposite directions differ by 180 degrees; otherwise by 0, as VGGT's and the published figures have it.

    Returns:
        [P] degrees in [0, 180]; 180 where none was found.
    """
    truth, relative = relative_of(c2w), relative.double()
    turned = rotation_angles(relative[:, :3, :3], truth[:, :3, :3])
    baseline = truth[:, :3, 3].norm(dim=-1)
    ahead, sideways = _along_and_across(relative[:, :3, 3], truth[:, :3, 3])
    direction = torch.rad2deg(torch.atan2(sideways, ahead if signed else ahead.abs()))
    # camera_extents is 0 for cameras that only turn: then no pair has a direction.
    standing = baseline <= _STANDING * camera_extents(c2w[:, :3, 3])
    errors = torch.maximum(turned, direction.masked_fill(standing, 0))
    return errors.masked_fill(relative.isnan().flatten(1).any(1), FAILED_DEGREES)


def _along_and_across(vectors: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Parts of vectors [P, 3] along and across axes [P, 3], in one arbitrary unit each; a zero vector lies across."""
    along = (vectors * axes).sum(-1)
    across = torch.linalg.cross(vectors, axes, dim=-1).norm(dim=-1)
    nothing = vectors.norm(dim=-1) == 0
    return along, across.masked_fill(nothing, 1.0)


def pose_auc(errors: Tensor, degrees: float) -> float:
    """Area under the curve of the share of errors below a threshold, for thresholds from 0 to `degrees`, in [0, 1].

    The exact area; the histograms of whole degrees that VGGT's evaluation uses give up to 1 / `degrees` more.

    Args:
        errors: [P] degrees.
        degrees: largest threshold.
    """
    return float((1 - errors.double() / degrees).clamp_min(0).mean())


@dataclass(frozen=True)
class TrajectoryErrors:
    """Absolute trajectory error (ATE) after alignment."""

    rotation_degrees: float  # ATE_r: root mean square angle, in [0, 180]
    translation: float  # ATE_t in [0, 1]: root mean square distance over that of the true centres from their mean


def trajectory_errors(estimated: Tensor, truth: Tensor) -> TrajectoryErrors:
    """Compare a trajectory with the truth, up to the frame and the unit in which it was estimated.

    Centres are aligned by the similarity that fits them best (Umeyama 1991), orientations by the rotation that fits
    them best, since the former is ambiguous where the centres lie on a line. A translation error of 1 is that of
    centres that tell nothing.

    Args:
        estimated: [T, 4, 4] camera-to-world poses in any frame and unit.
        truth: [T, 4, 4].

    Returns:
        Errors; the translation's is NaN where the true cameras stand still.

    Raises:
        ValueError: different or other shapes, or fewer than two poses.
    """
    if estimated.shape != truth.shape or truth.ndim != 3 or len(truth) < 2:
        raise ValueError(f"trajectories must both be [T >= 2, 4, 4], got {list(estimated.shape)}, {list(truth.shape)}")
    estimated, truth = estimated.double(), truth.double()
    turn = _nearest_rotation((truth[:, :3, :3] @ estimated[:, :3, :3].mT).sum(0))
    angles = rotation_angles(turn @ estimated[:, :3, :3], truth[:, :3, :3])
    return TrajectoryErrors(float(angles.square().mean().sqrt()), _centre_error(estimated[:, :3, 3], truth[:, :3, 3]))


def _centre_error(estimated: Tensor, truth: Tensor) -> float:
    if float(camera_extents(truth)) == 0:
        return float("nan")
    x, y = (centres - centres.mean(0) for centres in (estimated, truth))
    aligned = x @ _nearest_rotation(y.T @ x).T
    scale = (aligned * y).sum() / aligned.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
    residual = (scale * aligned - y).square().sum()
    return float((residual / y.square().sum()).sqrt())


def _nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation R with the largest trace of R^T M."""
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.ones(3, dtype=matrix.dtype)
    sign[-1] = torch.linalg.det(u @ vh).sign()
    return u @ (sign[:, None] * vh)
