"""Smooth camera motion between keys: quaternions, centripetal Catmull-Rom positions, constant pace, smoothing.

Quaternions are (x, y, z, w). Everything is computed in float64 on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# One radian of turn, or one e-fold of zoom, takes as long as moving by this share of the path's extent.
TURN_WEIGHT = 0.25
_SAMPLES = 1024
_SMALL_ANGLE = 1e-7
# float32 centres differ by about this share of their size even when the camera stood still.
_STANDSTILL = 1e-6


class Keys(NamedTuple):
    """Camera keys or samples of a camera path, float64."""

    position: Tensor  # [N, 3] camera centres, scene units
    quaternion: Tensor  # [N, 4] unit, camera-to-world, (x, y, z, w)
    K: Tensor  # [N, 3, 3] normalised intrinsics


def quaternion_from_matrix(
    rotation: Tensor,  # [..., 3, 3]
) -> Tensor:
    """The unit quaternion (x, y, z, w) [..., 4] of the rotation nearest to `rotation`.

    It is the dominant eigenvector of a symmetric 4x4 matrix, so half turns need no special case
    (Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, 2000).
    """
    r = rotation.double()
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    skew = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], dim=-1)
    top = torch.cat([r + r.transpose(-1, -2) - trace * torch.eye(3, dtype=r.dtype), skew[..., None]], dim=-1)
    bottom = torch.cat([skew[..., None, :], trace], dim=-1)
    return torch.linalg.eigh(torch.cat([top, bottom], dim=-2)).eigenvectors[..., -1]


def matrix_from_quaternion(
    quaternion: Tensor,  # [..., 4] (x, y, z, w), any positive length
) -> Tensor:
    """The rotation matrix [..., 3, 3] of a quaternion, which is normalised first."""
    x, y, z, w = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def slerp(
    start: Tensor,  # [..., 4] unit
    end: Tensor,  # [..., 4] unit
    fraction: Tensor,  # [...] in [0, 1]
) -> Tensor:
    """Rotate from `start` to `end` [..., 4] along the shorter arc; `q` and `-q` are the same rotation."""
    dot = (start * end).sum(-1, keepdim=True)
    end = torch.where(dot < 0, -end, end)
    # The half-chord form stays exact where acos(dot) loses all digits.
    angle = 2 * torch.asin(((end - start).norm(dim=-1, keepdim=True) / 2).clamp(max=1))
    t = fraction[..., None]
    near = angle < _SMALL_ANGLE
    sine = torch.where(near, torch.ones_like(angle), angle.sin())
    before = torch.where(near, 1 - t, ((1 - t) * angle).sin() / sine)
    after = torch.where(near, t, (t * angle).sin() / sine)
    return torch.nn.functional.normalize(before * start + after * end, dim=-1)


def continuous(
    quaternion: Tensor,  # [N, 4] unit
) -> Tensor:
    """The same rotations with the signs that bring each quaternion next to the one before it, [N, 4]."""
    flips = torch.where((quaternion[1:] * quaternion[:-1]).sum(-1) < 0, -1.0, 1.0).cumprod(0)
    return quaternion * torch.cat([torch.ones(1), flips]).double()[:, None]


def rotation_about(
    axis: Tensor,  # [3], any positive length
    angles: Tensor,  # [T] radians, right-handed about `axis`
) -> Tensor:
    """Rotation matrices [T, 3, 3] about one axis."""
    x, y, z = torch.nn.functional.normalize(axis.double(), dim=-1).unbind()
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.linalg.matrix_exp(angles.double()[:, None, None] * skew)


def _tangent(before: Tensor, here: Tensor, after: Tensor, dt_before: Tensor, dt_after: Tensor) -> Tensor:
    """Velocity [M, 3] at `here` on a curve through three unevenly timed points; zero at a repeated point (a corner)."""

    def slope(step: Tensor, dt: Tensor) -> Tensor:
        return torch.where(dt > 0, step / dt.clamp(min=torch.finfo(dt.dtype).tiny), torch.zeros_like(step))

    return slope(here - before, dt_before) - slope(after - before, dt_before + dt_after) + slope(after - here, dt_after)


def _catmull_rom(points: Tensor, segment: Tensor, t: Tensor) -> Tensor:
    """Centripetal Catmull-Rom (no cusps, no loops) between rows segment+1 and segment+2 of `points` [N, 3] at t [M]."""
    p0, p1, p2, p3 = (points[segment + i] for i in range(4))
    d0, d1, d2 = ((b - a).norm(dim=-1, keepdim=True).sqrt() for a, b in ((p0, p1), (p1, p2), (p2, p3)))
    m1, m2 = _tangent(p0, p1, p2, d0, d1) * d1, _tangent(p1, p2, p3, d1, d2) * d1
    t = t[:, None]
    chord = p2 - p1
    return p1 + t * m1 + t**2 * (3 * chord - 2 * m1 - m2) + t**3 * (m1 + m2 - 2 * chord)


def interpolate(keys: Keys, at: Tensor, loop: bool = False) -> Keys:
    """The curve through `keys` at key coordinates `at` [M]: 0 is the first key, 1 the second, ..."""
    count = len(keys.position)
    if count == 1:
        return Keys(*(value.expand(len(at), *value.shape[1:]) for value in keys))
    segments = count if loop else count - 1
    segment = at.floor().long().clamp(0, segments - 1)
    t = at - segment
    p = keys.position
    padded = torch.cat([p[-1:], p, p[:2]]) if loop else torch.cat([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    following = (segment + 1) % count
    return Keys(
        position=_catmull_rom(padded, segment, t),
        quaternion=slerp(keys.quaternion[segment], keys.quaternion[following], t),
        K=torch.lerp(keys.K[segment], keys.K[following], t[:, None, None]),
    )


def path_lengths(path: Keys) -> Tensor:
    """Length of every step [M - 1] of a path: what a constant pace spreads evenly over time.

    A step's length is the root of the summed squares of its translation (in units of the largest distance between two
    points of the path), its rotation in radians times `TURN_WEIGHT`, and its change of log focal length times
    `TURN_WEIGHT`. Multiplying all positions by a number changes nothing.
    """
    low, high = path.position.amin(0), path.position.amax(0)
    extent = float(_largest_distance(path.position))
    moved = path.position.diff(dim=0).norm(dim=-1)
    still = extent <= _STANDSTILL * float(torch.maximum(low.abs(), high.abs()).max())
    moved = torch.zeros_like(moved) if still else moved / extent
    a, b = path.quaternion[:-1], path.quaternion[1:]
    chord = torch.minimum((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    turned = 4 * torch.asin((chord / 2).clamp(max=1))
    zoomed = path.K[:, 1, 1].log().diff()
    return (moved**2 + (TURN_WEIGHT * turned) ** 2 + (TURN_WEIGHT * zoomed) ** 2).sqrt()


def _largest_distance(points: Tensor) -> Tensor:
    # A thousand evenly picked points give the extent of a dense path; all pairs of a long one would not fit in memory.
    some = points[:: max(1, len(points) // _SAMPLES)]
    return torch.cdist(some, some).max()


def constant_pace(
    keys: Keys,  # N keys
    fractions: Tensor,  # [T] in [0, 1] of the whole path
    *,
    loop: bool = False,
    speeds: Tensor | None = None,  # [N] > 0
) -> Keys:
    """Samples of the curve through `keys` at `fractions` of its length (see `path_lengths`).

    Positions follow a centripetal Catmull-Rom curve, rotations slerp from key to key, K is interpolated linearly. A
    single key stands still; a repeated key is a corner that takes no time.

    Args:
        keys: the keys in order.
        fractions: where to sample, as fractions of the path's length.
        loop: return from the last key to the first one.
        speeds: pace at every key in proportion to the others, geometric in between; then `fractions` are of the time
            that the path takes.

    Returns:
        T samples.
    """
    count = len(keys.position)
    if count == 1:
        return interpolate(keys, fractions)
    segments = count if loop else count - 1
    per_segment = max(16, -(-_SAMPLES // segments))
    grid = torch.linspace(0, segments, segments * per_segment + 1, dtype=torch.float64)
    lengths = path_lengths(interpolate(keys, grid, loop))
    if speeds is not None:
        lengths = lengths / _speeds_along(speeds, (grid[1:] + grid[:-1]) / 2)
    if not bool(lengths.sum() > 0):
        return interpolate(keys, fractions.double() * segments, loop)
    travelled = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    wanted = fractions.double() * travelled[-1]
    cell = (torch.searchsorted(travelled, wanted, right=True) - 1).clamp(0, len(lengths) - 1)
    inside = (wanted - travelled[cell]) / lengths[cell].clamp(min=torch.finfo(torch.float64).tiny)
    return interpolate(keys, (cell + inside.clamp(0, 1)) / per_segment, loop)


def _speeds_along(speeds: Tensor, at: Tensor) -> Tensor:
    before = at.floor().long()
    logs = speeds.double().log()
    return torch.lerp(logs[before], logs[(before + 1) % len(speeds)], at - before).exp()


def smooth(path: Keys, sigma: float) -> Keys:
    """Gaussian smoothing of an evenly sampled path; both ends stay where they are and straight lines stay straight.

    The window narrows symmetrically towards the ends. Rotations are averaged as quaternions on one continuous branch.

    Args:
        path: N samples at even pace.
        sigma: standard deviation in samples, > 0.

    Returns:
        N samples.
    """
    count = len(path.position)
    index = torch.arange(count, dtype=torch.float64)
    away = (index[:, None] - index).abs()
    reach = torch.minimum(index, count - 1 - index)
    weight = torch.exp(-0.5 * (away / sigma) ** 2) * (away <= reach[:, None])
    weight = weight / weight.sum(dim=1, keepdim=True)
    return Keys(
        position=weight @ path.position,
        quaternion=torch.nn.functional.normalize(weight @ continuous(path.quaternion), dim=-1),
        K=torch.einsum("ij,jkl->ikl", weight, path.K),
    )
