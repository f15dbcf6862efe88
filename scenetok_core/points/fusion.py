"""Point clouds from pictures with depth and cameras: unprojection, filters, and fusion of frames into voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import ray_map
from ..configs import require
from ..pictures.sheets import evenly_spread
from ..sampling import Progress
from ..types import Cameras, check_shape
from ..versions import Versions
from .geometry import PosedDepth

POINTS_VERSIONS = Versions("points")
_INNER = (0.02, 0.98)  # quantiles between which the extent of a scene is measured
_SAMPLED = 200_000  # points that the extent is measured on
_LARGEST_CELL = 2**20  # voxels from the middle of the scene along an axis; what lies beyond shares the last one
_NEAREST, _FURTHER = 8, 16  # frames that may confirm a point
_PENDING = 4_000_000  # points that wait to be fused


@dataclass(frozen=True)
class PointFilters:
    """Which pixels become points, and how many points there are.

    Raises:
        ValueError: a value outside its range.
    """

    min_confidence: float = 0.1  # 0 to 1; pixels of less confidence are left out
    # How far inverse depth may lie from the line through its two neighbours, as a share of it; 0: any. It is 0 on
    # every plane, however slanted, and large where a surface ends or where depth was blurred between two surfaces.
    edge: float = 0.1
    # A point is kept if another frame has the same depth where it falls, up to this share; 0: not asked. Asked are the
    # 8 nearest frames of the path and 16 evenly spread over the others.
    agree: float = 0.05
    voxel: float = 0.004  # side of the cells whose points become one, as a share of the scene's extent; 0: no cells
    max_points: int = 500_000  # an even choice of more is kept

    def __post_init__(self) -> None:
        require(0 <= self.min_confidence <= 1, f"min_confidence must lie within 0 and 1, got {self.min_confidence}")
        for name in ("edge", "agree", "voxel"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        require(self.max_points >= 1, f"max_points must be at least 1, got {self.max_points}")


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Coloured points in the world of the cameras that saw them.

    Raises:
        ValueError: wrong shapes.
    """

    xyz: Tensor  # [N, 3] float32, units of the cameras
    rgb: Tensor  # [N, 3] in [0, 1]
    normals: Tensor  # [N, 3] unit length, towards the cameras
    cameras: Cameras  # that saw the points

    def __post_init__(self) -> None:
        check_shape("xyz", self.xyz, (None, 3))
        for name in ("rgb", "normals"):
            check_shape(name, getattr(self, name), (len(self), 3))

    def __len__(self) -> int:
        return len(self.xyz)

    def to_dict(self) -> dict[str, Any]:
        """The plain, versioned form that travels between nodes."""
        values = {"xyz": self.xyz, "rgb": self.rgb, "normals": self.normals}
        return {"version": POINTS_VERSIONS.newest, **values, "cameras": self.cameras.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PointCloud:
        """Read what `to_dict` wrote. Raises `ValueError` for something else or a newer version."""
        data = POINTS_VERSIONS.upgrade(data)
        missing = [key for key in ("xyz", "rgb", "normals", "cameras") if key not in data]
        if missing:
            raise ValueError(f"not a point cloud: {missing} missing; connect the output of Point Cloud")
        return cls(data["xyz"], data["rgb"], data["normals"], Cameras.from_dict(data["cameras"]))


def unproject(
    depth: Tensor,  # [..., T, H, W] along the camera's z axis
    cameras: Cameras,
) -> Tensor:
    """World points [..., T, H, W, 3] of the pixel centres, in units of the cameras."""
    size = (depth.shape[-2], depth.shape[-1])
    origins, directions = ray_map(cameras.c2w, cameras.K, size)  # [..., T, 3, H, W]
    along = (directions * cameras.forward[..., None, None]).sum(-3)
    return (origins + directions * (depth / along)[..., None, :, :]).movedim(-3, -1)


def project(
    xyz: Tensor,  # [N, 3]
    cameras: Cameras,
) -> tuple[Tensor, Tensor]:
    """Where V cameras see world points: x and y as shares of picture width and height [V, N, 2], and depth [V, N].

    Points behind a camera have a depth that is not positive, and no meaningful place.
    """
    local = (xyz - cameras.centers[:, None]) @ cameras.c2w[:, :3, :3]
    pixels = local @ cameras.K.transpose(-1, -2)
    return pixels[..., :2] / pixels[..., 2:], local[..., 2]


def fuse_points(posed: PosedDepth, filters: PointFilters | None = None, progress: Progress | None = None) -> PointCloud:
    """The points of all frames, filtered, one for each voxel: the mean place, colour and normal of what fell into it.

    Args:
        posed: pictures, depth and cameras.
        filters: None: the defaults.
        progress: called after every frame; may raise to cancel.

    Raises:
        ValueError: the filters leave no point; the message says how many each of them left.
    """
    filters, cameras = filters or PointFilters(), posed.views.cameras
    keep, told = _kept(posed, filters)
    voxel = _Voxels(filters.voxel * _extent(posed, keep) if filters.voxel else 0.0)
    for i in range(len(cameras)):
        kept = _agreeing(i, posed, keep, filters.agree)
        xyz = unproject(posed.depth[[i]], cameras[[i]])
        columns = [xyz[0], posed.views.rgb[i].movedim(0, -1), _normals(xyz, cameras[[i]])[0]]
        voxel.add(torch.cat(columns, -1)[kept])
        if progress is not None:
            progress(i + 1, len(cameras), None)
    points = evenly_spread(voxel.means(), filters.max_points)
    if not len(points):
        told["agree with another frame"] = 0
        counts = ", ".join(f"{name}: {count}" for name, count in told.items())
        raise ValueError(f"the filters leave no point ({counts} pixels); lower the confidence or loosen the filters")
    xyz, rgb, normals = points.split(3, -1)
    return PointCloud(xyz.contiguous(), rgb.clamp(0, 1), F.normalize(normals, dim=-1), cameras)


def _kept(posed: PosedDepth, filters: PointFilters) -> tuple[Tensor, dict[str, int]]:
    """Pixels that need no other frame to be left out [T, H, W] bool, and how many are left after each filter."""
    confident = posed.mask(filters.min_confidence)
    keep = confident & ~edges(posed.depth, posed.known, filters.edge) if filters.edge else confident
    stages = {"known": posed.known, "confident": confident, "not at an edge": keep}
    return keep, {name: int(stage.sum()) for name, stage in stages.items()}


def edges(
    depth: Tensor,  # [T, H, W]
    known: Tensor,  # [T, H, W] bool
    threshold: float,
) -> Tensor:
    """Pixels whose inverse depth is further from the line through its neighbours than that share of it; bool.

    Neighbours are those left and right, or above and below. Where one is not known, that line is not asked.
    """
    inverse = torch.where(known, 1 / depth, torch.nan)
    found = torch.zeros_like(known)
    for dim in (-1, -2):
        middle, length = inverse.movedim(dim, 0), depth.shape[dim]
        if length > 2:
            away = (middle[2:] + middle[:-2] - 2 * middle[1:-1]).abs() / 2
            found.movedim(dim, 0)[1:-1] |= away > threshold * middle[1:-1]  # False where not a number
    return found


def _agreeing(frame: int, posed: PosedDepth, keep: Tensor, share: float) -> Tensor:
    """Pixels of a frame [H, W] bool that are kept, and whose depth another frame confirms."""
    kept, others = keep[frame].clone(), _others(frame, len(keep))
    if not share or not others:
        return kept
    cameras, (height, width) = posed.views.cameras, posed.depth.shape[-2:]
    xyz = unproject(posed.depth[[frame]], cameras[[frame]])[0]
    open_ = kept.nonzero()  # pixels that no frame has confirmed yet
    for j in others:
        if not len(open_):
            break
        place, depth = (values[0] for values in project(xyz[open_[:, 0], open_[:, 1]], cameras[[j]]))
        inside = ((place >= 0) & (place < 1)).all(-1) & (depth > 0)
        column, row = (place.nan_to_num().clamp(0, 1) * torch.tensor([width, height])).long().unbind(-1)
        column, row = column.clamp(max=width - 1), row.clamp(max=height - 1)
        seen = posed.depth[j][row, column]
        agree = inside & posed.known[j][row, column] & ((seen - depth).abs() <= share * depth)
        open_ = open_[~agree]
    kept[open_[:, 0], open_[:, 1]] = False
    return kept


def _others(frame: int, count: int) -> list[int]:
    """Frames that are asked whether they confirm one: the nearest in the path, then an even choice of all."""
    nearest = sorted(set(range(count)) - {frame}, key=lambda j: abs(j - frame))
    return nearest[:_NEAREST] + evenly_spread(torch.tensor(nearest[_NEAREST:]), _FURTHER).tolist()


def _normals(
    xyz: Tensor,  # [V, H, W, 3]
    cameras: Cameras,
) -> Tensor:
    """Unit normals [V, H, W, 3] of the surface through neighbouring pixels, towards the cameras."""
    toward = F.normalize(cameras.centers[:, None, None] - xyz, dim=-1)
    if min(xyz.shape[1:3]) < 2:
        return toward
    down, right = torch.gradient(xyz, dim=(1, 2))
    normal = F.normalize(torch.linalg.cross(down, right), dim=-1)
    normal = torch.where(((normal * toward).sum(-1, keepdim=True) < 0), -normal, normal)
    return torch.where(normal.isfinite().all(-1, keepdim=True), normal, toward)


def inner_box(xyz: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest coordinates [3] of points [N, 3], without the outermost 2 % along every axis."""
    order = evenly_spread(xyz, _SAMPLED).sort(0).values
    low, high = (order[round(share * (len(order) - 1))] for share in _INNER)
    return low, high


def _extent(posed: PosedDepth, keep: Tensor) -> float:
    """Diagonal of the inner box of the points that are kept; 0 without any."""
    if not bool(keep.any()):
        return 0.0
    chosen = evenly_spread(keep.flatten().nonzero()[:, 0], _SAMPLED)
    pixels = keep[0].numel()
    parts = []
    for i in range(len(keep)):
        here = chosen[chosen // pixels == i] - i * pixels
        parts.append(unproject(posed.depth[[i]], posed.views.cameras[[i]]).reshape(-1, 3)[here])
    low, high = inner_box(torch.cat(parts))
    return float((high - low).norm())


class _Voxels:
    """Sums over the points of each cell of a grid; without cells, the points themselves."""

    def __init__(self, side: float) -> None:
        self.side = side
        self._keys, self._sums = torch.empty(0, dtype=torch.int64), torch.empty(0)
        self._pending: list[Tensor] = []
        self._waiting = 0

    def add(self, values: Tensor) -> None:
        """Values [n, 9] that begin with x, y and z."""
        self._pending.append(values)
        self._waiting += len(values)
        if self.side and self._waiting > _PENDING:
            self._merge()

    def means(self) -> Tensor:
        """The mean [N, 9] of every cell that holds points, neighbours near each other."""
        if not self.side:
            return torch.cat(self._pending)
        self._merge()
        return (self._sums[:, :-1] / self._sums[:, -1:]).float()

    def _merge(self) -> None:
        values = torch.cat(self._pending).double()
        cells = (values[:, :3] / self.side).floor().clamp(-_LARGEST_CELL, _LARGEST_CELL - 1).long() + _LARGEST_CELL
        keys = (cells[:, 0] * 2 * _LARGEST_CELL + cells[:, 1]) * 2 * _LARGEST_CELL + cells[:, 2]
        counted = torch.cat([values, torch.ones(len(values), 1, dtype=values.dtype)], 1)
        earlier = self._sums if len(self._keys) else counted[:0]
        keys, place = torch.cat([self._keys, keys]).unique(return_inverse=True)
        sums = torch.zeros(len(keys), counted.shape[1], dtype=values.dtype)
        self._sums = sums.index_add_(0, place, torch.cat([earlier, counted]))
        self._keys, self._pending, self._waiting = keys, [], 0
