"""Nodes that draw scenes from one photograph, through a real ComfyUI server."""

import json
import os
import time
import urllib.request

import pytest
import torch
from PIL import ExifTags, Image

from scenetok_core.captures import exif_fov
from scenetok_core.pictures.sheets import save_image
from scenetok_core.weights.checkpoints import load_scene
from tests import small
from tests.engine import PromptRejectedError
from tests.engine.workflows import edited
from tests.served import saved_file
from tests.test_photograph import QUARTER_TURN, write_jpeg

SHOWN_PIXELS = 96  # side of a small picture on a contact sheet


def generation(picture, **changes):
    """A prompt from one picture to saved scenes."""
    sample = {"generator": ["1", 0], "model": ["2", 0], "images": ["3", 0], "cameras": ["4", 0], "path": ["5", 0]}
    settings = {"steps": 2, "guidance": 0.0, "shift": 0.0, "scene_scale": 0.0, "seed": 0, "scenes": 2}
    path = {"preset": "dolly", "frames": 6, "cameras": ["4", 0], "reference": -1, "focus_distance": 1.0, "loop": False}
    amounts = {"degrees": 0.0, "distance": 0.3, "radius": 0.1, "turns": 1.0, "forward": 0.1, "smoothing": 0.0}
    nodes = [
        ("SceneTok_LoadGenerator", {"generator": "generator.safetensors", "dtype": "fp32"}),
        ("SceneTok_LoadModel", {"model": "small.safetensors", "dtype": "fp32"}),
        ("LoadImage", {"image": picture}),
        ("SceneTok_SingleViewCamera", {"image": ["3", 0], "fov": 60.0}),
        ("SceneTok_CameraTrajectory", {**path, **amounts, "keyframes": ""}),
        ("SceneTok_SceneGenSample", {**sample, **settings, **changes}),
        ("SceneTok_SaveTokens", {"tokens": ["6", 0], "filename_prefix": "scenes/drawn"}),
    ]
    return {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, 1)}


@pytest.fixture
def picture(comfy):
    save_image(comfy.folder("input") / "one.png", small.views(1, (40, 60)).rgb[0])
    return "one.png"


def test_scenes_are_drawn_from_one_picture(comfy, run, picture):
    done = run(generation(picture))
    assert done.status == "execution_success", done.error
    first, second = (load_scene(saved_file(comfy, listed)) for listed in done.outputs["7"]["scenes"])
    assert first.tokens.shape == second.tokens.shape and not torch.equal(first.tokens, second.tokens)
    assert first.meta["generator"] == "small-generator"
    progress = [data["value"] for data in done.of_type("progress") if data["node"] == "6"]
    assert progress == sorted(progress) and progress[-1] == 4
    again = run(generation(picture, seed=1, scenes=1, solver="euler"))
    (alone,) = again.outputs["7"]["scenes"]
    assert torch.equal(load_scene(saved_file(comfy, alone)).tokens, second.tokens)


def sheet_prompt(picture, **changes):
    """A prompt from one picture to the contact sheet of a sweep."""
    sample = generation(picture)
    inputs = {key: sample["6"]["inputs"][key] for key in ("generator", "model", "images", "cameras", "path", "steps")}
    sweep = {**inputs, "shifts": "1, 4, 12", "guidances": "1, 3", "scene_scale": 0.0, "seed": 1}
    render = {"model": ["2", 0], "tokens": ["6", 0], "cameras": ["5", 0]}
    render |= {"steps": 1, "guidance": 0.0, "seed": 0, "fps": 8.0}
    sheet = {"images": ["8", 0], "labels": ["6", 1], "headings": ["6", 2], "columns": 2, **changes}
    return {
        **sample,
        "6": {"class_type": "SceneTok_SceneGenSweep", "inputs": sweep},
        "8": {"class_type": "SceneTok_RenderTrajectory", "inputs": render},
        "9": {"class_type": "SceneTok_ContactSheet", "inputs": sheet},
        "10": {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": "sweep"}},
    }


def test_a_sweep_of_settings_fills_a_sheet_with_rows_and_columns(comfy, run, picture):
    done = run(sheet_prompt(picture))
    assert done.status == "execution_success", done.error
    scenes = [load_scene(saved_file(comfy, listed)) for listed in done.outputs["7"]["scenes"]]
    pairs = [(shift, guidance) for shift in (1.0, 4.0, 12.0) for guidance in (1.0, 3.0)]
    assert len(scenes) == len(pairs)
    for number in (1, 4):
        shift, guidance = pairs[number]
        alone = run(generation(picture, scenes=1, seed=1, shift=shift, guidance=guidance))
        (listed,) = alone.outputs["7"]["scenes"]
        assert torch.equal(load_scene(saved_file(comfy, listed)).tokens, scenes[number].tokens)
    progress = [data["value"] for data in done.of_type("progress") if data["node"] == "6"]
    assert progress == sorted(progress) and progress[-1] == 2 * len(pairs)
    (listed,) = done.outputs["10"]["images"]
    sheet = Image.open(saved_file(comfy, listed))
    assert 3 * SHOWN_PIXELS < sheet.height < 3.5 * SHOWN_PIXELS
    assert 4 * SHOWN_PIXELS < sheet.width < 5 * SHOWN_PIXELS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifts": "1, four"}, "values of shift are given like"),
        ({"guidances": "0"}, "values of guidance must be above 0 and at most 30, got '0'"),
        ({"guidances": ""}, "give at least one value of guidance"),
    ],
)
def test_sweeps_over_no_values_are_refused_before_anything_runs(run, picture, changes, message):
    with pytest.raises(PromptRejectedError, match=message):
        run(edited(sheet_prompt(picture), SceneTok_SceneGenSweep=changes))


