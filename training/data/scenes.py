"""Random furnished rooms: a house of two or three rooms behind door openings, as tables for the ray-caster."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.data import furniture
from training.data.dice import Dice
from training.data.furniture import Piece
from training.data.raycast import ROOMS, SURFACES, Geometry, corners
from training.data.textures import Atlas

_HALF_WALL = 0.06
_TRIES = 24
_PICTURES = 6
_WINDOWS = 4
_RUGS = 2
_HIDDEN = -1.0
_DOOR_REACH = 0.9
_FAR_AWAY = 1e3
_INWARD = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # x and z of the normals of walls


@dataclass(frozen=True)
class Role:
    """How a material is drawn; pairs are ranges of uniform draws."""

    value: tuple[float, float]  # largest channel of the first colour, linear
    saturation: float  # largest saturation
    contrast: float  # 0: all palette colours alike, 1: independent
    gloss: tuple[float, float]  # reflectivity seen head-on
    repeats: tuple[float, float]  # textures per metre
    glow: tuple[float, float] = (0.0, 0.0)
    kind: str = "pattern"


ROLES = {
    "wall": Role((0.1, 0.95), 0.9, 0.8, (0.0, 0.03), (0.25, 0.8)),
    "floor": Role((0.03, 0.7), 0.85, 0.9, (0.0, 0.3), (0.25, 0.9)),
    "ceiling": Role((0.45, 0.95), 0.5, 0.15, (0.0, 0.02), (0.2, 0.6)),
    "wood": Role((0.02, 0.9), 0.9, 0.6, (0.0, 0.2), (0.5, 1.5)),
    "cloth": Role((0.02, 0.95), 1.0, 0.9, (0.0, 0.02), (0.6, 1.6)),
    "object": Role((0.02, 1.0), 1.0, 1.0, (0.0, 0.3), (1.0, 4.0)),
    "books": Role((0.03, 0.9), 1.0, 1.0, (0.0, 0.05), (0.8, 1.5)),
    "metal": Role((0.02, 0.6), 0.7, 0.2, (0.3, 0.7), (0.5, 1.5)),
    "leaf": Role((0.05, 0.6), 0.9, 0.9, (0.0, 0.08), (1.5, 3.0)),
    "rug": Role((0.02, 0.9), 1.0, 1.0, (0.0, 0.0), (0.4, 1.0)),
    "lamp": Role((0.9, 1.0), 0.3, 0.0, (0.0, 0.0), (0.5, 1.0), (1.5, 4.0)),
    "picture": Role((0.9, 1.0), 0.0, 0.0, (0.0, 0.1), (1.0, 1.0), kind="picture"),
    "window": Role((0.9, 1.0), 0.0, 0.0, (0.0, 0.05), (1.0, 1.0), (0.8, 2.0), kind="window"),
}


@dataclass(frozen=True)
class Scenes:
    """B furnished houses. World axes: y up, floor at y = 0, metres."""

    geometry: Geometry
    rooms: Tensor  # [B, ROOMS, 4] inner faces x0, x1, z0, z1; an absent room has z0 >= z1
    doors: Tensor  # [B, 2, 4] centre x, centre z, half width, 1 when the opening exists; the first wall runs along z
    obstacles: Tensor  # [B, N, 4] x0, x1, z0, z1 of everything that stands in a walker's way

    def __len__(self) -> int:
        return len(self.rooms)

    def to(self, device: torch.device | str) -> Scenes:
        """The same scenes on another device."""
        moved = [t.to(device) for t in (self.rooms, self.doors, self.obstacles)]
        return Scenes(self.geometry.to(device), *moved)


@dataclass(frozen=True)
class _Plan:
    """The empty house."""

    extent: Tensor  # [B, 3] width (x), height (y), depth (z)
    splits: Tensor  # [B, 2]
    rooms: Tensor  # [B, ROOMS, 4]
    doors: Tensor  # [B, 2, 4]
    walls: Tensor  # [B, 6, 6] centre, half extents


def _draw_plan(dice: Dice, n: int) -> _Plan:
    width, height, depth = dice.uniform(6.5, 11, n), dice.uniform(2.4, 3.2, n), dice.uniform(5.5, 9, n)
    x1, z1 = width / 2, depth / 2
    split_x, divided = width * dice.uniform(-0.12, 0.12, n), dice.flip(0.7, n)
    split_z = torch.where(divided, depth * dice.uniform(-0.15, 0.15, n), z1)
    gap, top = dice.uniform(0.45, 0.9, 2, n), torch.minimum(dice.uniform(1.95, 2.5, 2, n), height - 0.12)
    far = divided & dice.flip(0.5, n)
    low, high = torch.where(far, split_z, -z1) + gap[0] + 0.2, torch.where(far, z1, split_z) - gap[0] - 0.2
    door_z = low + (high - low) * dice.uniform(0, 1, n)
    door_x = split_x + gap[1] + 0.2 + (x1 - split_x - 2 * gap[1] - 0.4) * dice.uniform(0, 1, n)
    inner, z_face = split_x + _HALF_WALL, torch.where(divided, split_z - _HALF_WALL, z1)
    zero = torch.zeros(n)
    rooms = [
        (-x1, split_x - _HALF_WALL, -z1, z1),
        (inner, x1, -z1, z_face),
        (inner, x1, split_z + _HALF_WALL, z1),
    ]
    doors = [(split_x, door_z, gap[0], zero + 1), (door_x, split_z, gap[1], divided.float())]
    first = _wall_parts(door_z, gap[0], top[0], -z1, z1, height)
    second = _wall_parts(door_x, gap[1], top[1], split_x, x1, height)
    thick = zero + _HALF_WALL
    walls = [(split_x, y, c, thick, hy, h) for c, h, y, hy in first]
    walls += [(c, y, split_z, *(torch.where(divided, s, _HIDDEN) for s in (h, hy, thick))) for c, h, y, hy in second]
    tables = [torch.stack([torch.stack(row, -1) for row in group], 1) for group in (rooms, doors, walls)]
    extent, splits = torch.stack([width, height, depth], -1), torch.stack([split_x, split_z], -1)
    return _Plan(extent, splits, *tables)


def _wall_parts(
    door: Tensor, gap: Tensor, top: Tensor, start: Tensor, end: Tensor, height: Tensor
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Centre and half length along a wall, centre and half height: left of the door, right of it, above it."""
    left, right, middle = door - gap, door + gap, height / 2
    return [
        ((start + left) / 2, (left - start) / 2, middle, middle),
        ((right + end) / 2, (end - right) / 2, middle, middle),
        (door, gap, (top + height) / 2, (height - top) / 2),
    ]


