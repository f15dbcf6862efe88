"""Frames of a video: sharp, spread, upright, within the asked part."""

import io

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from scenetok_core.pictures.video import write_video
from scenetok_core.views.frame_selection import pick_frames

FPS, HEIGHT, WIDTH = 10.0, 256, 384
STEP = 8  # pixels that the picture moves from frame to frame


def panorama(seed=0, width=1600):
    coarse = torch.rand(3, HEIGHT // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse[None], size=(HEIGHT, width))[0]


def pan(positions, blurred=()):
    """Frames of a camera that pans over a picture, standing where a position repeats."""
    wide = panorama()
    frames = torch.stack([wide[:, :, x : x + WIDTH] for x in positions])
    for i in blurred:
        frames[i] = interpolate(avg_pool2d(frames[i][None], 16), size=(HEIGHT, WIDTH), mode="bilinear")[0]
    return frames


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """40 frames; all but every fourth one are blurred."""
    path = tmp_path_factory.mktemp("video") / "pan.mp4"
    write_video(path, pan(range(0, 40 * STEP, STEP), [i for i in range(40) if i % 4 != 1]), FPS)
    return path


def frame_numbers(times):
    return [round(time * FPS) for time in times]


def test_of_every_part_the_sharpest_frame_is_taken(moving):
    picked = pick_frames(moving, 10)
    assert frame_numbers(picked.times_s) == [i for i in range(40) if i % 4 == 1]
    assert picked.rgb.shape == (10, 3, HEIGHT, WIDTH)
    assert (picked.rgb[2] - pan([9 * STEP])[0]).abs().mean() < 0.05


def test_only_the_asked_part_is_looked_at_and_counts_above_it_are_fine(moving):
    picked = pick_frames(moving, 100, start_s=1.0, end_s=2.0, min_sharpness=0)
    assert frame_numbers(picked.times_s) == list(range(10, 21))
    with pytest.raises(ValueError, match=r"no frames between 9\.0 s and its end"):
        pick_frames(moving, 3, start_s=9.0)


def test_a_pause_counts_once(tmp_path):
    write_video(tmp_path / "pause.mp4", pan([*range(0, 80, STEP), *[80] * 40, *range(88, 168, STEP)]), FPS)
    numbers = frame_numbers(pick_frames(tmp_path / "pause.mp4", 60).times_s)
    assert len([i for i in numbers if 10 <= i < 50]) <= 2
    assert len([i for i in numbers if not 10 <= i < 50]) == 20


def test_frames_much_less_sharp_than_those_around_are_dropped(tmp_path):
    write_video(tmp_path / "shaken.mp4", pan(range(0, 24 * STEP, STEP), blurred=range(12, 15)), FPS)
    assert frame_numbers(pick_frames(tmp_path / "shaken.mp4", 24).times_s) == [*range(12), *range(15, 24)]
    assert len(pick_frames(tmp_path / "shaken.mp4", 24, min_sharpness=0).times_s) == 24


def test_large_frames_are_reduced_and_bytes_are_read_like_a_file(moving):
    picked = pick_frames(io.BytesIO(moving.read_bytes()), 3, max_side=96)
    assert picked.rgb.shape == (3, 3, 64, 96)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_frames_are_turned_as_the_metadata_say(tmp_path, degrees):
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = 255  # the upper left quarter is white
    with av.open(str(tmp_path / "turned.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (rgb,) = pick_frames(tmp_path / "turned.mp4", 1).rgb
    expected = torch.from_numpy(np.rot90(picture, degrees // 90).copy()).movedim(-1, 0) / 255  # counterclockwise
    assert rgb.shape == expected.shape
    assert (rgb - expected).abs().mean() < 0.05


def test_progress_reaches_the_end_and_may_cancel(moving):
    told = []
    pick_frames(moving, 4, progress=lambda done, total: told.append(done / total))
    assert told == sorted(told) and len(told) == 80 and told[-1] > 0.95

    def cancel(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        pick_frames(moving, 4, progress=cancel)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "at least 1 frame"),
        ({"min_sharpness": 2.0}, "share from 0 to 1"),
        ({"start_s": 2.0, "end_s": 1.0}, "end_s must be after start_s"),
        ({"start_s": -1.0}, "must not be negative"),
        ({"max_side": 1}, "at least 3 pixels"),
    ],
)
def test_settings_out_of_range_are_refused(moving, settings, message):
    with pytest.raises(ValueError, match=message):
        pick_frames(moving, **{"count": 3, **settings})


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="cannot be decoded as a video"):
        pick_frames(tmp_path / "text.mp4", 3)
    with pytest.raises(ValueError, match="no such video"):
        pick_frames(tmp_path / "nothing.mp4", 3)
