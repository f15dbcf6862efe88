"""Render Trajectory on long paths, through a real ComfyUI server: passes, qualities, several scenes, cancelling."""

import io

import pytest
from PIL import Image

from tests import small
from tests.engine.workflows import edited
from tests.served import ENCODE, LOAD, PATH, RENDER, VIEW, saved_file

LONG = 240
SAVE = "9"


def still(prompt, **edits):
    """Only what leads to saved pictures of the path."""
    kept = {key: prompt[key] for key in (LOAD, VIEW, ENCODE, PATH, RENDER)}
    pictures = {"class_type": "SaveImage", "inputs": {"images": [RENDER, 0], "filename_prefix": "long"}}
    return edited({**kept, SAVE: pictures}, **edits)


def saved(comfy, done):
    assert done.status == "execution_success", done.error
    files = [saved_file(comfy, item) for item in done.outputs[SAVE]["images"]]
    return [Image.open(file).convert("RGB").tobytes() for file in files]


def test_quality_and_passes_are_chosen_and_prompts_without_them_still_run(comfy, run, prompt):
    def frames(**settings):
        return saved(comfy, run(still(prompt, SceneTok_RenderTrajectory={"seed": 11, "steps": 0, **settings})))

    plain = frames(quality=None, views_per_pass=None)
    assert frames(quality="normal", views_per_pass=0) == plain
    assert frames(views_per_pass=2) != plain
    steps = small.config().sampling.steps
    draft, best = frames(quality="draft"), frames(quality="best")
    assert draft == frames(steps=1) != plain and best == frames(steps=4 * steps, solver="ab2") != plain
    assert frames(quality="draft", steps=steps) == plain, "steps prevail"


def test_an_unknown_quality_is_refused(run, prompt):
    done = run(still(prompt, SceneTok_RenderTrajectory={"quality": "finest"}))
    assert "unknown quality 'finest'; choose one of draft, normal, best" in done.error


def test_every_scene_of_a_list_is_rendered_along_the_path(comfy, run, prompt):
    several = still(prompt, SceneTok_RenderTrajectory={"tokens": ["10", 0]})
    inputs = {"tokens": [ENCODE, 0], "counts": "1, 3, 6", "order": "random", "seed": 0}
    several["10"] = {"class_type": "SceneTok_TokenSweep", "inputs": inputs}
    pictures = saved(comfy, run(several))
    frames = prompt[PATH]["inputs"]["frames"]
    assert len(pictures) == 3 * frames and len(set(pictures)) == 3 * frames


def test_uncertainty_takes_passes_too(run, prompt):
    inputs = {
        "model": [LOAD, 0], "tokens": [ENCODE, 0], "cameras": [PATH, 0], "samples": 2, "steps": 1, "guidance": 0.0,
        "seed": 0, "white": 0.2,
    }  # fmt: skip
    for more in ({}, {"views_per_pass": 2}):
        uncertain = still(prompt)
        uncertain[RENDER] = {"class_type": "SceneTok_RenderUncertainty", "inputs": {**inputs, **more}}
        assert run(uncertain).status == "execution_success"


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_long_path_stops_within_a_step_and_shows_what_is_finished(run, prompt, share):
    asked = []

    async def cancel(client, event):
        if event.type == "progress" and event.data["node"] == RENDER:
            asked.append((event.data["value"], event.data["max"]))
            if event.data["value"] >= share * event.data["max"]:
                await client.interrupt()

    long = still(
        prompt,
        SceneTok_RenderTrajectory={"steps": 40, "seed": 5},
        SceneTok_CameraTrajectory={"frames": LONG},
    )
    done = run(long, on_event=cancel)
    assert done.status == "execution_interrupted"
    values = [value for value, _ in asked]
    assert values == sorted(values) and len({most for _, most in asked[1:]}) == 1
    assert values[-1] < (share + 0.15) * asked[-1][1]
    sizes = [Image.open(io.BytesIO(preview.image)).size for preview in done.previews]
    assert len(sizes) > 1 and sizes[-1] >= sizes[0], "frames of more and more windows"
    again = run(still(prompt, SceneTok_RenderTrajectory={"seed": 6}))
    assert again.status == "execution_success"
