"""The nodes for one's own pictures through a real ComfyUI: frames of a video, their cameras, a check of cameras."""

import pytest
from PIL import Image

from scenetok_core.pictures.sheets import save_image, to_tensor
from scenetok_core.pictures.video import write_video
from scenetok_core.views.camera_check import READINGS
from tests import rooms, small
from tests.engine import PromptRejectedError
from tests.served import LOAD, VIEW, VIEWS, saved_file
from tests.test_pose_estimation import needs_pycolmap

FRAMES = 8
FROM_VIDEO, ESTIMATE, SHOW, PICTURES = "20", "21", "22", "23"


@pytest.fixture(scope="module")
def walk(comfy):
    """A video of a room in the input folder."""
    write_video(comfy.folder("input") / "walk.mp4", rooms.photographs(FRAMES).rgb, 10.0)
    return "walk.mp4"


@pytest.fixture
def from_video(walk):
    settings = {"count": FRAMES, "start": 0.0, "end": 0.0, "min_sharpness": 0.0, "max_side": 0}
    return {
        "19": {"class_type": "LoadVideo", "inputs": {"file": walk}},
        FROM_VIDEO: {"class_type": "SceneTok_FramesFromVideo", "inputs": {"video": ["19", 0], **settings}},
        PICTURES: {"class_type": "SaveImage", "inputs": {"images": [FROM_VIDEO, 0], "filename_prefix": "frames"}},
        SHOW: shown(FROM_VIDEO, 1),
    }


def shown(node, slot):
    return {"class_type": "PreviewAny", "inputs": {"source": [node, slot]}}


def estimate(images, **changes):
    settings = {
        "order": "auto",
        "lens": "pinhole",
        "fov": rooms.FOV,
        "shared_camera": True,
        "random_seed": 0,
        **changes,
    }
    return {"class_type": "SceneTok_EstimateCameras", "inputs": {"images": images, **settings}}


def check(**changes):
    inputs = {"model": [LOAD, 0], "images": [VIEW, 0], "cameras": [VIEW, 1], "rounds": 2, "alternatives": True}
    return {"class_type": "SceneTok_LeaveOneOut", "inputs": {**inputs, "scene_scale": 0.0, **changes}}


def test_frames_of_a_loaded_video_come_with_their_times(comfy, run, from_video):
    done = run(from_video)
    assert done.status == "execution_success", done.error
    assert [float(line) for line in done.outputs[SHOW]["text"][0].split("\n")] == [i / 10 for i in range(FRAMES)]
    saved = [Image.open(saved_file(comfy, item)).size for item in done.outputs[PICTURES]["images"]]
    assert saved == [(2 * rooms.WIDTH, 2 * rooms.HEIGHT)] * FRAMES, "small pictures are enlarged for a video"


def test_part_of_a_video_with_an_end_before_its_start_is_refused(run, from_video):
    from_video[FROM_VIDEO]["inputs"] |= {"start": 2.0, "end": 1.0}
    assert "end_s must be after start_s" in run(from_video).error


@needs_pycolmap
def test_cameras_of_a_video_are_estimated_and_encoded(run, from_video):
    from_video[FROM_VIDEO]["inputs"]["max_side"] = rooms.WIDTH
    del from_video[PICTURES]
    encode = {
        "model": [LOAD, 0],
        "images": [ESTIMATE, 0],
        "cameras": [ESTIMATE, 1],
        "scene_scale": 0.0,
        "reference": -1,
    }
    save = {"tokens": ["24", 0], "filename_prefix": "scenes/estimated"}
    done = run(
        {
            **from_video,
            LOAD: {"class_type": "SceneTok_LoadModel", "inputs": {"model": "small.safetensors", "dtype": "auto"}},
            ESTIMATE: estimate([FROM_VIDEO, 0]),
            SHOW: shown(ESTIMATE, 2),
            "24": {"class_type": "SceneTok_EncodeViews", "inputs": encode},
            "25": {"class_type": "SceneTok_SaveTokens", "inputs": save},
        }
    )
    assert done.status == "execution_success", done.error
    (report,) = done.outputs[SHOW]["text"]
    assert f"of {FRAMES} pictures have a camera" in report and "verdict: " in report
    progress = [data["value"] for data in done.of_type("progress") if data["node"] == ESTIMATE]
    assert progress == sorted(progress) and len(progress) > FRAMES


@needs_pycolmap
def test_pictures_without_detail_give_a_clear_error_of_the_node(run):
    blank = {"class_type": "EmptyImage", "inputs": {"width": 256, "height": 192, "batch_size": 4, "color": 8421504}}
    done = run({"1": blank, ESTIMATE: estimate(["1", 0]), SHOW: shown(ESTIMATE, 2)})
    assert done.status == "execution_error"
    assert "4 of 4 pictures show too little detail to find cameras" in done.error


def test_leave_one_out_shows_hidden_views_and_what_it_tried(comfy, run, prompt):
    nodes = {key: prompt[key] for key in (LOAD, VIEW)}
    sheet = {"class_type": "SaveImage", "inputs": {"images": ["30", 0], "filename_prefix": "sheet"}}
    done = run({**nodes, "30": check(), "31": shown("30", 1), "32": shown("30", 2), "33": sheet})
    assert done.status == "execution_success", done.error
    (verdict,) = done.outputs["31"]["text"]
    assert f"PSNR of {VIEWS - 2} hidden views" in verdict
    assert all(reading.name in verdict for reading in READINGS)
    assert 0 < float(done.outputs["32"]["text"][0]) < 40
    picture = Image.open(saved_file(comfy, done.outputs["33"]["images"][0]))
    assert picture.width > (VIEWS - 2) * small.IMAGE and picture.height > 2 * small.IMAGE
    progress = [data for data in done.of_type("progress") if data["node"] == "30"]
    assert progress[-1]["value"] == progress[-1]["max"] == 2 * (1 + len(READINGS))


def test_leave_one_out_needs_views_to_hide(run, prompt):
    nodes = {key: prompt[key] for key in (LOAD, VIEW)}
    done = run({**nodes, "30": check(rounds=VIEWS, alternatives=False), "31": shown("30", 1)})
    assert f"{VIEWS} views can be hidden in 2 to {VIEWS - 2} rounds" in done.error


def test_photographs_of_a_folder_are_loaded_as_one_batch(comfy, run):
    folder = comfy.folder("input", "photographs")
    for i, picture in enumerate(small.views(5).rgb):
        save_image(folder / f"IMG_{i}.png", picture)
    load = {"folder": "photographs", "max_pictures": 3, "max_side": 0}
    nodes = {
        "1": {"class_type": "SceneTok_LoadPictures", "inputs": load},
        SHOW: shown("1", 1),
        PICTURES: {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}},
    }
    done = run(nodes)
    assert done.status == "execution_success", done.error
    loaded = [to_tensor(Image.open(saved_file(comfy, item))) for item in done.outputs[PICTURES]["images"]]
    assert len(loaded) == 3 and (loaded[1] - small.views(5).rgb[2]).abs().max() < 0.01
    assert done.outputs[SHOW]["text"] == ["0.0"], "no EXIF data"
    for wrong, reason in (("../output", "is not inside"), ("nothing", "no pictures in")):
        load["folder"] = wrong
        with pytest.raises(PromptRejectedError, match=reason):
            run(nodes)
