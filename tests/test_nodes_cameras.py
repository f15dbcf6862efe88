"""Cameras from and for other tools, on a real ComfyUI server."""

import json

import pytest
import torch
from PIL import Image

from scenetok_core import open_capture
from scenetok_core.captures import read_cameras
from scenetok_core.interchange import from_load3d
from tests import outside, small
from tests.captures import assert_same_cameras
from tests.engine import PromptRejectedError
from tests.engine.workflows import edited
from tests.served import PATH, VIEW, VIEWS, saved_file

SAVE = "90"
VIEWER = {"world": "capture", "scale": 1.0, "reference": -1, "fov": 35.0, "width": 0, "height": 0}


def node(kind, **inputs):
    return {"class_type": f"SceneTok_{kind}", "inputs": inputs}


def save(cameras, format="transforms.json", **more):
    return node("SaveCameras", cameras=cameras, format=format, filename_prefix="cameras/test", **more)


@pytest.fixture
def loaded(prompt):
    return {VIEW: prompt[VIEW]}


@pytest.fixture
def saved(comfy, run, loaded):
    """Runs nodes behind Load Views and gives the cameras that they saved."""

    def go(nodes, file="transforms.json"):
        done = run({**loaded, **nodes})
        assert done.status == "execution_success", done.error
        (listed,) = [item for item in done.outputs[SAVE]["cameras"] if item["filename"] == file]
        return saved_file(comfy, listed)

    return go


@pytest.mark.parametrize("format", ["transforms.json", "COLMAP", "RealEstate10K"])
def test_saved_views_are_a_capture_again(saved, format):
    files = {"transforms.json": "transforms.json", "COLMAP": "images.txt", "RealEstate10K": "path.txt"}
    path = saved({SAVE: save([VIEW, 1], format, images=[VIEW, 0])}, files[format])
    folder = path.parents[2] if format == "COLMAP" else path.parent
    assert folder.name.startswith("test_0")
    views = open_capture(folder).load()
    assert_same_cameras(views.cameras, small.cameras(VIEWS))
    torch.testing.assert_close(views.rgb, small.views(VIEWS).rgb, atol=0.01, rtol=0)


def test_matrices_and_rows_lead_back_to_the_same_cameras(saved):
    nodes = {
        "10": node("CamerasToExtrinsics", cameras=[VIEW, 1], width=64, height=64),
        "11": node("CamerasFromExtrinsics", extrinsics=["10", 0], intrinsics=["10", 1], width=64, height=64),
        "12": node("CamerasToCameraCtrl", cameras=["11", 0]),
        "13": node("CamerasFromCameraCtrl", poses=["12", 0], text="", width=64, height=64),
        SAVE: save(["13", 0], "RealEstate10K"),
    }
    assert_same_cameras(read_cameras(saved(nodes, "path.txt")), small.cameras(VIEWS))


def test_pasted_realestate_lines_are_a_path(saved):
    rows = [outside.cameractrl_row(right=step) for step in (0.0, 0.5)]
    text = "\n".join(" ".join(str(number) for number in row) for row in rows)
    nodes = {
        "10": node("CamerasFromCameraCtrl", text=text, width=80, height=60),
        SAVE: save(["10", 0], "RealEstate10K"),
    }
    cameras = read_cameras(saved(nodes, "path.txt"))
    torch.testing.assert_close(cameras.centers, torch.tensor([[0.0, 0, 0], [0.5, 0, 0]]))


def load3d(info):
    """ComfyUI's own viewer node, with what its page sends."""
    return {
        "class_type": "Load3D",
        "inputs": {
            "model_file": "3d/cube.obj",
            "image": {
                "image": "cube.png",
                "mask": "cube.png",
                "normal": "cube.png",
                "recording": "",
                "camera_info": info,
            },
            "width": 64,
            "height": 64,
        },
    }


