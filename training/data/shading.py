"""Colours of the surfaces that `raycast.trace` found: texture, two lights a room, one shadow, gloss, tone curve."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.data import raycast, textures
from training.data.raycast import SURFACES, Axes, Bundles, Geometry, Hits, Kernels, Surface, corners, dot, gather
from training.data.textures import Atlas

_FILM_SPEED = 1.7
_GAMMA = 1 / 2.2
_CORNER_DARKENING = 0.5


def make_kernels(fused: bool) -> Kernels:
    """The ray functions as they are, or fused by `torch.compile`."""
    names = ("start_at_house", "meet_box", "meet_sphere", "block_box", "block_sphere", "find_surface", "way_to")
    functions: dict[str, Any] = {name: getattr(raycast, name) for name in names} | {"paint": paint}
    if fused:
        functions = {name: torch.compile(function) for name, function in functions.items()}
    return Kernels(**functions, fused=fused)


def shade(geometry: Geometry, atlas: Atlas, bundles: Bundles, hits: Hits, gain: Tensor, kernels: Kernels) -> Tensor:
    """Colours of all rays.

    Args:
        geometry: the scenes.
        atlas: the textures.
        bundles: T bundles of R rays.
        hits: what the rays met.
        gain: [T, 3] exposure of each bundle, 1 is neutral.
        kernels: what `make_kernels` gave.

    Returns:
        [T, R, 3] in [0, 1].
    """
    colors = torch.empty(*hits.distance.shape, 3, device=gain.device)
    candidates = _shadow_candidates(geometry, bundles, hits)
    for chunk in raycast.chunks(candidates, geometry.boxes, hits.distance.shape[1], kernels.fused):
        picked = chunk.bundles
        scene, origin = bundles.scene[picked], bundles.origin[picked][..., None].unbind(1)
        direction = tuple(d[picked] for d in bundles.directions)
        distance = hits.distance[picked]
        surface = kernels.find_surface(geometry, scene, origin, direction, Hits(distance, hits.index[picked]))
        lamp = gather(geometry.rooms[..., :3].flatten(0, 1), surface.room)
        dark = raycast.find_shadows(geometry, chunk, scene, surface, lamp, kernels)
        footprint = distance * bundles.pixel[picked]
        colors[picked] = kernels.paint(geometry, atlas, surface, direction, footprint, dark, gain[picked])
    return colors


def _shadow_candidates(geometry: Geometry, bundles: Bundles, hits: Hits) -> Tensor:
    """Primitives [T, P] whose bounds meet the bounds of a bundle's surface points and of the lamps that light them."""
    rays = zip(bundles.origin.T, bundles.directions, strict=True)
    points = torch.stack([origin[:, None] + hits.distance * direction for origin, direction in rays])
    low, high = points.amin(2).T, points.amax(2).T  # [T, 3]
    split = geometry.splits[bundles.scene]
    left, right = low[:, 0] < split[:, 0] + 0.1, high[:, 0] > split[:, 0] - 0.1
    near, far = low[:, 2] < split[:, 1] + 0.1, high[:, 2] > split[:, 1] - 0.1
    lit = torch.stack([left, right & near, right & far], 1)[..., None]  # [T, ROOMS, 1]
    lamps = geometry.rooms[bundles.scene, :, :3]
    low = torch.minimum(low, torch.where(lit, lamps, torch.inf).amin(1))
    high = torch.maximum(high, torch.where(lit, lamps, -torch.inf).amax(1))
    bounds = corners(geometry.primitives)
    lowest, highest = bounds.amin(2)[bundles.scene], bounds.amax(2)[bundles.scene]  # [T, P, 3]
    meets = (lowest < high[:, None]).all(-1) & (highest > low[:, None]).all(-1)
    shown = (geometry.primitives[..., 3] > 0) & geometry.casts
    return meets & shown[bundles.scene]


def paint(
    geometry: Geometry, atlas: Atlas, surface: Surface, direction: Axes, footprint: Tensor, dark: Tensor, gain: Tensor
) -> Tensor:
    """Colours [T, R, 3] of the surfaces of some bundles; `footprint` is the width of a pixel there in metres."""
    room = gather(geometry.rooms.flatten(0, 1), surface.room)
    material = gather(geometry.materials.flatten(0, 1), surface.material)
    facing = dot(surface.normal, direction).abs()
    albedo, gloss_map = _albedo(atlas, material, surface, footprint, facing)
    gloss, sharpness, glow = material[14] * gloss_map, material[15], material[16]
    mirrored = tuple(d + 2 * facing * n for d, n in zip(direction, surface.normal, strict=True))
    light, shine = _lit(surface, mirrored, room, dark, sharpness)
    fresnel = (gloss * (1 + 3 * (1 - facing) ** 3)).clamp_max(0.9)
    around = _surroundings(geometry, surface, mirrored, room)
    colors = []
    for k in range(3):
        radiance = albedo[k] * (light[k] * (1 - fresnel) + glow) + fresnel * around[k] + gloss * shine[k]
        colors.append((1 - torch.exp(-_FILM_SPEED * gain[:, k, None] * radiance)).clamp(1e-6, 1) ** _GAMMA)
    return torch.stack(colors, -1)


