"""Captures that cannot be read: the message names the file and the fault."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from scenetok_core.captures import open_capture
from tests.captures import (
    CX,
    CY,
    FX,
    FY,
    HEIGHT,
    NAMES,
    VIEWS,
    WIDTH,
    edit_json,
    paint,
    paint_all,
    set_in_frame,
    set_in_pose,
    write_camera_folder,
    write_colmap_binary,
    write_colmap_text,
    write_nerfstudio,
    write_realestate,
)


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
        (lambda data: data.update(version=2), "version 2, this pack reads up to 1; update the pack"),
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
