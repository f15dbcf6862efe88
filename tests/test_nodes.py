"""Every node through a real ComfyUI server, over HTTP and its websocket."""

import io
import os
import time

import pytest
import torch
from PIL import Image

from scenetok_core.pictures.video import read_video_frames
from scenetok_core.trajectories import PRESETS, preset_options
from scenetok_core.weights.checkpoints import load_scene
from tests import small
from tests.engine import PromptRejectedError
from tests.engine.workflows import edited
from tests.served import ENCODE, FRAMES, LOAD, RENDER, SAVE, STEPS, VIDEO, VIEW, VIEWS, saved_file

NODES = {
    "SceneTok_LoadModel",
    "SceneTok_LoadViews",
    "SceneTok_LoadPhotograph",
    "SceneTok_EncodeViews",
    "SceneTok_CameraTrajectory",
    "SceneTok_RenderTrajectory",
    "SceneTok_SaveTokens",
    "SceneTok_LoadTokens",
    "SceneTok_SceneInfo",
    "SceneTok_TransferTrajectory",
    "SceneTok_RenderUncertainty",
    "SceneTok_TokenMask",
    "SceneTok_TokenSweep",
    "SceneTok_ContactSheet",
    "SceneTok_LoadGenerator",
    "SceneTok_SingleViewCamera",
    "SceneTok_SceneGenSample",
    "SceneTok_SceneGenSweep",
    "SceneTok_CamerasFromLoad3D",
    "SceneTok_AddKeyframe",
    "SceneTok_CamerasFromExtrinsics",
    "SceneTok_CamerasFromCameraCtrl",
    "SceneTok_CamerasFromDA3",
    "SceneTok_CamerasToLoad3D",
    "SceneTok_CamerasToExtrinsics",
    "SceneTok_CamerasToCameraCtrl",
    "SceneTok_CamerasToWan",
    "SceneTok_SaveCameras",
    "SceneTok_EditTrajectory",
    "SceneTok_JoinTrajectories",
    "SceneTok_PathPreview",
    "SceneTok_LoadDepthHead",
    "SceneTok_DepthHead",
    "SceneTok_PointCloud",
    "SceneTok_PointCloudTurntable",
    "SceneTok_FramesFromVideo",
    "SceneTok_LoadPictures",
    "SceneTok_EstimateCameras",
    "SceneTok_LeaveOneOut",
    "SceneTok_PathEditor",
}
CANCEL_SHARE = 0.1  # of all steps; a limit in seconds would fail on a busy machine


def test_the_server_knows_every_node_and_nothing_failed_to_import(comfy, object_info):
    assert {name for name in object_info if name.startswith("SceneTok_")} == NODES
    assert "custom_nodes/scenetok" not in "".join(line for line in comfy.log.splitlines() if "FAILED" in line)


def test_every_socket_has_a_tooltip(object_info):
    for name in NODES:
        info = object_info[name]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert [key for key, (_, options) in inputs.items() if not options.get("tooltip")] == []
        assert len(info["output_tooltips"]) == len(info["output"])
        assert all(info["output_tooltips"])
        assert info["description"]
        assert info["category"].startswith("SceneTok/")


def test_the_workflow_writes_a_video_and_a_scene_with_progress_and_previews(comfy, run, prompt):
    done = run(edited(prompt, SceneTok_RenderTrajectory={"seed": 1}))
    assert done.status == "execution_success", done.error
    progress = [data for data in done.of_type("progress") if data["node"] == RENDER]
    assert progress[-1]["value"] == progress[-1]["max"]
    assert len(progress) >= STEPS
    assert Image.open(io.BytesIO(done.previews[0].image)).format == "JPEG"
    frames, fps = read_video_frames(saved_file(comfy, done.outputs[VIDEO]["images"][0]))
    assert (len(frames), fps) == (FRAMES, 24.0)
    scene = load_scene(saved_file(comfy, done.outputs[SAVE]["scenes"][0]))
    assert len(scene.cameras) == small.config().context_views < VIEWS


