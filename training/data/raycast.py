"""A batched analytic ray-caster for boxes and spheres inside a box-shaped house, in plain torch.

Rays travel in bundles, one for each small square tile of a picture. A bundle is tested only against the primitives that
reach into its part of the view, bundles with equally many candidates share a chunk, and a chunk is small enough for the
cache of a CPU core.

Axes: x and z along the floor, y up, metres. Cameras are OpenCV camera-to-world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

ROOMS = 3
STRUCTURE = 6  # the first boxes are the inner walls
SURFACES = 5  # materials of a room: walls across x, walls across z, floor, ceiling, lower part of the walls
_NEAR = 1e-3
_SURFACE_OFFSET = 4e-3
_LAMP_SIDE = 0.97  # what is closer to a lamp than this share of the way is part of the lamp
_CACHE_RAYS = 2**15  # whose numbers fit into the cache of a CPU core
_DEVICE_RAYS = 2**20

Axes = tuple[Tensor, ...]  # x, y and z
Best = tuple[Tensor, Tensor]  # distance and primitive of the nearest hit so far, [T, R]


@dataclass(frozen=True)
class Geometry:
    """What rays meet. Primitives are boxes (inner walls first), spheres, one that no ray meets, the house itself."""

    primitives: Tensor  # [B, P, 9] centre, half extents (< 0 hides; radius), cos and sin of the yaw, material
    casts: Tensor  # [P] bool, whether a primitive throws a shadow
    boxes: int  # how many of the primitives are boxes
    materials: Tensor  # [B, M, 17] palette [3, 3], scale u v, offset u v, texture, gloss, sharpness, glow
    means: Tensor  # [B, ROOMS * SURFACES, 3] mean colours of the rooms' surfaces
    rooms: Tensor  # [B, ROOMS, 21] lamp xyz rgb, window xyz rgb, ambient rgb, dado height, x0 x1 z0 z1, height
    splits: Tensor  # [B, 2] x of the first inner wall, z of the second

    def to(self, device: torch.device | str) -> Geometry:
        """The same geometry on another device."""
        tensors = (field.name for field in fields(self) if field.name != "boxes")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


class Bundles(NamedTuple):
    """T bundles of R rays."""

    scene: Tensor  # [T] int64
    origin: Tensor  # [T, 3]
    directions: Axes  # three [T, R], unit length
    candidates: Tensor  # [T, P] bool
    pixel: Tensor  # [T, 1] width of a pixel at a distance of one metre


class Hits(NamedTuple):
    """Nearest surfaces along the rays of some bundles."""

    distance: Tensor  # [T, R] metres along the ray
    index: Tensor  # [T, R] int64, primitive


def make_bundles(
    geometry: Geometry, scene: Tensor, c2w: Tensor, K: Tensor, size: tuple[int, int], tile: int
) -> Bundles:
    """Rays through the pixel centres of F pictures, in bundles of `tile` x `tile` pixels.

    Args:
        geometry: the scenes.
        scene: [F] int64, the scene of each picture.
        c2w: [F, 4, 4] camera-to-world.
        K: [F, 3, 3] normalised intrinsics without skew.
        size: height and width in pixels, multiples of `tile`.
        tile: pixels along an edge of a bundle.
    """
    height, width = size
    rows, columns, frames = height // tile, width // tile, len(scene)
    x = ((torch.arange(width, device=K.device) + 0.5) / width - K[:, 0, 2:]) / K[:, 0, :1]  # [F, W]
    y = ((torch.arange(height, device=K.device) + 0.5) / height - K[:, 1, 2:]) / K[:, 1, 1:2]  # [F, H]
    x = x.view(frames, 1, columns, 1, tile)
    y = y.view(frames, rows, 1, tile, 1)
    norm = (1 + x * x + y * y).rsqrt()
    entry = c2w[:, :3, :3].reshape(frames, 3, 3, 1, 1, 1, 1)
    directions = [(entry[:, k, 0] * x + entry[:, k, 1] * y + entry[:, k, 2]) * norm for k in range(3)]
    directions = [torch.where(d.abs() < 1e-6, 1e-6, d).reshape(-1, tile * tile) for d in directions]
    inside = _tiles_in_view(geometry.primitives[scene], c2w, K, rows, columns)
    repeat = rows * columns
    origin = c2w[:, :3, 3].repeat_interleave(repeat, 0)
    pixel = (1 / (width * K[:, 0, 0])).repeat_interleave(repeat)[:, None]
    return Bundles(scene.repeat_interleave(repeat), origin, tuple(directions), inside, pixel)


def corners(primitives: Tensor) -> Tensor:  # [..., 9] -> [..., 8, 3]
    """Corners of the boxes (or of the boxes around spheres)."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=primitives.device)] * 3)  # [8, 3]
    local = primitives[..., None, 3:6] * signs
    cos, sin = primitives[..., 6:7], primitives[..., 7:8]
    x, y, z = local.unbind(-1)
    return primitives[..., None, :3] + torch.stack([x * cos + z * sin, y, z * cos - x * sin], -1)