def test_batches_that_fill_no_rows_are_refused(run, picture):
    assert "6 image batches do not fill rows of 4" in run(sheet_prompt(picture, headings="a\nb\nc\nd")).error


def test_a_generator_refuses_other_models_and_is_none_itself(run, picture):
    prompt = generation(picture)
    wrong = edited(prompt, SceneTok_LoadModel={"model": "other.safetensors"})
    assert "draws tokens of model 'small'" in run(wrong).error
    swapped = edited(prompt, SceneTok_LoadModel={"model": "generator.safetensors"})
    assert "is a scene generator, not a SceneTok model" in run(swapped).error


def photograph(image, fov=0.0):
    """A prompt that loads a photograph and shows what the node gives."""
    shown = {str(3 + slot): {"class_type": "PreviewAny", "inputs": {"source": ["1", slot]}} for slot in (2, 3)}
    return {
        "1": {"class_type": "SceneTok_LoadPhotograph", "inputs": {"image": image, "fov": fov}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        **shown,
    }


@pytest.fixture
def telephone(comfy):
    """A photograph of a telephone held upright, in the input folder."""
    write_jpeg(comfy.folder("input") / "upright.jpg", {ExifTags.Base.FocalLengthIn35mmFilm: 26}, QUARTER_TURN)
    return "upright.jpg"


def test_a_photograph_gets_its_field_of_view_from_its_exif_data_or_the_slider(comfy, run, telephone):
    expected = exif_fov(comfy.base / "input" / telephone)
    for fov, degrees, source in ((0.0, expected, "EXIF data"), (50.0, 50.0, "as set")):
        done = run(photograph(telephone, fov))
        assert done.status == "execution_success", done.error
        assert float(done.outputs["5"]["text"][0]) == pytest.approx(degrees)
        told = done.outputs["6"]["text"][0]
        assert told.startswith(f"{degrees:.1f} degrees") and source in told
        assert f"{telephone}: field of view {told}" in comfy.log
    (shown,) = done.outputs["2"]["images"]
    assert Image.open(saved_file(comfy, shown)).size == (30, 40)


def test_a_photograph_that_tells_nothing_gets_the_default_and_says_so(comfy, run, picture):
    done = run(photograph(f"{picture} [input]"))
    assert done.status == "execution_success", done.error
    assert done.outputs["6"]["text"][0] == (
        "60.0 degrees across the longer side, the default, as the EXIF data tell no focal length"
    )


def test_scenes_are_drawn_from_a_photograph(comfy, run, telephone):
    prompt = generation(telephone)
    prompt["3"] = photograph(telephone)["1"]
    del prompt["4"]
    prompt = edited(
        prompt,
        SceneTok_CameraTrajectory={"cameras": ["3", 1]},
        SceneTok_SceneGenSample={"cameras": ["3", 1], "scenes": 1},
    )
    done = run(prompt)
    assert done.status == "execution_success", done.error
    scene = load_scene(saved_file(comfy, done.outputs["7"]["scenes"][0]))
    assert scene.cameras.size == (40, 30)


def test_photographs_can_be_uploaded_and_are_offered(comfy, telephone):
    with urllib.request.urlopen(f"{comfy.url}/object_info/SceneTok_LoadPhotograph") as answer:
        (_, options) = json.load(answer)["SceneTok_LoadPhotograph"]["input"]["required"]["image"]
    assert options["image_upload"] is True
    assert {"example: room, photograph", telephone} <= set(options["options"])


def test_a_photograph_is_loaded_again_when_its_file_changes(comfy, run, telephone):
    run(photograph(telephone, 33.0))
    assert run(photograph(telephone, 33.0)).executed == []
    stamp = time.time() + 5
    os.utime(comfy.base / "input" / telephone, (stamp, stamp))
    assert "1" in run(photograph(telephone, 33.0)).executed


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("../../../etc/passwd", "is not inside"),
        ("../secret.png [output]", "is not inside"),
        ("nothing.jpg", "no picture 'nothing.jpg'"),
    ],
)
def test_photographs_that_are_not_there_are_refused_before_anything_runs(run, image, message):
    with pytest.raises(PromptRejectedError, match=message):
        run(photograph(image))
