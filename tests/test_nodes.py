"""Every node through a real ComfyUI server, over HTTP and its websocket."""

import io
import json
import os
import shutil
import time
import urllib.request
import zipfile

import pytest
import torch
from PIL import Image

from scenetok_core.captures import write_transforms
from scenetok_core.checkpoints import load_scene
from scenetok_core.downloads import known_file
from scenetok_core.sheets import save_image
from scenetok_core.trajectories import PRESETS, preset_options
from scenetok_core.video import read_video_frames
from tests import small
from tests.captures import write_colmap_text, write_realestate
from tests.engine import PromptRejectedError
from tests.engine.workflows import WORKFLOWS, edited, to_api

VIEWS, FRAMES, STEPS = 6, 7, 3
NODES = {
    "SceneTok_LoadModel",
    "SceneTok_LoadViews",
    "SceneTok_LoadPhotograph",
    "SceneTok_EncodeViews",
    "SceneTok_CameraTrajectory",
    "SceneTok_RenderTrajectory",
    "SceneTok_SaveTokens",
    "SceneTok_LoadTokens",
    "SceneTok_TransferTrajectory",
    "SceneTok_RenderUncertainty",
    "SceneTok_TokenMask",
    "SceneTok_TokenSweep",
    "SceneTok_ContactSheet",
    "SceneTok_LoadGenerator",
    "SceneTok_SingleViewCamera",
    "SceneTok_SceneGenSample",
    "SceneTok_SceneGenSweep",
}
LOAD, VIEW, ENCODE, PATH, RENDER, VIDEO, SAVE = "1", "2", "3", "4", "5", "6", "8"
WORKFLOW_NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
CANCEL_SHARE = 0.1  # of all steps; a limit in seconds would fail on a busy machine
SMALL_MODELS = {
    "SceneTok_LoadModel": {"model": "small.safetensors"},
    "SceneTok_LoadGenerator": {"generator": "generator.safetensors"},
}
TITLE_PIXELS = 30  # a node's title stands above its position


def write_capture(folder, count=VIEWS, file_names=None):
    views = small.views(count)
    names = file_names or [f"images/{i:03}.png" for i in range(count)]
    for name, picture in zip(names, views.rgb, strict=True):
        save_image(folder / name, picture)
    write_transforms(folder / "transforms.json", views.cameras, names, (small.IMAGE, small.IMAGE))


@pytest.fixture
def capture(comfy):
    folder = comfy.folder("input", "room")
    if not (folder / "transforms.json").exists():
        write_capture(folder)
    return "room"


@pytest.fixture
def object_info(comfy):
    with urllib.request.urlopen(f"{comfy.url}/object_info") as answer:
        return json.load(answer)


@pytest.fixture
def prompt(capture):
    shipped = json.loads((WORKFLOWS / "api" / "encode_render.json").read_text())
    return edited(
        shipped,
        SceneTok_LoadModel={"model": "small.safetensors"},
        SceneTok_LoadViews={"capture": capture},
        SceneTok_CameraTrajectory={"frames": FRAMES},
        SceneTok_RenderTrajectory={"steps": STEPS},
    )


def saved_file(comfy, listed):
    return comfy.base / listed["type"] / listed["subfolder"] / listed["filename"]


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


def offered_captures(comfy):
    with urllib.request.urlopen(f"{comfy.url}/object_info/SceneTok_LoadViews") as answer:
        info = json.load(answer)["SceneTok_LoadViews"]
    return info["input"]["required"]["capture"][1]["options"]


