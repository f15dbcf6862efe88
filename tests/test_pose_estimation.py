"""Cameras of photographs without poses: from a room, from bad input, cancelled, on the command line."""

import dataclasses
import subprocess
import sys
import tempfile

import pytest
import torch

from scenetok_core import open_capture
from scenetok_core.captures import Distortion
from scenetok_core.cli import main
from scenetok_core.pictures.sheets import save_image
from scenetok_core.views import pose_estimation
from scenetok_core.views.pose_estimation import EstimationConfig, EstimationReport, estimate_cameras, pairs_to_match
from tests import rooms
from training.measures.poses import trajectory_errors

PINHOLE = EstimationConfig(lens="pinhole", fov_degrees=rooms.FOV, threads=1)
GOOD = EstimationReport(
    given=20,
    registered=20,
    models=(20,),
    points=2000,
    track_length=4.0,
    reprojection_px=0.5,
    triangulation_degrees=8.0,
    fov_degrees=62.0,
)

needs_pycolmap = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import pycolmap"], capture_output=True, check=False).returncode != 0,
    reason="needs pycolmap: pip install pycolmap",
)


@pytest.fixture(scope="module")
def truth():
    return rooms.photographs()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(truth, told):
    return estimate_cameras(truth.rgb, PINHOLE, lambda *step: told.append(step))


@needs_pycolmap
def test_cameras_of_a_room_are_found_up_to_a_similarity(truth, found):
    assert found.indices == tuple(range(len(truth)))
    errors = trajectory_errors(found.cameras.c2w, truth.cameras.c2w)
    assert errors.rotation_degrees < 1.0 and errors.translation < 0.05
    assert torch.allclose(found.cameras.K, truth.cameras.K, rtol=0.1), (
        "a short walk tells little about the focal length"
    )
    assert found.report.verdict().startswith("good"), str(found.report)
    assert found.report.registered == len(truth) and found.report.reprojection_px < 1.0
    assert abs(found.report.fov_degrees - rooms.FOV) < 5


@needs_pycolmap
def test_progress_grows_over_all_phases(told, found):
    done = [step[0] for step in told]
    assert done == sorted(done) and all(step[0] <= step[1] for step in told)
    assert list(dict.fromkeys(phase for _, _, phase in told)) == ["features", "matching", "mapping"]


@needs_pycolmap
def test_views_are_straightened_with_the_lens_that_was_found(truth, found):
    assert torch.equal(found.views(truth.rgb).rgb, truth.rgb), "a pinhole changes nothing"
    bent = found.capture.subset(slice(None))
    object.__setattr__(bent, "lenses", tuple(Distortion(k1=-0.2) for _ in bent.lenses))
    views = pose_estimation.EstimatedCameras(found.indices[1:], bent.subset(slice(1, None)), found.report).views(
        truth.rgb
    )
    assert len(views) == len(truth) - 1
    assert not torch.allclose(views.rgb, truth.rgb[1:], atol=0.05)
    assert views.cameras.size == (rooms.HEIGHT, rooms.WIDTH)


@needs_pycolmap
def test_blank_pictures_get_a_clear_error_and_nothing_stays_behind(temporary):
    with pytest.raises(ValueError, match="4 of 4 pictures show too little detail to find cameras"):
        estimate_cameras(rooms.blank(), PINHOLE)
    assert list(temporary.iterdir()) == []


@needs_pycolmap
def test_cancelling_ends_the_work_and_nothing_stays_behind(truth, temporary):
    class CancelledError(Exception):
        pass

    def cancel(done, total, phase):
        raise CancelledError(phase)

    with pytest.raises(CancelledError, match="features"):
        estimate_cameras(truth.rgb[:3], PINHOLE, cancel)
    assert list(temporary.iterdir()) == []


@needs_pycolmap
def test_a_worker_that_fails_is_quoted(truth, temporary, monkeypatch):
    broken = temporary / "worker.py"
    broken.write_text("raise SystemExit('no such luck')")
    monkeypatch.setattr(pose_estimation, "_WORKER", broken)
    with pytest.raises(ValueError, match="stopped before it was done: no such luck"):
        estimate_cameras(truth.rgb[:3], PINHOLE)


@needs_pycolmap
def test_the_command_writes_cameras_that_a_capture_opens_with(truth, tmp_path, capsys):
    folder = tmp_path / "walk"
    for i, picture in enumerate(truth.rgb):
        save_image(folder / f"shot_{i}.png", picture)
    out = tmp_path / "cameras" / "transforms.json"
    assert main(["estimate", str(folder), "--out", str(out), "--fov", "60", "--threads", "1"]) == 0
    assert "8 of 8 pictures have a camera" in capsys.readouterr().out
    capture = open_capture(out)
    assert [path.resolve().name for path in capture.images] == [f"shot_{i}.png" for i in range(8)]
    assert capture.lenses[0] is not None and capture.lenses[0].k1 != 0
    errors = trajectory_errors(capture.load().cameras.c2w, truth.cameras.c2w)
    assert errors.rotation_degrees < 1.0
    save_image(folder / "shot_9.png", truth.rgb[5, :, :100])
    assert main(["estimate", str(folder), "--out", str(out)]) == 2
    assert "expected pictures of one size" in capsys.readouterr().err


def test_without_pycolmap_the_message_names_it(truth, monkeypatch):
    monkeypatch.setattr(pose_estimation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pycolmap"):
        estimate_cameras(truth.rgb)


@needs_pycolmap
def test_pictures_that_cannot_be_one_cameras_are_refused(truth):
    with pytest.raises(ValueError, match="picture 1 is 256 x 100 px, the one before 256 x 192"):
        estimate_cameras([truth.rgb[0], truth.rgb[1, :, :100], truth.rgb[2]])
    with pytest.raises(ValueError, match="at least 3 pictures of one place, got 2"):
        estimate_cameras(truth.rgb[:2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "random"}, "order must be one of"),
        ({"lens": "fisheye"}, "lens must be one of"),
        ({"fov_degrees": 180.0}, "between 0 and 180"),
        ({"max_side": 10}, "at least 64"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EstimationConfig(**settings)


def test_few_pictures_are_all_compared_and_a_long_video_near_in_time_and_on_a_grid():
    assert len(pairs_to_match(10, "auto")) == 45 == len(pairs_to_match(10, "unordered"))
    assert len(pairs_to_match(200, "unordered")) == 200 * 199 // 2
    video = set(pairs_to_match(200, "auto"))
    assert len(video) < 200 * 20
    assert {(i, i + 1) for i in range(199)} <= video and (0, 196) in video and (3, 198) not in video
    assert all(i < j < 200 for i, j in video)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("good",)),
        ({"registered": 12, "models": (12, 5)}, ("8 pictures could not be placed", "2 parts do not connect", "usable")),
        ({"registered": 6}, ("poor",)),
        ({"triangulation_degrees": 1.0}, ("move sideways",)),
        ({"reprojection_px": 3.0}, ("try opencv",)),
        ({"points": 100}, ("more texture",)),
        ({"fov_degrees": 150.0}, ("field of view is implausible",)),
    ],
)
def test_the_verdict_says_what_is_wrong_and_what_to_do(changes, words):
    report = dataclasses.replace(GOOD, **changes)
    assert all(word in report.verdict() for word in words)
    assert report.verdict() in str(report)
