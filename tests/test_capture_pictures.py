"""Pictures of captures: decoding, EXIF orientation, resizing and distortion, each with the camera kept right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core.captures import image_size, load_image, open_capture, write_cameras_json, write_transforms
from scenetok_core.captures.images import natural_key
from tests.captures import (
    CX,
    CY,
    EXIF_ORIENTATION,
    FORMATS,
    FX,
    FY,
    HEIGHT,
    NAMES,
    WIDTH,
    assert_same_cameras,
    gradient,
    paint,
    paint_all,
    reference,
    write_colmap_text,
    write_nerfstudio,
)


def test_loading_removes_the_distortion_and_agrees_with_the_cameras(tmp_path):
    """Red is linear over the distorted picture, so the loaded red tells where each straight pixel came from."""
    capture = open_capture(write_colmap_text(tmp_path, "OPENCV", (FX, FY, CX, CY, -0.2, 0.05, 0.01, 0.005)))
    views = capture.load()
    torch.testing.assert_close(views.cameras.K, capture.cameras.K)
    K, row, column = views.cameras.K[0], 3, 27
    x = ((column + 0.5) / WIDTH - K[0, 2]) / K[0, 0]
    y = ((row + 0.5) / HEIGHT - K[1, 2]) / K[1, 1]
    r2 = x * x + y * y
    radial = 1 - 0.2 * r2 + 0.05 * r2 * r2
    source_x = FX / WIDTH * (x * radial + 2 * 0.01 * x * y + 0.005 * (r2 + 2 * x * x)) + CX / WIDTH
    source_y = FY / HEIGHT * (y * radial + 0.01 * (r2 + 2 * y * y) + 2 * 0.005 * x * y) + CY / HEIGHT
    torch.testing.assert_close(views.rgb[0, :2, row, column], torch.stack([source_x, source_y]), atol=0.005, rtol=0)


@pytest.mark.parametrize("size", [(12, 16), (20, 20), 16, (12, 30), (40, 24)], ids=str)
@pytest.mark.parametrize("name", ["transforms.json", "COLMAP"])
def test_resize_and_crop_keep_projections(tmp_path, size, name):
    """Red and green give the place in the original picture: the same scene point must keep its colour."""
    capture = open_capture(FORMATS[name](tmp_path))
    views = capture.load([1], size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert views.rgb.shape == (1, 3, height, width)
    assert views.cameras.size == (height, width)
    row, column = height // 3, 2 * width // 3
    place = torch.tensor([(column + 0.5) / width, (row + 0.5) / height, 1.0])
    ray = torch.linalg.inv(views.cameras.K[0]) @ place
    original = capture.cameras.K[1] @ ray
    torch.testing.assert_close(views.rgb[0, :2, row, column], original[:2], atol=0.01, rtol=0)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2])
def test_pictures_of_another_resolution_keep_their_cameras(tmp_path, factor):
    root = write_nerfstudio(tmp_path)
    paint_all(root / "images", (int(HEIGHT * factor), int(WIDTH * factor)))
    capture = open_capture(root)
    assert capture.sizes[0] == (HEIGHT * factor, WIDTH * factor)
    assert_same_cameras(capture.cameras, reference())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_the_camera_belongs_to_the_turned_picture(tmp_path, orientation):
    """Turn the stored pixels so that the tag undoes it; the loaded picture must be the upright one."""
    upright = Image.fromarray(gradient((HEIGHT, WIDTH)))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    for name in NAMES:
        stored.save(tmp_path / name, exif=exif)
    write_transforms(tmp_path / "transforms.json", reference(), NAMES, (HEIGHT, WIDTH))
    assert image_size(tmp_path / NAMES[0]) == (HEIGHT, WIDTH)
    views = open_capture(tmp_path).load([0])
    torch.testing.assert_close(views.rgb[0], torch.from_numpy(gradient((HEIGHT, WIDTH))).permute(2, 0, 1) / 255)
    assert_same_cameras(views.cameras, reference()[[0]])


def test_a_tag_the_cameras_ignored_is_explained(tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    for name in NAMES:
        Image.fromarray(gradient((HEIGHT, WIDTH))).save(tmp_path / name, exif=exif)
    write_transforms(tmp_path / "transforms.json", reference(), NAMES, (HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"view_1.png is 24 x 32 px.*made for 32 x 24 px.*EXIF orientation"):
        open_capture(tmp_path)


@pytest.mark.parametrize(
    ("values", "mode", "expected", "tolerance"),
    [
        (np.full((4, 6), 51, np.uint8), None, 0.2, 1e-6),
        (np.full((4, 6), 0x1234, np.uint16), None, 0x1234 / 65535, 1e-6),
        (np.full((4, 6), 40000, np.int32), "I", 40000 / 65535, 1e-6),
        (np.full((4, 6, 4), (0, 0, 0, 51), np.uint8), None, 0.8, 1e-6),
        (np.full((4, 6, 2), (255, 0), np.uint8), None, 1.0, 1e-6),
        (np.full((4, 6, 3), 51, np.uint8), "P", 0.2, 0.02),
        (np.full((4, 6), 255, np.uint8), "1", 1.0, 1e-6),
    ],
    ids=["grey", "16 bit", "32-bit mode", "alpha on white", "grey with alpha", "palette", "1 bit"],
)
def test_picture_modes_become_rgb(tmp_path, values, mode, expected, tolerance):
    picture = Image.fromarray(values).convert(mode) if mode else Image.fromarray(values)
    path = tmp_path / ("a.tif" if mode == "I" else "a.png")
    picture.save(path)
    rgb = load_image(path)
    assert rgb.shape == (3, 4, 6)
    assert rgb.dtype == torch.float32
    torch.testing.assert_close(rgb, torch.full((3, 4, 6), expected), atol=tolerance, rtol=0)


def test_a_transparent_palette_entry_is_white(tmp_path):
    picture = Image.new("P", (6, 4), 0)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "a.png", transparency=0)
    assert load_image(tmp_path / "a.png").min() == 1


def test_natural_order_compares_numbers():
    names = ["b", "a10", "a2", "a02b", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a02b", "a2", "a10", "b"]


def test_different_sizes_need_a_size(tmp_path):
    paint_all(tmp_path)
    paint(tmp_path / NAMES[2], (2 * HEIGHT, 2 * WIDTH))
    write_cameras_json(tmp_path / "cameras.json", reference(), NAMES)
    capture = open_capture(tmp_path)
    assert capture.cameras.size is None
    with pytest.raises(ValueError, match=r"view_1.png is 32 x 24 px.*view_10.png is 64 x 48 px.*pass size="):
        capture.load()
    views = capture.load(size=(HEIGHT, WIDTH))
    assert_same_cameras(views.cameras, reference())
    torch.testing.assert_close(views.rgb[2], views.rgb[0], atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="size must be"):
        capture.load(size=0)


def test_a_picture_that_changed_after_opening_is_refused(tmp_path):
    capture = open_capture(write_nerfstudio(tmp_path))
    paint_all(tmp_path / "images", (HEIGHT, HEIGHT))
    with pytest.raises(ValueError, match=r"view_1.png changed its size"):
        capture.load(size=8)