@pytest.fixture
def cluttered(comfy):
    """An input folder that has cameras, pictures and other files directly inside; removed afterwards."""
    root = comfy.folder("input")
    before = set(root.iterdir())
    write_capture(root)
    (root / "transforms.json").rename(root / "my_walk.json")
    (root / "notes.json").write_text('{"frames": 48}')
    (root / "caption.txt").write_text("a room")
    write_colmap_text(root)
    write_realestate(root / "estate")
    yield root
    for path in set(root.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_cameras_directly_in_the_input_folder_hide_nothing(comfy, capture, cluttered):
    (cluttered / "estate" / "lonely.txt").write_text((cluttered / "estate" / "clip.txt").read_text())
    write_capture(cluttered / "deep" / "down")
    (cluttered / "deep" / "down" / "val.json").write_text((cluttered / "my_walk.json").read_text())
    offered = offered_captures(comfy)
    expected = {capture, "my_walk.json", "sparse/0", "estate/clip.txt", "deep/down", "deep/down/val.json"}
    assert expected <= set(offered)
    assert not {".", "images", "notes.json", "caption.txt", "estate", "estate/lonely.txt", "sparse"} & set(offered)
    assert len(set(offered)) == len(offered)


@pytest.mark.parametrize("name", ["my_walk.json", "sparse/0", "estate"])
def test_what_lies_in_the_input_folder_can_be_loaded(run, prompt, cluttered, name):
    load = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    done = run(edited(load, SceneTok_LoadViews={"capture": name}))
    assert done.status == "execution_success", done.error


def test_only_files_of_the_capture_make_it_load_again(run, prompt, cluttered):
    load = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    load = edited(load, SceneTok_LoadViews={"capture": "my_walk.json"})
    run(load)
    (cluttered / "unrelated.png").write_bytes(b"")
    stamp = time.time() + 5
    os.utime(cluttered / "notes.json", (stamp, stamp))
    assert run(load).executed == []
    os.utime(cluttered / "images" / "001.png", (stamp, stamp))
    assert VIEW in run(load).executed
    os.utime(cluttered / "my_walk.json", (stamp, stamp))
    assert VIEW in run(load).executed


def test_captures_and_models_are_offered_by_name(object_info, comfy, capture):
    assert capture in offered_captures(comfy)
    assert "small.safetensors" in object_info["SceneTok_LoadModel"]["input"]["required"]["model"][1]["options"]


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


@pytest.mark.parametrize("preset", ["orbit", "arc", "dolly", "pan", "tilt", "spiral", "keyframes"])
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


def test_an_uploaded_zip_is_a_capture(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "kitchen")
    archive = tmp_path / "kitchen.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted((tmp_path / "kitchen").rglob("*.*")):
            target.write(path, path.relative_to(tmp_path))
    upload(comfy, archive)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "kitchen.zip"}))
    assert done.status == "execution_success", done.error


def test_folders_of_a_zip_may_be_separated_by_backslashes(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "cellar")
    archive = tmp_path / "cellar.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted((tmp_path / "cellar").rglob("*.*")):
            target.writestr(str(path.relative_to(tmp_path)).replace("/", "\\"), path.read_bytes())
    upload(comfy, archive)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "cellar.zip"}))
    assert done.status == "execution_success", done.error


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, None], ids=["deflate", "lzma", "cut"])
def test_zips_that_cannot_be_unpacked_are_refused(comfy, run, prompt, tmp_path, method):
    archive = tmp_path / f"broken_{method}.zip"
    with zipfile.ZipFile(archive, "w", method or zipfile.ZIP_STORED) as target:
        target.writestr("transforms.json", bytes(range(256)) * 8)
    data = bytearray(archive.read_bytes())
    start = 30 + len("transforms.json")  # of the member's data
    data[start : start + 16] = b"\xff" * 16
    archive.write_bytes(data if method else data[:100])
    upload(comfy, archive)
    error = run(edited(prompt, SceneTok_LoadViews={"capture": archive.name})).error
    assert f"{archive.name} is" in error
    assert "pack it again" in error


def test_the_page_is_given_the_upload_button(comfy):
    with urllib.request.urlopen(f"{comfy.url}/extensions") as answer:
        assert "/extensions/scenetok/js/upload.js" in json.load(answer)


def test_a_zip_that_writes_elsewhere_is_refused(comfy, run, prompt, tmp_path):
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("../../evil.txt", "gotcha")
    upload(comfy, archive)
    assert "unsafe path" in run(edited(prompt, SceneTok_LoadViews={"capture": "evil.zip"})).error


def upload(comfy, path):
    boundary = "scenetok-test-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(f"{comfy.url}/upload/image", body, headers)) as answer:
        assert answer.status == 200


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


def test_pictures_outside_the_input_folder_are_refused_whether_they_exist_or_not(comfy, run, prompt):
    folder = comfy.folder("input", "thief")
    write_capture(folder)
    text = (folder / "transforms.json").read_text().replace("images/000.png", "../../secret.png")
    (folder / "transforms.json").write_text(text)
    steal = edited(prompt, SceneTok_LoadViews={"capture": "thief"})
    missing = run(steal).error
    (comfy.base / "secret.png").write_bytes((folder / "images" / "001.png").read_bytes())
    assert "'../../secret.png'" in missing
    assert "is not inside" in missing
    assert run(steal).error == missing


def test_a_linked_capture_folder_stays_usable(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "large")
    (comfy.folder("input") / "linked").symlink_to(tmp_path / "large", target_is_directory=True)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "linked"}))
    assert done.status == "execution_success", done.error


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
        (default,) = (preset_options(preset)[option] for preset in PRESETS if option in preset_options(preset))
        assert widgets[option][1]["default"] == default
    for preset in PRESETS:
        degrees = preset_options(preset).get("degrees")
        told = degrees is not None and degrees != widgets["degrees"][1]["default"]
        assert (
            f"{degrees:g} for {preset}" in info["description"] if told else f"for {preset}" not in info["description"]
        )