def test_nothing_runs_twice_until_a_file_or_setting_changes(comfy, run, prompt, capture):
    run(prompt)
    assert run(prompt).executed == []
    assert RENDER in run(edited(prompt, SceneTok_RenderTrajectory={"seed": 7})).executed
    stamp = time.time() + 5
    os.utime(comfy.base / "input" / capture / "images" / "000.png", (stamp, stamp))
    assert VIEW in run(prompt).executed


def test_a_saved_scene_renders_the_same_frames(comfy, run, prompt):
    save_images = {"class_type": "SaveImage", "inputs": {"images": [RENDER, 0], "filename_prefix": "same"}}
    first = run({**prompt, "9": save_images})
    listed = first.outputs[SAVE]["scenes"] if SAVE in first.outputs else [{"filename": "SceneTok_00001_.safetensors"}]
    load = {"class_type": "SceneTok_LoadTokens", "inputs": {"scene": f"scenes/{listed[0]['filename']} [output]"}}
    again = edited({**prompt, "9": save_images, ENCODE: load}, SceneTok_RenderTrajectory={"fps": 12.0})
    second = run(again)
    assert second.status == "execution_success", second.error
    pictures = [
        [Image.open(saved_file(comfy, item)).convert("RGB").tobytes() for item in done.outputs["9"]["images"]]
        for done in (first, second)
    ]
    assert len(pictures[0]) == FRAMES
    assert largest_difference(pictures[0], pictures[1]) <= 2  # tokens are stored in bfloat16


def largest_difference(left, right):
    pairs = ((a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True))
    return max(abs(a - b) for a, b in pairs)


def test_the_solver_is_chosen_and_prompts_without_one_still_run(comfy, run, prompt):
    save_images = {"class_type": "SaveImage", "inputs": {"images": [RENDER, 0], "filename_prefix": "solver"}}
    pictures = {}
    for solver in (None, "euler", "ab2"):
        done = run(edited({**prompt, "9": save_images}, SceneTok_RenderTrajectory={"solver": solver, "seed": 3}))
        assert done.status == "execution_success", done.error
        files = [saved_file(comfy, item) for item in done.outputs["9"]["images"]]
        pictures[solver] = [Image.open(file).convert("RGB").tobytes() for file in files]
    assert pictures[None] == pictures["euler"] != pictures["ab2"]


def test_tokens_are_drawn_when_asked_and_prompts_without_the_question_still_run(comfy, run, prompt):
    tokens = {}
    plain = {"sample": None, "sample_seed": None}
    for name, settings in {"plain": plain, "off": {"sample_seed": 5}, "drawn": {"sample": True}}.items():
        changed = edited(
            prompt, SceneTok_EncodeViews=settings, SceneTok_SaveTokens={"filename_prefix": f"scenes/{name}"}
        )
        only = {key: node for key, node in changed.items() if key in (LOAD, VIEW, ENCODE, SAVE)}
        done = run(only)
        assert done.status == "execution_success", done.error
        tokens[name] = load_scene(saved_file(comfy, done.outputs[SAVE]["scenes"][0])).tokens
    assert torch.equal(tokens["plain"], tokens["off"])
    assert not torch.allclose(tokens["plain"], tokens["drawn"], atol=0.01)


def test_a_path_from_the_cameras_of_the_tokens(run, prompt):
    done = run(edited(prompt, SceneTok_CameraTrajectory={"cameras": None, "tokens": [ENCODE, 0], "preset": "orbit"}))
    assert done.status == "execution_success", done.error


