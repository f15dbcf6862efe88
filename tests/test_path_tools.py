"""Reverse, trim, resample, smooth, offset, field of view, and joining."""

import math

import pytest
import torch

from scenetok_core.trajectories import (
    edit_path,
    join_paths,
    make_trajectory,
    offset_path,
    path_fov,
    resample_path,
    reverse_path,
    smooth_path,
    trim_path,
)
from scenetok_core.trajectories.framing import focus_distance, focus_point
from scenetok_core.trajectories.rig import to_keys
from scenetok_core.trajectories.splines import path_lengths
from tests.paths import FOCAL, PIVOT, SIZE, ring, walk

FRAMES = 24


def follow(frames=FRAMES, **options):
    return make_trajectory("follow", walk(), frames, **options)


def test_reversed_twice_is_the_path_itself():
    path = follow()
    there_and_back = reverse_path(reverse_path(path))
    assert torch.equal(there_and_back.c2w, path.c2w)
    assert torch.equal(reverse_path(path).c2w, path.c2w.flip(0))


def test_trimming_takes_from_both_ends():
    path = follow()
    assert torch.equal(trim_path(path, 3, 5).c2w, path.c2w[3:-5])
    assert torch.equal(trim_path(path).c2w, path.c2w)


@pytest.mark.parametrize(("start", "end"), [(24, 0), (12, 12), (-1, 0)])
def test_trimming_all_is_refused(start, end):
    with pytest.raises(ValueError, match="path of 24; at least one"):
        trim_path(follow(), start, end)


@pytest.mark.parametrize("frames", [9, 24, 100])
@pytest.mark.parametrize("even", [False, True])
def test_resampling_keeps_the_shape_and_the_ends(frames, even):
    path = make_trajectory("orbit", ring(), 60, degrees=140)
    again = resample_path(path, frames, even=even)
    assert len(again) == frames
    torch.testing.assert_close(again.c2w[[0, -1]], path.c2w[[0, -1]], atol=1e-5, rtol=0)
    distance = (again.centers.double() - PIVOT).norm(dim=-1)
    torch.testing.assert_close(distance, distance[:1].expand(frames), rtol=1e-3, atol=0)
    toward = torch.nn.functional.normalize(PIVOT - again.centers.double(), dim=-1)
    assert float((toward * again.forward.double()).sum(-1).min()) > math.cos(math.radians(0.2))


def test_resampling_to_as_many_frames_changes_nothing():
    path = follow()
    torch.testing.assert_close(resample_path(path, FRAMES).c2w, path.c2w, atol=1e-5, rtol=0)


def test_resampling_keeps_the_pace_unless_it_is_made_even():
    eased = make_trajectory("dolly", ring(), 40, easing="ease-in")
    kept, even = (path_lengths(to_keys(resample_path(eased, 20, even=even))) for even in (False, True))
    assert float(kept[-1] / kept[0]) > 10
    assert float(even.max() / even.min()) < 1.05


def test_a_single_camera_is_resampled_to_a_still():
    path = ring()[[2]]
    torch.testing.assert_close(resample_path(path, 5).c2w, path.c2w.expand(5, 4, 4), atol=1e-6, rtol=0)


def test_smoothing_keeps_the_ends_and_nothing_is_smoothed_by_zero():
    path = make_trajectory("keyframes", walk(40), 200)
    calm = smooth_path(path, 0.05)
    assert float(calm.centers.diff(n=2, dim=0).norm(dim=-1).max()) < 0.5 * float(
        path.centers.diff(n=2, dim=0).norm(dim=-1).max()
    )
    torch.testing.assert_close(calm.c2w[[0, -1]], path.c2w[[0, -1]], atol=1e-5, rtol=0)
    assert smooth_path(path, 0.0) is path


