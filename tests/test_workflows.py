"""The shipped workflows: twins, layout, and that they run on a real ComfyUI server."""

import json
import shutil

import pytest
from PIL import Image

from scenetok_core.pictures.video import read_video_frames
from scenetok_core.weights.downloads import known_file
from tests.engine.workflows import WORKFLOWS, edited, to_api
from tests.served import PATH, saved_file

WORKFLOW_NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
SMALL_MODELS = {
    "SceneTok_LoadModel": {"model": "small.safetensors"},
    "SceneTok_LoadGenerator": {"generator": "generator.safetensors"},
}
FASTER = {"video_to_camera_move": {"SceneTok_FramesFromVideo": {"count": 8}}}
TITLE_PIXELS = 30  # a node's title stands above its position


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


@pytest.fixture(scope="module")
def walk(comfy):
    """The video that people are told to drop onto Load Video."""
    shutil.copy(WORKFLOWS / "example_capture" / "walk.mp4", comfy.folder("input"))


@pytest.mark.usefixtures("walk")
@pytest.mark.parametrize("name", WORKFLOW_NAMES)
def test_the_workflows_run(run, name):
    """As shipped; where a model does not come with the pack, the small models stand for all of them."""
    prompt = shipped_workflow(name)
    if needs_downloads(name):
        prompt = edited(prompt, **SMALL_MODELS)
    done = run(edited(prompt, **FASTER.get(name, {})))
    assert done.status == "execution_success", done.error


def test_prompts_from_before_an_input_was_offered_still_run(prompt, object_info, run):
    for node in prompt.values():
        for name in object_info[node["class_type"]]["input"].get("optional", {}):
            if not isinstance(node["inputs"].get(name), list):
                node["inputs"].pop(name, None)
    assert "speed" not in prompt[PATH]["inputs"]
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
