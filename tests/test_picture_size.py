"""Sizes of pictures for networks that take any proportions, over many sizes."""

import math
from itertools import product

import pytest

from scenetok_core.configs import RaeConfig
from scenetok_core.views.picture_size import fitting_size

RELEASED, TINY, NARROW = (14, (37000, 75500)), (8, (4096, 4096)), (4, (64, 1024))
SIDES = [1, 3, 8, 13, 14, 15, 64, 100, 192, 223, 256, 270, 448, 720, 1080, 1920, 4032]
SIZES = list(product(SIDES, SIDES))
LARGEST_ASPECT = 4.0  # beyond it a side is a patch or two


def usual(size):
    return max(size) / min(size) <= LARGEST_ASPECT


@pytest.mark.parametrize(("patch", "pixels"), [RELEASED, TINY, NARROW])
def test_sides_are_whole_patches_and_never_too_many(patch, pixels):
    for size in SIZES:
        height, width = fitting_size(size, patch, pixels)
        assert height % patch == width % patch == 0 and min(height, width) >= patch
        assert height * width <= pixels[1], size


@pytest.mark.parametrize(("patch", "pixels"), [RELEASED, TINY, NARROW])
def test_a_size_that_was_fitted_stays(patch, pixels):
    for size in SIZES:
        once = fitting_size(size, patch, pixels)
        assert fitting_size(once, patch, pixels) == once, size


@pytest.mark.parametrize(("patch", "pixels"), [RELEASED, TINY, NARROW])
def test_few_pixels_are_left_only_where_more_would_be_too_many(patch, pixels):
    for size in SIZES:
        height, width = fitting_size(size, patch, pixels)
        assert height * width >= pixels[0] or (height + patch) * (width + patch) > pixels[1], size


@pytest.mark.parametrize(("patch", "pixels"), [RELEASED, TINY, NARROW])
def test_proportions_are_kept_to_within_a_patch(patch, pixels):
    for size in filter(usual, SIZES):
        area, (height, width) = size[0] * size[1], fitting_size(size, patch, pixels)
        zoom = math.sqrt(min(max(area, pixels[0]), pixels[1]) / area)
        assert abs(height - zoom * size[0]) < patch, size
        assert abs(width - zoom * size[1]) < patch, size


def test_sizes_that_fit_are_left_alone():
    for rows, columns in product(range(1, 25), range(1, 25)):
        if 37000 <= 196 * rows * columns <= 75500:
            assert fitting_size((14 * rows, 14 * columns), *RELEASED) == (14 * rows, 14 * columns)


def test_turning_a_picture_turns_its_size():
    for height, width in SIZES:
        fitted = fitting_size((height, width), *RELEASED)
        assert fitting_size((width, height), *RELEASED) == fitted[::-1]


@pytest.mark.parametrize(
    ("size", "fitted"), [((1080, 1920), (196, 364)), ((256, 256), (252, 252)), ((480, 640), (238, 308))]
)
def test_usual_pictures(size, fitted):
    assert fitting_size(size, *RELEASED) == fitted


@pytest.mark.parametrize(("patch", "pixels"), [RELEASED, TINY, NARROW])
def test_a_square_stays_one(patch, pixels):
    for side in SIDES:
        height, width = fitting_size((side, side), patch, pixels)
        assert height == width


def test_the_largest_square_fits():
    config = RaeConfig("full")
    assert config.image_size == 266
    assert fitting_size((config.image_size, config.image_size), *RELEASED) == (266, 266)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5)])
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises(ValueError, match="at least 1 pixel"):
        fitting_size(size, *RELEASED)
