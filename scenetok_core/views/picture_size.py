"""Sizes of pictures for a network that takes any proportions, in whole patches, within a range of pixel counts."""

from __future__ import annotations

import math

_PROPORTIONS = 2.0  # how much more they count than the number of pixels: a square stays one


def fitting_size(
    size: tuple[int, int],
    patch: int,
    pixels: tuple[int, int],
) -> tuple[int, int]:
    """The (height, width) nearest to the proportions of `size` whose sides are multiples of `patch`.

    A picture of fewer or more pixels than the least and most of `pixels` is brought to these first. The most is never
    exceeded; fewer than the least are left only where one patch more each way would exceed the most. A size that was
    fitted stays.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs a height and a width of at least 1 pixel, got {height} x {width}")
    least, most = pixels[0] / patch**2, pixels[1] // patch**2
    if height % patch == width % patch == 0 and _fits(height // patch, width // patch, least, most):
        return height, width
    area = height * width / patch**2
    zoom = math.sqrt(min(max(area, least), most) / area) / patch
    rows, columns = zoom * height, zoom * width
    candidates = {
        (min(max(h, 1), most), min(max(w, 1), most))
        for h in (math.floor(rows), math.ceil(rows))
        for w in (math.floor(columns), math.ceil(columns))
    }
    allowed = {(h, w) for h, w in candidates if h * w <= most}
    allowed = {(h, w) for h, w in allowed if h * w >= least} or allowed

    def misfit(sides: tuple[int, int]) -> float:
        taller, wider = math.log(sides[0] / rows), math.log(sides[1] / columns)
        return (_PROPORTIONS * (taller - wider)) ** 2 + (taller + wider) ** 2

    h, w = min(sorted(allowed), key=misfit)
    return h * patch, w * patch


def _fits(rows: int, columns: int, least: float, most: int) -> bool:
    return rows * columns <= most and (rows * columns >= least or (rows + 1) * (columns + 1) > most)
