"""Where captures are found, and which folder their pictures may not leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenetok_core.captures import find_cameras, open_capture
from tests.captures import (
    FORMATS,
    NAMES,
    VIEWS,
    edit_json,
    needs_links,
    paint,
    set_in_frame,
    write_camera_folder,
    write_colmap_text,
    write_nerfstudio,
    write_realestate,
)


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


@needs_links
@pytest.mark.parametrize("name", FORMATS)
def test_links_inside_the_allowed_folder_may_lead_elsewhere(tmp_path, name):
    root = FORMATS[name](tmp_path / "elsewhere")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(root, target_is_directory=True)
    capture = open_capture(allowed / "link", within=allowed)
    assert len(capture.load()) == VIEWS
    assert all(path.is_relative_to(allowed / "link") for path in capture.images)


@needs_links
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