@pytest.mark.parametrize("preset", ["orbit", "arc", "dolly", "pan", "tilt", "spiral", "keyframes", "zoom", "loop"])
def test_every_preset_of_the_trajectory_node_runs(run, prompt, preset):
    keys = '[{"view": 0}, {"position": [0, 0, -1], "look_at": [0, 0, 1], "fov": 50}]'
    done = run(edited(prompt, SceneTok_CameraTrajectory={"preset": preset, "keyframes": keys, "frames": 2}))
    assert done.status == "execution_success", done.error


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_model_runs_in_every_offered_number_format(run, prompt, dtype):
    done = run(edited(prompt, SceneTok_LoadModel={"dtype": dtype}))
    assert done.status == "execution_success", done.error


def test_cancelling_stops_within_a_step_and_leaves_the_server_usable(run, prompt):
    asked = []

    async def cancel(client, event):
        if event.type == "progress" and event.data["node"] == RENDER and not asked:
            asked.append(event)
            await client.interrupt()

    long = edited(
        prompt, SceneTok_RenderTrajectory={"steps": 1000, "seed": 3}, SceneTok_CameraTrajectory={"frames": 60}
    )
    done = run(long, on_event=cancel)
    assert done.status == "execution_interrupted"
    progress = [data for data in done.of_type("progress") if data["node"] == RENDER]
    assert progress[-1]["value"] < CANCEL_SHARE * progress[-1]["max"]
    assert run(edited(prompt, SceneTok_RenderTrajectory={"seed": 4})).status == "execution_success"


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("SceneTok_LoadViews", {"capture": "../../../etc"}, "is not inside"),
        ("SceneTok_LoadViews", {"capture": "."}, "is not inside"),
        ("SceneTok_LoadViews", {"capture": "/etc/passwd"}, "is not inside"),
        ("SceneTok_LoadViews", {"capture": "nowhere"}, "no capture 'nowhere'"),
        ("SceneTok_LoadModel", {"model": "../secret.safetensors"}, "no model"),
        ("SceneTok_LoadModel", {"model": "va-wan_dl3dv.ckpt"}, "scenetok_core download va-wan_dl3dv.ckpt --folder"),
        ("SceneTok_CameraTrajectory", {"frames": 0}, "Value 0 smaller than min of 1"),
        ("SceneTok_CameraTrajectory", {"preset": "teleport"}, "unknown trajectory 'teleport'"),
        ("SceneTok_SaveTokens", {"filename_prefix": "../../elsewhere"}, "is not inside"),
    ],
)
def test_constants_that_cannot_work_are_refused_before_anything_runs(run, prompt, node, inputs, message):
    with pytest.raises(PromptRejectedError) as refused:
        run(edited(prompt, **{node: inputs}))
    details = [error for fault in refused.value.node_errors.values() for error in fault["errors"]]
    assert message in " ".join(f"{error['message']} {error['details']}" for error in details)


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("SceneTok_LoadModel", {"dtype": "int4"}, "unknown dtype 'int4'"),
        ("SceneTok_RenderTrajectory", {"solver": "heun"}, "unknown solver 'heun'; choose one of ['ab2', 'euler']"),
        ("SceneTok_CameraTrajectory", {"cameras": None}, "connect cameras, or tokens"),
        ("SceneTok_CameraTrajectory", {"preset": "keyframes", "keyframes": "[{]"}, "not valid JSON"),
        ("SceneTok_EncodeViews", {"reference": VIEWS}, "reference view must be between"),
        ("SceneTok_EncodeViews", {"images": ["10", 0]}, "3 pictures but 6 cameras"),
        ("SceneTok_EncodeViews", {"images": ["11", 0]}, "cropping or stretching"),
    ],
)
def test_bad_input_gives_a_clear_error_of_the_node(run, prompt, node, inputs, message):
    fewer = {"class_type": "ImageFromBatch", "inputs": {"image": [VIEW, 0], "batch_index": 0, "length": 3}}
    size = {"width": 64, "height": 32, "upscale_method": "bilinear", "crop": "center"}
    wide = {"class_type": "ImageScale", "inputs": {"image": [VIEW, 0], **size}}
    done = run(edited({**prompt, "10": fewer, "11": wide}, **{node: inputs}))
    assert message in done.error


