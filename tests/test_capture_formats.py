"""What single formats say: axes, intrinsics, lenses, depth, names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scenetok_core.captures import Distortion, open_capture, read_cameras
from tests.captures import (
    COLMAP_WRITERS,
    CX,
    CY,
    FX,
    FY,
    HEIGHT,
    VIEWS,
    WIDTH,
    assert_same_cameras,
    edit_json,
    paint,
    reference,
    write_colmap_text,
    write_nerfstudio,
    write_realestate,
)


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


def write_dl3dv(root, factor):
    """The JSON names full-size pictures, of which there are smaller copies only."""
    write_nerfstudio(root)
    (root / "images").rename(root / f"images_{factor}")
    grown = {"w": WIDTH * factor, "h": HEIGHT * factor}

    def enlarge(data):
        data.update(grown)
        for frame in data["frames"]:
            frame.update({key: frame[key] * factor for key in ("fl_x", "fl_y", "cx", "cy")})

    edit_json(root / "transforms.json", enlarge)
    return root


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_dl3dv_scenes_have_smaller_pictures_than_their_json_names(tmp_path, factor):
    capture = open_capture(write_dl3dv(tmp_path, factor), within=tmp_path)
    assert_same_cameras(capture.cameras, reference())
    assert {path.parent.name for path in capture.images} == {f"images_{factor}"}


def test_the_largest_copies_are_taken_and_full_size_pictures_before_them(tmp_path):
    root = write_dl3dv(tmp_path, 4)
    paint(root / "images_8" / "frame.png")
    assert {path.parent.name for path in open_capture(root).images} == {"images_4"}
    paint(root / "images" / "other.png")
    with pytest.raises(ValueError, match=f"{VIEWS} of {VIEWS} pictures .* are missing"):
        open_capture(root)


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


def test_colmap_names_may_hold_spaces(tmp_path):
    root = write_colmap_text(tmp_path)
    paint(root / "images" / "my view.png")
    (root / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 7 my view.png\n\n")
    assert open_capture(root).names == ("my view.png",)
