"""Two paths, one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import Cameras
from .rig import from_keys, to_keys
from .splines import Keys, continuous

_COASTING = 8.0  # frames: how long a path keeps going after its end


def join_paths(first: Cameras, second: Cameras, blend: int = 0) -> Cameras:
    """`first`, then `blend` cameras between them, then `second`.

    The blend leaves the first path as fast and in the direction in which it ended and meets the second one as it
    begins. Without blend, a camera that ends the first
    path and begins the second is there once.

    Args:
        first: T cameras.
        second: U cameras in the same space.
        blend: number of cameras between them, >= 0.

    Returns:
        T + blend + U cameras (one less where they meet without blend), with the unit of `first`.

    Raises:
        ValueError: cameras of several scenes, paths of pictures of other sizes, or a negative number.
    """
    if blend < 0:
        raise ValueError(f"blend must be 0 or a number of cameras, got {blend}")
    if None not in (first.size, second.size) and first.size != second.size:
        raise ValueError(
            f"the paths are for pictures of {first.size} and {second.size} (height, width); join paths made from the "
            "same input cameras"
        )
    a, b = to_keys(first), to_keys(second)
    turns = continuous(torch.cat([a.quaternion, b.quaternion])).split([len(first), len(second)])
    a, b = a._replace(quaternion=turns[0]), b._replace(quaternion=turns[1])
    same = all(torch.allclose(one[-1], other[0], atol=1e-7) for one, other in zip(a, b, strict=True))
    if blend == 0 and same:
        b = Keys(*(value[1:] for value in b))
    between = Keys(
        position=_lead_over(a.position, b.position, blend),
        quaternion=_lead_over(a.quaternion, b.quaternion, blend),
        K=_lead_over(a.K[-1:], b.K[:1], blend),
    )
    return from_keys(first, Keys(*(torch.cat(parts) for parts in zip(a, between, b, strict=True))))


def _lead_over(before: Tensor, after: Tensor, count: int) -> Tensor:
    """`count` values [count, ...] from the last of `before` [N, ...] to the first of `after` [M, ...].

    Both sequences go on as fast as they end and begin, come to rest, and are faded into each other.
    """
    frame = torch.arange(1, count + 1, dtype=torch.float64)
    share = frame / (count + 1)
    leaving, arriving = _coast(before, frame), _coast(after.flip(0), count + 1 - frame)
    return torch.lerp(leaving, arriving, _column(share**2 * (3 - 2 * share), before))


def _coast(values: Tensor, frames: Tensor) -> Tensor:
    """Where a sequence [N, ...] is some frames [B] after its end, when its last step fades away."""
    step = values[-1] - values[-2] if len(values) > 1 else torch.zeros_like(values[-1])
    return values[-1] + _column(_COASTING * (1 - torch.exp(-frames / _COASTING)), values) * step


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
