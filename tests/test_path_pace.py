"""Zoom, loop, pace, and the robust pivot and vertical of camera paths."""

import math

import pytest
import torch

from scenetok_core.trajectories import PRESETS, Pace, keyframes, loop, make_trajectory, modifier_options, orbit
from scenetok_core.trajectories.framing import estimate_up, focus_point
from scenetok_core.trajectories.rig import to_keys
from scenetok_core.trajectories.splines import path_lengths, rotation_about
from tests.paths import EYE, PIVOT, UP, looking_at, make_cameras, ring, turned, walk

FRAMES = 24
EASINGS = ("linear", "ease-in", "ease-out", "ease-in-out")
every_preset = pytest.mark.parametrize("preset", PRESETS)
every_easing = pytest.mark.parametrize("easing", EASINGS)


@pytest.mark.parametrize("zoom", [3.0, 0.4])
def test_zoom_changes_the_intrinsics_alone(zoom):
    cameras = ring()
    path = make_trajectory("zoom", cameras, FRAMES, zoom=zoom, reference=2)
    torch.testing.assert_close(path.c2w, cameras.c2w[2].expand(FRAMES, 4, 4), atol=1e-6, rtol=0)
    factor = path.K[:, 1, 1] / cameras.K[2, 1, 1]
    torch.testing.assert_close(factor.log(), torch.linspace(0, math.log(zoom), FRAMES))
    torch.testing.assert_close(path.K[:, 0, 0] / cameras.K[2, 0, 0], factor)
    torch.testing.assert_close(path.K[:, :2, 2], cameras.K[:1, :2, 2].expand(FRAMES, 2))


@pytest.mark.parametrize("zoom", [2.0, 0.5])
def test_a_dolly_zoom_keeps_the_size_of_what_is_at_the_focus(zoom):
    cameras = ring()
    path = make_trajectory("zoom", cameras, FRAMES, zoom=zoom, dolly_zoom=True, reference=4)
    beside = PIVOT + 0.2 * cameras.c2w[4, :3, 0].double()
    local = torch.linalg.inv(path.c2w.double()) @ torch.cat([beside, torch.ones(1)])[:, None].double()
    across = path.K[:, 0, 0].double() * local[:, 0, 0] / local[:, 2, 0]
    torch.testing.assert_close(across, across[:1].expand(FRAMES), atol=1e-5, rtol=0)
    assert float(path.centers.diff(dim=0).norm(dim=-1).min()) > 0


@pytest.mark.parametrize("zoom", [0.0, -1.0, math.nan])
def test_a_zoom_that_is_no_factor_is_refused(zoom):
    with pytest.raises(ValueError, match="zoom must be a positive multiple"):
        make_trajectory("zoom", ring(), 4, zoom=zoom)


def test_a_loop_passes_the_inputs_and_closes_evenly():
    cameras = ring(8, degrees=315)
    path = loop(cameras, 400, smoothing=0)
    assert float(torch.cdist(cameras.centers, path.centers).amin(1).max()) < 0.02
    steps = path_lengths(to_keys(path[[*range(400), 0]]))
    assert float((steps / steps.mean() - 1).abs().quantile(0.99)) < 0.02


def test_a_smoothed_loop_is_calm_where_it_closes_too():
    generator = torch.Generator().manual_seed(1)
    shaken = ring(40, degrees=351).centers.double() + 0.2 * torch.randn(40, 3, generator=generator)

    def sharpest_bend(smoothing):
        steps = loop(looking_at(shaken), 200, smoothing=smoothing)[[*range(195, 200), *range(6)]].centers.diff(dim=0)
        return float(steps.diff(dim=0).norm(dim=-1).max() / steps.norm(dim=-1).mean())

    assert sharpest_bend(0.03) < 0.2 * sharpest_bend(0.0)


@every_easing
@pytest.mark.parametrize("closed", [False, True])
def test_easing_is_monotone_and_keeps_the_ends(easing, closed):
    places = Pace(101, easing=easing).fractions(closed)
    assert bool((places.diff() > 0).all())
    assert float(places[0]) == 0
    assert math.isclose(float(places[-1]), 100 / 101 if closed and easing == "linear" else 1, abs_tol=0.03)
    slow_start, slow_end = places[1] < 0.005, places[-1] - places[-2] < 0.005
    assert (bool(slow_start), bool(slow_end)) == (
        easing in ("ease-in", "ease-in-out"),
        easing in ("ease-out", "ease-in-out"),
    )


def test_ease_in_and_ease_out_mirror_each_other():
    start, end = (Pace(33, easing=easing).fractions() for easing in ("ease-in", "ease-out"))
    torch.testing.assert_close(start, 1 - end.flip(0))
    both = Pace(33, easing="ease-in-out").fractions()
    torch.testing.assert_close(both, 1 - both.flip(0))


@every_preset
def test_an_eased_path_stays_on_its_way(preset):
    cameras = walk()
    plain, eased = make_trajectory(preset, cameras, 3000), make_trajectory(preset, cameras, FRAMES, easing="ease-in")
    apart = torch.cdist(eased.c2w.flatten(1), plain.c2w.flatten(1)).amin(1)
    assert float(apart.max()) < 0.02
    torch.testing.assert_close(eased.c2w[0], plain.c2w[0])


