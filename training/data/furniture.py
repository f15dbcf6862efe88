"""What stands, hangs and lies in a room: boxes and spheres in the local frame of each piece.

Local frame: y up from the floor, the back of a piece at negative z, its footprint centred at the origin. A part names
its material as `role` or `role:name`; parts of one piece with the same material look alike, and the role (see
`scenes.ROLES`) says how that material is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.dice import Dice

Number = Tensor | float


@dataclass(frozen=True)
class Part:
    """One box or sphere in `n` variants."""

    material: str
    center: Tensor  # [n, 3] metres
    half: Tensor  # [n, 3] metres, half the edge lengths; the radius three times for a sphere
    sphere: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of furniture in `n` variants."""

    parts: tuple[Part, ...]
    footprint: Tensor  # [n, 2] metres, half the extent along x and z


class _Workshop:
    """Collects the parts of one piece; numbers and [n] tensors mix freely."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.parts: list[Part] = []

    def _stack(self, *numbers: Number) -> Tensor:
        return torch.stack([torch.as_tensor(x, dtype=torch.float32).expand(self.count) for x in numbers], -1)

    def box(self, material: str, center: tuple[Number, ...], half: tuple[Number, ...]) -> None:
        self.parts.append(Part(material, self._stack(*center), self._stack(*half)))

    def sphere(self, material: str, center: tuple[Number, ...], radius: Number) -> None:
        self.parts.append(Part(material, self._stack(*center), self._stack(radius, radius, radius), sphere=True))

    def legs(self, material: str, x: Number, z: Number, height: Number, thick: float, center: Number = 0.0) -> None:
        """Four legs at (+-x, center +- z) up to `height`."""
        for sx in (-1, 1):
            for sz in (-1, 1):
                self.box(material, (sx * x, height / 2, center + sz * z), (thick, height / 2, thick))

    def piece(self, x: Number, z: Number) -> Piece:
        return Piece(tuple(self.parts), self._stack(x, z))


def table_with_chairs(dice: Dice, n: int) -> Piece:
    """A table with two chairs and two things on it."""
    shop = _Workshop(n)
    x, z, top = dice.uniform(0.45, 0.95, n), dice.uniform(0.35, 0.5, n), dice.uniform(0.66, 0.8, n)
    shop.box("wood:top", (0, top, 0), (x, 0.03, z))
    shop.legs("wood:top", x - 0.07, z - 0.07, top, 0.04)
    for side, name in ((-1, "wood:chair"), (1, "wood:chair")):
        at, seat, away = dice.uniform(-0.3, 0.3, n), dice.uniform(0.42, 0.48, n), dice.uniform(0.05, 0.3, n)
        center = side * (z + away)
        shop.box(name, (at, seat, center), (0.22, 0.035, 0.22))
        shop.box(name, (at, seat + 0.27, center + side * 0.2), (0.22, 0.24, 0.03))
        for part in (-1, 1):
            shop.box(name, (at + part * 0.19, seat / 2, center - 0.19), (0.03, seat / 2, 0.03))
            shop.box(name, (at + part * 0.19, seat / 2, center + 0.19), (0.03, seat / 2, 0.03))
    for name in ("object:a", "object:b"):
        hx, hy, hz = dice.uniform(0.05, 0.2, 3, n)
        px, pz = dice.uniform(-0.7, 0.7, 2, n)
        shop.box(name, (px * x, top + 0.03 + hy, pz * z), (hx, hy, hz))
    return shop.piece(x, z + 0.5)


def sofa(dice: Dice, n: int) -> Piece:
    """A sofa with two cushions."""
    shop = _Workshop(n)
    x, seat, back = dice.uniform(0.6, 1.1, n), dice.uniform(0.18, 0.22, n), dice.uniform(0.33, 0.45, n)
    shop.box("cloth", (0, seat, 0), (x, seat, 0.42))
    shop.box("cloth", (0, back, -0.34), (x, back, 0.1))
    for side in (-1, 1):
        shop.box("cloth", (side * (x - 0.08), 0.29, 0), (0.09, 0.29, 0.43))
        at = dice.uniform(0.2, 0.75, n)
        shop.box("object:cushion", (side * at * (x - 0.2), 2 * seat + 0.18, -0.16), (0.2, 0.18, 0.08))
    return shop.piece(x, 0.44)


def shelf(dice: Dice, n: int) -> Piece:
    """An open shelf with books and a box."""
    shop = _Workshop(n)
    x, high = dice.uniform(0.35, 0.8, n), dice.uniform(0.45, 1.05, n)
    shop.box("wood", (0, high, -0.16), (x, high, 0.015))
    for side in (-1, 1):
        shop.box("wood", (side * x, high, 0), (0.025, high, 0.18))
    for board in range(4):
        shop.box("wood", (0, 0.03 + board * (2 * high - 0.06) / 3, 0), (x, 0.025, 0.17))
    gap = (2 * high - 0.06) / 3
    for row in range(3):
        wide, tall = dice.uniform(0.4, 0.95, n) * x, dice.uniform(0.3, 0.42, n) * gap
        at = dice.uniform(-1, 1, n) * (x - wide)
        material = "books" if row else "object:box"
        shop.box(material, (at, 0.055 + row * gap + tall, -0.03), (wide, tall, 0.12))
    return shop.piece(x + 0.03, 0.19)


def cabinet(dice: Dice, n: int) -> Piece:
    """A closed cabinet, low or man-high, with a thing on top."""
    shop = _Workshop(n)
    x, y, z = dice.uniform(0.3, 0.75, n), dice.uniform(0.3, 0.95, n), dice.uniform(0.2, 0.32, n)
    shop.box("wood", (0, y, 0), (x, y, z))
    hx, hy = dice.uniform(0.06, 0.2, n), dice.uniform(0.08, 0.25, n)
    shop.box("object", (dice.uniform(-0.6, 0.6, n) * x, 2 * y + hy, 0), (hx, hy, dice.uniform(0.06, 0.18, n)))
    return shop.piece(x, z)


def bed(dice: Dice, n: int) -> Piece:
    """A bed with its head at the wall."""
    shop = _Workshop(n)
    x, y = dice.uniform(0.45, 0.85, n), dice.uniform(0.12, 0.2, n)
    shop.box("wood", (0, y, 0), (x, y, 1.0))
    shop.box("cloth", (0, 2 * y + 0.07, 0.1), (x - 0.02, 0.09, 0.92))
    shop.box("wood", (0, 0.5, -1.0), (x, 0.5, 0.04))
    shop.box("object:pillow", (0, 2 * y + 0.2, -0.72), (x * 0.7, 0.07, 0.18))
    return shop.piece(x, 1.04)


def pouf(dice: Dice, n: int) -> Piece:
    """A stool, a crate or a coffee table without legs."""
    shop = _Workshop(n)
    x, y, z = dice.uniform(0.2, 0.5, n), dice.uniform(0.15, 0.28, n), dice.uniform(0.2, 0.4, n)
    shop.box("object", (0, y, 0), (x, y, z))
    return shop.piece(x, z)


def floor_lamp(dice: Dice, n: int) -> Piece:
    """A lamp on a pole."""
    shop = _Workshop(n)
    high = dice.uniform(1.3, 1.7, n)
    shop.box("metal", (0, high / 2, 0), (0.025, high / 2, 0.025))
    shop.box("metal", (0, 0.02, 0), (0.16, 0.02, 0.16))
    shop.sphere("lamp", (0, high, 0), dice.uniform(0.14, 0.24, n))
    return shop.piece(0.2, 0.2)


def plant(dice: Dice, n: int) -> Piece:
    """A pot with a round bush."""
    shop = _Workshop(n)
    pot, radius = dice.uniform(0.12, 0.3, n), dice.uniform(0.22, 0.38, n)
    shop.box("object", (0, pot, 0), (0.15, pot, 0.15))
    shop.sphere("leaf", (0, 2 * pot + 0.8 * radius, 0), radius)
    return shop.piece(0.25, 0.25)


def ball(dice: Dice, n: int) -> Piece:
    """A glossy ball on the floor."""
    shop = _Workshop(n)
    radius = dice.uniform(0.12, 0.32, n)
    shop.sphere("metal:ball", (0, radius, 0), radius)
    return shop.piece(radius, radius)


def rug(dice: Dice, n: int) -> Piece:
    """A rug."""
    shop = _Workshop(n)
    x, z = dice.uniform(0.6, 1.4, n), dice.uniform(0.45, 1.0, n)
    shop.box("rug", (0, 0.006, 0), (x, 0.006, z))
    return shop.piece(x, z)


def picture(dice: Dice, n: int) -> Piece:
    """A framed picture."""
    shop = _Workshop(n)
    x, y = dice.uniform(0.25, 0.75, n), dice.uniform(0.22, 0.55, n)
    shop.box("picture", (0, dice.uniform(1.35, 1.6, n), 0), (x, y, 0.02))
    return shop.piece(x, 0.02)


def window(dice: Dice, n: int) -> Piece:
    """A window in an outer wall."""
    shop = _Workshop(n)
    x, y = dice.uniform(0.4, 1.1, n), dice.uniform(0.4, 0.7, n)
    shop.box("window", (0, dice.uniform(1.3, 1.55, n), 0), (x, y, 0.03))
    return shop.piece(x, 0.03)


Maker = Callable[[Dice, int], Piece]
STANDING: tuple[tuple[Maker, str | None], ...] = (  # in the order in which they find a place; "any" is any wall
    (table_with_chairs, None),
    *((make, "any") for make in (bed, sofa, shelf, cabinet, cabinet, floor_lamp, plant)),
    (pouf, None),
    (ball, None),
)
