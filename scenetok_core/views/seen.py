"""Where a camera path leaves what the input cameras saw, and how to keep it there.

Nothing is known about the surfaces, so this is an estimate from cameras alone. Each camera of the path sends rays into
its picture; points at a few depths around the distance to the focus point are seen when an input camera has them in its
picture and looks at them from nearly the same side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import ray_map
from ..trajectories.framing import focus_distance, one_scene, reach
from ..trajectories.rig import from_keys, to_keys
from ..trajectories.splines import Keys, constant_pace, matrix_from_quaternion, slerp, smooth
from ..types import Cameras

LEAST_COVERED = 0.5
LARGEST_DISTANCE = 1.0
_GRID = (7, 7)
_DEPTHS = (0.5, 1.0, 2.0)  # of the distance to the focus point
_SAME_SIDE = math.cos(math.radians(60))  # a surface seen at more than this angle shows another face
_VALUES_AT_ONCE = 3_000_000
_MARGIN = 0.1  # limited paths aim this much further inside than they must
_BISECTIONS = 10
_JUMP = 2.0  # steps up to this many times the longest one of the given path need no care
_JUMP_WIDTH = 0.04  # of the frames
_LOWERINGS = 60
_WALK_SAMPLES = 256
_STANDSTILL = 1e-3
_NAMED_RUNS = 4


class Seen(NamedTuple):
    """How well the input cameras know what each of the T cameras of a path looks at."""

    distance: Tensor  # [T] from the nearest input camera, in units of `framing.reach`: 0 = where one stood
    angle: Tensor  # [T] degrees to the most similar viewing direction of an input camera
    covered: Tensor  # [T] share of the view that an input camera saw, in [0, 1]
    outside: Tensor  # [T] bool: covered too little, or too far away


def measure_seen(
    path: Cameras,
    inputs: Cameras,
    *,
    least_covered: float = LEAST_COVERED,
    largest_distance: float = LARGEST_DISTANCE,
) -> Seen:
    """Measure every camera of a path against the input cameras.

    Args:
        path: T cameras.
        inputs: the input cameras of the scene.
        least_covered: a view is outside when less than this share of it was seen, in [0, 1].
        largest_distance: or when it stands further than this from the nearest input camera. 1 is the largest distance
            between two input cameras, or theirs to the focus point if that is larger.

    Raises:
        ValueError: cameras of several scenes.
    """
    path, inputs = one_scene(path), one_scene(inputs)
    distance = torch.cdist(path.centers.double(), inputs.centers.double()).amin(1) / reach(inputs)
    cosine = F.normalize(path.forward, dim=-1) @ F.normalize(inputs.forward, dim=-1).T
    covered = _covered(path, inputs)
    return Seen(
        distance=distance.float(),
        angle=cosine.amax(1).clamp(-1, 1).arccos().rad2deg(),
        covered=covered,
        outside=(covered < least_covered) | (distance > largest_distance),
    )


def _covered(path: Cameras, inputs: Cameras) -> Tensor:
    """Share [T] of the sampled points of each view that an input camera saw."""
    depths = focus_distance(inputs) * torch.tensor(_DEPTHS)
    origins, directions = ray_map(path.c2w, path.K, _GRID)
    points = (origins[..., None] + directions[..., None] * depths).permute(0, 2, 3, 4, 1).flatten(1, 3)
    towards = directions[..., None].expand(*directions.shape, len(depths)).permute(0, 2, 3, 4, 1).flatten(1, 3)
    at_once = max(1, _VALUES_AT_ONCE // (points.shape[1] * len(inputs)))
    parts = zip(points.split(at_once), towards.split(at_once), strict=True)
    seen = (_seen_points(part.flatten(0, 1), ways.flatten(0, 1), inputs) for part, ways in parts)
    return torch.cat(list(seen)).unflatten(0, (len(path), -1)).float().mean(1)


def _seen_points(points: Tensor, directions: Tensor, inputs: Cameras) -> Tensor:
    """Whether any input camera saw the points [N, 3] from the side from which rays [N, 3] come to them: [N] bool."""
    centre = inputs.centers.mean(0)  # float32 resolves differences near it best
    points, cameras = points - centre, inputs.centers - centre
    pixel = inputs.K @ inputs.c2w[:, :3, :3].mT @ (points.T - cameras[..., None])  # [V, 3, N]
    across, down, depth = pixel.unbind(1)
    inside = (depth > 0) & (across >= 0) & (across <= depth) & (down >= 0) & (down <= depth)
    along = (directions * points).sum(-1) - cameras @ directions.T  # [V, N] of the ray from the input camera
    return (inside & (along > _SAME_SIDE * torch.cdist(cameras, points))).any(0)


def describe_seen(seen: Seen) -> str:
    """One sentence: that the path stays inside, or which frames (counted from 0) leave and by how much."""
    if not bool(seen.outside.any()):
        return f"the path stays in what the input cameras saw: at least {float(seen.covered.min()):.0%} of every view"
    worst = int(torch.where(seen.outside, seen.covered - seen.distance, torch.inf).argmin())
    runs = _runs(seen.outside)
    named = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:_NAMED_RUNS])
    more = f" and {len(runs) - _NAMED_RUNS} more stretches" if len(runs) > _NAMED_RUNS else ""
    return (
        f"the path leaves what the input cameras saw in {int(seen.outside.sum())} of {len(seen.outside)} frames "
        f"({named}{more}). Worst is frame {worst}: {float(seen.covered[worst]):.0%} of its view was seen, the nearest "
        f"input camera is {float(seen.distance[worst]):.2g} x the size of the capture away, the most similar viewing "
        f"direction {float(seen.angle[worst]):.0f} degrees off. What is shown there is invented; shorten the path, or "
        "limit it to the seen region"
    )


def _runs(flags: Tensor) -> list[tuple[int, int]]:
    """First and last index of every stretch of True."""
    edges = F.pad(flags.int(), (1, 1)).diff()
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten() - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def limit_to_seen(
    path: Cameras,
    inputs: Cameras,
    *,
    least_covered: float = LEAST_COVERED,
    largest_distance: float = LARGEST_DISTANCE,
) -> Cameras:
    """Bring the cameras that `measure_seen` finds outside back towards the nearest place on the inputs' own walk.

    A camera moves, turns and zooms together, until it is inside. Where the nearest place jumps (from one side of the
    seen region to the other) the path follows the walk between them. Cameras next to these move with them; all others
    that are inside stay where they are.

    Arguments and errors as for `measure_seen`.

    Returns:
        As many cameras, none of them outside.
    """
    limits = {"least_covered": least_covered, "largest_distance": largest_distance}
    outside = measure_seen(path, inputs, **limits).outside
    if not bool(outside.any()):
        return path
    stricter = {
        "least_covered": least_covered + _MARGIN * (1 - least_covered),
        "largest_distance": largest_distance * (1 - _MARGIN),
    }
    keys, size = to_keys(path), reach(inputs)
    longest = _JUMP * _longest_step(keys, size)
    beside = _walk_beside(keys, to_keys(inputs), longest, size)
    share = _eased(_inner_share(path, beside, inputs, outside, stricter))
    limited = from_keys(path, _between(beside, keys, _without_jumps(beside, keys, share, longest, size)))
    keys, outside = to_keys(limited), measure_seen(limited, inputs, **limits).outside
    nearest = _nearest(keys, to_keys(inputs), size)
    return from_keys(path, _between(nearest, keys, _inner_share(limited, nearest, inputs, outside, limits)))


def _inner_share(path: Cameras, anchors: Keys, inputs: Cameras, chosen: Tensor, limits: dict[str, float]) -> Tensor:
    """How far [T] the chosen cameras can go from their anchors (0) to their own places (1) and stay inside."""
    share = torch.ones(len(path), dtype=torch.float64)
    if not bool(chosen.any()):
        return share
    outer, inner = (Keys(*(value[chosen] for value in part)) for part in (to_keys(path), anchors))
    low, high = (torch.full((len(outer.position),), end, dtype=torch.float64) for end in (0.0, 1.0))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        outside = measure_seen(from_keys(path, _between(inner, outer, middle)), inputs, **limits).outside
        low, high = torch.where(outside, low, middle), torch.where(outside, middle, high)
    return share.index_put((chosen,), low)


def _eased(share: Tensor) -> Tensor:
    """`share` [T] without kinks: averages of the lowest values nearby, so that none is raised."""
    width = max(1, round(_JUMP_WIDTH * len(share)))
    lowest = -F.max_pool1d(-share[None], 2 * width + 1, stride=1, padding=width)[0]
    frame = torch.arange(len(share), dtype=torch.float64)
    away = (frame[:, None] - frame).abs() / width
    weight = torch.where(away <= 1, 0.5 + 0.5 * (math.pi * away).cos(), 0.0)
    return (weight / weight.sum(1, keepdim=True)) @ lowest


def _without_jumps(anchors: Keys, keys: Keys, share: Tensor, longest: float, size: float) -> Tensor:
    """`share` [T], lowered around steps that are longer than `longest`: at 0 there are only those of the anchors."""
    frame = torch.arange(len(share), dtype=torch.float64)
    nearby = torch.exp(-0.5 * ((frame[:, None] - frame) / (_JUMP_WIDTH * len(share))).square())
    for _ in range(_LOWERINGS):
        long = _steps(_between(anchors, keys, share), size) > longest
        if not bool(long.any()):
            break
        beside = F.pad(long, (0, 1)) | F.pad(long, (1, 0))
        share = share * (1 - nearby[:, beside].amax(1) / 2)
    return share


def _walk_beside(keys: Keys, inputs: Keys, longest: float, size: float) -> Keys:
    """For every key a place on the walk through the inputs: near it, and in few steps longer than `longest`; [T].

    Dynamic programming over samples of the walk, so that the way from one place to another is through what was seen.
    """
    walk = constant_pace(inputs, torch.linspace(0, 1, _WALK_SAMPLES, dtype=torch.float64))
    away = _apart(keys, walk, size)
    steps = _apart(walk, walk, size) / max(longest, _STANDSTILL) ** 2
    cost, before = away[0], []
    for here in away[1:]:
        best = (cost[:, None] + steps).min(0)
        cost, before = best.values + here, [*before, best.indices]
    places = [int(cost.argmin())]
    for indices in reversed(before):
        places.append(int(indices[places[-1]]))
    chosen = Keys(*(value[places[::-1]] for value in walk))
    return smooth(chosen, max(1.0, _JUMP_WIDTH * len(places)))


def _nearest(keys: Keys, inputs: Keys, size: float) -> Keys:
    index = _apart(keys, inputs, size).argmin(1)
    return Keys(*(value[index] for value in inputs))


def _apart(keys: Keys, others: Keys, size: float) -> Tensor:
    """Squared distances [T, V] of poses; a distance of `size` counts as much as a turn by one radian."""
    dot = (keys.quaternion @ others.quaternion.T).abs().clamp(max=1)
    return (torch.cdist(keys.position, others.position) / size).square() + (2 * dot.arccos()).square()


def _between(inner: Keys, outer: Keys, share: Tensor) -> Keys:
    return Keys(
        position=torch.lerp(inner.position, outer.position, share[:, None]),
        quaternion=slerp(inner.quaternion, outer.quaternion, share),
        K=torch.lerp(inner.K, outer.K, share[:, None, None]),
    )


def _steps(keys: Keys, size: float) -> Tensor:
    """The change [T - 1] from each camera to the next; `size` counts as much as a turn by one radian."""
    moved = keys.position.diff(dim=0).norm(dim=-1) / size
    rotation = matrix_from_quaternion(keys.quaternion)
    turned = (rotation[1:] - rotation[:-1]).flatten(1).norm(dim=-1) / math.sqrt(2)  # radians, when small
    return (moved.square() + turned.square()).sqrt()


def _longest_step(keys: Keys, size: float) -> float:
    return float(_steps(keys, size).max()) if len(keys.position) > 1 else 0.0
