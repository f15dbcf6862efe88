"""Camera walks through furnished houses that keep clear of things and look at something."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.dice import Dice
from training.data.scenes import Scenes

_PATHS = 64
_KEPT = 8
_GAZES = 3
_PROBES = 4
_ENOUGH_CLEARANCE = 0.45
_ENOUGH_DEPTH = 2.5
_LEAST_CLEARANCE = 0.3
_STRAY_DRAWS = 6
_STRAY_OFFSET_M = (0.9, 0.3)  # over the ground, in height
_STRAY_TURN_DEGREES, _STRAY_TILT_DEGREES = 40.0, 10.0


@dataclass(frozen=True)
class WalkStyle:
    """Ranges of the random draws of a walk."""

    length_m: tuple[float, float] = (0.8, 3.0)
    turn_degrees: float = 60.0  # largest turn of the gaze along the walk, to either side
    fov_degrees: tuple[float, float] = (45.0, 80.0)  # across the width, one draw a scene
    through_doors: float = 0.35  # share of the scenes whose walk prefers to pass a door


def sample_walks(scenes: Scenes, seed: int, views: int, style: WalkStyle) -> tuple[Tensor, Tensor]:
    """One smooth walk through every scene, on the CPU.

    Among random paths those with the most clearance are kept; among random gazes along them the one that sees farthest
    is taken, judged by a few rays a view.

    Returns:
        c2w [B, V, 4, 4] OpenCV poses in order along the walk, and focal [B] (of the width).
    """
    dice, n = Dice(seed, 2), len(scenes)
    focal = 0.5 / (dice.uniform(*style.fov_degrees, n) * math.pi / 360).tan()
    time = torch.linspace(0, 1, views) if views > 1 else torch.full((1,), 0.5)
    ground, heading, passing = _draw_paths(dice, scenes, time, style)
    ground, heading, passing, room = _clearest(dice, scenes, ground, heading, passing, style)
    height = dice.uniform(1.0, 1.55, n, 1, 1) + dice.uniform(-0.1, 0.1, n, 1, 1) * time
    gaze = _draw_gazes(dice, heading, passing, time, style)  # yaw, pitch [B, K * G, V]
    ground = ground.repeat_interleave(_GAZES, 1)
    position = torch.stack([ground[..., 0], height.expand(ground.shape[:-1]), ground[..., 1]], -1)
    poses = look(position, *gaze)  # [B, K * G, V, 4, 4]
    picked = [0, views // 2, views - 1]
    depth, thing = _probe(scenes, poses[:, :, picked], focal)  # [B, K * G, 3, rays]
    crowded = 20 * (_LEAST_CLEARANCE - room).clamp_min(0).repeat_interleave(_GAZES, 1)
    score = _merit(depth, thing) - crowded
    best = (score + dice.uniform(0, 0.3, *score.shape)).argmax(1)
    return poses[torch.arange(n), best], focal


def sample_strays(scenes: Scenes, seed: int, walk: Tensor, focal: Tensor, count: int) -> Tensor:
    """Single cameras off the walks, on the CPU: moved and turned away from a random frame, clear of things.

    Args:
        scenes: B scenes.
        seed: of the draws.
        walk: [B, V, 4, 4] poses of the walks.
        focal: [B] as for the walks.
        count: cameras a scene.

    Returns:
        c2w [B, count, 4, 4], the best-seeing of `_STRAY_DRAWS` random candidates for each.
    """
    dice, n, draws = Dice(seed, 4), len(scenes), count * _STRAY_DRAWS
    frame = dice.integers(0, walk.shape[1], n, draws)
    source = walk[torch.arange(n)[:, None], frame]
    forward, (away, rise) = source[..., :3, 2], _STRAY_OFFSET_M
    yaw = torch.atan2(forward[..., 0], forward[..., 2]) + math.radians(_STRAY_TURN_DEGREES) * dice.uniform(
        -1, 1, n, draws
    )
    pitch = torch.asin(-forward[..., 1].clamp(-1, 1)) + math.radians(_STRAY_TILT_DEGREES) * dice.uniform(
        -1, 1, n, draws
    )
    position = source[..., :3, 3] + dice.uniform(-1, 1, n, draws, 3) * torch.tensor([away, rise, away])
    poses = look(position, yaw, pitch)
    depth, thing = _probe(scenes, poses[:, :, None], focal)
    crowded = 20 * (_LEAST_CLEARANCE - clearance(scenes, position[:, :, None, ::2])).clamp_min(0)
    score = (_merit(depth, thing) - crowded).view(n, count, _STRAY_DRAWS)
    best = score.argmax(-1) + torch.arange(count) * _STRAY_DRAWS
    return poses[torch.arange(n)[:, None], best]


def look(position: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """OpenCV poses [..., 4, 4] at `position` [..., 3]; yaw turns from +z towards +x, pitch looks down."""
    zero = torch.zeros_like(yaw)
    forward = torch.stack([yaw.sin() * pitch.cos(), -pitch.sin(), yaw.cos() * pitch.cos()], -1)
    right = torch.stack([-yaw.cos(), zero, yaw.sin()], -1)
    down = torch.linalg.cross(forward, right)
    last = torch.tensor([0.0, 0, 0, 1]).expand(*yaw.shape, 1, 4)
    return torch.cat([torch.stack([right, down, forward, position], -1), last], -2)


def _draw_paths(dice: Dice, scenes: Scenes, time: Tensor, style: WalkStyle) -> tuple[Tensor, Tensor, Tensor]:
    """Random bent paths: ground points [B, P, V, 2], heading [B, P], whether it passes a door [B, P]."""
    n = len(scenes)
    half = scenes.geometry.primitives[:, -1, 3:6]
    length = dice.uniform(*style.length_m, n, _PATHS)
    length = torch.where(torch.arange(_PATHS) % 8 < 2, length.clamp_max(1.0), length)  # fits into crowded rooms
    heading = dice.uniform(-math.pi, math.pi, n, _PATHS)
    start = dice.uniform(-1, 1, n, _PATHS, 2) * (half[:, None, ::2] - 0.5)
    passing = (torch.arange(_PATHS) % 2 == 0).expand(n, _PATHS)
    which = dice.flip(0.5, n, _PATHS).long() * scenes.doors[:, 1, 3:].long()
    door = scenes.doors.gather(1, which[..., None].expand(-1, -1, 4))
    across = torch.where(which == 0, math.pi / 2, 0.0) + math.pi * dice.flip(0.5, n, _PATHS)
    heading = torch.where(passing, across + dice.uniform(-0.35, 0.35, n, _PATHS), heading)
    ahead = torch.stack([heading.sin(), heading.cos()], -1)
    behind = (length * dice.uniform(0.25, 0.75, n, _PATHS))[..., None]
    start = torch.where(passing[..., None], door[..., :2] - behind * ahead, start)
    bend = dice.uniform(-0.15, 0.15, n, _PATHS) * length * ~passing
    side = torch.stack([heading.cos(), -heading.sin()], -1)
    along = (length[..., None] * time)[..., None] * ahead[:, :, None]
    aside = (bend[..., None] * (math.pi * time).sin())[..., None] * side[:, :, None]
    return start[:, :, None] + along + aside, heading, passing


def _clearest(
    dice: Dice, scenes: Scenes, ground: Tensor, heading: Tensor, passing: Tensor, style: WalkStyle
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The `_KEPT` paths of each scene with the best clearance, and that clearance [B, K] in metres."""
    free = clearance(scenes, ground)
    wanted = dice.flip(style.through_doors, len(scenes), 1)
    score = free.clamp_max(_ENOUGH_CLEARANCE) * 2 + (passing == wanted) * 0.6
    score = score + dice.uniform(0, 0.3, *free.shape) - 20 * (_LEAST_CLEARANCE - free).clamp_min(0)
    best = score.topk(_KEPT, 1).indices
    kept = ground.gather(1, best[..., None, None].expand(-1, -1, *ground.shape[2:]))
    return kept, heading.gather(1, best), passing.gather(1, best), free.gather(1, best)


