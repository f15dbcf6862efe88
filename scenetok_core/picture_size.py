"""Sizes of pictures for a network that takes any proportions, in whole patches, within a range of pixel counts."""

from __future__ import annotations

import math


def fitting_size(
    size: tuple[int, int],
    patch: int,
    pixels: tuple[int, int],
) -> tuple[int, int]:
    """The (height, width) nearest to the proportions of `size` whose sides are multiples of `patch`.

    A picture of fewer or more pixels than the least and most of `pixels` is brought to these first. Sides are rounded
    so that the most is never exceeded, but for a picture so narrow that a side would be less than a patch.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs a height and a width of at least 1 pixel, got {height} x {width}")
    zoom = 1.0
    if height * width < pixels[0]:
        zoom = math.sqrt(pixels[0] / (height * width))
    elif height * width > pixels[1]:
        zoom = math.sqrt(pixels[1] / (height * width))
    ratio = height / width
    rows, columns = zoom * height / patch, zoom * width / patch
    candidates = {
        (max(1, up_h), max(1, up_w))
        for up_h in (math.floor(rows), math.ceil(rows))
        for up_w in (math.floor(columns), math.ceil(columns))
    }
    most = pixels[1] / patch**2
    allowed = {(h, w) for h, w in candidates if h * w <= most} or {min(candidates, key=lambda c: c[0] * c[1])}

    def misfit(candidate: tuple[int, int]) -> float:
        h, w = candidate
        return abs(math.log(h / w / ratio)) + abs(math.log(h * w / (rows * columns)))

    h, w = min(sorted(allowed), key=misfit)
    return h * patch, w * patch
