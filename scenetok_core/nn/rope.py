"""Axial rotary position embedding on a grid of any number of axes (interleaved pairs, theta 10000)."""

from __future__ import annotations

import torch
from torch import Tensor

_THETA = 10000.0


def axis_pairs(head_dim: int, axes: int) -> list[int]:
    """How many rotated pairs each axis gets.

    Pairs are split evenly; with three axes (frame, row, column) a remainder of two goes to row and column, of one
    to frame.
    """
    share, rest = divmod(head_dim // 2, axes)
    return [share + (rest == 1 and i == 0) + (rest == 2 and i > 0) for i in range(axes)]


class AxialRope:
    """Rotates q or k [B, H, L, D] by the positions of L grid cells in row-major order.

    `tile` repeats the grid along L: every view (or group of latents) then counts from zero again.
    """

    def __init__(
        self, grid: tuple[int, ...], head_dim: int, *, tile: int = 1, device: torch.device | None = None
    ) -> None:
        angles = []
        for axis, pairs in enumerate(axis_pairs(head_dim, len(grid))):
            frequency = _THETA ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
            shape = [1] * len(grid) + [pairs]
            shape[axis] = grid[axis]
            angle = (torch.arange(grid[axis], device=device)[:, None] * frequency).view(shape)
            angles.append(angle.expand(*grid, pairs))
        flat = torch.cat(angles, dim=-1).flatten(0, -2).repeat(tile, 1)  # [L, D / 2]
        self.cos, self.sin = flat.cos(), flat.sin()

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate in float32, return in the dtype of `x`."""
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        rotated = torch.stack((even * self.cos - odd * self.sin, odd * self.cos + even * self.sin), dim=-1)
        return rotated.flatten(-2).to(x.dtype)
