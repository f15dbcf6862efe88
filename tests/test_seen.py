"""Whether a path stays in what the input cameras saw, and bringing it back."""

import math

import pytest
import torch

from scenetok_core.trajectories import make_trajectory
from scenetok_core.trajectories.framing import reach
from scenetok_core.types import Cameras
from scenetok_core.views.seen import describe_seen, limit_to_seen, measure_seen
from tests.paths import EYE, make_cameras, ring, turned, walk

FRAMES = 32
SETS = {"ring": ring(), "walk": walk(), "one": ring(1)}
every_set = pytest.mark.parametrize("cameras", SETS.values(), ids=SETS.keys())


def steps(path: Cameras, size: float):
    moved = path.centers.diff(dim=0).norm(dim=-1) / size
    trace = torch.einsum("tij,tij->t", path.c2w[1:, :3, :3], path.c2w[:-1, :3, :3])
    return (moved.square() + ((trace - 1) / 2).clamp(-1, 1).arccos().square()).sqrt()


@every_set
@pytest.mark.parametrize("preset", ["follow", "dolly", "zoom", "loop"])
def test_paths_along_the_inputs_stay_in_what_was_seen(cameras, preset):
    seen = measure_seen(make_trajectory(preset, cameras, FRAMES), cameras)
    assert not bool(seen.outside.any())
    assert float(seen.covered.min()) > 0.9
    assert describe_seen(seen).startswith("the path stays in what the input cameras saw")


def test_inputs_themselves_are_fully_seen():
    seen = measure_seen(ring(), ring())
    torch.testing.assert_close(seen.covered, torch.ones(9))
    assert float(seen.distance.max()) < 1e-6
    assert float(seen.angle.max()) < 0.1


def test_a_path_that_turns_away_is_measured():
    cameras = make_cameras([[0.0, 0, 0], [1.0, 0, 0]], EYE)
    turn = make_trajectory("pan", cameras, 5, degrees=180.0, reference=0)
    seen = measure_seen(turn, cameras)
    torch.testing.assert_close(seen.angle, torch.tensor([0.0, 45, 90, 135, 180]), atol=0.1, rtol=0)
    assert seen.outside.tolist() == [False, True, True, True, True]
    assert float(seen.covered[2:].max()) < 0.05
    assert bool((seen.covered.diff() <= 0).all())


def test_distances_are_in_sizes_of_the_capture():
    cameras = make_cameras([[0.0, 0, 0], [4.0, 0, 0]], EYE)
    away = make_cameras([[-2.0, 0, 0], [-6.0, 0, 0]], EYE)
    seen = measure_seen(away, cameras)
    torch.testing.assert_close(seen.distance, torch.tensor([2.0, 6.0]) / reach(cameras))
    assert seen.outside.tolist() == [measure_seen(away[[0]], cameras).outside.item(), True]


def test_what_lies_behind_the_scene_is_not_seen_though_it_is_in_the_pictures():
    """From the other side of the pivot the same points are in view, but other faces of what stands there."""
    cameras = ring(degrees=40)
    seen = measure_seen(make_trajectory("orbit", cameras, 4), cameras)
    assert float(seen.covered[0]) > 0.95
    assert float(seen.covered[2]) < 0.05
    assert float(seen.angle[2]) > 120


def test_the_warning_says_which_frames_and_by_how_much():
    cameras = make_cameras([[0.0, 0, 0], [1.0, 0, 0]], EYE)
    seen = measure_seen(make_trajectory("pan", cameras, 5, degrees=180.0, reference=0), cameras)
    told = describe_seen(seen)
    assert "leaves what the input cameras saw in 4 of 5 frames (1-4)" in told
    assert "Worst is frame 3: 0% of its view was seen" in told
    assert "135 degrees off" in told


def test_many_stretches_are_counted_and_not_listed():
    cameras = make_cameras([[0.0, 0, 0], [1.0, 0, 0]], EYE)
    path = cameras[[0, 1] * 8]
    for view in range(0, 16, 2):
        path = turned(path, view, 180.0, axis=1)
    assert "(0, 2, 4, 6 and 4 more stretches)" in describe_seen(measure_seen(path, cameras))


@every_set
@pytest.mark.parametrize(
    ("preset", "options"), [("orbit", {}), ("pan", {"degrees": 180.0}), ("dolly", {"distance": 9})]
)
def test_a_limited_path_is_inside_and_has_no_jump(cameras, preset, options):
    path = make_trajectory(preset, cameras, FRAMES, **options)
    before = measure_seen(path, cameras).outside
    assert bool(before.any())
    limited = limit_to_seen(path, cameras)
    assert len(limited) == FRAMES
    assert not bool(measure_seen(limited, cameras).outside.any())
    size = reach(cameras)
    assert float(steps(limited, size).max()) < 3 * float(steps(path, size).max())


def test_a_path_that_is_inside_is_not_touched():
    path = make_trajectory("follow", walk(), FRAMES)
    assert limit_to_seen(path, walk()) is path


def test_limits_are_settings():
    cameras = ring()
    path = make_trajectory("orbit", cameras, FRAMES)
    lenient = measure_seen(path, cameras, least_covered=0.0, largest_distance=math.inf)
    strict = measure_seen(path, cameras, least_covered=1.0)
    assert int(lenient.outside.sum()) == 0 < int(measure_seen(path, cameras).outside.sum()) < int(strict.outside.sum())


def test_the_unit_of_the_capture_does_not_matter():
    cameras = walk()
    path = make_trajectory("orbit", cameras, FRAMES)

    def scaled(given):
        c2w = given.c2w.clone()
        c2w[:, :3, 3] *= 100
        return given.replace(c2w=c2w)

    here, there = measure_seen(path, cameras), measure_seen(scaled(path), scaled(cameras))
    torch.testing.assert_close(there.covered, here.covered, atol=0.02, rtol=0)
    torch.testing.assert_close(there.distance, here.distance, atol=1e-3, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_paths_are_limited_too(frames):
    path = make_trajectory("dolly", ring(), frames, distance=9.0, reverse=True)
    assert bool(measure_seen(path, ring()).outside[0])
    assert not bool(measure_seen(limit_to_seen(path, ring()), ring()).outside.any())
