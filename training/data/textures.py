"""A mip-mapped atlas of procedural textures: surface patterns, pictures and views out of windows.

A pattern stores the shares of three palette colours, so that every scene can paint it anew: the colour of a texel is
`texel @ palette` with a 3x3 palette. Pictures and windows store linear RGB and take a palette near the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.data.dice import Dice

_FINEST_GRAIN = 0.2


@dataclass(frozen=True)
class Atlas:
    """Square textures with all their mip levels in one table; ids run patterns, pictures, windows."""

    texels: Tensor  # [texels of all levels, 4] float32: three shares or linear RGB, then gloss
    offsets: Tensor  # [levels] int64, first texel of each level
    size: int  # texels along an edge of the finest level, a power of two
    patterns: int
    pictures: int
    windows: int

    def to(self, device: torch.device | str) -> Atlas:
        """The same atlas on another device."""
        return replace(self, texels=self.texels.to(device), offsets=self.offsets.to(device))


def sample(
    texels: Tensor,  # [texels, 4]
    offsets: Tensor,  # [levels] int64
    size: int,
    index: Tensor,  # [...] int64, texture id
    u: Tensor,  # [...] in texture repeats
    v: Tensor,  # [...]
    footprint: Tensor,  # [...] repeats covered by one pixel
) -> Tensor:  # [..., 4]
    """Bilinear look-up in the mip level whose texels are about as large as a pixel; textures repeat."""
    level = torch.log2((footprint * size).clamp_min(1e-4)).add(0.5).floor().clamp(0, len(offsets) - 1).long()
    edge = torch.bitwise_right_shift(torch.full_like(level, size), level)
    base = offsets[level] + index * edge * edge
    x, y = u * edge - 0.5, v * edge - 0.5
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    x0, y0 = left.long() & (edge - 1), top.long() & (edge - 1)
    x1, y1 = (x0 + 1) & (edge - 1), (y0 + 1) & (edge - 1)
    row0, row1 = base + y0 * edge, base + y1 * edge
    upper = torch.lerp(_pick(texels, row0 + x0), _pick(texels, row0 + x1), fx)
    lower = torch.lerp(_pick(texels, row1 + x0), _pick(texels, row1 + x1), fx)
    return torch.lerp(upper, lower, fy)


def _pick(texels: Tensor, index: Tensor) -> Tensor:
    return texels.index_select(0, index.reshape(-1)).view(*index.shape, texels.shape[1])


def make_atlas(count: int = 96, size: int = 128, seed: int = 0) -> Atlas:
    """Draw `count` textures of `size` x `size` texels: five eighths patterns, a quarter pictures, an eighth windows."""
    if size & (size - 1) or size < 16 or count < 8:
        raise ValueError(f"an atlas needs at least 8 textures and a power of two >= 16 as size, got {count} and {size}")
    dice = Dice(seed)
    pictures, windows = count // 4, count // 8
    patterns = count - pictures - windows
    brush = _Brush(dice, size)
    images = [_PATTERNS[i % len(_PATTERNS)](brush) for i in range(patterns)]
    images += [_framed(brush, _PICTURES[i % len(_PICTURES)](brush)) for i in range(pictures)]
    images += [_glazed(brush, _landscape(brush)) for _ in range(windows)]
    levels = [torch.stack(images).clamp(0, 1)]
    while levels[-1].shape[1] > 1:
        levels.append(functional.avg_pool2d(levels[-1].movedim(-1, 1), 2).movedim(1, -1))
    sizes = torch.tensor([0] + [level[..., 0].numel() for level in levels[:-1]])
    texels = torch.cat([level.reshape(-1, 4) for level in levels])
    return Atlas(texels, sizes.cumsum(0), size, patterns, pictures, windows)


class _Brush:
    """Coordinates (u to the right, v downwards, in [0, 1)), tileable noise and random numbers for one texture size."""

    def __init__(self, dice: Dice, size: int) -> None:
        self.dice, self.size = dice, size
        line = (torch.arange(size) + 0.5) / size
        self.v, self.u = torch.meshgrid(line, line, indexing="ij")

    def noise(self, cells: int = 3, octaves: int = 5, gain: float = 0.55) -> Tensor:
        """Fractal noise in [0, 1], [size, size]."""
        total = torch.zeros(self.size, self.size)
        for octave in range(octaves):
            grid = self.dice.uniform(0, 1, 1, 1, cells * 2**octave, cells * 2**octave)
            grid = functional.pad(grid, (0, 1, 0, 1), mode="circular")
            smooth = functional.interpolate(grid, size=self.size + 1, mode="bicubic", align_corners=True)
            total += gain**octave * smooth[0, 0, :-1, :-1]
        return (total - total.amin()) / (total.amax() - total.amin() + 1e-6)

    def ridge(self, cells: int) -> Tensor:
        """A random skyline in [0, 1] as a function of u, [size]."""
        return self.noise(cells, 4)[0]

    def count(self, low: int, high: int) -> int:
        """A random whole number in [low, high)."""
        return int(self.dice.integers(low, high, 1))

    def hashed(self, rows: Tensor, columns: Tensor) -> Tensor:
        """One random number in [0, 1) for each cell (row, column below 64), [size, size]."""
        return self.dice.uniform(0, 1, 64, 64)[rows.long() % 64, columns.long() % 64]

    def color(self, low: float = 0.02, high: float = 0.9) -> Tensor:
        """A random linear colour [3]."""
        return self.dice.color(self.dice.uniform(low, high, 1), self.dice.uniform(0, 0.95, 1))[0]


def _painted(brush: _Brush, second: Tensor, third: Tensor | float = 0.0, gloss: Tensor | float = 1.0) -> Tensor:
    """Shares of three colours from two masks in [0, 1], with fine grain; [size, size, 4]."""
    third = torch.as_tensor(third).expand_as(second)
    grain = 1 - _FINEST_GRAIN * brush.noise(8, 4, 0.8)
    shares = [(1 - second) * (1 - third), second * (1 - third), third]
    return torch.stack([share * grain for share in shares] + [torch.as_tensor(gloss).expand_as(second)], -1)


def _plaster(brush: _Brush) -> Tensor:
    return _painted(brush, 0.4 * brush.noise(2, 6, 0.7))


def _clouds(brush: _Brush) -> Tensor:
    return _painted(brush, ((brush.noise() - 0.5) * 2.5 + 0.5).clamp(0, 1), (brush.noise(5) > 0.75).float())


def _checker(brush: _Brush) -> Tensor:
    n = 2 * brush.count(1, 4)
    parity = ((brush.u * n).floor() + (brush.v * n).floor()) % 2
    return _painted(brush, parity)


def _stripes(brush: _Brush) -> Tensor:
    n = brush.count(2, 7)
    phase = (brush.u * n) % 1
    return _painted(brush, (phase > brush.dice.uniform(0.3, 0.7, 1)).float(), (phase < 0.1).float() * brush.count(0, 2))


def _plaid(brush: _Brush) -> Tensor:
    n = brush.count(2, 5)
    across, along = ((brush.u * n) % 1 > 0.5).float(), ((brush.v * n) % 1 > 0.5).float()
    lines = ((brush.u * n + 0.2) % 1 < 0.1) | ((brush.v * n) % 1 < 0.1)
    return _painted(brush, 0.5 * (across + along), lines.float())


def _bricks(brush: _Brush) -> Tensor:
    n = brush.count(2, 5)
    row = (brush.v * n * 2).floor()
    x, y = brush.u * n + 0.5 * (row % 2), (brush.v * n * 2) % 1
    joint = ((x % 1 < 0.07) | (y < 0.14)).float()
    return _painted(brush, brush.hashed(row, x % n), joint, 1 - joint)


def _tiles(brush: _Brush) -> Tensor:
    n = brush.count(2, 7)
    joint = (((brush.u * n) % 1 < 0.06) | ((brush.v * n) % 1 < 0.06)).float()
    return _painted(brush, brush.hashed(brush.v * n, brush.u * n), joint, 1 - joint)


def _planks(brush: _Brush) -> Tensor:
    n = brush.count(3, 8)
    row = (brush.v * n).floor()
    x = brush.u + brush.hashed(row, row * 0)
    grain = 0.5 + 0.5 * torch.sin(2 * math.pi * (brush.v * n * 3 + 2 * brush.noise(2)))
    joint = (((brush.v * n) % 1 < 0.08) | (x % 1 < 0.01)).float()
    return _painted(brush, 0.7 * brush.hashed(row, (x % 1) * 0 + 1) + 0.3 * grain, joint)


def _marble(brush: _Brush) -> Tensor:
    veins = 0.5 + 0.5 * torch.sin(2 * math.pi * (brush.u * brush.count(1, 4) + 3 * brush.noise(2)))
    return _painted(brush, veins**2, (brush.noise(4) - 0.5).abs().lt(0.02).float() * 0.7)


def _dots(brush: _Brush) -> Tensor:
    n = brush.count(2, 6)
    x, y = (brush.u * n) % 1 - 0.5, (brush.v * n) % 1 - 0.5
    distance = x * x + y * y
    return _painted(brush, (distance < 0.11).float(), (distance < 0.025).float())


def _zigzag(brush: _Brush) -> Tensor:
    n = brush.count(2, 5)
    bent = brush.v * n + ((brush.u * n) % 1 - 0.5).abs()
    return _painted(brush, (bent % 1 > 0.5).float(), (bent % 1 < 0.12).float())


def _books(brush: _Brush) -> Tensor:
    edges = (brush.u * 14 + 0.6 * torch.sin(brush.u * 2 * math.pi * 3)).floor()
    rows = torch.zeros_like(edges)
    label = (brush.v > 0.3) & (brush.v < 0.45) & (brush.hashed(edges, rows) > 0.6)
    third = (brush.hashed(edges, rows + 2) > 0.65) ^ label
    return _painted(brush, brush.hashed(edges, rows + 1), third.float())


_PATTERNS: tuple[Callable[[_Brush], Tensor], ...] = (
    *(_plaster, _planks, _checker, _stripes, _bricks, _tiles),
    *(_plaid, _clouds, _marble, _dots, _zigzag, _books),
)


def _opaque(rgb: Tensor, gloss: float = 1.0) -> Tensor:
    return torch.cat([rgb, torch.full_like(rgb[..., :1], gloss)], -1)


def _over(image: Tensor, mask: Tensor, color: Tensor) -> Tensor:
    """Paint `color` [3] where `mask` [size, size] is set."""
    return torch.where(mask[..., None], color, image)


def _landscape(brush: _Brush) -> Tensor:
    sky, glow = brush.dice.color(torch.tensor([0.9]), torch.tensor([0.7]))[0], torch.tensor([1.0, 0.9, 0.75])
    sky = torch.lerp(sky, torch.tensor([0.25, 0.5, 0.95]), 0.7)
    image = torch.lerp(sky, glow, brush.v[..., None].clamp(0, 0.6))
    image = torch.lerp(image, torch.ones(3), (brush.noise(2) - 0.45).clamp(0, 0.35)[..., None] * 2)
    for layer in range(3):
        top = 0.45 + 0.17 * layer + 0.22 * (brush.ridge(2 + 2 * layer) - 0.5)
        if brush.count(0, 3) == 0:
            n = brush.count(4, 9)
            top = (0.35 + 0.15 * layer) + 0.25 * brush.dice.uniform(0, 1, n)[(brush.u[0] * n).long()]
        green = torch.tensor([0.1, 0.3, 0.06])
        image = _over(image, brush.v > top, torch.lerp(brush.color(0.03, 0.5), green, 0.5 * float(brush.count(0, 2))))
    return image * (0.8 + 0.4 * brush.noise(6, 4))[..., None]


def _abstract(brush: _Brush) -> Tensor:
    image = torch.stack([brush.noise(3, 6, 0.7) for _ in range(3)], -1)
    image = ((image - 0.5) * 2.4 + 0.5).clamp(0.01, 1) ** 2
    for _ in range(brush.count(0, 4)):
        x, y, radius = brush.dice.uniform(0.1, 0.9, 3).tolist()
        image = _over(image, (brush.u - x) ** 2 + (brush.v - y) ** 2 < (0.3 * radius) ** 2, brush.color())
    return image


def _blocks(brush: _Brush) -> Tensor:
    image = brush.color().expand(brush.size, brush.size, 3)
    for _ in range(brush.count(4, 10)):
        x, y, w, h = brush.dice.uniform(0, 0.8, 4).tolist()
        inside = (brush.u > x) & (brush.u < x + w) & (brush.v > y) & (brush.v < y + h)
        image = _over(image, inside, brush.color(0.01, 1))
    return image


def _portrait(brush: _Brush) -> Tensor:
    image = torch.lerp(brush.color(), brush.color(), brush.noise(2)[..., None])
    x, y, r = brush.dice.uniform(0.35, 0.65, 3).tolist()
    y, r = y - 0.1, 0.35 * r
    shoulders = (brush.u - x).abs() < 2.2 * r * ((brush.v - y) / 0.6).clamp(0, 1)
    image = _over(image, shoulders & (brush.v > y + r), brush.color())
    head = ((brush.u - x) / r) ** 2 + ((brush.v - y) / (1.3 * r)) ** 2
    hair = ((brush.u - x) / r) ** 2 + ((brush.v - y + 0.3 * r) / (1.3 * r)) ** 2
    image = _over(image, hair < 1.3, brush.color(0.02, 0.4))
    return _over(image, head < 0.8, torch.lerp(brush.color(0.3, 0.8), torch.tensor([0.7, 0.45, 0.3]), 0.7))


_PICTURES: tuple[Callable[[_Brush], Tensor], ...] = (_landscape, _abstract, _blocks, _portrait)


def _framed(brush: _Brush, image: Tensor) -> Tensor:
    """A picture with a mount and a frame."""
    margin = torch.minimum(torch.minimum(brush.u, 1 - brush.u), torch.minimum(brush.v, 1 - brush.v))
    frame, mount = brush.dice.uniform(0.03, 0.07, 2).tolist()
    image = _over(image, margin < frame + mount * brush.count(0, 3), brush.color(0.6, 0.95))
    return _opaque(_over(image, margin < frame, brush.color(0.02, 0.7)))


def _glazed(brush: _Brush, image: Tensor) -> Tensor:
    """A view out of a window with frame and bars."""
    columns, rows = brush.count(1, 4), brush.count(1, 3)
    x = ((brush.u * columns + 0.5) % 1 - 0.5).abs() / columns
    y = ((brush.v * rows + 0.5) % 1 - 0.5).abs() / rows
    bright = brush.color(0.1, 0.6) * float(brush.count(0, 2))
    return _opaque(_over(image, torch.minimum(x, y) < 0.025, bright), 0.5)