@pytest.fixture
def cube(comfy):
    """A model in the input folder, and the pictures that the page uploads of it."""
    (comfy.folder("input", "3d") / "cube.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    Image.new("RGBA", (8, 8)).save(comfy.folder("input") / "cube.png")


def test_viewer_cameras_are_chained_into_keys(saved, cube):
    infos = [outside.viewer_new(right=1.0, yaw=10.0), outside.viewer_old(up=1.0)]
    nodes = {
        "10": load3d(infos[0]),
        "11": load3d(infos[1]),
        "12": node("AddKeyframe", camera_info=["10", 4], **VIEWER, place=-1, cameras=[VIEW, 1]),
        "13": node("AddKeyframe", camera_info=["11", 4], **VIEWER, place=0, keys=["12", 0], cameras=[VIEW, 1]),
        SAVE: save(["13", 0], "RealEstate10K"),
    }
    keys = read_cameras(saved(nodes, "path.txt"))
    size = (small.IMAGE, small.IMAGE)
    for key, info in zip(keys, reversed(infos), strict=True):
        assert_same_cameras(key, from_load3d(info, size))


def test_a_viewer_of_something_else_starts_at_a_camera_of_the_capture(saved, cube):
    nodes = {
        "10": load3d(outside.viewer_new()),
        "11": node(
            "CamerasFromLoad3D",
            camera_info=["10", 4],
            **{**VIEWER, "world": "reference", "reference": 2},
            cameras=[VIEW, 1],
        ),
        SAVE: save(["11", 0], "RealEstate10K"),
    }
    cameras = read_cameras(saved(nodes, "path.txt"))
    torch.testing.assert_close(cameras.c2w, small.cameras(VIEWS).c2w[[2]], atol=1e-5, rtol=0)


def test_points_that_the_viewer_fits_lead_the_camera_back(saved, cube, comfy):
    header = (
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (comfy.folder("output") / "cloud.ply").write_text(header + "-1 0 0\n5 0 0\n")
    nodes = {
        "10": load3d(outside.viewer_new(right=1.0)),
        "11": node("CamerasFromLoad3D", camera_info=["10", 4], **VIEWER, layout="ball", points="cloud.ply [output]"),
        SAVE: save(["11", 0], "RealEstate10K"),
    }
    cameras = read_cameras(saved(nodes, "path.txt"))
    torch.testing.assert_close(cameras.centers[0], torch.tensor([5.0, 0, 0]), atol=1e-5, rtol=0)


def test_the_viewer_gets_a_camera_of_the_path(run, loaded):
    nodes = {
        "10": node("CamerasToLoad3D", cameras=[VIEW, 1], frame=3, distance=0.0),
        "11": {"class_type": "Preview3D", "inputs": {"model_file": "cube.obj", "camera_info": ["10", 0]}},
    }
    done = run({**loaded, **nodes})
    assert done.status == "execution_success", done.error
    _, info, _ = done.outputs["11"]["result"]
    assert_same_cameras(from_load3d(info, (small.IMAGE, small.IMAGE)), small.cameras(VIEWS)[[3]])


def test_wan_takes_the_path_of_the_trajectory_node(run, prompt):
    wan = node("CamerasToWan", cameras=[PATH, 0], width=32, height=16, scale=0.0)
    shown = {"class_type": "PreviewAny", "inputs": {"source": ["10", 3]}}
    nodes = {VIEW: prompt[VIEW], PATH: prompt[PATH], "10": wan, "11": shown}
    done = run(edited(nodes, SceneTok_CameraTrajectory={"frames": 9}))
    assert done.status == "execution_success", done.error
    assert json.dumps(done.outputs["11"]["text"]) == '["9"]'
    assert "Wan takes 4 n + 1 frames, got 7 cameras" in run(nodes).error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename_prefix": "../elsewhere"}, "is not inside"),
        ({"format": "FBX"}, "unknown format of cameras 'FBX'"),
    ],
)
def test_files_elsewhere_and_of_other_kinds_are_refused(run, loaded, changes, message):
    with pytest.raises(PromptRejectedError) as refused:
        run(edited({**loaded, SAVE: save([VIEW, 1])}, SceneTok_SaveCameras=changes))
    details = [error for fault in refused.value.node_errors.values() for error in fault["errors"]]
    assert message in " ".join(f"{error['message']} {error['details']}" for error in details)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"10": node("CamerasFromCameraCtrl", text="", width=8, height=8)}, "give either poses or text"),
        ({"10": node("CamerasFromCameraCtrl", text="1 2 3", width=8, height=8)}, "has 3 columns, expected 19"),
        (
            {
                "9": load3d(outside.viewer_old()),
                "10": node("CamerasFromLoad3D", camera_info=["9", 4], **{**VIEWER, "world": "reference"}),
            },
            "world reference needs the capture's cameras",
        ),
        (
            {
                "9": load3d(outside.viewer_old()),
                "10": node("CamerasFromLoad3D", camera_info=["9", 4], **VIEWER, layout="ball", points="../secret.ply"),
            },
            "is not inside",
        ),
        (
            {
                "9": load3d({**outside.viewer_old(), "cameraType": "orthographic"}),
                "10": node("CamerasFromLoad3D", camera_info=["9", 4], **VIEWER),
            },
            "is orthographic; switch it to perspective",
        ),
    ],
)
def test_what_is_no_camera_gives_a_clear_error(run, cube, nodes, message):
    assert message in run({**nodes, SAVE: save(["10", 0])}).error