@dataclass(frozen=True)
class _Pose:
    x: Tensor  # [B]
    z: Tensor
    cos: Tensor
    sin: Tensor
    box: Tensor  # [B, 4] x0, x1, z0, z1
    shown: Tensor  # [B] bool


def _place(dice: Dice, plan: _Plan, piece: Piece, taken: Tensor, room: Tensor, wall: str | None) -> _Pose:
    """A place for a piece in room [B] clear of the boxes `taken` [B, N, 4]; it is left out where none of the tries is.

    Args:
        dice: randomness.
        plan: the house.
        piece: what to place.
        taken: occupied ground.
        room: the room of each scene.
        wall: None for a free place, "any" for a place against a wall, "outer" for a wall of the house.
    """
    n = len(room)
    bounds = plan.rooms[torch.arange(n), room][:, None]  # [B, 1, 4]
    side, yaw = dice.integers(0, 4, n, _TRIES), dice.uniform(0, 2 * torch.pi, n, _TRIES) * dice.flip(0.7, n, 1)
    sin, cos = (_INWARD[side, 0], _INWARD[side, 1]) if wall else (yaw.sin(), yaw.cos())
    fx, fz = piece.footprint[:, :1], piece.footprint[:, 1:]
    half_x, half_z = fx * cos.abs() + fz * sin.abs(), fx * sin.abs() + fz * cos.abs()
    low = torch.stack([bounds[..., 0] + half_x, bounds[..., 2] + half_z])
    high = torch.stack([bounds[..., 1] - half_x, bounds[..., 3] - half_z])
    x, z = low + (high - low) * dice.uniform(0, 1, 2, n, _TRIES)
    penalty = (low - high).clamp_min(0).sum(0) * 10
    if wall:
        x = torch.where(sin > 0, low[0], torch.where(sin < 0, high[0], x))
        z = torch.where(cos > 0, low[1], torch.where(cos < 0, high[1], z))
    if wall == "outer":
        house = plan.extent[:, None] / 2
        off_x, off_z = house[..., 0] - half_x - x.abs(), house[..., 2] - half_z - z.abs()
        penalty = penalty + (torch.where(cos == 0, off_x, off_z).abs() > 1e-3) * 5
    box = _ground_box(x, z, half_x, half_z)  # [B, tries, 4]
    penalty = penalty + _overlap(box, taken).sum(-1)
    best = penalty.argmin(1, keepdim=True)
    x, z, cos, sin, least = (t.gather(1, best)[:, 0] for t in (x, z, cos, sin, penalty))
    return _Pose(x, z, cos, sin, box.gather(1, best[..., None].expand(-1, -1, 4))[:, 0], least < 1e-4)