def shipped_workflow(name):
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def needs_downloads(name):
    """Whether a workflow loads a model that does not come with the pack."""
    loaders = [node for node in shipped_workflow(name).values() if node["class_type"] in SMALL_MODELS]
    files = [node["inputs"][key] for node in loaders for key in SMALL_MODELS[node["class_type"]]]
    assert files, f"{name} loads no model"
    return not all((WORKFLOWS.parent / "checkpoints" / file).is_file() for file in files)


def test_every_workflow_has_its_twin_and_what_runs_as_shipped_has_its_picture():
    """A workflow of models that do not come with the pack may go without: only these models could draw its picture."""
    assert "encode_render" in WORKFLOW_NAMES and not needs_downloads("encode_render")
    assert sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json")) == WORKFLOW_NAMES
    pictures = {path.stem for path in WORKFLOWS.glob("*.jpg")}
    assert {name for name in WORKFLOW_NAMES if not needs_downloads(name)} <= pictures <= set(WORKFLOW_NAMES)


@pytest.mark.parametrize("name", [name for name in WORKFLOW_NAMES if needs_downloads(name)])
def test_workflows_name_models_that_can_be_downloaded(name):
    for node in shipped_workflow(name).values():
        for key in SMALL_MODELS.get(node["class_type"], {}):
            assert known_file(node["inputs"][key].removesuffix(".safetensors")) is not None


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_the_ui_workflow_equals_its_api_twin(object_info, name):
    ui = json.loads((WORKFLOWS / f"{name}.json").read_text())
    api = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    plain = {node_id: {"class_type": node["class_type"], "inputs": node["inputs"]} for node_id, node in api.items()}
    assert to_api(ui, object_info) == plain


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_nodes_of_the_ui_workflow_do_not_overlap(name):
    nodes = json.loads((WORKFLOWS / f"{name}.json").read_text())["nodes"]
    boxes = []
    for node in nodes:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((x, y - TITLE_PIXELS, x + width, y + height))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_the_workflows_run(run, name):
    """As shipped; where a model does not come with the pack, the small models stand for all of them."""
    prompt = shipped_workflow(name)
    if needs_downloads(name):
        prompt = edited(prompt, **SMALL_MODELS)
    done = run(prompt)
    assert done.status == "execution_success", done.error


def test_a_sweep_renders_every_number_of_tokens_into_a_row_of_one_sheet(comfy, run):
    shipped = json.loads((WORKFLOWS / "api" / "token_sweep.json").read_text())
    sweep = edited(
        shipped,
        SceneTok_LoadModel={"model": "small.safetensors"},
        SceneTok_CameraTrajectory={"frames": 2},
        SceneTok_RenderTrajectory={"steps": 1},
    )
    heights = []
    for counts in ("100%", "4, 50%, 100%"):
        done = run(edited(sweep, SceneTok_TokenSweep={"counts": counts}))
        assert done.status == "execution_success", done.error
        (listed,) = done.outputs["8"]["images"]
        heights.append(Image.open(saved_file(comfy, listed)).height)
    assert heights[1] > 2.5 * heights[0]
    refused = run(edited(sweep, SceneTok_TokenSweep={"counts": "4000"}))
    assert "'4000' is outside of 1 to the scene's" in refused.error


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


def test_a_path_is_transferred_and_its_uncertainty_shown(comfy, run):
    shipped = json.loads((WORKFLOWS / "api" / "trajectory_transfer.json").read_text())
    prompt = {**shipped, "10": {"class_type": "MaskToImage", "inputs": {"mask": ["8", 1]}}}
    for node_id, source in (("11", ["8", 2]), ("12", ["10", 0])):
        prompt[node_id] = {"class_type": "PreviewImage", "inputs": {"images": source}}
    done = run(
        edited(
            prompt,
            SceneTok_LoadModel={"model": "small.safetensors"},
            SceneTok_RenderTrajectory={"steps": 1},
            SceneTok_RenderUncertainty={"steps": 1, "samples": 2, "white": 0.001},
        )
    )
    assert done.status == "execution_success", done.error
    counts = {node_id: len(done.outputs[node_id]["images"]) for node_id in ("9", "11", "12")}
    assert counts["9"] == counts["11"] == counts["12"] > 1
    frames, _ = read_video_frames(saved_file(comfy, done.outputs["7"]["images"][0]))
    assert len(frames) == counts["9"]
    progress = [data for data in done.of_type("progress") if data["node"] == "8"]
    assert progress[-1]["value"] == progress[-1]["max"]


def test_mode_mask_without_a_mask_is_refused(run, prompt):
    inputs = {"tokens": [ENCODE, 0], "mode": "mask", "count": 1, "seed": 0, "list": "0", "invert": False}
    masked = {**prompt, "9": {"class_type": "SceneTok_TokenMask", "inputs": inputs}}
    masked[SAVE] = {"class_type": "SceneTok_SaveTokens", "inputs": {"tokens": ["9", 0], "filename_prefix": "scenes/x"}}
    assert "mode mask needs a mask" in run(masked).error
