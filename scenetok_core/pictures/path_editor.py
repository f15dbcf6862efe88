"""The path of the editor on the page: its text -> cameras, and what the page shows of the scene and the path."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..trajectories import keyframes_from_json, make_trajectory, read_keyed_path
from ..trajectories.framing import estimate_up, focus_point, one_scene, reach
from ..types import Cameras
from ..views.seen import Seen
from ..views.selection import middle_view
from .sheets import evenly_spread

EDITOR_VERSION = 1
_DIGITS = 6
_MOST_PICTURES = 64
_LONGEST_SIDE = 384  # pixels of a thumbnail


def edited_path(text: str, cameras: Cameras, frames: int) -> Cameras:
    """The path that a text of `read_keyed_path` describes: through its keys, or along the inputs when it has none.

    Args:
        text: the editor's whole state; empty: along the inputs.
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.

    Raises:
        ValueError: a broken text or key (named by its number), no frames, or cameras of several scenes.
    """
    keyed = read_keyed_path(text)
    if keyed.entries:
        return make_trajectory("keyframes", cameras, frames, keys=text, loop=keyed.loop, easing=keyed.easing)
    return make_trajectory("loop" if keyed.loop else "follow", cameras, frames, easing=keyed.easing)


def editor_scene(text: str, cameras: Cameras, path: Cameras, seen: Seen) -> dict[str, Any]:
    """What the page shows, as plain JSON values: input cameras, keys, path, pivot, up, reach.

    Args:
        text: the state that `path` was made from.
        cameras: the input cameras of one scene.
        path: the T cameras of the path.
        seen: how they see the scene.

    Returns:
        `version`, `state` (the text), `cameras` and `path` (each with `c2w` and `K`), `keys` (the same, or None without
        keys), `size` ([height, width] or None), `pivot`, `up`, `reach`, `middle` (number of the middle input view) and
        `outside` (numbers of the frames that leave what was seen).
    """
    keyed = read_keyed_path(text)
    size = reach(cameras)
    keys = keyframes_from_json(text, cameras) if keyed.entries else None
    return {
        "version": EDITOR_VERSION,
        "state": text,
        "cameras": _plain(cameras, size),
        "path": _plain(path, size),
        "keys": None if keys is None else _plain(keys, size),
        "size": None if cameras.size is None else list(cameras.size),
        "pivot": _rounded(focus_point(cameras), size),
        "up": _rounded(estimate_up(cameras), 1.0),
        "reach": size,
        "middle": middle_view(one_scene(cameras)),
        "outside": seen.outside.nonzero().flatten().tolist(),
    }


def _plain(cameras: Cameras, size: float) -> dict[str, Any]:
    scene = one_scene(cameras)
    return {"c2w": _rounded(scene.c2w, size), "K": _rounded(scene.K, 1.0)}


def _rounded(values: Tensor, size: float) -> list[Any]:
    """Nested lists of numbers, rounded to a millionth of `size` where that is below 1."""
    digits = _DIGITS + max(0, math.ceil(-math.log10(size)))

    def shortened(value: Any) -> Any:
        return [shortened(item) for item in value] if isinstance(value, list) else round(value, digits)

    return shortened(values.double().tolist())


def thumbnails(
    rgb: Tensor,  # [V, 3, H, W] in [0, 1]
) -> tuple[Tensor, list[int]]:
    """Small copies of at most 64 of the pictures, evenly picked, and their numbers: [n, 3, h, w], n numbers."""
    chosen = evenly_spread(torch.arange(len(rgb)), _MOST_PICTURES).tolist()
    height, width = rgb.shape[-2:]
    share = min(1.0, _LONGEST_SIDE / max(height, width))
    small = (max(1, round(height * share)), max(1, round(width * share)))
    return F.interpolate(rgb[chosen].float(), small, mode="area"), chosen