def _tiles_in_view(primitives: Tensor, c2w: Tensor, K: Tensor, rows: int, columns: int) -> Tensor:
    """Which primitives [F, P, 9] may reach into which tiles: [F * rows * columns, P]."""
    points = (corners(primitives) - c2w[:, None, None, :3, 3]) @ c2w[:, None, :3, :3]  # [F, P, 8, 3]
    x, y, z = points.unbind(-1)

    def between(values: Tensor, focal: Tensor, center: Tensor, count: int) -> Tensor:
        edges = (torch.linspace(0, 1, count + 1, device=K.device) - center[:, None]) / focal[:, None]  # [F, count + 1]
        side = values[..., None] - edges[:, None, None] * z[..., None]  # [F, P, 8, count + 1]
        return (side.amax(2)[..., :-1] > 0) & (side.amin(2)[..., 1:] < 0)

    across, along = between(x, K[:, 0, 0], K[:, 0, 2], columns), between(y, K[:, 1, 1], K[:, 1, 2], rows)
    shown = (primitives[..., 3] > 0) & (z.amax(2) > 0)
    shown[:, -1] = False  # the house surrounds every ray
    inside = along[..., :, None] & across[..., None, :] & shown[..., None, None]  # [F, P, rows, columns]
    return inside.permute(0, 2, 3, 1).reshape(-1, primitives.shape[1])


@dataclass(frozen=True)
class Kernels:
    """The functions that do the work on rays, plain or fused."""

    start_at_house: Callable[..., Best]
    meet_box: Callable[..., Best]
    meet_sphere: Callable[..., Best]
    block_box: Callable[..., Tensor]
    block_sphere: Callable[..., Tensor]
    find_surface: Callable[..., Surface]
    way_to: Callable[..., tuple[Axes, Axes]]
    paint: Callable[..., Tensor]
    fused: bool


class Chunk(NamedTuple):
    """Bundles that are worked on together, with the primitives to test them against."""

    bundles: Tensor  # [T] int64
    boxes: Tensor  # [T, n] int64, indices of candidates, filled up with the one that no ray meets
    spheres: Tensor  # [T, m] int64


def _listed(candidates: Tensor, filler: int, first: int) -> tuple[Tensor, Tensor]:
    """Indices (from `first`) of the set entries of each row, filled up with `filler`: [T, P + 1]; their counts [T]."""
    counts = candidates.sum(1)
    place = torch.where(candidates, candidates.cumsum(1) - 1, candidates.shape[1])
    lists = torch.full((len(candidates), candidates.shape[1] + 1), filler, device=candidates.device)
    index = torch.arange(first, first + candidates.shape[1], device=candidates.device)
    lists.scatter_(1, place, index.expand_as(place))
    lists[:, -1] = filler
    return lists, counts