def clearance(scenes: Scenes, ground: Tensor) -> Tensor:
    """Smallest distance [B, P], in metres over the ground, of the points [B, P, V, 2] to things and outer walls."""
    obstacles = scenes.obstacles[:, None, None]  # [B, 1, 1, N, 4]
    x, z = ground[..., :1], ground[..., 1:]
    dx = torch.maximum(obstacles[..., 0] - x, x - obstacles[..., 1])
    dz = torch.maximum(obstacles[..., 2] - z, z - obstacles[..., 3])
    outside = torch.hypot(dx.clamp_min(0), dz.clamp_min(0)) + torch.maximum(dx, dz).clamp_max(0)
    half = scenes.geometry.primitives[:, -1, 3:6][:, None, None]
    shell = torch.minimum(half[..., 0] - x[..., 0].abs(), half[..., 2] - z[..., 0].abs())
    return torch.minimum(outside.amin(-1), shell).amin(-1)


def _draw_gazes(dice: Dice, heading: Tensor, passing: Tensor, time: Tensor, style: WalkStyle) -> tuple[Tensor, Tensor]:
    """`_GAZES` smooth gazes for each kept path: yaw and pitch [B, K * G, V]."""
    heading, passing = heading.repeat_interleave(_GAZES, 1), passing.repeat_interleave(_GAZES, 1)
    shape = (*heading.shape, 1)
    spread = torch.where(passing, 0.5, math.pi)[..., None]
    turn = math.radians(style.turn_degrees) * torch.where(passing, 0.6, 1.0)[..., None]
    middle = heading[..., None] + spread * dice.uniform(-1, 1, *shape) + math.pi * dice.flip(0.25, *shape)
    sway = 0.06 * (4 * time + dice.uniform(0, 6, *shape)).sin()
    yaw = middle + turn * dice.uniform(-1, 1, *shape) * (time - 0.5) + sway
    nod = dice.uniform(-0.06, 0.06, *shape) * (3 * time + dice.uniform(0, 6, *shape)).sin()
    return yaw, dice.uniform(-0.06, 0.3, *shape) + nod


