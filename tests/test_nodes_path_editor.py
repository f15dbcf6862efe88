"""Path Editor through a real ComfyUI server, as an API client without the page uses it."""

import json

import pytest
import torch
from PIL import Image

from scenetok_core import Cameras
from scenetok_core.pictures.path_editor import edited_path
from tests.engine import PromptRejectedError
from tests.served import PATH, RENDER, VIEW, VIEWS, saved_file
from tests.test_nodes_paths import text_of

EDITOR, REPORT = "30", "31"
KEYS = [{"view": 0}, {"view": 3}]


def editor_only(prompt, text="", **inputs):
    """The main workflow's views and an editor, and its report as a text."""
    node = {"cameras": [VIEW, 1], "frames": 5, "keyframes": text, **inputs}
    shown = {"class_type": "PreviewAny", "inputs": {"source": [EDITOR, 1]}}
    return {
        VIEW: prompt[VIEW],
        EDITOR: {"class_type": "SceneTok_PathEditor", "inputs": node},
        REPORT: shown,
    }


def shown_by(done):
    assert done.status == "execution_success", done.error
    (scene,) = done.outputs[EDITOR]["path_editor"]
    return scene


def test_the_path_of_a_text_is_what_python_makes_of_it(run, prompt):
    text = json.dumps({"version": 1, "keys": KEYS, "easing": "ease-out"})
    scene = shown_by(run(editor_only(prompt, text)))
    inputs = Cameras(torch.tensor(scene["cameras"]["c2w"]), torch.tensor(scene["cameras"]["K"]), tuple(scene["size"]))
    expected = edited_path(text, inputs, 5)
    torch.testing.assert_close(torch.tensor(scene["path"]["c2w"]), expected.c2w, atol=1e-4, rtol=0)
    assert len(scene["cameras"]["c2w"]) == VIEWS and scene["state"] == text


def test_pictures_are_temporary_files_and_may_be_missing(comfy, run, prompt):
    assert shown_by(run(editor_only(prompt)))["pictures"] == []
    pictures = shown_by(run(editor_only(prompt, images=[VIEW, 0])))["pictures"]
    assert [picture["view"] for picture in pictures] == list(range(VIEWS))
    assert {picture["type"] for picture in pictures} == {"temp"}
    assert max(Image.open(saved_file(comfy, pictures[0])).size) <= 384


def test_an_edited_path_is_rendered_and_limited_where_asked(run, prompt):
    beyond = json.dumps([{"view": 0}, {"position": [0, 0, 0], "look_at": [0, 0, -9]}])
    assert "leaves what the input cameras saw" in text_of(run(editor_only(prompt, beyond)), REPORT)
    done = run(editor_only(prompt, beyond, limit_to_seen=True))
    assert text_of(done, REPORT).startswith("the path stays in")
    edited = {key: node for key, node in prompt.items() if key != PATH}
    edited[RENDER] = {**prompt[RENDER], "inputs": {**prompt[RENDER]["inputs"], "cameras": [EDITOR, 0]}}
    assert run({**edited, **editor_only(prompt, json.dumps(KEYS))}).status == "execution_success"


def test_a_broken_text_is_refused_before_anything_runs(run, prompt):
    with pytest.raises(PromptRejectedError) as refused:
        run(editor_only(prompt, '{"keys": [], "easing": "bounce"}'))
    assert "unknown easing 'bounce'" in json.dumps(refused.value.node_errors)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": '[{"view": 0}, {"view": 77}]'}, "keyframe 1: view must be a whole number between 0 and 5, got 77"),
        ({"images": ["40", 0]}, "6"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(run, prompt, inputs, message):
    one = {"class_type": "ImageFromBatch", "inputs": {"image": [VIEW, 0], "batch_index": 0, "length": 2}}
    done = run({**editor_only(prompt, **inputs), "40": one})
    assert done.status == "execution_error"
    assert message in done.error