def chunks(candidates: Tensor, boxes: int, rays: int, full: bool) -> Iterator[Chunk]:
    """Bundles ordered by their number of candidates [T, P], in pieces of about as many rays.

    The last piece is shorter, unless `full` asks for equal pieces: then some bundles occur twice.
    """
    house = candidates.shape[1] - 1
    box_lists, box_counts = _listed(candidates[:, :boxes], house - 1, 0)
    sphere_lists, sphere_counts = _listed(candidates[:, boxes:house], house - 1, boxes)
    order = (box_counts * 8 + sphere_counts).argsort()
    length = max(1, (_CACHE_RAYS if candidates.device.type == "cpu" else _DEVICE_RAYS) // rays)
    if full:
        order = torch.cat([order, order[-1:].expand(-len(order) % length)])
    pieces = order.split(length)
    most = torch.stack([torch.stack([box_counts[p].amax(), sphere_counts[p].amax()]) for p in pieces]).tolist()
    for piece, (n, m) in zip(pieces, most, strict=True):
        yield Chunk(piece, box_lists[piece, :n], sphere_lists[piece, :m])


def _box_span(origin: Axes, direction: Axes, row: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a box; `row` [T, 9] is a primitive for each bundle."""
    cx, cy, cz, hx, hy, hz, cos, sin, _ = row[..., None].unbind(1)
    px, pz = origin[0] - cx, origin[2] - cz
    inverse_x = (direction[0] * cos - direction[2] * sin).reciprocal()
    inverse_z = (direction[0] * sin + direction[2] * cos).reciprocal()
    inverse_y = direction[1].reciprocal()
    x, bx = (pz * sin - px * cos) * inverse_x, hx * inverse_x.abs()
    z, bz = -(px * sin + pz * cos) * inverse_z, hz * inverse_z.abs()
    y, by = (cy - origin[1]) * inverse_y, hy * inverse_y.abs()
    enter = torch.maximum(torch.maximum(x - bx, y - by), z - bz)
    leave = torch.minimum(torch.minimum(x + bx, y + by), z + bz)
    return enter, leave


def _sphere_enter(origin: Axes, direction: Axes, row: Tensor) -> Tensor:
    """Distance to a sphere along unit directions, infinite where it is missed."""
    cx, cy, cz, radius = row[:, :4, None].unbind(1)
    x, y, z = origin[0] - cx, origin[1] - cy, origin[2] - cz
    along = x * direction[0] + y * direction[1] + z * direction[2]
    inside = along * along - (x * x + y * y + z * z - radius * radius)
    return torch.where(inside > 0, -along - inside.clamp_min(0).sqrt(), torch.inf)


def start_at_house(origin: Axes, direction: Axes, row: Tensor, index: int) -> Best:
    """Distance to the outer walls, floor or ceiling, and the house's own index."""
    leave = _box_span(origin, direction, row)[1]
    return leave, torch.full_like(leave, index, dtype=torch.int32)


def meet_box(best: Best, origin: Axes, direction: Axes, row: Tensor, index: Tensor) -> Best:
    """Distance and primitive of the nearest hit, with one more box for each bundle."""
    enter, leave = _box_span(origin, direction, row)
    hit = (enter < torch.minimum(leave, best[0])) & (enter > _NEAR)
    return torch.where(hit, enter, best[0]), torch.where(hit, index[:, None], best[1])


def meet_sphere(best: Best, origin: Axes, direction: Axes, row: Tensor, index: Tensor) -> Best:
    """Distance and primitive of the nearest hit, with one more sphere for each bundle."""
    enter = _sphere_enter(origin, direction, row)
    hit = (enter < best[0]) & (enter > _NEAR)
    return torch.where(hit, enter, best[0]), torch.where(hit, index[:, None], best[1])


def block_box(dark: Tensor, start: Axes, way: Axes, row: Tensor) -> Tensor:
    """Which ways [T, R] are blocked, with one more box for each bundle."""
    enter, leave = _box_span(start, way, row)
    return dark | ((enter > 0) & (enter < leave.clamp_max(_LAMP_SIDE)))


def block_sphere(dark: Tensor, start: Axes, way: Axes, row: Tensor) -> Tensor:
    """Which ways [T, R] are blocked, with one more sphere for each bundle."""
    length = dot(way, way).sqrt()
    enter = _sphere_enter(start, tuple(w / length for w in way), row)
    return dark | ((enter > _NEAR) & (enter < _LAMP_SIDE * length))


def trace(geometry: Geometry, bundles: Bundles, kernels: Kernels) -> Hits:
    """The nearest surface along each ray."""
    distance = torch.empty_like(bundles.directions[0])
    index = torch.empty_like(distance, dtype=torch.int64)
    house = geometry.primitives.shape[1] - 1
    for chunk in chunks(bundles.candidates, geometry.boxes, distance.shape[1], kernels.fused):
        picked = chunk.bundles
        scene = bundles.scene[picked, None]
        origin = bundles.origin[picked][..., None].unbind(1)
        direction = tuple(d[picked] for d in bundles.directions)
        best = kernels.start_at_house(origin, direction, geometry.primitives[scene[:, 0], house], house)
        for meet, lists in ((kernels.meet_box, chunk.boxes), (kernels.meet_sphere, chunk.spheres)):
            rows = geometry.primitives[scene, lists]  # [T, n, 9]
            for k in range(lists.shape[1]):
                best = meet(best, origin, direction, rows[:, k].contiguous(), lists[:, k].int())
        distance[picked], index[picked] = best[0], best[1].long()
    return Hits(distance, index)


def dot(a: Axes, b: Axes) -> Tensor:
    """Scalar products of vectors given by axis."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def gather(table: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Columns of the rows `index` [T, R] of `table` [N, C]: C tensors [T, R]."""
    return tuple(column.index_select(0, index.reshape(-1)).view(index.shape) for column in table.T.contiguous())


class Surface(NamedTuple):
    """The visible points of one chunk; every field [T, R] or a triple of them."""

    point: Axes
    normal: Axes
    room: Tensor  # scene * ROOMS + room
    material: Tensor  # scene * M + material
    u: Tensor  # metres, before the material's scale
    v: Tensor


def find_surface(geometry: Geometry, scene: Tensor, origin: Axes, direction: Axes, hits: Hits) -> Surface:
    """Where rays end, on which side of what, and with which material."""
    scene = scene[:, None]
    count = geometry.primitives.shape[1]
    table = geometry.primitives.flatten(0, 1)
    cx, cy, cz, hx, hy, hz, cos, sin, material = gather(table, scene * count + hits.index)
    point = tuple(o + hits.distance * d for o, d in zip(origin, direction, strict=True))
    px, py, pz = point[0] - cx, point[1] - cy, point[2] - cz
    x, z = px * cos - pz * sin, px * sin + pz * cos
    rx, ry, rz = x.abs() / hx, py.abs() / hy, z.abs() / hz
    facing_x, facing_y = (rx >= ry) & (rx >= rz), (ry > rx) & (ry >= rz)
    facing_z = ~(facing_x | facing_y)
    local_x = -(direction[0] * cos - direction[2] * sin).sign() * facing_x
    local_z = -(direction[0] * sin + direction[2] * cos).sign() * facing_z
    round_ = (hits.index >= geometry.boxes) & (hits.index < count - 1)
    normal = (
        torch.where(round_, px / hx, local_x * cos + local_z * sin),
        torch.where(round_, py / hx, -direction[1].sign() * facing_y),
        torch.where(round_, pz / hx, local_z * cos - local_x * sin),
    )
    split = geometry.splits[scene]
    right, far = point[0] + 0.03 * normal[0] > split[..., 0], point[2] + 0.03 * normal[2] > split[..., 1]
    room = torch.where(right, torch.where(far, 2, 1), 0)
    part_of_room = (hits.index < STRUCTURE) | (hits.index == count - 1)
    (dado,) = gather(geometry.rooms[..., 15:16].flatten(0, 1), scene * ROOMS + room)
    side = torch.where(point[1] < dado, 4, torch.where(facing_x, 0, 1))
    face = torch.where(facing_y, torch.where(normal[1] > 0, 2, 3), side)
    material = torch.where(part_of_room, room * SURFACES + face, material.long())
    u = torch.where(part_of_room, torch.where(facing_x, point[2], point[0]), torch.where(facing_x, z, x))
    v = torch.where(part_of_room, torch.where(facing_y, point[2], point[1]), torch.where(facing_y, z, py))
    return Surface(point, normal, scene * ROOMS + room, scene * geometry.materials.shape[1] + material, u, v)


def way_to(surface: Surface, lamp: Axes) -> tuple[Axes, Axes]:
    """Points just above the surface and the ways from there to the lamp."""
    start = tuple(p + _SURFACE_OFFSET * n for p, n in zip(surface.point, surface.normal, strict=True))
    way = tuple(end - p for end, p in zip(lamp, start, strict=True))
    return start, tuple(torch.where(w.abs() < 1e-6, 1e-6, w) for w in way)


def find_shadows(
    geometry: Geometry, chunk: Chunk, scene: Tensor, surface: Surface, lamp: Axes, kernels: Kernels
) -> Tensor:
    """Which points [T, R] the lamp does not reach."""
    start, way = kernels.way_to(surface, lamp)
    dark = torch.zeros_like(start[0], dtype=torch.bool)
    for block, lists in ((kernels.block_box, chunk.boxes), (kernels.block_sphere, chunk.spheres)):
        rows = geometry.primitives[scene[:, None], lists]
        for k in range(lists.shape[1]):
            dark = block(dark, start, way, rows[:, k].contiguous())
    return dark
