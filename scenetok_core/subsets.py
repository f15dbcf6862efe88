"""Subsets of scene tokens: tokens are an unordered set, so any of them make a coarser scene (SceneTok, section 4)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .configs import SceneTokConfig
from .types import SceneTokens

_UNORDERED = (SceneTokConfig.family,)  # families whose tokens are a set
_COUNT = re.compile(r"(?P<number>\d+)|(?P<share>\d+(\.\d+)?) ?%", re.ASCII)


def keep_tokens(
    scene: SceneTokens,
    chosen: Tensor,  # [N] bool
) -> SceneTokens:
    """The scene with those of its tokens that are chosen; tokens removed before stay removed.

    Raises:
        ValueError: tokens of which none can be left out, another number of tokens, or no token is left.
    """
    if scene.family not in _UNORDERED:
        raise ValueError(
            f"tokens of {scene.preset!r} ({scene.family}) are learnt latents in a fixed order, each with a part of its "
            "own in every picture, so none can be left out; only SceneTok's tokens are a set"
        )
    count = len(scene.tokens)
    if tuple(chosen.shape) != (count,):
        raise ValueError(f"a choice among {count} tokens has shape [{count}], got {list(chosen.shape)}")
    used = torch.ones(count, dtype=torch.bool) if scene.mask is None else scene.mask.cpu()
    mask = used & chosen.cpu()
    if not bool(mask.any()):
        raise ValueError("no token would be left; keep at least one")
    return scene.replace(mask=None if bool(mask.all()) else mask)


def first_tokens(scene: SceneTokens, count: int) -> Tensor:
    """Choose the first `count` tokens in use: [N] bool.

    Raises:
        ValueError: a count below 1 or above the number of tokens in use.
    """
    return _take(_in_use(scene), count, len(scene.tokens))


def random_tokens(scene: SceneTokens, count: int, generator: torch.Generator) -> Tensor:
    """Choose `count` of the tokens in use by chance: [N] bool. Equal generators choose smaller sets inside larger ones.

    Args:
        scene: the scene.
        count: tokens to choose.
        generator: a CPU generator.

    Raises:
        ValueError: a count below 1 or above the number of tokens in use.
    """
    used = _in_use(scene)
    return _take(used[torch.randperm(len(used), generator=generator)], count, len(scene.tokens))


def listed_tokens(scene: SceneTokens, text: str) -> Tensor:
    """Choose tokens by number: [N] bool.

    Args:
        scene: the scene.
        text: numbers and ranges from 0, such as `0-15, 20, 40-`; both ends of a range count.

    Raises:
        ValueError: something else, or a number that no token has.
    """
    count = len(scene.tokens)
    chosen = torch.zeros(count, dtype=torch.bool)
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        low, high = first or "0", last or (str(count - 1) if dash else first)
        if not (first or last) or not (low.isdecimal() and high.isdecimal()):
            raise ValueError(f"tokens are listed like 0-15, 20, 40-; got {part!r}")
        if not int(low) <= int(high) < count:
            raise ValueError(f"{part!r} is outside of the scene's tokens 0 to {count - 1}, or runs backwards")
        chosen[int(low) : int(high) + 1] = True
    return chosen


def painted_tokens(
    scene: SceneTokens,
    picture: Tensor,  # [H, W] in [0, 1]
) -> Tensor:
    """Choose tokens by a picture: [N] bool.

    The tokens are laid out in rows, as close to a square as their number allows (64 as 8 x 8, 512 as 16 x 32), and
    those on which the picture is brighter than 0.5 on average are chosen.
    """
    count = len(scene.tokens)
    rows = next(side for side in range(math.isqrt(count), 0, -1) if count % side == 0)
    cells = F.interpolate(picture[None, None].float(), size=(rows, count // rows), mode="area")
    return cells.flatten().cpu() > 0.5


def parse_counts(text: str, total: int) -> list[int]:
    """Numbers of tokens from text such as `8, 25%, 64`.

    Raises:
        ValueError: something else, or a number outside of 1 to `total`.
    """
    counts = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _COUNT.fullmatch(part)
        if found is None:
            raise ValueError(f"numbers of tokens are given like 8, 25%, 64; got {part!r}")
        count = int(found["number"]) if found["number"] else round(float(found["share"]) / 100 * total)
        if not 1 <= count <= total:
            raise ValueError(f"{part!r} is outside of 1 to the scene's {total} tokens")
        counts.append(count)
    if not counts:
        raise ValueError("give at least one number of tokens, such as 8, 25%, 64")
    return counts


def sweep(scene: SceneTokens, counts: Sequence[int], seed: int | None = None) -> list[SceneTokens]:
    """The scene with `counts` of its tokens, one scene for each; smaller subsets lie in larger ones.

    Args:
        scene: the scene.
        counts: numbers of tokens.
        seed: of a random order; None takes them in their own order.

    Raises:
        ValueError: a count below 1 or above the number of tokens in use.
    """
    if seed is None:
        return [keep_tokens(scene, first_tokens(scene, count)) for count in counts]
    generators = (torch.Generator().manual_seed(seed) for _ in counts)
    return [
        keep_tokens(scene, random_tokens(scene, count, generator))
        for count, generator in zip(counts, generators, strict=True)
    ]


def _in_use(scene: SceneTokens) -> Tensor:
    return torch.arange(len(scene.tokens)) if scene.mask is None else scene.mask.cpu().nonzero().flatten()


def _take(order: Tensor, count: int, total: int) -> Tensor:
    if not 1 <= count <= len(order):
        raise ValueError(f"the scene has {len(order)} tokens in use, so keep 1 to {len(order)} of them; got {count}")
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen
