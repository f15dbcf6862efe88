"""Poses of pictures that nobody posed, for measuring whether renderings show what their cameras should see (TPS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scenetok_core.pictures.sheets import to_bytes
from training.measures.availability import UnavailableError, require_module
from training.measures.poses import pairs, relative_of

_FEWEST_MATCHES = 8
_RATIO = 0.8  # Lowe's test
_INLIER_PX = 1.0
_CONFIDENCE = 0.999
_VGGT_SIDE = 518
_VGGT_WEIGHTS = "facebook/VGGT-1B"


@dataclass(frozen=True)
class PoseEstimate:
    """What an estimator found out about T pictures."""

    relative: Tensor  # [P, 4, 4] float64, as `poses.relative_of`; translation in any unit, NaN where none was found
    c2w: Tensor | None = None  # [T, 4, 4] float64 in any frame and unit, where the estimator poses all views together


class PoseEstimator(Protocol):
    """Finds the poses of pictures."""

    name: str
    smallest_side: int  # pixels below which its answers mean little
    poses_trajectories: bool  # whether it poses all views together

    def estimate(self, rgb: Tensor, K: Tensor) -> PoseEstimate:
        """Pose pictures [T, 3, H, W] in [0, 1] with intrinsics [T, 3, 3] divided by width and height."""
        ...


class SiftEstimator:
    """Essential matrices of pairs of views from SIFT matches (Lowe 2004, Nistér 2004), through OpenCV.

    True pictures of 64 and 128 pixels score an AUC at 30 degrees of 0.14 and 0.45, of 256 pixels 0.63: below that it
    measures nothing.

    Raises:
        UnavailableError: OpenCV is missing.
    """

    name = "SIFT"
    smallest_side = 256
    poses_trajectories = False

    def __init__(self) -> None:
        self._cv: Any = require_module("cv2")
        self._sift = self._cv.SIFT_create()
        self._matcher = self._cv.BFMatcher()

    def estimate(self, rgb: Tensor, K: Tensor) -> PoseEstimate:
        """See `PoseEstimator`."""
        views = [self._keypoints(*view) for view in zip(to_bytes(rgb).numpy(), K.double().cpu(), strict=True)]
        size = torch.tensor([rgb.shape[-1], rgb.shape[-2]])
        focal_px = float((K[:, (0, 1), (0, 1)].cpu() * size).mean())
        found = [self._pair(views[i], views[j], focal_px) for i, j in pairs(len(views)).tolist()]
        return PoseEstimate(torch.stack(found))

    def _keypoints(self, picture: np.ndarray, K: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Rays [n, 2] at depth 1 and descriptors [n, 128] of a picture [H, W, 3]."""
        grey = self._cv.cvtColor(picture, self._cv.COLOR_RGB2GRAY)
        points, descriptors = self._sift.detectAndCompute(grey, None)
        height, width = grey.shape
        # OpenCV counts from the middle of the first pixel.
        pixels = [[(p.pt[0] + 0.5) / width, (p.pt[1] + 0.5) / height, 1.0] for p in points]
        rays = np.array(pixels).reshape(-1, 3) @ torch.linalg.inv(K).numpy().T
        return rays[:, :2], descriptors

    def _pair(self, a: tuple, b: tuple, focal_px: float) -> Tensor:
        missing = torch.full((4, 4), torch.nan, dtype=torch.float64)
        if a[1] is None or b[1] is None or min(len(a[1]), len(b[1])) < _FEWEST_MATCHES:
            return missing
        candidates = [pair for pair in self._matcher.knnMatch(a[1], b[1], k=2) if len(pair) == 2]
        kept = [best for best, second in candidates if best.distance < _RATIO * second.distance]
        if len(kept) < _FEWEST_MATCHES:
            return missing
        x, y = a[0][[match.queryIdx for match in kept]], b[0][[match.trainIdx for match in kept]]
        essential, inliers = self._cv.findEssentialMat(
            x, y, np.eye(3), method=self._cv.RANSAC, prob=_CONFIDENCE, threshold=_INLIER_PX / focal_px
        )
        if essential is None or essential.shape != (3, 3):
            return missing
        _, rotation, translation, _ = self._cv.recoverPose(essential, x, y, np.eye(3), mask=inliers)
        w2c = torch.eye(4, dtype=torch.float64)
        w2c[:3, :3], w2c[:3, 3:] = torch.from_numpy(rotation), torch.from_numpy(translation)
        return torch.linalg.inv(w2c)


class VggtEstimator:
    """All views together by VGGT (Wang et al. 2025), with which the published figures were made.

    It takes pictures of any size; how well it does on small ones is told by what the true pictures score.

    Args:
        device: where it runs.

    Raises:
        UnavailableError: the package or its weights are missing.
    """

    name = "VGGT"
    smallest_side = 1
    poses_trajectories = True

    def __init__(self, device: torch.device | str = "cpu") -> None:
        install = "pip install a checkout of github.com/facebookresearch/vggt"
        models = require_module("vggt.models.vggt", install)
        self._decode = require_module("vggt.utils.pose_enc", install).pose_encoding_to_extri_intri
        try:
            model = models.VGGT.from_pretrained(_VGGT_WEIGHTS, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"needs the weights {_VGGT_WEIGHTS} in the cache of the hub: hf download {_VGGT_WEIGHTS}"
            ) from error
        self._model = model.to(device).eval()
        self._device = device

    @torch.no_grad()
    def estimate(self, rgb: Tensor, K: Tensor) -> PoseEstimate:
        """See `PoseEstimator`; finds the intrinsics itself."""
        size = (_VGGT_SIDE, _VGGT_SIDE)
        pictures = torch.nn.functional.interpolate(rgb, size, mode="bicubic", antialias=True).clamp(0, 1)
        encoded = self._model(pictures.to(self._device))["pose_enc"]
        w2c = torch.eye(4, dtype=torch.float64).repeat(len(rgb), 1, 1)
        w2c[:, :3] = self._decode(encoded, size)[0][0].double().cpu()
        c2w = torch.linalg.inv(w2c)
        return PoseEstimate(relative_of(c2w), c2w)


def choose_estimator(side: int, device: torch.device | str = "cpu") -> PoseEstimator:
    """The best estimator at hand for square pictures of `side` pixels: VGGT, else SIFT.

    Raises:
        UnavailableError: there is none, or the pictures are too small for it.
    """
    reasons: list[str] = []
    for make in (lambda: VggtEstimator(device), SiftEstimator):
        try:
            estimator: PoseEstimator = make()
        except UnavailableError as error:
            reasons.append(str(error))
            continue
        if side >= estimator.smallest_side:
            return estimator
        reasons.append(
            f"{estimator.name} needs pictures of at least {estimator.smallest_side} pixels, these have {side}"
        )
    raise UnavailableError("; or ".join(reasons))
