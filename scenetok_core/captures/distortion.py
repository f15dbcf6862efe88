"""Lens distortion (OpenCV's rational and tangential model) and its removal.

A point (x, y) on the image plane at depth 1, with r^2 = x^2 + y^2, is seen by the lens at

    x (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)

and likewise for y with p1 and p2 exchanged. See the "Camera Calibration and 3D Reconstruction" page of OpenCV.

Undistorted pictures keep their size. Their intrinsics are the original ones zoomed about the picture centre by the
smallest factor that leaves no pixel without a source: a pincushion lens is cropped, a barrel lens gains field of view.
So no border has to be invented and no later step needs a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

_WIDEST_ZOOM, _NARROWEST_ZOOM = 0.5, 4.0
_BISECTIONS = 40
_PROBES = 65  # points per side when a zoom is tried
_INSIDE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Distortion:
    """Coefficients of OpenCV's lens model, without unit; all zero is a pinhole."""

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_pinhole(self) -> bool:
        """Whether the lens changes nothing."""
        return self == Distortion()


def distort(points: Tensor, lens: Distortion) -> Tensor:
    """Where the lens shows points [..., 2] of the image plane at depth 1; same shape and unit."""
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))) / (1 + r2 * (lens.k4 + r2 * (lens.k5 + r2 * lens.k6)))
    xy = 2 * x * y
    return torch.stack(
        [
            x * radial + lens.p1 * xy + lens.p2 * (r2 + 2 * x * x),
            y * radial + lens.p2 * xy + lens.p1 * (r2 + 2 * y * y),
        ],
        dim=-1,
    )


def undistorted_intrinsics(
    K: Tensor,  # [3, 3] divided by width and height
    lens: Distortion,
) -> Tensor:
    """Intrinsics of the picture after `undistort`, [3, 3], divided by width and height; independent of its resolution.

    Raises:
        ValueError: the coefficients fold the picture over itself, so that it cannot be straightened.
    """
    if lens.is_pinhole:
        return K.clone()
    zoom = _smallest_zoom(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), lens)
    zoomed = K.clone()
    zoomed[0, 0], zoomed[1, 1] = K[0, 0] * zoom, K[1, 1] * zoom
    zoomed[:2, 2] = 0.5 + (K[:2, 2] - 0.5) * zoom
    return zoomed


def undistortion_grid(
    K: Tensor,  # [3, 3] divided by width and height
    lens: Distortion,
    size: tuple[int, int],
) -> Tensor:
    """Where every pixel of the undistorted `size` picture lies in the distorted one.

    Returns:
        [height, width, 2] float32, (x, y) in [-1, 1] from the left and top edge to the right and bottom edge, as
        `grid_sample(align_corners=False)` expects.
    """
    height, width = size
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    target = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return (_source_points(target, K.double(), undistorted_intrinsics(K.double(), lens), lens) * 2 - 1).float()


def resample(rgb: Tensor, grid: Tensor) -> Tensor:
    """Read a picture [3, H, W] at the places of `undistortion_grid` [h, w, 2], bilinearly; [3, h, w]."""
    # "border" only serves the outermost half pixel, where the grid may lie beyond the last pixel centre.
    return grid_sample(rgb[None], grid[None].to(rgb), padding_mode="border", align_corners=False)[0]


def undistort(
    rgb: Tensor,  # [3, H, W]
    K: Tensor,  # [3, 3] of the distorted picture, divided by width and height
    lens: Distortion,
) -> tuple[Tensor, Tensor]:
    """Straighten a picture.

    Returns:
        The picture [3, H, W] and the intrinsics [3, 3] that belong to it (`undistorted_intrinsics`).

    Raises:
        ValueError: the coefficients fold the picture over itself.
    """
    if lens.is_pinhole:
        return rgb, K.clone()
    grid = undistortion_grid(K, lens, (rgb.shape[-2], rgb.shape[-1]))
    return resample(rgb, grid), undistorted_intrinsics(K, lens)


def _source_points(target: Tensor, K: Tensor, zoomed: Tensor, lens: Distortion) -> Tensor:
    """Places [..., 2] in the distorted picture for places [..., 2] of the straight one, both in [0, 1]."""
    rays = (target - zoomed[:2, 2]) / zoomed[(0, 1), (0, 1)]
    return distort(rays, lens) * K[(0, 1), (0, 1)] + K[:2, 2]


@lru_cache(maxsize=512)
def _smallest_zoom(fx: float, fy: float, cx: float, cy: float, lens: Distortion) -> float:
    focal = torch.tensor([fx, fy], dtype=torch.float64)
    centre = torch.tensor([cx, cy], dtype=torch.float64)
    side = torch.linspace(0, 1, _PROBES, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1)

    def fits(zoom: float) -> bool:
        source = distort((0.5 + (places - 0.5) / zoom - centre) / focal, lens) * focal + centre
        right, down = source[:-1, 1:] - source[:-1, :-1], source[1:, :-1] - source[:-1, :-1]
        unfolded = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0] > 0
        inside = (source >= -_INSIDE_TOLERANCE) & (source <= 1 + _INSIDE_TOLERANCE)
        return bool(unfolded.all()) and bool(inside.all())

    if not fits(_NARROWEST_ZOOM):
        raise ValueError(
            f"the lens distortion {lens} cannot be removed: it folds the picture or moves its centre outside; check "
            "the coefficients, or undistort the pictures first (COLMAP image_undistorter)"
        )
    low, high = _WIDEST_ZOOM, _NARROWEST_ZOOM
    if fits(low):
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