def _ground_box(x: Tensor, z: Tensor, half_x: Tensor, half_z: Tensor) -> Tensor:
    return torch.stack([x - half_x, x + half_x, z - half_z, z + half_z], -1)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Common areas [B, N, M] of ground boxes [B, N, 4] and [B, M, 4]."""
    a, b = a[:, :, None], b[:, None]
    wide = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    deep = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 2], b[..., 2])
    return wide.clamp_min(0) * deep.clamp_min(0)


class _Furnisher:
    """Fills a plan piece by piece."""

    def __init__(self, dice: Dice, plan: _Plan, atlas: Atlas) -> None:
        self.dice, self.plan, self.atlas = dice, plan, atlas
        self.count = len(plan.extent)
        self.boxes: list[Tensor] = []  # [B, 9] each
        self.spheres: list[Tensor] = []
        self.casts: tuple[list[bool], list[bool]] = ([], [])
        self.materials: list[Tensor] = []  # [B, 17] each
        self.taken: list[Tensor] = []  # [B, 4] each, the ground in front of the doors first
        for door, along in zip(plan.doors.unbind(1), ((0, 1), (1, 0)), strict=True):
            reach, half = torch.full((self.count,), _DOOR_REACH), door[:, 2] + 0.05
            box = _ground_box(door[:, 0], door[:, 1], *((reach, half)[i] for i in along))
            self.taken.append(torch.where(door[:, 3:] > 0, box, _FAR_AWAY))

    def pick_room(self) -> Tensor:
        """A random room for each scene, large rooms more often."""
        sides = self.plan.rooms[..., 1::2] - self.plan.rooms[..., ::2]
        return torch.multinomial(sides.clamp_min(0).prod(-1), 1, generator=self.dice.generator)[:, 0]

    def material(self, role: Role, half: Tensor) -> int:
        """Draw a material; a picture is made to fit a box with half extents `half` [B, 3]."""
        self.materials.append(_draw_material(self.dice, self.atlas, role, self.count, half))
        return len(self.materials) - 1

    def add(self, piece: Piece, pose: _Pose, casts: bool = True) -> None:
        """Put the parts of a piece into the scene."""
        known: dict[str, int] = {}
        for part in piece.parts:
            role = ROLES[part.material.split(":")[0]]
            if part.material not in known:
                known[part.material] = self.material(role, part.half)
            x, y, z = part.center.unbind(-1)
            center = torch.stack([pose.x + x * pose.cos + z * pose.sin, y, pose.z + z * pose.cos - x * pose.sin], -1)
            half = torch.where(pose.shown[:, None], part.half, _HIDDEN)
            material = torch.full((self.count, 1), float(known[part.material]))
            row = torch.cat([center, half, pose.cos[:, None], pose.sin[:, None], material], -1)
            (self.spheres if part.sphere else self.boxes).append(row)
            self.casts[part.sphere].append(casts and role.glow[1] == 0)

    def stand(self, piece: Piece, wall: str | None) -> None:
        """Place a piece on the floor, clear of the others."""
        pose = _place(self.dice, self.plan, piece, torch.stack(self.taken, 1), self.pick_room(), wall)
        self.taken.append(torch.where(pose.shown[:, None], pose.box, _FAR_AWAY))
        self.add(piece, pose)


def _draw_material(dice: Dice, atlas: Atlas, role: Role, n: int, half: Tensor) -> Tensor:
    """Rows [n, 17] of `Geometry.materials`."""
    gloss = dice.uniform(*role.gloss, n) * dice.flip(0.6, n)
    sharpness = 8 * 30 ** dice.uniform(0, 1, n)
    glow = dice.uniform(*role.glow, n)
    if role.kind == "pattern":
        palette = _draw_palette(dice, role, n)
        scale = dice.uniform(*role.repeats, n)
        place = [scale, -scale, *dice.uniform(0, 1, 2, n)]
        texture = dice.integers(0, atlas.patterns, n)
    else:
        swapped = torch.eye(3)[dice.uniform(0, 1, n, 3).argsort(1)]
        amount = dice.uniform(0, 1, n, 1, 1) * (role.kind == "picture")
        palette = torch.lerp(torch.eye(3).expand(n, 3, 3), swapped, amount) * dice.uniform(*role.value, n, 1, 1)
        place = [0.5 / half[:, 0], -0.5 / half[:, 1], torch.full((n,), 0.5), torch.full((n,), 0.5)]
        first = atlas.patterns if role.kind == "picture" else atlas.patterns + atlas.pictures
        texture = dice.integers(first, first + (atlas.pictures if role.kind == "picture" else atlas.windows), n)
    return torch.cat([palette.flatten(1), torch.stack([*place, texture.float(), gloss, sharpness, glow], -1)], -1)


def _draw_palette(dice: Dice, role: Role, n: int) -> Tensor:
    """Three linear colours for each of n materials, [n, 3, 3]."""
    low, high = role.value
    value = low * (high / low) ** dice.uniform(0, 1, n, 3)
    colors = dice.color(value, dice.uniform(0, 1, n, 3) * role.saturation)
    amount = (dice.uniform(0.3, 1, n, 2) * role.contrast * 1.2).clamp_max(1)[..., None]
    others = torch.lerp(colors[:, :1].expand(-1, 2, -1), colors[:, 1:], amount)
    return torch.cat([colors[:, :1], others], 1)


def sample_scenes(seed: int, count: int, atlas: Atlas) -> Scenes:
    """Draw `count` furnished houses on the CPU; equal arguments give equal houses."""
    dice = Dice(seed, 1)
    plan = _draw_plan(dice, count)
    crew = _Furnisher(dice, plan, atlas)
    for _ in range(ROOMS):
        for role in ("wall", "wall", "floor", "ceiling", "wall"):
            crew.material(ROLES[role], plan.extent)
    still = torch.ones(count)
    for part in plan.walls.unbind(1):
        crew.boxes.append(torch.cat([part, torch.stack([still, 0 * still, 0 * still], -1)], -1))
        crew.casts[0].append(True)
    for make, wall in furniture.STANDING:
        crew.stand(make(dice, count), wall)
    windows = _hang(crew)
    rooms = _draw_lights(crew, windows)
    return _assemble(crew, rooms)


def _hang(crew: _Furnisher) -> list[_Pose]:
    """Windows, pictures and rugs, which are in nobody's way. Returns the poses of the windows."""
    taken, windows = crew.taken[:2], []
    for k in range(_WINDOWS):
        piece = furniture.window(crew.dice, crew.count)
        room = torch.full((crew.count,), k) if k < ROOMS else crew.pick_room()
        windows.append(_place(crew.dice, crew.plan, piece, torch.stack(taken, 1), room, "outer"))
        taken = [*taken, windows[-1].box]
        crew.add(piece, windows[-1], casts=False)
    for _ in range(_PICTURES):
        piece = furniture.picture(crew.dice, crew.count)
        pose = _place(crew.dice, crew.plan, piece, torch.stack(taken, 1), crew.pick_room(), "any")
        taken = [*taken, pose.box]
        crew.add(piece, pose, casts=False)
    taken = crew.taken[:2]
    for _ in range(_RUGS):
        piece = furniture.rug(crew.dice, crew.count)
        pose = _place(crew.dice, crew.plan, piece, torch.stack(taken, 1), crew.pick_room(), None)
        taken = [*taken, pose.box]
        crew.add(piece, pose, casts=False)
    return windows


