"""The editor's text -> cameras, and what the page is given to show."""

import json

import pytest
import torch

from scenetok_core.pictures.path_editor import edited_path, editor_scene, thumbnails
from scenetok_core.trajectories import follow, keyframes, keyframes_from_json, loop, make_trajectory, read_keyed_path
from scenetok_core.views.seen import measure_seen
from tests import small

FRAMES = 9
KEYS = [{"view": 0}, {"position": [0.2, -0.4, -1.5], "look_at": [0, 0, 1]}, {"view": 3, "fov": 40}]


def written(keys=KEYS, **settings):
    return json.dumps({"version": 1, "keys": keys, **settings})


def scene_of(text, cameras):
    path = edited_path(text, cameras, FRAMES)
    return editor_scene(text, cameras, path, measure_seen(path, cameras))


@pytest.mark.parametrize("text", ["", "  \n", written([])])
def test_without_keys_the_path_follows_the_inputs(text):
    cameras = small.cameras()
    assert torch.equal(edited_path(text, cameras, FRAMES).c2w, follow(cameras, FRAMES).c2w)


def test_without_keys_a_closed_path_comes_back():
    cameras = small.cameras()
    assert torch.equal(edited_path(written([], loop=True), cameras, FRAMES).c2w, loop(cameras, FRAMES).c2w)


def test_a_list_and_the_object_with_settings_are_the_same_path():
    cameras = small.cameras()
    expected = keyframes(keyframes_from_json(json.dumps(KEYS), cameras), FRAMES)
    for text in (json.dumps(KEYS), written(), json.dumps({"keys": KEYS})):
        path = edited_path(text, cameras, FRAMES)
        assert torch.equal(path.c2w, expected.c2w) and torch.equal(path.K, expected.K)


def test_settings_of_the_text_are_those_of_the_preset():
    cameras = small.cameras()
    path = edited_path(written(loop=True, easing="ease-in"), cameras, FRAMES)
    expected = make_trajectory("keyframes", cameras, FRAMES, keys=json.dumps(KEYS), loop=True, easing="ease-in")
    assert torch.equal(path.c2w, expected.c2w)
    assert not torch.allclose(path.c2w, edited_path(written(), cameras, FRAMES).c2w)


def test_a_slow_key_gets_more_frames_and_the_way_stays():
    cameras = small.cameras()
    slow = [KEYS[0], {**KEYS[1], "speed": 0.25}, KEYS[2]]
    frames = 400
    even, lingering = (edited_path(written(keys), cameras, frames).centers for keys in (KEYS, slow))
    assert float(torch.cdist(lingering, even).amin(1).max()) < 0.02 * float((even[0] - even[-1]).norm())
    torch.testing.assert_close(lingering[[0, -1]], even[[0, -1]])
    key = torch.tensor(KEYS[1]["position"])
    near, before = (((path - key).norm(dim=-1) < 0.1).sum() for path in (lingering, even))
    assert 1.6 < float(near / before) < 2.0  # four times as slow, but the other frames are fewer now


def test_equal_speeds_change_nothing():
    cameras = small.cameras()
    fast = [{**key, "speed": 3} for key in KEYS]
    torch.testing.assert_close(
        edited_path(written(fast), cameras, FRAMES).c2w, edited_path(written(), cameras, FRAMES).c2w
    )


@pytest.mark.parametrize("speed", [0, -1, 21, True, "2", None])
def test_a_speed_that_is_none_is_refused(speed):
    keys = [KEYS[0], {"view": 1, "speed": speed}]
    with pytest.raises(ValueError, match=r"keyframe 1: speed must be a number from 0.05 \(slow\) to 20"):
        edited_path(written(keys), small.cameras(), FRAMES)


def test_the_text_of_the_editor_gives_its_keys_to_other_readers():
    cameras = small.cameras()
    keys = keyframes_from_json(written(loop=True), cameras)
    assert torch.equal(keys.c2w, keyframes_from_json(json.dumps(KEYS), cameras).c2w)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("7", "must be a JSON list"),
        ('{"key": []}', "must be a JSON list"),
        (written(loop=1), "loop must be true or false, got 1"),
        (written(easing="bounce"), "unknown easing 'bounce'; choose one of linear"),
        (written(tension=2), "know the settings loop and easing, got tension"),
        ('{"version": 2, "keys": []}', "version 2, this pack reads up to 1"),
        ('{"version": "1", "keys": []}', "version '1'"),
    ],
)
def test_a_broken_text_is_refused_before_cameras_are_known(text, message):
    with pytest.raises(ValueError, match=message):
        read_keyed_path(text)


def test_a_broken_key_is_named_by_its_number():
    with pytest.raises(ValueError, match=r"keyframe 1: view must be .* between 0 and 3, got 9"):
        edited_path(written([{"view": 0}, {"view": 9}]), small.cameras(), FRAMES)


def test_the_page_is_given_the_cameras_the_path_and_the_keys_as_python_reads_them():
    cameras = small.cameras()
    scene = json.loads(json.dumps(scene_of(written(), cameras)))
    path = edited_path(written(), cameras, FRAMES)
    keys = keyframes_from_json(written(), cameras)
    for name, expected in {"cameras": cameras, "path": path, "keys": keys}.items():
        torch.testing.assert_close(torch.tensor(scene[name]["c2w"]), expected.c2w, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.tensor(scene[name]["K"]), expected.K, atol=1e-5, rtol=0)
    assert scene["state"] == written() and scene["size"] == [small.IMAGE, small.IMAGE]
    assert scene_of("", cameras)["keys"] is None


def test_frames_that_leave_what_was_seen_are_numbered():
    cameras = small.cameras()
    centre = cameras.centers[0].tolist()
    behind = (cameras.centers[0] - cameras.forward[0]).tolist()
    text = written([{"view": 0}, {"position": centre, "look_at": behind}])
    outside = scene_of(text, cameras)["outside"]
    assert outside and outside[-1] == FRAMES - 1 and 0 not in outside


def test_a_scene_in_kilometres_keeps_its_digits():
    cameras = small.cameras()
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= 1e-6
    tiny = cameras.replace(c2w=c2w)
    shown = torch.tensor(scene_of("", tiny)["cameras"]["c2w"])[:, :3, 3]
    torch.testing.assert_close(shown * 1e6, cameras.centers, atol=1e-4, rtol=0)


def test_pictures_are_shrunk_and_thinned_out():
    pictures = torch.rand(100, 3, 8, 800)
    shown, numbers = thumbnails(pictures)
    assert len(shown) == len(numbers) == 64
    assert (numbers[0], numbers[-1]) == (0, 99) and sorted(set(numbers)) == numbers
    assert shown.shape[1:] == (3, 4, 384)
    few, numbers = thumbnails(pictures[:3, ..., :8])
    assert torch.equal(few, pictures[:3, ..., :8]) and numbers == [0, 1, 2]
