"""Paths through given cameras: follow, loop, keyframes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..types import Cameras
from .framing import one_scene
from .pace import Pace, fractions
from .rig import from_keys, to_keys
from .splines import Keys, constant_pace, smooth

_SMOOTHING_SAMPLES = 512


def check_smoothing(smoothing: float) -> None:
    """Raise `ValueError` unless `smoothing` is a fraction of a path."""
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be 0 or a positive fraction of the path, got {smoothing}")


def follow(cameras: Cameras, frames: int | Pace, *, smoothing: float = 0.02) -> Cameras:
    """Walk along the inputs in their order at constant pace, without the shake of a hand-held camera.

    Starts at the first input and ends at the last one, exactly.

    Args:
        cameras: the input cameras of one scene, in order.
        frames: number of cameras, >= 1.
        smoothing: standard deviation of the smoothing, as a fraction of the path's length; 0 passes through every
            input.

    Raises:
        ValueError: no frames, cameras of several scenes, or negative smoothing.
    """
    check_smoothing(smoothing)
    times, keys = fractions(frames), to_keys(cameras)
    if smoothing > 0 and len(cameras) > 2:
        keys = smooth(constant_pace(keys, fractions(_SMOOTHING_SAMPLES)), smoothing * _SMOOTHING_SAMPLES)
    path = constant_pace(keys, times)
    return from_keys(cameras, path)


def loop(cameras: Cameras, frames: int | Pace, *, smoothing: float = 0.02) -> Cameras:
    """Walk along the inputs in their order and from the last one straight back to the first; the video loops.

    Args:
        cameras: the input cameras of one scene, in order.
        frames: number of cameras, >= 1; the last one stands before the first, not on it.
        smoothing: as for `follow`; the ends, which are none here, are smoothed too.

    Raises:
        ValueError: as for `follow`.
    """
    check_smoothing(smoothing)
    times, keys = fractions(frames, closed=True), to_keys(cameras)
    if smoothing > 0 and len(cameras) > 2:
        ring = constant_pace(keys, fractions(_SMOOTHING_SAMPLES, closed=True), loop=True)
        thrice = smooth(Keys(*(torch.cat([value] * 3) for value in ring)), smoothing * _SMOOTHING_SAMPLES)
        keys = Keys(*(value[_SMOOTHING_SAMPLES : 2 * _SMOOTHING_SAMPLES] for value in thrice))
    return from_keys(cameras, constant_pace(keys, times, loop=True))


def keyframes(
    keys: Cameras | Sequence[Cameras],
    frames: int | Pace,
    *,
    loop: bool = False,
    speeds: Sequence[float] | None = None,
) -> Cameras:
    """A smooth path through keys, at constant pace unless `speeds` says otherwise.

    Positions follow a centripetal Catmull-Rom curve, rotations turn from key to key along the shortest arc,
    intrinsics are interpolated. The pace counts translation, rotation and zoom together (`splines.path_lengths`); a
    repeated key takes no time, a single key is a still shot. The path starts at the first key and ends at the last
    one; with `loop` it returns to the first one, without repeating it.

    Args:
        keys: the keys in order, as `Cameras` or a list of them.
        frames: number of cameras, >= 1.
        loop: close the path.
        speeds: pace at every key in proportion to the others, > 0: half the speed, twice the frames near it.

    Raises:
        ValueError: no keys, no frames, keys of several scenes, or speeds that are not one positive number per key.
    """
    times = fractions(frames, closed=loop)
    joined = keys if isinstance(keys, Cameras) else join_keys(keys)
    if speeds is not None and (len(speeds) != len(joined) or not all(math.isfinite(s) and s > 0 for s in speeds)):
        raise ValueError(f"speeds must be one positive number for each of the {len(joined)} keys, got {list(speeds)}")
    given = None if speeds is None else torch.tensor(speeds, dtype=torch.float64)
    path = constant_pace(to_keys(joined), times, loop=loop, speeds=given)
    return from_keys(joined, path)


def join_keys(keys: Sequence[Cameras]) -> Cameras:
    """Cameras of one scene behind each other. Raises `ValueError` when there are none."""
    if not keys:
        raise ValueError("a keyframe path needs at least one key, got none")
    parts = [one_scene(key) for key in keys]
    c2w, K = (torch.cat([getattr(part, name) for part in parts]) for name in ("c2w", "K"))
    return keys[0].replace(c2w=c2w.to(keys[0].c2w.device), K=K.to(keys[0].c2w.device), names=())