def _draw_lights(crew: _Furnisher, windows: list[_Pose]) -> Tensor:
    """Lamps (added to the scene) and the table `Geometry.rooms` [B, ROOMS, 21]."""
    dice, plan, n = crew.dice, crew.plan, crew.count
    height = plan.extent[:, 1]
    daylight = 10 ** dice.uniform(-1.5, 0.3, n)
    rows = []
    for room in range(ROOMS):
        bounds = plan.rooms[:, room]
        exists = (bounds[:, 3] - bounds[:, 2] > 0.5) & (bounds[:, 1] - bounds[:, 0] > 0.5)
        x = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * dice.uniform(0.3, 0.7, n)
        z = bounds[:, 2] + (bounds[:, 3] - bounds[:, 2]) * dice.uniform(0.3, 0.7, n)
        lamp = torch.stack([x, height - dice.uniform(0.25, 0.45, n), z], -1)
        glow, radius = 10 ** dice.uniform(-0.8, 0.4, n), dice.uniform(0.1, 0.2, n)
        _hang_lamp(crew, lamp, torch.where(exists, radius, _HIDDEN))
        color = dice.color(glow, dice.uniform(0, 0.4, n))
        pane = windows[room]
        place = torch.stack([pane.x + 0.3 * pane.sin, torch.full((n,), 1.5), pane.z + 0.3 * pane.cos], -1)
        sun = dice.color(daylight, dice.uniform(0, 0.4, n)) * pane.shown[:, None]
        level = dice.uniform(0.05, 0.18, n) * (color + sun).mean(-1)
        ambient = dice.color(level, dice.uniform(0, 0.5, n))
        dado = torch.where(dice.flip(0.4, n), dice.uniform(0.7, 1.2, n), dice.uniform(0.06, 0.16, n))
        rows.append(torch.cat([lamp, 2 * color, place, 2 * sun, ambient, dado[:, None], bounds, height[:, None]], -1))
    table = torch.stack(rows, 1)
    return _expose(dice, table, plan)


