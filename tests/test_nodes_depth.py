"""Depth and point clouds through a real ComfyUI server, with a small random head."""

import json
import urllib.request

import pytest
import torch
from PIL import Image

from scenetok_core import DepthHead, SceneTok
from scenetok_core.depth import grey_depth
from scenetok_core.pictures.sheets import to_bytes, to_tensor
from scenetok_core.pictures.video import read_video_frames
from scenetok_core.points.fusion import PointFilters, fuse_points
from scenetok_core.points.geometry import measure_depth
from scenetok_core.trajectories import make_trajectory
from scenetok_core.weights.checkpoints import load_scene
from tests import small
from tests.engine import PromptRejectedError
from tests.engine.workflows import edited
from tests.served import ENCODE, FRAMES, LOAD, PATH, RENDER, SAVE, VIDEO, VIEW, saved_file
from tests.test_point_files import read_points

HEAD, DEPTH, POINTS, TURN = "20", "21", "22", "23"
GREY, COLOUR, MASK, CONFIDENCE, TURNED, COUNT = "30", "31", "32", "33", "34", "35"
OPEN = {"min_confidence": 0.0, "edge": 0.0, "agree": 0.0, "voxel": 0.0}  # filters of a random head


@pytest.fixture(scope="module")
def models(comfy):
    """The model and a random head for it, loaded; both are in the server's model folder."""
    folder = comfy.folder("models", "scenetok")
    model = SceneTok.load(folder / "small.safetensors")
    head = small.depth_head(folder / "small-depth.safetensors", model)
    return model, DepthHead.load(head, model)


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def depth_prompt(prompt, models):
    """Scene -> frames and depth -> points -> turntable, and everything saved."""
    measured = {"samples": 2, "min_confidence": 0.5, "seed": 3, "steps": 2}
    filters = {**OPEN, "max_points": 100000, "axes": "input", "glb": True, "filename_prefix": "points/test"}
    turned = {"frames": 4, "size": 64, "elevation": 30.0, "frustums": True, "fps": 12.0, "tokens": [ENCODE, 0]}
    return {
        **{key: prompt[key] for key in (LOAD, VIEW, ENCODE, PATH, RENDER)},
        SAVE: node("SceneTok_SaveTokens", tokens=[ENCODE, 0], filename_prefix="scenes/depth"),
        HEAD: node("SceneTok_LoadDepthHead", model=[LOAD, 0], depth_head="small-depth.safetensors"),
        DEPTH: node(
            "SceneTok_DepthHead", depth_head=[HEAD, 0], tokens=[ENCODE, 0], cameras=[PATH, 0], images=[RENDER, 0],
            **measured,
        ),
        POINTS: node("SceneTok_PointCloud", geometry=[DEPTH, 4], **filters),
        TURN: node("SceneTok_PointCloudTurntable", points=[POINTS, 0], **turned),
        GREY: node("SaveImage", images=[DEPTH, 0], filename_prefix="depth/grey"),
        COLOUR: node("SaveImage", images=[DEPTH, 1], filename_prefix="depth/colour"),
        "40": node("MaskToImage", mask=[DEPTH, 2]),
        "41": node("MaskToImage", mask=[DEPTH, 3]),
        MASK: node("SaveImage", images=["40", 0], filename_prefix="depth/mask"),
        CONFIDENCE: node("SaveImage", images=["41", 0], filename_prefix="depth/confidence"),
        TURNED: node("SaveImage", images=[TURN, 0], filename_prefix="depth/turn"),
        VIDEO: node("SaveVideo", video=[TURN, 1], filename_prefix="depth/turn", format="auto", codec="auto"),
        COUNT: node("PreviewAny", source=[POINTS, 3]),
    }  # fmt: skip


def pictures(comfy, done, node_id):
    """Saved pictures of a node, [n, H, W] or [n, H, W, 3] in 0 to 255."""
    images = [Image.open(saved_file(comfy, listed)) for listed in done.outputs[node_id]["images"]]
    return (255 * torch.stack([to_tensor(image) for image in images])).round().int().movedim(1, -1)