def test_tokens_of_another_model_are_refused(run, prompt):
    changed = edited(prompt, SceneTok_RenderTrajectory={"model": ["9", 0]})
    changed["9"] = {"class_type": "SceneTok_LoadModel", "inputs": {"model": "other.safetensors", "dtype": "auto"}}
    done = run(changed)
    assert "these tokens were made by model 'small'" in done.error


def with_wired_prefix(prompt, prefix):
    text = {"class_type": "PrimitiveString", "inputs": {"value": prefix}}
    return edited({**prompt, "9": text}, SceneTok_SaveTokens={"filename_prefix": ["9", 0]})


def test_a_text_node_may_name_the_saved_scene(comfy, run, prompt):
    done = run(with_wired_prefix(prompt, "scenes/wired"))
    assert done.status == "execution_success", done.error
    path = saved_file(comfy, done.outputs[SAVE]["scenes"][0])
    assert path.parent == comfy.base / "output" / "scenes"
    assert path.name.startswith("wired_")
    assert path.is_file()


def test_a_wired_path_that_leaves_the_output_folder_is_refused_when_the_node_runs(comfy, run, prompt):
    done = run(with_wired_prefix(prompt, "../wired_elsewhere"))
    assert done.status == "execution_error"
    assert "'../wired_elsewhere' is not inside" in done.error
    assert not list(comfy.base.glob("wired_elsewhere*"))


def test_options_of_one_preset_start_where_the_core_starts_them(object_info):
    info = object_info["SceneTok_CameraTrajectory"]
    widgets = info["input"]["required"]
    for option in ("distance", "radius", "turns", "forward", "smoothing", "loop"):
        (default,) = {preset_options(preset)[option] for preset in PRESETS if option in preset_options(preset)}
        assert widgets[option][1]["default"] == default
    for preset in PRESETS:
        degrees = preset_options(preset).get("degrees")
        told = degrees is not None and degrees != widgets["degrees"][1]["default"]
        assert (
            f"{degrees:g} for {preset}" in info["description"] if told else f"for {preset}" not in info["description"]
        )


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"mode": "first", "count": 3}, [0, 1, 2]),
        ({"mode": "list", "list": "1, 4-5"}, [1, 4, 5]),
        ({"mode": "list", "list": "2-", "invert": True}, [0, 1]),
        ({"mode": "mask", "mask": ["10", 0]}, list(range(small.config().compressor.tokens))),
    ],
)
def test_a_token_mask_keeps_what_it_says(comfy, run, prompt, settings, kept):
    inputs = {"tokens": [ENCODE, 0], "count": 1, "seed": 0, "list": "0", "invert": False} | settings
    masked = {
        **{key: prompt[key] for key in (LOAD, VIEW, ENCODE)},
        "9": {"class_type": "SceneTok_TokenMask", "inputs": inputs},
        "10": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 8, "height": 8}},
        SAVE: {"class_type": "SceneTok_SaveTokens", "inputs": {"tokens": ["9", 0], "filename_prefix": "scenes/masked"}},
    }
    done = run(masked)
    assert done.status == "execution_success", done.error
    scene = load_scene(saved_file(comfy, done.outputs[SAVE]["scenes"][0]))
    left = torch.ones(len(scene.tokens), dtype=torch.bool) if scene.mask is None else scene.mask
    assert left.nonzero().flatten().tolist() == kept


def test_mode_mask_without_a_mask_is_refused(run, prompt):
    inputs = {"tokens": [ENCODE, 0], "mode": "mask", "count": 1, "seed": 0, "list": "0", "invert": False}
    masked = {**prompt, "9": {"class_type": "SceneTok_TokenMask", "inputs": inputs}}
    masked[SAVE] = {"class_type": "SceneTok_SaveTokens", "inputs": {"tokens": ["9", 0], "filename_prefix": "scenes/x"}}
    assert "mode mask needs a mask" in run(masked).error