def _albedo(
    atlas: Atlas, material: tuple[Tensor, ...], surface: Surface, footprint: Tensor, facing: Tensor
) -> tuple[Axes, Tensor]:
    """Diffuse colour and gloss factor; `footprint` is the width of a pixel at the surface in metres."""
    scale_u, scale_v, offset_u, offset_v, texture = material[9:14]
    repeats = footprint * torch.minimum(scale_u.abs(), scale_v.abs()) * facing.clamp_min(0.1).rsqrt()
    u, v = surface.u * scale_u + offset_u, surface.v * scale_v + offset_v
    texel = textures.sample(atlas.texels, atlas.offsets, atlas.size, texture.long(), u, v, repeats).unbind(-1)
    return tuple(dot(texel[:3], material[k:9:3]) for k in range(3)), texel[3]


def _lit(
    surface: Surface, mirrored: Axes, room: tuple[Tensor, ...], dark: Tensor, sharpness: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Diffuse irradiance and highlights of the lamp and the window of each point's room, three [T, R] each."""
    upward = 0.8 + 0.2 * surface.normal[1]
    corner = _corner_shade(surface, room)
    light = [channel * upward * corner for channel in room[12:15]]
    shine = [torch.zeros_like(dark, dtype=torch.float32)] * 3
    for first, blocked in ((0, dark), (6, None)):
        way = tuple(room[first + k] - surface.point[k] for k in range(3))
        square = dot(way, way)
        inverse = square.clamp_min(1e-6).rsqrt()
        falloff = 1 / (0.4 + 0.45 * square)
        strength = (dot(surface.normal, way) * inverse).clamp_min(0) * falloff * (0.5 + 0.5 * corner)
        lobe = (dot(mirrored, way) * inverse).clamp_min(1e-4) ** sharpness
        if blocked is not None:
            strength, lobe = torch.where(blocked, 0.06 * strength, strength), torch.where(blocked, 0.0, lobe)
        light = [channel + strength * room[first + 3 + k] for k, channel in enumerate(light)]
        shine = [channel + lobe * room[first + 3 + k] for k, channel in enumerate(shine)]
    return light, shine


def _corner_shade(surface: Surface, room: tuple[Tensor, ...]) -> Tensor:
    """Darkening towards the edges of a room: 1 far from every corner."""
    x, y, z = surface.point
    from_x = torch.minimum(x - room[16], room[17] - x)
    from_z = torch.minimum(z - room[18], room[19] - z)
    from_y = torch.minimum(y, room[20] - y)
    second = torch.maximum(torch.minimum(from_x, from_z), torch.minimum(torch.maximum(from_x, from_z), from_y))
    return 1 - _CORNER_DARKENING * torch.exp(-4 * second.clamp_min(0))


def _surroundings(geometry: Geometry, surface: Surface, mirrored: Axes, room: tuple[Tensor, ...]) -> list[Tensor]:
    """What a mirror would show if the room were empty: mean colours of its walls, floor and ceiling, three [T, R]."""
    x, y, z = surface.point
    dx, dy, dz = (torch.where(d.abs() < 1e-4, 1e-4, d) for d in mirrored)
    to_x = (torch.where(dx > 0, room[17], room[16]) - x) / dx
    to_z = (torch.where(dz > 0, room[19], room[18]) - z) / dz
    to_y = (torch.where(dy > 0, room[20], torch.zeros_like(y)) - y) / dy
    to_x, to_y, to_z = to_x.clamp_min(0), to_y.clamp_min(0), to_z.clamp_min(0)
    way = torch.minimum(torch.minimum(to_x, to_y), to_z)
    wall = torch.where(y + way * dy < room[15], 4, torch.where(to_x <= to_z, 0, 1))
    face = torch.where(to_y <= way, torch.where(dy > 0, 3, 2), wall)
    mean = gather(geometry.means.flatten(0, 1), surface.room * SURFACES + face)
    end = tuple(p + way * d - lamp for p, d, lamp in zip(surface.point, (dx, dy, dz), room[:3], strict=True))
    falloff = 0.6 / (0.4 + 0.45 * dot(end, end))
    return [mean[k] * (room[12 + k] + falloff * room[3 + k] + 0.15 * room[9 + k]) for k in range(3)]