def test_an_offset_is_along_the_axes_of_each_camera():
    path = make_trajectory("orbit", ring(), FRAMES)
    moved = offset_path(path, 0.3, -0.2, 0.5)
    local = (path.c2w[:, :3, :3].mT @ (moved.centers - path.centers)[..., None])[..., 0]
    torch.testing.assert_close(local, torch.tensor([0.3, -0.2, 0.5]).expand(FRAMES, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.c2w[:, :3, :3], path.c2w[:, :3, :3])


def test_edited_offsets_are_shares_of_the_focus_distance():
    cameras = ring()
    path = make_trajectory("pan", cameras, 5)
    unit = float((focus_point(cameras) - cameras.centers[4]).norm())
    assert focus_distance(cameras) == pytest.approx(unit)
    moved = edit_path(path, offset=(0.0, 0.0, 0.25), around=cameras)
    torch.testing.assert_close(moved.centers, path.centers + 0.25 * unit * path.forward, atol=1e-5, rtol=0)


def test_fields_of_view_are_set_and_multiplied():
    path = follow()
    wide = path_fov(path, 90.0)
    torch.testing.assert_close(wide.K[:, 1, 1], torch.full((FRAMES,), 0.5))
    torch.testing.assert_close(wide.K[:, 0, 0] * SIZE[1], wide.K[:, 1, 1] * SIZE[0])
    torch.testing.assert_close(path_fov(path, zoom=2.0).K[:, 1, 1], torch.full((FRAMES,), 2 * FOCAL))
    torch.testing.assert_close(path_fov(path, 90.0, 3.0).K[:, 1, 1], torch.full((FRAMES,), 1.5))
    assert torch.equal(wide.c2w, path.c2w)


@pytest.mark.parametrize(("fov", "zoom"), [(0.0, 1.0), (180.0, 1.0), (None, 0.0), (None, math.nan)])
def test_impossible_fields_of_view_are_refused(fov, zoom):
    with pytest.raises(ValueError, match=r"must be a (vertical angle|positive multiple)"):
        path_fov(follow(), fov, zoom)


def test_edits_follow_each_other_and_change_nothing_by_default():
    path = follow()
    assert torch.equal(edit_path(path).c2w, path.c2w)
    edited = edit_path(path, trim=(2, 4), reverse=True, frames=9, zoom=2.0)
    expected = resample_path(reverse_path(path[2:20]), 9)
    torch.testing.assert_close(edited.c2w, expected.c2w)
    torch.testing.assert_close(edited.K, path_fov(expected, zoom=2.0).K)


def two_paths():
    return make_trajectory("orbit", ring(), 30, degrees=50, reference=1), make_trajectory("dolly", ring(), 30)


@pytest.mark.parametrize("order", [1, -1])
def test_a_blend_has_no_jump(order):
    first, second = two_paths()[::order]
    joined = join_paths(first, second, blend=40)
    assert len(joined) == 100
    torch.testing.assert_close(joined.c2w[:30], first.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(joined.c2w[70:], second.c2w, atol=1e-5, rtol=0)
    steps = joined.centers.double().diff(dim=0)
    changes = steps.diff(dim=0).norm(dim=-1)
    own = torch.cat([steps[:29], steps[70:]]).norm(dim=-1).max()
    assert float(changes.max()) < 0.2 * float(own)
    turns = joined.forward.diff(dim=0)
    assert float(turns.diff(dim=0).norm(dim=-1).max()) < 0.01


def test_a_long_blend_does_not_swing_out():
    first, second = two_paths()
    joined = join_paths(first, second, blend=1000).centers
    between = torch.cat([first.centers, second.centers])
    room = 8 * first.centers.diff(dim=0).norm(dim=-1).max()
    assert bool((joined > between.amin(0) - room).all() and (joined < between.amax(0) + room).all())


def test_without_blend_a_camera_at_which_paths_meet_is_there_once():
    path = follow()
    whole = join_paths(path[:11], path[10:])
    torch.testing.assert_close(whole.c2w, path.c2w, atol=1e-5, rtol=0)
    assert len(join_paths(path[:11], path[11:])) == FRAMES
    assert len(join_paths(path[:11], path[10:], blend=3)) == FRAMES + 4


def test_a_blend_zooms_too():
    path = ring()[[0]]
    focal = join_paths(path, path_fov(path, zoom=2.0), blend=9).K[:, 1, 1]
    assert bool((focal.diff() > 0).all())
    assert float(focal[5]) == pytest.approx(1.5 * FOCAL, rel=1e-4)


def test_paths_for_pictures_of_other_sizes_are_not_joined():
    with pytest.raises(ValueError, match=r"\(48, 64\) and \(32, 64\)"):
        join_paths(ring(), ring().replace(size=(32, 64)))
    with pytest.raises(ValueError, match="blend must be 0"):
        join_paths(ring(), ring(), blend=-1)
