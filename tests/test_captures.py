"""Reading captures: every format gives the same cameras, pictures keep their cameras, bad input is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core.captures import (
    Capture,
    Distortion,
    find_cameras,
    image_size,
    load_image,
    open_capture,
    read_cameras,
    write_cameras_json,
    write_transforms,
)
from scenetok_core.captures.images import natural_key
from scenetok_core.types import Cameras

HEIGHT, WIDTH = 24, 32
VIEWS = 3
FX, FY, CX, CY = 30.0, 28.0, 17.0, 11.0  # pixels
NAMES = tuple(f"view_{i}.png" for i in (1, 2, 10))
COLMAP_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "FULL_OPENCV": 6}
EXIF_ORIENTATION = 0x0112


def quaternions() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(VIEWS, 4, generator=generator, dtype=torch.float64)
    return q / q.norm(dim=-1, keepdim=True)


def rotate(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """v turned by the quaternion (w, x, y, z): v + 2 u x (u x v + w v)."""
    u = q[1:].expand_as(v)
    return v + 2 * torch.linalg.cross(u, torch.linalg.cross(u, v) + q[0] * v)


def w2c() -> torch.Tensor:
    """World-to-camera matrices [V, 4, 4] of the reference cameras."""
    pose = torch.eye(4, dtype=torch.float64).repeat(VIEWS, 1, 1)
    for i, q in enumerate(quaternions()):
        pose[i, :3, :3] = rotate(q, torch.eye(3, dtype=torch.float64)).T
        pose[i, :3, 3] = torch.tensor([0.1 * i, -0.2, 1.0 + i])
    return pose


def reference(size: tuple[int, int] | None = (HEIGHT, WIDTH), names: tuple[str, ...] = NAMES) -> Cameras:
    K = torch.tensor([[FX / WIDTH, 0, CX / WIDTH], [0, FY / HEIGHT, CY / HEIGHT], [0, 0, 1]])
    return Cameras(torch.linalg.inv(w2c()), K.repeat(VIEWS, 1, 1), size, names)


def paint(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A picture whose red grows to the right and green downwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gradient(size)).save(path)


def gradient(size: tuple[int, int]) -> np.ndarray:
    y, x = np.meshgrid((np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1], indexing="ij")
    return np.rint(np.stack([x, y, 0.5 * np.ones_like(x)], axis=-1) * 255).astype(np.uint8)


def paint_all(folder: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for name in NAMES:
        paint(folder / name, size)


def write_nerfstudio(root: Path) -> Path:
    paint_all(root / "images")
    names = [f"images/{name}" for name in NAMES]
    write_transforms(root / "transforms.json", reference(), names, (HEIGHT, WIDTH))
    return root


def write_camera_folder(root: Path) -> Path:
    paint_all(root)
    write_cameras_json(root / "cameras.json", reference(), NAMES)
    return root


def write_realestate(root: Path) -> Path:
    lines = ["https://example.org/video"]
    for i, pose in enumerate(w2c()[:, :3].reshape(VIEWS, 12).tolist()):
        paint(root / "clip" / f"{1000 + i}.jpg")
        numbers = [FX / WIDTH, FY / HEIGHT, CX / WIDTH, CY / HEIGHT, 0, 0, *pose]
        lines.append(" ".join([str(1000 + i), *(f"{n:.12f}" for n in numbers)]))
    (root / "clip.txt").write_text("\n".join(lines))
    return root


def write_colmap_text(
    root: Path, model: str = "PINHOLE", values: tuple[float, ...] = (FX, FY, CX, CY), folder: str = "sparse/0"
) -> Path:
    paint_all(root / "images")
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    numbers = " ".join(str(value) for value in values)
    (place / "cameras.txt").write_text(f"# a comment\n7 {model} {WIDTH} {HEIGHT} {numbers}\n")
    records = []
    for i in reversed(range(VIEWS)):
        pose = [*quaternions()[i].tolist(), *w2c()[i, :3, 3].tolist()]
        points = "1.5 2.5 -1" if i == 0 else ""
        records.append(f"{i + 1} {' '.join(str(n) for n in pose)} 7 {NAMES[i]}\n{points}\n")
    (place / "images.txt").write_text("# a comment\n" + "".join(records))
    return root


def write_colmap_binary(
    root: Path, model: str = "PINHOLE", values: tuple[float, ...] = (FX, FY, CX, CY), folder: str = "sparse/0"
) -> Path:
    paint_all(root / "images")
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    camera = struct.pack("<QiiQQ", 1, 7, COLMAP_IDS[model], WIDTH, HEIGHT) + struct.pack(f"<{len(values)}d", *values)
    (place / "cameras.bin").write_bytes(camera)
    data = struct.pack("<Q", VIEWS)
    for i in reversed(range(VIEWS)):
        data += struct.pack("<i7di", i + 1, *quaternions()[i].tolist(), *w2c()[i, :3, 3].tolist(), 7)
        data += NAMES[i].encode() + b"\0" + struct.pack("<Q2dq", 1, 1.5, 2.5, -1)
    (place / "images.bin").write_bytes(data)
    return root


FORMATS = {
    "transforms.json": write_nerfstudio,
    "cameras.json": write_camera_folder,
    "RealEstate10K": write_realestate,
    "COLMAP": write_colmap_text,
    "COLMAP binary": write_colmap_binary,
}
COLMAP_WRITERS = {"text": write_colmap_text, "binary": write_colmap_binary}


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def assert_same_cameras(got: Cameras, expected: Cameras) -> None:
    torch.testing.assert_close(got.c2w, expected.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.K, expected.K, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_cameras_and_pictures(tmp_path, name):
    capture = open_capture(FORMATS[name](tmp_path))
    assert capture.source == name.removesuffix(" binary")
    assert len(capture) == VIEWS
    assert_same_cameras(capture.cameras, reference())
    views = capture.load()
    assert views.rgb.shape == (VIEWS, 3, HEIGHT, WIDTH)
    assert views.cameras.size == (HEIGHT, WIDTH)
    assert_same_cameras(views.cameras, reference())
    expected = torch.from_numpy(gradient((HEIGHT, WIDTH))).permute(2, 0, 1) / 255
    torch.testing.assert_close(views.rgb[0], expected, atol=0.05, rtol=0)  # one format holds JPEG files


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "RealEstate10K"])
def test_views_are_in_natural_order(tmp_path, name):
    assert open_capture(FORMATS[name](tmp_path)).names == NAMES


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("transforms.json", "transforms.json"),
        ("cameras.json", "cameras.json"),
        ("RealEstate10K", "clip.txt"),
        ("COLMAP", "sparse/0"),
        ("COLMAP", "sparse/0/images.txt"),
        ("COLMAP binary", "sparse/0/cameras.bin"),
    ],
)
def test_the_camera_file_itself_can_be_given(tmp_path, name, file):
    capture = open_capture(f' "{FORMATS[name](tmp_path) / file}" ')
    assert_same_cameras(capture.cameras, reference())


def test_camera_files_may_have_any_name(tmp_path):
    path = write_nerfstudio(tmp_path) / "transforms.json"
    assert_same_cameras(open_capture(path.rename(tmp_path / "my_room.json")).cameras, reference())


@pytest.mark.parametrize("folder", ["sparse/0", "sparse", "colmap/sparse/0", "."])
@pytest.mark.parametrize("write", COLMAP_WRITERS.values(), ids=COLMAP_WRITERS.keys())
def test_colmap_models_are_found_where_tools_put_them(tmp_path, folder, write):
    if folder == ".":
        write(tmp_path, folder=folder)
    assert_same_cameras(open_capture(write(tmp_path, folder=folder)).cameras, reference())


@pytest.mark.parametrize("name", ["transforms.json", "cameras.json", "RealEstate10K", "COLMAP"])
def test_pictures_may_lie_elsewhere(tmp_path, name):
    root = FORMATS[name](tmp_path / "capture")
    for picture in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
        target = tmp_path / "elsewhere" / picture.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.rename(target)
    inner = {"RealEstate10K": "clip", "COLMAP": "images"}.get(name, "")
    capture = open_capture(root, images=tmp_path / "elsewhere" / inner)
    assert len(capture.load()) == VIEWS
    with pytest.raises(ValueError, match="does not exist"):
        open_capture(root, images=tmp_path / "nowhere")


def test_transforms_are_opengl_and_captures_opencv(tmp_path):
    """A camera at the origin looks along -z of the world in OpenGL: forward is -z, down is -y."""
    paint(tmp_path / "a.png")
    frame = {"file_path": "a", "transform_matrix": np.eye(4).tolist()}
    data = {"fl_x": FX, "w": WIDTH, "h": HEIGHT, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    cameras = open_capture(tmp_path).cameras
    torch.testing.assert_close(cameras.forward[0], torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(cameras.c2w[0, :3, 1], torch.tensor([0.0, -1.0, 0.0]))
    torch.testing.assert_close(cameras.c2w[0, :3, 0], torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("intrinsics", "expected"),
    [
        ({"fl_x": FX, "w": WIDTH, "h": HEIGHT}, (FX / WIDTH, FX / HEIGHT, 0.5, 0.5)),
        ({"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY}, (FX / WIDTH, FY / HEIGHT, CX / WIDTH, CY / HEIGHT)),
        ({"camera_angle_x": np.pi / 2}, (0.5, 0.5 * WIDTH / HEIGHT, 0.5, 0.5)),
        ({"camera_angle_x": np.pi / 2, "camera_angle_y": np.pi / 2}, (0.5, 0.5, 0.5, 0.5)),
        ({"fl_x": 2 * FX, "fl_y": 2 * FY, "w": 2 * WIDTH, "h": 2 * HEIGHT}, (FX / WIDTH, FY / HEIGHT, 0.5, 0.5)),
    ],
    ids=["one focal", "no size", "angle", "two angles", "declared at twice the size"],
)
@pytest.mark.parametrize("per_frame", [False, True])
def test_transforms_intrinsics(tmp_path, intrinsics, expected, per_frame):
    paint(tmp_path / "a.png")
    frame = {"file_path": "./a", "transform_matrix": np.eye(4)[:3].tolist()}
    wrong = {"fl_x": 1.0, "cx": 0.0} if per_frame and "fl_x" in intrinsics and "cx" in intrinsics else {}
    data = {**wrong, "frames": [frame | intrinsics]} if per_frame else {**intrinsics, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    K = open_capture(tmp_path).cameras.K[0]
    torch.testing.assert_close(torch.stack([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]), torch.tensor(expected))


@pytest.mark.parametrize(
    ("model", "values", "lens"),
    [
        ("SIMPLE_PINHOLE", (FX, CX, CY), None),
        ("SIMPLE_RADIAL", (FX, CX, CY, -0.1), Distortion(k1=-0.1)),
        ("RADIAL", (FX, CX, CY, -0.1, 0.01), Distortion(k1=-0.1, k2=0.01)),
        ("RADIAL", (FX, CX, CY, 0.0, 0.0), None),
        ("OPENCV", (FX, FX, CX, CY, -0.1, 0.01, 0.002, 0.003), Distortion(k1=-0.1, k2=0.01, p1=0.002, p2=0.003)),
        (
            "FULL_OPENCV",
            (FX, FX, CX, CY, -0.1, 0.01, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007),
            Distortion(k1=-0.1, k2=0.01, k3=0.004, k4=0.005, k5=0.006, k6=0.007, p1=0.002, p2=0.003),
        ),
    ],
)
@pytest.mark.parametrize("write", COLMAP_WRITERS.values(), ids=COLMAP_WRITERS.keys())
def test_colmap_camera_models(tmp_path, model, values, lens, write):
    capture = open_capture(write(tmp_path, model, values))
    K = torch.tensor([[FX / WIDTH, 0, CX / WIDTH], [0, FX / HEIGHT, CY / HEIGHT], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(capture.K[0], K)
    assert capture.lenses == (lens,) * VIEWS
    if lens is not None:
        assert capture.cameras.K[0, 0, 0] < FX / WIDTH  # a barrel lens gains field of view


@pytest.mark.parametrize(
    ("fields", "lens"),
    [
        ({"camera_model": "OPENCV", "k1": 0.0, "p1": 0}, None),
        (
            {"k1": -0.1, "k2": 0.01, "k3": 0.001, "p1": 0.002, "p2": 0.003},
            Distortion(-0.1, 0.01, 0.001, p1=0.002, p2=0.003),
        ),
        ({"camera_model": "FULL_OPENCV", "k1": 0.1, "k4": 0.2}, Distortion(k1=0.1, k4=0.2)),
    ],
    ids=["zero", "no model", "rational"],
)
def test_transforms_lenses(tmp_path, fields, lens):
    path = write_nerfstudio(tmp_path) / "transforms.json"
    edit_json(path, lambda data: data.pop("camera_model") and data.update(fields))
    assert open_capture(path).lenses == (lens,) * VIEWS


def test_pictures_of_one_name_in_two_folders_keep_their_folder(tmp_path):
    files = ["left/1.png", "left/2.png", "right/1.png"]
    for file in files:
        paint(tmp_path / file)
    write_cameras_json(tmp_path / "cameras.json", reference(), files)
    assert open_capture(tmp_path).names == tuple(files)


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


def test_subset_and_load_pick_the_same_views_in_the_asked_order(tmp_path):
    capture = open_capture(write_nerfstudio(tmp_path))
    part = capture.subset([2, 0])
    assert part.names == (NAMES[2], NAMES[0])
    assert part.images == (capture.images[2], capture.images[0])
    assert torch.equal(part.cameras.c2w, capture.cameras.c2w[[2, 0]])
    assert torch.equal(capture.load([2, 0]).cameras.c2w, part.cameras.c2w)
    assert capture.subset(slice(1, None)).names == NAMES[1:]
    assert capture.subset(torch.tensor([True, False, True])).names == (NAMES[0], NAMES[2])


@pytest.mark.parametrize(("indices", "message"), [([], "select at least one"), ([VIEWS], f"views 0 to {VIEWS - 1}")])
def test_impossible_subsets_are_refused(tmp_path, indices, message):
    with pytest.raises(ValueError, match=message):
        open_capture(write_nerfstudio(tmp_path)).subset(indices)


def test_progress_counts_pictures_and_can_cancel(tmp_path):
    capture = open_capture(write_nerfstudio(tmp_path))
    calls = []
    capture.load(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, VIEWS) for i in range(VIEWS)]

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture.load(progress=cancel)


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


@pytest.mark.parametrize("name", ["transforms.json", "cameras.json"])
@pytest.mark.parametrize("unit", ["metric", "relative"])
def test_units_survive(tmp_path, name, unit):
    paint_all(tmp_path)
    cameras = reference().replace(unit=unit)
    if name == "transforms.json":
        write_transforms(tmp_path / name, cameras, NAMES, (HEIGHT, WIDTH))
    else:
        write_cameras_json(tmp_path / name, cameras, NAMES)
    assert open_capture(tmp_path).cameras.unit == unit


def test_depth_of_a_nerfstudio_capture(tmp_path):
    root = write_nerfstudio(tmp_path)

    def add_depth(data: dict) -> None:
        del data["unit"]
        data["depth_unit_scale_factor"] = 0.002
        data["frames"][0]["depth_file_path"] = "depth/1.png"

    edit_json(root / "transforms.json", add_depth)
    capture = open_capture(root)
    assert capture.depths == (root / "depth/1.png", None, None)
    assert capture.depth_scale == 0.002
    assert capture.unit == "metric"


def test_realestate_cameras_without_frames(tmp_path):
    cameras = read_cameras(write_realestate(tmp_path) / "clip.txt")
    assert_same_cameras(cameras, reference())
    assert cameras.names == ("1000", "1001", "1002")
    assert cameras.size is None


@pytest.mark.parametrize("write", [write_nerfstudio, write_camera_folder], ids=["transforms", "cameras"])
def test_writers_leave_no_temporary_file(tmp_path, write):
    write(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name]
    with pytest.raises(ValueError, match=r"V names, got .* and 1"):
        write_cameras_json(tmp_path / "cameras.json", reference(), ["a.png"])
    with pytest.raises(ValueError, match=r"V names, got .* and 1"):
        write_transforms(tmp_path / "transforms.json", reference(), ["a.png"], (HEIGHT, WIDTH))


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = write_camera_folder(tmp_path) / "cameras.json"
    before = path.read_bytes()
    unwritable: list[Any] = [object()] * VIEWS
    with pytest.raises(TypeError):
        write_cameras_json(path, reference(), unwritable)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*NAMES, "cameras.json"])


def set_in_frame(key: str, value: object) -> Callable[[dict], None]:
    return lambda data: data["frames"][1].update({key: value})


def set_in_pose(row: int, column: int, value: float, key: str = "transform_matrix") -> Callable[[dict], None]:
    def change(data: dict) -> None:
        data["frames"][1][key][row][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(camera_model="OPENCV_FISHEYE"), "OPENCV_FISHEYE of frame 0.*not supported.*PINHOLE"),
        (lambda data: data.update(camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR"),
        (lambda data: data.update(camera_model="ORTHOPHOTO"), "ORTHOPHOTO"),
        (lambda data: data.update(is_fisheye=True), "is_fisheye"),
        (lambda data: data.update(k4=0.1), "only defined for camera_model FULL_OPENCV"),
        (lambda data: data.update(k1="much"), "k1 of frame 0.*must be a number, got 'much'"),
        (lambda data: data.update(k1=-900.0), "cannot be removed"),
        (lambda data: data.update(w=0), "w and h .* must be positive"),
        (lambda data: data.update(w=HEIGHT, h=HEIGHT), "view_1.png is 32 x 24 px.* made for 24 x 24 px"),
        (lambda data: data.update(frames=[]), "non-empty list 'frames'"),
        (lambda data: data.update(unit="feet"), "unit must be"),
        (set_in_frame("fl_x", -5.0), "positive focal lengths"),
        (set_in_frame("fl_x", float("nan")), "NaN"),
        (set_in_frame("file_path", None), "frame 1 .* has no file_path"),
        (set_in_frame("transform_matrix", [[1, 2], [3, 4]]), r"transform_matrix of frame 1.* got shape \[2, 2\]"),
        (set_in_frame("transform_matrix", "eye"), "nested lists of numbers, got eye"),
        (set_in_pose(0, 3, float("nan")), r"NaN or infinite values in view\(s\) \[1\]"),
        (set_in_pose(0, 0, 7.0), "c2w of view 1 is not a rotation"),
        (lambda data: [frame.pop("fl_x") and frame.pop("fl_y") for frame in data["frames"]], "no focal length"),
        (
            lambda data: [frame.update(fl_x=None, fl_y=None, camera_angle_x=4.0) for frame in data["frames"]],
            "camera_angle_x of frame 0.* between 0 and pi",
        ),
    ],
)
def test_bad_transforms_name_the_file_and_the_fault(tmp_path, change, message):
    path = write_nerfstudio(tmp_path) / "transforms.json"
    edit_json(path, change)
    with pytest.raises(ValueError, match=message) as error:
        open_capture(path).load()
    assert "transforms.json" in str(error.value) or "view_1.png" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(convention="opengl"), "convention 'opengl', expected 'opencv_c2w'"),
        (lambda data: data.update(version=2), "version 2, expected at most 1"),
        (lambda data: data.pop("frames"), "non-empty list 'frames'"),
        (set_in_frame("file", 5), "frame 1 .* has no 'file'"),
        (set_in_frame("K", [1.0]), "K of frame 1 .* 3 x 3"),
        (set_in_pose(0, 0, FX, "K"), None),
        (set_in_pose(0, 2, CX, "K"), "K looks like pixels"),
        (set_in_pose(1, 3, float("inf"), "c2w"), "NaN or infinite"),
    ],
)
def test_bad_camera_files_name_the_file_and_the_fault(tmp_path, change, message):
    path = write_camera_folder(tmp_path) / "cameras.json"
    edit_json(path, change)
    if message is None:  # a large focal length alone is a telephoto lens
        assert len(open_capture(path)) == VIEWS
        return
    with pytest.raises(ValueError, match=message) as error:
        open_capture(path)
    assert "cameras.json" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://example.org/video\n", "holds no cameras"),
        ("https://example.org/video\n1000 1 1 0.5 0.5 0 0 1 0 0\n", "line 2 of .* has 10 columns, expected 19"),
        (
            "https://example.org/video\n\n1000 1 1 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 x\n",
            "line 3 of .* more than numbers",
        ),
        ("u://\n1 1 1 0.5 0.5 0.1 0 1 0 0 0 0 1 0 0 0 0 1 0\n", "columns 6 and 7 in line 2 of .* must be 0"),
        ("u://\n1 1 1 0.5 0.5 0 0 nan 0 0 0 0 1 0 0 0 0 1 0\n", "NaN"),
        ("u://\n1 1 1 0.5 0.5 0 0 2 0 0 0 0 1 0 0 0 0 1 0\n", "not a rotation"),
        ("u://\n2 1 1 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n", "1 of 1 pictures .* are missing"),
    ],
)
def test_bad_realestate_files_name_the_file_and_the_fault(tmp_path, text, message):
    path = tmp_path / "clip.txt"
    path.write_text(text)
    paint(tmp_path / "1.png")
    with pytest.raises(ValueError, match=message) as error:
        open_capture(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin"])
@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_truncated_colmap_binaries_are_refused(tmp_path, file, kept):
    path = write_colmap_binary(tmp_path) / "sparse/0" / file
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{file} ends after .*truncated"):
        open_capture(tmp_path)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("FOV", (FX, FY, CX, CY, 0.1), "camera model FOV of view_10.png is not supported.*SIMPLE_RADIAL"),
        ("OPENCV_FISHEYE", (FX, FY, CX, CY, 0, 0, 0, 0), "OPENCV_FISHEYE"),
        ("PINHOLE", (FX, CX, CY), "PINHOLE needs .* got 3 values"),
        ("SIMPLE_PINHOLE", (FX, CX, "x"), "line 2 of .*cameras.txt is not a COLMAP record"),
    ],
)
def test_bad_colmap_cameras_are_refused_by_name(tmp_path, model, values, message):
    with pytest.raises(ValueError, match=message):
        open_capture(write_colmap_text(tmp_path, model, values))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images.txt", "1 0 0 0 0 0 0 0 7 view_1.png\n\n", "which is no rotation"),
        ("images.txt", "1 1 0 0 0 0 0 0 9 view_1.png\n\n", "uses camera 9"),
        ("images.txt", "1 1 0 0 0 0 0 0 7\n\n", "line 1 of .*images.txt is not a COLMAP record"),
        ("images.txt", "1 1 0 0 0 nan 0 0 7 view_1.png\n\n", "NaN"),
        ("images.txt", "", "describes no views"),
        ("cameras.txt", "7 PINHOLE 0 24 1 1 1 1\n", "line 1 of .*cameras.txt"),
    ],
)
def test_bad_colmap_records_are_refused(tmp_path, file, text, message):
    root = write_colmap_text(tmp_path)
    (root / "sparse/0" / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_capture(root)


def test_colmap_names_may_hold_spaces(tmp_path):
    root = write_colmap_text(tmp_path)
    paint(root / "images" / "my view.png")
    (root / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 7 my view.png\n\n")
    assert open_capture(root).names == ("my view.png",)


def test_an_unknown_colmap_model_id_is_refused(tmp_path):
    path = write_colmap_binary(tmp_path) / "sparse/0/cameras.bin"
    data = bytearray(path.read_bytes())
    data[12:16] = struct.pack("<i", 99)
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="unknown model id 99"):
        open_capture(tmp_path)


def test_a_colmap_model_without_pictures_says_where_it_looked(tmp_path):
    root = write_colmap_text(tmp_path)
    (root / "images").rename(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"looked for .*images.*give the picture folder"):
        open_capture(root)
    assert len(open_capture(root, images=tmp_path / "photos")) == VIEWS


@pytest.mark.parametrize("count", [2, 7])
def test_missing_pictures_are_listed_once(tmp_path, count):
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": np.eye(4).tolist()} for i in range(8)]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": FX, "w": WIDTH, "h": HEIGHT, "frames": frames}))
    for i in range(count, 8):
        paint(tmp_path / "images" / f"{i}.png")
    with pytest.raises(ValueError, match=f"{count} of 8 pictures .*remove these frames") as error:
        open_capture(tmp_path)
    assert str(error.value).count(".png") == min(count, 5)


@pytest.mark.parametrize("content", [b"no picture", None], ids=["text", "truncated"])
def test_unreadable_pictures_are_named(tmp_path, content):
    root = write_nerfstudio(tmp_path)
    path = root / "images" / NAMES[1]
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(ValueError, match=r"cannot read the picture .*view_2.png"):
        open_capture(root).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not valid JSON"), (b"[1]", "JSON object .* got a list"), (b"\xff\xfe\x00", "not a text file")],
)
@pytest.mark.parametrize("name", ["transforms.json", "cameras.json"])
def test_broken_json_is_named(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_capture(tmp_path)
    assert name in str(error.value)


def test_a_folder_of_pictures_without_cameras_says_what_was_looked_for(tmp_path):
    paint_all(tmp_path)
    with pytest.raises(
        ValueError, match=r"no cameras in .*\(3 pictures\).*transforms.json.*cameras.json.*COLMAP"
    ) as error:
        open_capture(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_two_realestate_files_in_a_folder_are_ambiguous(tmp_path):
    root = write_realestate(tmp_path)
    (root / "other.txt").write_text((root / "clip.txt").read_text())
    with pytest.raises(ValueError, match=r"holds 2 RealEstate10K files.*clip.txt"):
        open_capture(root)


@pytest.mark.parametrize(("path", "message"), [("", "no capture was given"), ("/nowhere/at/all", "no such capture")])
def test_paths_that_are_nothing_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        open_capture(path)


def test_another_file_is_no_capture(tmp_path):
    (tmp_path / "scene.ply").write_text("ply")
    with pytest.raises(ValueError, match=r"scene.ply is no capture; expected a nerfstudio"):
        open_capture(tmp_path / "scene.ply")


def test_capture_fields_must_have_one_length(tmp_path):
    capture = open_capture(write_nerfstudio(tmp_path))
    with pytest.raises(ValueError, match="one entry per view"):
        Capture(capture.images[:1], capture.c2w, capture.K, capture.sizes, capture.names, tmp_path, "x")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("transforms.json", ["transforms.json"]),
        ("cameras.json", ["cameras.json"]),
        ("RealEstate10K", ["clip.txt"]),
        ("COLMAP", ["sparse/0/cameras.txt", "sparse/0/images.txt"]),
        ("COLMAP binary", ["sparse/0/cameras.bin", "sparse/0/images.bin"]),
    ],
)
def test_a_capture_tells_its_camera_files(tmp_path, name, files):
    assert open_capture(FORMATS[name](tmp_path)).camera_files == tuple(tmp_path / file for file in files)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("transforms.json", "transforms.json"),
        ("cameras.json", "cameras.json"),
        ("RealEstate10K", "clip.txt"),
        ("COLMAP", "."),
    ],
)
def test_cameras_are_found_as_opening_finds_them(tmp_path, name, found):
    root = FORMATS[name](tmp_path)
    assert find_cameras(root) == root / found
    assert find_cameras(root / found) == root / found
    assert find_cameras(root / "images") is None


def test_camera_files_are_told_from_other_files_by_their_start(tmp_path):
    loose = write_nerfstudio(tmp_path).joinpath("transforms.json").rename(tmp_path / "walk.json")
    assert find_cameras(loose) == loose
    assert find_cameras(write_colmap_text(tmp_path / "c") / "sparse/0/images.txt") == tmp_path / "c/sparse/0"
    clip = write_realestate(tmp_path / "r") / "clip.txt"
    (tmp_path / "r/clip").rename(tmp_path / "r/frames")
    assert find_cameras(clip) is None
    others = {
        "a.json": '{"frames": 48}',
        "b.json": '{"frames": ["4", 0]}',
        "c.txt": "a caption",
        "d.bin": "",
        "images.txt": "",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
        assert find_cameras(tmp_path / name) is None


def test_camera_files_that_name_impossible_files_are_not_found(tmp_path):
    clip = write_realestate(tmp_path) / "clip.txt"
    clip.write_text(clip.read_text().replace("\n1000 ", f"\n{'1' * 1000} "))
    assert find_cameras(clip) is None


def test_several_realestate_files_make_no_capture_of_their_folder(tmp_path):
    root = write_realestate(tmp_path)
    (root / "other.txt").write_text((root / "clip.txt").read_text())
    assert find_cameras(root) is None
    assert find_cameras(root / "clip.txt") == root / "clip.txt"


def rename_first_picture(root: Path, name: str, new: str) -> None:
    """Make the camera file name its first picture `new`."""
    old = {"RealEstate10K": "\n1000 ", "COLMAP": f" {NAMES[0]}\n"}.get(name, NAMES[0])
    file = root / {"RealEstate10K": "clip.txt", "COLMAP": "sparse/0/images.txt"}.get(name, name)
    text = file.read_text()
    whole = f'"images/{NAMES[0]}"' if name == "transforms.json" else f'"{NAMES[0]}"'
    replacement = {"RealEstate10K": f"\n{new} ", "COLMAP": f" {new}\n"}.get(name)
    text = text.replace(old, replacement) if replacement else text.replace(whole, json.dumps(new))
    file.write_text(text)


@pytest.mark.parametrize("name", ["transforms.json", "cameras.json", "RealEstate10K", "COLMAP"])
@pytest.mark.parametrize("way", ["relative", "absolute", "no extension", "the folder itself"])
def test_pictures_outside_the_allowed_folder_are_refused_unseen(tmp_path, name, way):
    allowed = tmp_path / "allowed"
    root, secret = FORMATS[name](allowed / "capture"), tmp_path / "secret.png"
    ways = {
        "relative": "../../../secret.png" if name in ("RealEstate10K", "COLMAP") else "../../secret.png",
        "absolute": str(secret),
        "no extension": str(secret.with_suffix("")),
        "the folder itself": str(allowed),  # completed to allowed.png, it would lie outside
    }
    rename_first_picture(root, name, ways[way])
    messages = set()
    for prepare in (lambda: None, lambda: secret.write_bytes(b"no picture"), lambda: paint(secret), secret.unlink):
        prepare()
        with pytest.raises(ValueError, match="is not inside") as error:
            open_capture(root, within=allowed)
        messages.add(str(error.value))
    assert len(messages) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_links_inside_the_allowed_folder_may_lead_elsewhere(tmp_path, name):
    root = FORMATS[name](tmp_path / "elsewhere")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(root, target_is_directory=True)
    capture = open_capture(allowed / "link", within=allowed)
    assert len(capture.load()) == VIEWS
    assert all(path.is_relative_to(allowed / "link") for path in capture.images)


def test_two_dots_after_a_link_do_not_leave_the_allowed_folder(tmp_path):
    """For the operating system `link/..` is the folder above the link's target."""
    root = write_camera_folder(tmp_path / "allowed")
    (tmp_path / "far").mkdir()
    (root / "link").symlink_to(tmp_path / "far", target_is_directory=True)
    paint(tmp_path / "secret.png")
    rename_first_picture(root, "cameras.json", "link/../secret.png")
    assert len(open_capture(root)) == VIEWS  # without a limit the path means what it says
    with pytest.raises(ValueError, match=r"1 of 3 pictures .*missing.*secret.png"):
        open_capture(root, within=root)


def test_colmap_does_not_look_for_pictures_above_the_allowed_folder(tmp_path):
    root = write_colmap_text(tmp_path, folder="model")
    with pytest.raises(ValueError, match="no pictures for the COLMAP model") as error:
        open_capture(root / "model", within=root / "model")
    assert str(root / "images") not in str(error.value)
    assert len(open_capture(root / "model", within=root)) == VIEWS


def test_depth_pictures_outside_the_allowed_folder_are_refused(tmp_path):
    root = write_nerfstudio(tmp_path / "capture")
    edit_json(root / "transforms.json", set_in_frame("depth_file_path", "../depth.png"))
    with pytest.raises(ValueError, match=r"'../depth.png' .* is not inside"):
        open_capture(root, within=root)
    edit_json(root / "transforms.json", set_in_frame("depth_file_path", 5))
    with pytest.raises(ValueError, match=r"depth_file_path of frame 1 .* must be the name of a picture, got 5"):
        open_capture(root)
