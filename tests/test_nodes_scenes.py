"""Scene files through a real ComfyUI server: notes, thumbnails, reports, uploads, names for every system."""

import io
import json
import urllib.request

import pytest
from PIL import Image

from scenetok_core.scene_info import annotate, read_thumbnail
from scenetok_core.weights.checkpoints import load_scene, save_scene
from tests import small
from tests.engine import PromptRejectedError
from tests.engine.workflows import edited
from tests.served import ENCODE, LOAD, RENDER, SAVE, VIEW, saved_file, upload
from tests.test_scene_files import red_and_blue, scene


@pytest.fixture
def saving(prompt):
    """Encode and save, nothing else."""
    return {key: prompt[key] for key in (LOAD, VIEW, ENCODE, SAVE)}


def shown_picture(comfy, listed):
    (picture,) = listed["images"]
    assert picture["type"] == "temp"
    return Image.open(saved_file(comfy, picture))


def test_a_rendered_frame_title_and_notes_are_saved_and_shown_again(comfy, run, prompt):
    words = {"title": "Hall", "notes": "by the door", "filename_prefix": "scenes/annotated"}
    done = run(edited(prompt, SceneTok_SaveTokens={**words, "thumbnail": [RENDER, 0]}))
    assert done.status == "execution_success", done.error
    saved = done.outputs[SAVE]
    loaded = load_scene(saved_file(comfy, saved["scenes"][0]))
    assert (loaded.meta["title"], loaded.meta["notes"]) == ("Hall", "by the door")
    assert shown_picture(comfy, saved).size == (small.IMAGE, small.IMAGE)
    name = f"scenes/{saved['scenes'][0]['filename']} [output]"
    again = run(
        {
            "1": {"class_type": "SceneTok_LoadTokens", "inputs": {"scene": name}},
            "2": {"class_type": "SceneTok_SceneInfo", "inputs": {"tokens": ["1", 0]}},
            "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 1], "filename_prefix": "thumbnail"}},
        }
    )
    assert again.status == "execution_success", again.error
    (text,) = again.outputs["2"]["text"]
    assert text.startswith("Hall\nmodel: small (scenetok, weights ")
    assert text.endswith("notes: by the door")
    stored = read_thumbnail(loaded)
    assert stored is not None
    for listed in (again.outputs["1"], again.outputs["2"]):
        assert shown_picture(comfy, listed).size == (stored.shape[-1], stored.shape[-2])


def test_a_scene_without_a_picture_reports_a_grey_one(comfy, run, saving):
    info = {"class_type": "SceneTok_SceneInfo", "inputs": {"tokens": [ENCODE, 0]}}
    keep = {"class_type": "SaveImage", "inputs": {"images": ["9", 1], "filename_prefix": "grey"}}
    done = run({**saving, "9": info, "10": keep})
    assert done.status == "execution_success", done.error
    assert "images" not in done.outputs["9"]
    picture = Image.open(saved_file(comfy, done.outputs["10"]["images"][0])).convert("RGB")
    assert picture.getextrema() == ((127, 127),) * 3


def test_an_uploaded_scene_is_offered_and_loads(comfy, run, tmp_path):
    path = tmp_path / "from a friend.safetensors"
    save_scene(path, annotate(scene(), title="Attic", picture=red_and_blue()))
    assert upload(comfy, path, subfolder="scenes")["subfolder"] == "scenes"
    with urllib.request.urlopen(f"{comfy.url}/object_info/SceneTok_LoadTokens") as answer:
        info = json.load(answer)["SceneTok_LoadTokens"]
    name = f"scenes/{path.name}"
    assert name in info["input"]["required"]["scene"][1]["options"]
    done = run(
        {
            "1": {"class_type": "SceneTok_LoadTokens", "inputs": {"scene": name.replace("/", "\\")}},
            "2": {"class_type": "SceneTok_SceneInfo", "inputs": {"tokens": ["1", 0]}},
        }
    )
    assert done.status == "execution_success", done.error
    assert done.outputs["2"]["text"][0].startswith("Attic")


@pytest.mark.parametrize(
    "prefix",
    ["scenes/CON", "scenes\\nul.txt", "aux/x", "a:b", "scenes/what?", "scenes/x.", "C:\\scenes\\x", "x" * 300],
)
def test_names_that_not_every_system_takes_are_refused_before_anything_runs(run, saving, prefix):
    with pytest.raises(PromptRejectedError, match="choose another one"):
        run(edited(saving, SceneTok_SaveTokens={"filename_prefix": prefix}))


@pytest.mark.parametrize("prefix", ["..\\..\\elsewhere", "scenes\\..\\..\\x"])
def test_backslashes_do_not_lead_outside(run, saving, prefix):
    with pytest.raises(PromptRejectedError, match="is not inside"):
        run(edited(saving, SceneTok_SaveTokens={"filename_prefix": prefix}))


def test_a_prefix_with_backslashes_names_folders(comfy, run, saving):
    done = run(edited(saving, SceneTok_SaveTokens={"filename_prefix": "scenes\\attic\\box"}))
    assert done.status == "execution_success", done.error
    (listed,) = done.outputs[SAVE]["scenes"]
    assert listed["subfolder"] == "scenes/attic"
    assert saved_file(comfy, listed).is_file()


@pytest.mark.parametrize("name", ["room\\transforms.json", ".\\room", '"room\\transforms.json"'])
def test_captures_may_be_named_with_backslashes(comfy, run, prompt, name):
    preview = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    done = run(edited(preview, SceneTok_LoadViews={"capture": name}))
    assert done.status == "execution_success", done.error
    shown = Image.open(io.BytesIO(saved_file(comfy, done.outputs["9"]["images"][0]).read_bytes()))
    assert shown.size == (small.IMAGE, small.IMAGE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("..\\..\\secret", "is not inside"),
        ("\\\\server\\share", "is not inside"),
        ("C:\\captures\\room", "no capture|is not inside"),
    ],
)
def test_paths_of_windows_lead_nowhere_else(run, prompt, name, message):
    with pytest.raises(PromptRejectedError, match=message):
        run(edited(prompt, SceneTok_LoadViews={"capture": name}))
