"""Two paths, one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from ..splines import Keys, continuous
from ..types import Cameras
from .rig import from_keys, to_keys

# A tangent longer than this many chords would swing the blend past its ends.
_LONGEST_TANGENT = 3.0


def join_paths(first: Cameras, second: Cameras, blend: int = 0) -> Cameras:
    """`first`, then `blend` cameras between them, then `second`.

    The blend leaves the first path as fast and in the direction in which it ended and meets the second one as it
    begins (cubic Hermite curves of position, rotation and intrinsics). Without blend, a camera that ends the first
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
    times = torch.arange(1, blend + 1, dtype=torch.float64) / (blend + 1)
    between = Keys(*(_hermite(one, other, times) for one, other in zip(a, b, strict=True)))
    return from_keys(first, Keys(*(torch.cat(parts) for parts in zip(a, between, b, strict=True))))


def _hermite(before: Tensor, after: Tensor, times: Tensor) -> Tensor:
    """Values [B, ...] at `times` [B] in (0, 1) between the last row of `before` and the first one of `after`."""
    shape = before.shape[1:]
    before, after = before[-2:].flatten(1), after[:2].flatten(1)
    start, end, steps = before[-1], after[0], len(times) + 1
    chord = end - start
    longest = _LONGEST_TANGENT * chord.norm()
    leaving, arriving = (
        _shorten(_step(pair) * steps, longest) if len(pair) == 2 else torch.zeros_like(chord)
        for pair in (before, after)
    )
    t = times[:, None]
    values = start + t**2 * (3 - 2 * t) * chord + t * (1 - t) ** 2 * leaving - t**2 * (1 - t) * arriving
    return values.unflatten(1, shape)


def _step(pair: Tensor) -> Tensor:
    return pair[1] - pair[0]


def _shorten(tangent: Tensor, longest: Tensor) -> Tensor:
    return tangent * (longest / tangent.norm().clamp(min=torch.finfo(tangent.dtype).tiny)).clamp(max=1)