@every_preset
def test_reverse_walks_from_the_end_to_the_start(preset):
    cameras = ring()
    there, back = (make_trajectory(preset, cameras, FRAMES, reverse=reverse) for reverse in (False, True))
    closed = preset in ("arc", "orbit", "loop")
    expected = there.c2w[1:].flip(0) if closed else there.c2w.flip(0)
    torch.testing.assert_close(back.c2w[1:] if closed else back.c2w, expected, atol=1e-5, rtol=0)
    if closed:
        torch.testing.assert_close(back.c2w[0], there.c2w[0], atol=1e-5, rtol=0)


def test_half_the_speed_is_half_the_way():
    whole, half = (make_trajectory("dolly", ring(), 11, speed=speed).centers for speed in (1.0, 0.5))
    torch.testing.assert_close(half[-1] - half[0], (whole[-1] - whole[0]) / 2)


def test_double_speed_waits_at_an_open_end_and_goes_round_again_on_a_closed_path():
    dolly = make_trajectory("dolly", ring(), 11, speed=2.0).centers
    torch.testing.assert_close(dolly[5:], dolly[-1].expand(6, 3))
    turn = orbit(ring(), Pace(24, speed=2.0)).c2w
    torch.testing.assert_close(turn[:12], turn[12:], atol=1e-5, rtol=0)


def test_path_smoothing_takes_shake_out_and_keeps_the_ends():
    rough, calm = (make_trajectory("keyframes", walk(40), 200, path_smoothing=s) for s in (0.0, 0.03))
    assert float(calm.centers.diff(n=2, dim=0).norm(dim=-1).mean()) < 0.3 * float(
        rough.centers.diff(n=2, dim=0).norm(dim=-1).mean()
    )
    torch.testing.assert_close(calm.c2w[[0, -1]], rough.c2w[[0, -1]], atol=1e-5, rtol=0)


def test_cameras_as_keys_are_what_keyframes_pass_through():
    keys = looking_at([[3.0, 0, 1], [2, 2, 1], [0, 3, 1]])
    path = make_trajectory("keyframes", ring(), 7, keys=keys)
    torch.testing.assert_close(path.c2w, keyframes(keys, 7).c2w)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 0.0}, "speed must be a positive number"),
        ({"speed": math.inf}, "speed must be a positive number"),
        ({"easing": "bouncy"}, "unknown easing 'bouncy'.*ease-in-out"),
        ({"path_smoothing": -0.1}, "smoothing must be 0 or a positive fraction"),
    ],
)
def test_bad_modifiers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_trajectory("orbit", ring(), 4, **options)


def test_modifiers_change_nothing_as_they_are():
    plain = make_trajectory("orbit", walk(), 9)
    torch.testing.assert_close(make_trajectory("orbit", walk(), 9, **modifier_options()).c2w, plain.c2w, rtol=0, atol=0)


@pytest.mark.parametrize("degrees", [25.0, 90.0, 170.0])
def test_an_orbit_circles_where_the_rays_meet_though_one_camera_looks_elsewhere(degrees):
    cameras = turned(ring(), 7, degrees, axis=1)
    torch.testing.assert_close(focus_point(cameras).double(), PIVOT, atol=5e-3, rtol=0)
    path = orbit(cameras, FRAMES, reference=1)
    offset = path.centers.double() - PIVOT
    distance = offset.norm(dim=-1)
    torch.testing.assert_close(distance, distance[:1].expand(FRAMES), rtol=5e-3, atol=0)
    assert float(((path.forward.double() * -offset).sum(-1) / distance).min()) > 0.9999


def test_the_pivot_lies_amid_rays_that_barely_miss_each_other():
    generator = torch.Generator().manual_seed(2)
    aims = PIVOT + 0.05 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    cameras = looking_at(ring(30).centers.double(), aims)
    assert float((focus_point(cameras).double() - PIVOT).norm()) < 0.05


def test_up_stays_up_for_pitched_cameras_of_which_some_were_rolled():
    cameras = ring(height=3.0)
    for view in (1, 6):
        cameras = turned(cameras, view, 90.0, axis=2)
    assert float(estimate_up(cameras).double() @ UP) > math.cos(math.radians(1))


def test_up_of_cameras_that_all_look_down_the_same_way_is_that_of_the_ground_they_move_over():
    pitched = rotation_about(torch.tensor([1.0, 0, 0]), torch.tensor([math.radians(-125.0)]))[0]  # 35 degrees down
    position = torch.tensor([[x, y, 1.5] for x in (0.0, 1, 2) for y in (0.0, 1, 2)])
    cameras = make_cameras(position, pitched)
    assert float(-cameras.c2w[0, :3, 1].double() @ UP) == pytest.approx(math.cos(math.radians(35)), abs=1e-4)
    torch.testing.assert_close(estimate_up(cameras).double(), UP, atol=1e-5, rtol=0)


def test_up_before_a_wall_is_that_of_the_pictures():
    position = torch.tensor([[x, y, 0.0] for x in (0.0, 1, 2) for y in (0.0, 1, 2)])
    tilted = rotation_about(torch.tensor([1.0, 0, 0]), torch.tensor([math.radians(20.0)]))[0]
    cameras = make_cameras(position, tilted @ EYE)
    torch.testing.assert_close(estimate_up(cameras), -cameras.c2w[0, :3, 1])
