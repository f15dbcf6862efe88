"""Opening and writing captures: every format gives the same cameras and pictures."""

from __future__ import annotations

import pytest
import torch

from scenetok_core.captures import Capture, open_capture, write_cameras_json, write_transforms
from scenetok_core.files import write_text
from tests.captures import (
    COLMAP_WRITERS,
    FORMATS,
    HEIGHT,
    NAMES,
    VIEWS,
    WIDTH,
    assert_same_cameras,
    gradient,
    paint,
    paint_all,
    reference,
    write_camera_folder,
    write_nerfstudio,
)


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


def test_pictures_of_one_name_in_two_folders_keep_their_folder(tmp_path):
    files = ["left/1.png", "left/2.png", "right/1.png"]
    for file in files:
        paint(tmp_path / file)
    write_cameras_json(tmp_path / "cameras.json", reference(), files)
    assert open_capture(tmp_path).names == tuple(files)


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
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*NAMES, "cameras.json"])


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