def _hang_lamp(crew: _Furnisher, center: Tensor, radius: Tensor) -> None:
    material = torch.full((crew.count, 1), float(crew.material(ROLES["lamp"], center)))
    zero = torch.zeros_like(material)
    crew.spheres.append(torch.cat([center, radius[:, None].expand(-1, 3), zero + 1, zero, material], -1))
    crew.casts[1].append(False)


def _expose(dice: Dice, table: Tensor, plan: _Plan) -> Tensor:
    """Scale the lights of each scene so that its rooms are about equally bright on average, within a factor of two."""
    area = (plan.rooms[..., 1] - plan.rooms[..., 0]) * (plan.rooms[..., 3] - plan.rooms[..., 2]).clamp_min(0)
    level = (table[..., 12:15] + 0.25 * table[..., 3:6] + 0.2 * table[..., 9:12]).mean(-1)
    mean = (level * area).sum(1) / area.sum(1)
    gain = (1.1 * 2 ** dice.uniform(-0.6, 0.6, len(table)) / mean)[:, None, None]
    table = table.clone()
    for first in (3, 9, 12):
        table[..., first : first + 3] *= gain
    return table


def _assemble(crew: _Furnisher, rooms: Tensor) -> Scenes:
    plan, n = crew.plan, crew.count
    half = plan.extent / 2
    zero, one = torch.zeros(n), torch.ones(n)
    house = torch.stack([zero, half[:, 1], zero, *half.unbind(-1), one, zero, zero], -1)
    nothing = torch.tensor([0, -_FAR_AWAY, 0, _HIDDEN, _HIDDEN, _HIDDEN, 1, 0, 0]).expand(n, 9)
    primitives = torch.stack([*crew.boxes, *crew.spheres, nothing, house], 1)
    materials = torch.stack(crew.materials, 1)
    texture = materials[:, : ROOMS * SURFACES, 13].long()
    mean_texel = crew.atlas.texels[-(crew.atlas.patterns + crew.atlas.pictures + crew.atlas.windows) :, :3][texture]
    means = (mean_texel[..., None] * materials[:, : ROOMS * SURFACES, :9].unflatten(-1, (3, 3))).sum(-2)
    casts = torch.tensor([*crew.casts[0], *crew.casts[1], False, False])
    geometry = Geometry(primitives, casts, len(crew.boxes), materials, means, rooms, plan.splits)
    walls = corners(primitives[:, [0, 1, 3, 4]])
    shown = primitives[:, [0, 1, 3, 4], 3:4] > 0
    low, high = walls.amin(-2), walls.amax(-2)
    walls = torch.stack([low[..., 0], high[..., 0], low[..., 2], high[..., 2]], -1)
    obstacles = torch.cat([torch.where(shown, walls, _FAR_AWAY), torch.stack(crew.taken[2:], 1)], 1)
    return Scenes(geometry, plan.rooms, plan.doors, obstacles)