def test_depth_points_and_turntable_are_those_of_the_core(comfy, run, depth_prompt, models):
    done = run(depth_prompt)
    assert done.status == "execution_success", done.error
    scene = load_scene(saved_file(comfy, done.outputs[SAVE]["scenes"][0]))
    path_inputs = depth_prompt[PATH]["inputs"]
    options = {"smoothing": path_inputs["smoothing"]}
    path = make_trajectory(path_inputs["preset"], scene.cameras, FRAMES, **options)
    posed = measure_depth(models[1], scene, path, samples=2, steps=2, seed=3)
    near = pictures(comfy, done, GREY)[..., 0]
    expected = to_bytes(grey_depth(posed.depth[:, None])[:, None].expand(-1, 3, -1, -1))[..., 0]
    assert near.shape == (FRAMES, small.IMAGE, small.IMAGE)
    assert (near - expected.int()).abs().float().mean() < 4  # tokens are stored in bfloat16
    assert pictures(comfy, done, COLOUR).float().std() > 1
    mask, confidence = pictures(comfy, done, MASK)[..., 0], pictures(comfy, done, CONFIDENCE)[..., 0]
    assert set(mask.unique().tolist()) <= {0, 255}
    assert 0 < confidence.float().mean() < 255
    assert torch.equal(mask[confidence < 126].unique(), torch.tensor([0]))
    turned = pictures(comfy, done, TURNED)
    assert turned.shape == (4, 64, 64, 3)
    frames, fps = read_video_frames(saved_file(comfy, done.outputs[VIDEO]["images"][0]))
    assert (len(frames), fps) == (4, 12.0)
    listed = done.outputs[POINTS]["3d"]
    assert [file["filename"].rpartition(".")[2] for file in listed] == ["ply", "glb"]
    ply, glb = (read_points(saved_file(comfy, file)) for file in listed)
    assert len(ply.vertices) == len(glb.vertices)
    assert str(len(ply.vertices)) in done.outputs[COUNT]["text"][0]
    core = fuse_points(posed, PointFilters(0, 0, 0, 0))
    assert len(core) == pytest.approx(len(ply.vertices), rel=0.1)
    assert (ply.vertices.max(0) - ply.vertices.min(0)).tolist() == pytest.approx(
        (core.xyz.amax(0) - core.xyz.amin(0)).tolist(), rel=0.2
    )


def test_one_sample_is_certain_and_frames_are_optional(comfy, run, depth_prompt):
    single = edited(depth_prompt, SceneTok_DepthHead={"samples": 1, "steps": 0, "images": None})
    done = run(single)
    assert done.status == "execution_success", done.error
    assert pictures(comfy, done, CONFIDENCE).unique().tolist() == [255]
    progress = [data for data in done.of_type("progress") if data["node"] == DEPTH]
    assert progress[-1]["value"] == progress[-1]["max"]


def test_only_depth_heads_are_offered(comfy, models):
    with urllib.request.urlopen(f"{comfy.url}/object_info/SceneTok_LoadDepthHead") as answer:
        info = json.load(answer)["SceneTok_LoadDepthHead"]
    offered = info["input"]["required"]["depth_head"][1]["options"]
    assert "small-depth.safetensors" in offered
    assert not {"small.safetensors", "generator.safetensors", "other.safetensors"} & set(offered)


def test_points_are_a_3d_file_where_comfyui_has_them(object_info):
    kind = object_info["SceneTok_PointCloud"]["output"][2]
    if kind == "STRING":
        pytest.skip("needs ComfyUI 0.23 or newer, which has FILE_3D_PLY")
    assert kind == "FILE_3D_PLY"


def test_a_new_head_file_is_read_again(comfy, run, depth_prompt, models):
    few = {key: depth_prompt[key] for key in (LOAD, VIEW, ENCODE, PATH, RENDER, HEAD, DEPTH, GREY)}
    before = pictures(comfy, run(edited(few, SceneTok_DepthHead={"seed": 9})), GREY)
    path = comfy.folder("models", "scenetok") / "small-depth.safetensors"
    kept = path.read_bytes()
    small.depth_head(path, models[0], seed=1)
    try:
        done = run(edited(few, SceneTok_DepthHead={"seed": 9}))
        assert HEAD in done.executed
        assert not torch.equal(pictures(comfy, done, GREY), before)
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("SceneTok_LoadDepthHead", {"depth_head": "small.safetensors"}, "is a SceneTok model, not a depth head"),
        ("SceneTok_LoadDepthHead", {"model": ["9", 0]}, "is a depth head for model 'small'"),
        ("SceneTok_DepthHead", {"images": [VIEW, 0]}, "6 frames but 7 cameras"),
        ("SceneTok_PointCloud", {"cameras": [VIEW, 1]}, "7 pictures but 6 cameras"),
        ("SceneTok_PointCloud", {"min_confidence": 1.0, "agree": 0.001}, "the filters leave no point"),
    ],
)
def test_what_cannot_work_is_told(run, depth_prompt, kind, inputs, message):
    other = node("SceneTok_LoadModel", model="other.safetensors", dtype="auto")
    done = run(edited({**depth_prompt, "9": other}, **{kind: inputs}))
    assert message in done.error


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("SceneTok_LoadDepthHead", {"depth_head": "../nowhere.safetensors"}, "no model"),
        ("SceneTok_PointCloud", {"filename_prefix": "../outside"}, "is not inside"),
        ("SceneTok_PointCloud", {"axes": "z-up"}, "unknown axes 'z-up'"),
    ],
)
def test_constants_that_cannot_work_are_refused_before_anything_runs(run, depth_prompt, kind, inputs, message):
    with pytest.raises(PromptRejectedError) as refused:
        run(edited(depth_prompt, **{kind: inputs}))
    details = [error for fault in refused.value.node_errors.values() for error in fault["errors"]]
    assert message in " ".join(f"{error['message']} {error['details']}" for error in details)