def _probe(scenes: Scenes, poses: Tensor, focal: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and primitives along a grid of rays in each view: [B, N, V, rays] for poses [B, N, V, 4, 4]."""
    line = torch.linspace(-0.4, 0.4, _PROBES)
    y, x = torch.meshgrid(line, line, indexing="ij")
    local = torch.stack([x.flatten(), y.flatten(), torch.zeros(_PROBES**2)], -1) / focal[:, None, None]
    local = local + torch.tensor([0.0, 0.0, 1.0])  # [B, rays, 3]
    direction = torch.einsum("bnvij,brj->bnvri", poses[..., :3, :3], local / local.norm(dim=-1, keepdim=True))
    origin = poses[..., None, :3, 3].expand_as(direction)
    primitives = scenes.geometry.primitives
    shape = direction.shape[:-1]
    origin, direction = origin.flatten(1, 3)[..., None, :], direction.flatten(1, 3)[..., None, :]  # [B, M, 1, 3]
    half, cos, sin = primitives[:, None, :, 3:6], primitives[:, None, :, 6], primitives[:, None, :, 7]
    offset = origin - primitives[:, None, :, :3]
    near, far = [], []
    for k, (o, d) in enumerate(_turned(offset, direction, cos, sin)):
        inverse = torch.where(d.abs() < 1e-6, 1e-6, d).reciprocal()
        near.append(-o * inverse - half[..., k] * inverse.abs())
        far.append(-o * inverse + half[..., k] * inverse.abs())
    enter, leave = torch.stack(near).amax(0), torch.stack(far).amin(0)  # [B, M, P]
    hit = torch.where((enter < leave) & (enter > 0), enter, torch.inf)
    hit[..., -1] = leave[..., -1]  # the house is seen from inside
    depth, index = hit.min(-1)
    return depth.view(shape), index.view(shape)


def _turned(offset: Tensor, direction: Tensor, cos: Tensor, sin: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Origins and directions in the frames of turned boxes, axis by axis."""
    return [
        (offset[..., 0] * cos - offset[..., 2] * sin, direction[..., 0] * cos - direction[..., 2] * sin),
        (offset[..., 1], direction[..., 1].expand_as(offset[..., 1])),
        (offset[..., 0] * sin + offset[..., 2] * cos, direction[..., 0] * sin + direction[..., 2] * cos),
    ]


def _merit(depth: Tensor, thing: Tensor) -> Tensor:
    """How well the views of a walk see the room, from distances and primitives [B, N, V, rays]: [B, N]."""
    median = depth.median(-1).values.amin(-1)
    near = depth.amin(-1).amin(-1)
    ordered = thing.sort(-1).values
    things = 1 + (ordered[..., 1:] != ordered[..., :-1]).sum(-1).float().mean(-1)
    spread = depth.clamp_min(0.1).log().std(-1).mean(-1)
    return median.clamp_max(_ENOUGH_DEPTH) + near.clamp_max(0.8) + 0.15 * things.clamp_max(8) + spread
