"""A function of a large tensor, computed tile by tile: tiles overlap and are blended linearly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """How one dimension is tiled."""

    dim: int
    cells: int  # in a tile; a cell is the least unit that the function turns into one, as 4 frames into a latent
    cell: int  # length of a cell in the function's input
    overlap: float  # of a tile, shared with the next

    def __post_init__(self) -> None:
        if not 1 <= self.stride < self.cells:
            raise ValueError(
                f"a tile of {self.cells} cells with overlap {self.overlap} advances by {self.stride}; it must advance "
                "by at least 1 and share at least 1 with the next: use larger tiles"
            )

    @property
    def stride(self) -> int:
        """Cells from the start of one tile to the start of the next."""
        return int(self.cells * (1 - self.overlap))

    def spans(self, cells: int) -> list[slice]:
        """Tiles of so many cells, in order.

        A last cell that would be a tile of its own is left to the tile before, which holds it already: too little is
        around it to be computed alone.
        """
        if cells <= self.cells:
            return [slice(0, cells)]
        return [slice(start, min(start + self.cells, cells)) for start in range(0, cells - 1, self.stride)]


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """`function(x)`, tile by tile along the axes on which `x` is larger than a tile.

    Args:
        function: keeps the order of dimensions and scales the lengths of `axes` by constant factors.
        x: any tensor whose lengths along the axes are whole numbers of cells.
        axes: outermost first.
    """
    if not axes:
        return function(x)
    axis, *inner = axes
    tiles = [
        in_tiles(function, x.narrow(axis.dim, span.start * axis.cell, (span.stop - span.start) * axis.cell), inner)
        for span in axis.spans(x.shape[axis.dim] // axis.cell)
    ]
    return _blend(tiles, axis.dim, axis.stride * tiles[0].shape[axis.dim] // axis.cells)


def fade(
    before: Tensor,
    after: Tensor,  # shape of `before`
    dim: int,
) -> Tensor:
    """From `before` to `after`, linearly along a dimension."""
    weight = torch.arange(before.shape[dim], device=after.device, dtype=after.dtype) / before.shape[dim]
    return torch.lerp(before, after, weight.view(-1, *[1] * (after.ndim - 1 - dim)))


def _blend(tiles: list[Tensor], dim: int, stride: int) -> Tensor:
    """Join tiles that start `stride` apart; their overlaps fade linearly from one to the next."""
    parts, last = [], tiles[0]
    for tile in tiles[1:]:
        shared = last.shape[dim] - stride
        kept, tail = last.split([stride, shared], dim)
        head, rest = tile.split([shared, tile.shape[dim] - shared], dim)
        parts.append(kept)
        last = torch.cat([fade(tail, head, dim), rest], dim)
    return torch.cat([*parts, last], dim)
