"""The nodes of camera paths through a real ComfyUI server."""

import pytest
from PIL import Image

from tests.engine.workflows import edited
from tests.served import FRAMES, PATH, RENDER, VIEW, saved_file

REPORT, EDIT, JOIN, SECOND, SHOWN, PICTURES = "20", "21", "22", "23", "24", "25"
EDITED = {
    "trim_start": 0, "trim_end": 0, "reverse": False, "frames": 0, "even_pace": False, "smoothing": 0.0,
    "right": 0.0, "down": 0.0, "forward": 0.0, "fov": 0.0, "zoom": 1.0,
}  # fmt: skip


def paths_only(prompt, **settings):
    """The main workflow's views and path, and its report as a text."""
    shown = {"class_type": "PreviewAny", "inputs": {"source": [PATH, 1]}}
    return edited({**{key: prompt[key] for key in (VIEW, PATH)}, REPORT: shown}, SceneTok_CameraTrajectory=settings)


def text_of(done, node=REPORT):
    assert done.status == "execution_success", done.error
    (text,) = done.outputs[node]["text"]
    return text


def preview(path, **more):
    return {"class_type": "SceneTok_PathPreview", "inputs": {"path": path, "cameras": [VIEW, 1], **more}}


def drawing(comfy, done, node=SHOWN):
    assert done.status == "execution_success", done.error
    (listed,) = done.outputs[node]["images"]
    return Image.open(saved_file(comfy, listed)).convert("RGB")


def test_a_path_along_the_inputs_is_reported_and_not_warned_of(run, prompt):
    done = run(paths_only(prompt))
    assert text_of(done).startswith("the path stays in what the input cameras saw")
    assert PATH not in done.outputs


def test_a_path_that_turns_away_is_warned_of_on_the_node_and_in_the_log_and_still_made(comfy, run, prompt):
    before = comfy.log.count("leaves what the input cameras saw")
    done = run(paths_only(prompt, preset="pan", degrees=180.0, frames=9))
    told = text_of(done)
    assert "the path leaves what the input cameras saw in" in told
    assert text_of(done, PATH) == told
    assert comfy.log.count("leaves what the input cameras saw") == before + 1


def test_a_limited_path_stays_inside(run, prompt):
    done = run(paths_only(prompt, preset="pan", degrees=180.0, frames=9, limit_to_seen=True))
    assert text_of(done).startswith("the path stays in")


def test_the_cameras_on_keys_come_before_the_text(comfy, run, prompt):
    keys = {**prompt[PATH], "inputs": {**prompt[PATH]["inputs"], "preset": "dolly", "frames": 3}}
    pictures = []
    for settings in (
        {"preset": "keyframes", "keyframes": '[{"view": 0}]', "keys": [SECOND, 0]},
        {"preset": "dolly"},
        {"preset": "keyframes", "keyframes": '[{"view": 0}]'},
    ):
        changed = paths_only(prompt, frames=5, **settings)
        done = run({**changed, SECOND: keys, SHOWN: preview([PATH, 0])})
        pictures.append(drawing(comfy, done).tobytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_modifiers_reach_the_path(comfy, run, prompt):
    pictures = {}
    for name, settings in {
        "plain": {},
        "reverse": {"reverse": True},
        "eased": {"easing": "ease-in"},
        "half": {"speed": 0.5},
    }.items():
        done = run({**paths_only(prompt, preset="dolly", frames=6, **settings), SHOWN: preview([PATH, 0], width=480)})
        pictures[name] = drawing(comfy, done).tobytes()
    assert len(set(pictures.values())) == len(pictures)


def test_a_preview_shows_the_first_picture_and_keys(comfy, run, prompt):
    plain = paths_only(prompt, preset="orbit")
    done = run({**plain, SHOWN: preview([PATH, 0], images=[VIEW, 0], keys=[VIEW, 1], width=640)})
    picture = drawing(comfy, done)
    assert picture.size == (640, 474)
    without = drawing(comfy, run({**plain, SHOWN: preview([PATH, 0], width=640)}))
    assert picture.tobytes() != without.tobytes()


def test_an_edited_path_is_rendered(comfy, run, prompt):
    edit = {**EDITED, "path": [PATH, 0], "cameras": [VIEW, 1], "reverse": True, "frames": 4, "zoom": 1.5}
    changed = edited(
        {
            **prompt,
            EDIT: {"class_type": "SceneTok_EditTrajectory", "inputs": edit},
            REPORT: {"class_type": "PreviewAny", "inputs": {"source": [EDIT, 1]}},
            PICTURES: {"class_type": "SaveImage", "inputs": {"images": [RENDER, 0], "filename_prefix": "edited"}},
        },
        SceneTok_RenderTrajectory={"cameras": [EDIT, 0]},
    )
    done = run(changed)
    assert "input cameras saw" in text_of(done)
    assert len(done.outputs[PICTURES]["images"]) == 4


def test_joined_paths_are_rendered_with_the_frames_between(comfy, run, prompt):
    join = {"first": [PATH, 0], "second": [SECOND, 0], "blend": 2}
    changed = edited(
        {
            **prompt,
            JOIN: {"class_type": "SceneTok_JoinTrajectories", "inputs": join},
            PICTURES: {"class_type": "SaveImage", "inputs": {"images": [RENDER, 0], "filename_prefix": "joined"}},
        },
        SceneTok_RenderTrajectory={"cameras": [JOIN, 0]},
    )
    changed[SECOND] = {**prompt[PATH], "inputs": {**prompt[PATH]["inputs"], "preset": "arc", "frames": 3}}
    done = run(changed)
    assert done.status == "execution_success", done.error
    assert len(done.outputs[PICTURES]["images"]) == FRAMES + 2 + 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit_to_seen": True}, "limit_to_seen needs the input cameras"),
        ({"trim_start": FRAMES}, "at least one must stay"),
    ],
)
def test_edits_that_cannot_be_made_are_refused(run, prompt, settings, message):
    edit = {"class_type": "SceneTok_EditTrajectory", "inputs": {**EDITED, "path": [PATH, 0], **settings}}
    shown = {"class_type": "PreviewAny", "inputs": {"source": [EDIT, 1]}}
    done = run({**{key: prompt[key] for key in (VIEW, PATH)}, EDIT: edit, REPORT: shown})
    assert message in done.error


def test_an_old_prompt_makes_the_path_it_made(comfy, run, prompt):
    """Without the inputs that came later, as with their defaults."""
    defaults = {
        "zoom": 2.0, "dolly_zoom": False, "speed": 1.0, "easing": "linear", "reverse": False, "path_smoothing": 0.0,
        "limit_to_seen": False,
    }  # fmt: skip
    for name in defaults:
        del prompt[PATH]["inputs"][name]
    pictures = []
    for settings in ({}, defaults):
        done = run({**paths_only(prompt, preset="spiral", **settings), SHOWN: preview([PATH, 0], width=480)})
        pictures.append(drawing(comfy, done).tobytes())
    assert pictures[0] == pictures[1]
