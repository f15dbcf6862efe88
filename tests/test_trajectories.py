import json
import math

import pytest
import torch

from scenetok_core.camera import pose_distance
from scenetok_core.trajectories import (
    PRESETS,
    estimate_up,
    focus_point,
    keyframes,
    keyframes_from_json,
    make_trajectory,
    orbit,
    preset_options,
)
from scenetok_core.trajectories.framing import look_at
from scenetok_core.trajectories.splines import Keys, path_lengths, quaternion_from_matrix, rotation_about
from scenetok_core.types import Cameras
from tests.paths import EYE, FOCAL, PIVOT, SIZE, UP, looking_at, make_cameras, ring, walk

FRAMES = 24


def panorama(count=8, degrees=360.0, at=(3.0, 1.0, 1.6)) -> Cameras:
    """One place, turning about the vertical."""
    start = look_at(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), UP, EYE)
    turn = rotation_about(UP, torch.arange(count) * math.radians(degrees) / count)
    return make_cameras(torch.tensor([at]).repeat(count, 1), turn @ start)


def overhead(count=4) -> Cameras:
    """Looking straight down from a drone that also turns."""
    start = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    position = torch.tensor([[x, 0.1 * x, 4.0] for x in range(count)])
    return make_cameras(position, rotation_about(UP, torch.arange(count) * 0.4) @ start)


SETS = {
    "ring": ring(),
    "walk": walk(),
    "panorama": panorama(),
    "two": ring(2, degrees=40),
    "one": ring(1),
    "same camera twice": ring(1)[[0, 0]],
    "straight ahead": make_cameras([[0, 0, z / 3] for z in range(4)], EYE),
    "straight down": overhead(),
}
every_set = pytest.mark.parametrize("cameras", SETS.values(), ids=SETS.keys())
every_preset = pytest.mark.parametrize("preset", PRESETS)


def assert_rotations(cameras: Cameras):
    rotation = cameras.c2w[..., :3, :3].double()
    torch.testing.assert_close(rotation @ rotation.mT, EYE.expand_as(rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(cameras)).double(), atol=1e-5, rtol=0)


def as_keys(cameras: Cameras) -> Keys:
    return Keys(cameras.centers.double(), quaternion_from_matrix(cameras.c2w[:, :3, :3]), cameras.K.double())


def assert_constant_pace(path: Cameras):
    """Steps within 2 %, but for the few that cut the corner where the rotation takes another direction at a key."""
    steps = path_lengths(as_keys(path))
    uneven = (steps / steps.mean() - 1).abs()
    assert float(uneven.quantile(0.99)) < 0.02
    assert float(uneven.max()) < 0.05


def from_pivot(cameras: Cameras, pivot=PIVOT):
    return cameras.centers.double() - pivot


@every_set
@every_preset
@pytest.mark.parametrize("frames", [1, FRAMES])
def test_every_path_is_made_of_real_cameras(preset, cameras, frames):
    path = make_trajectory(preset, cameras, frames)
    assert len(path) == frames
    assert path.size == SIZE
    assert_rotations(path)
    if preset != "zoom":
        torch.testing.assert_close(path.K, cameras.K[:1].expand(frames, 3, 3))


@every_preset
@pytest.mark.parametrize("name", ["ring", "walk", "two", "straight ahead"])
@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_paths_scale_with_the_capture(preset, name, unit):
    cameras = SETS[name]
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= unit
    path, scaled = make_trajectory(preset, cameras, FRAMES), make_trajectory(preset, cameras.replace(c2w=c2w), FRAMES)
    extent = float(path.centers.abs().max())
    torch.testing.assert_close(scaled.centers / unit, path.centers, atol=2e-5 * extent, rtol=0)
    torch.testing.assert_close(scaled.c2w[:, :3, :3], path.c2w[:, :3, :3], atol=2e-5, rtol=0)


@every_preset
def test_paths_leave_the_inputs_alone(preset):
    cameras = walk()
    before = cameras.c2w.clone(), cameras.K.clone()
    make_trajectory(preset, cameras, 3)
    assert torch.equal(cameras.c2w, before[0])
    assert torch.equal(cameras.K, before[1])


@pytest.mark.parametrize("name", ["ring", "walk", "panorama", "two", "straight down"])
def test_up_is_the_vertical_of_level_cameras(name):
    assert float(estimate_up(SETS[name]).double() @ UP) > 0.995


def test_up_ignores_the_pitch_of_the_cameras():
    pitched = ring(height=6.0, degrees=90)
    mean_y = torch.nn.functional.normalize(-pitched.c2w[:, :3, 1].mean(0), dim=0)
    assert float(mean_y.double() @ UP) < 0.6
    torch.testing.assert_close(estimate_up(pitched).double(), UP, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["one", "straight ahead"])
def test_up_falls_back_to_the_pictures_up(name):
    cameras = SETS[name]
    torch.testing.assert_close(estimate_up(cameras), -cameras.c2w[0, :3, 1])


@pytest.mark.parametrize("name", ["ring", "two"])
def test_focus_is_where_the_rays_meet(name):
    torch.testing.assert_close(focus_point(SETS[name]).double(), PIVOT, atol=1e-5, rtol=0)


def test_focus_of_parallel_rays_is_ahead_of_the_whole_walk():
    focus = focus_point(SETS["straight ahead"])
    torch.testing.assert_close(focus, torch.tensor([0.0, 0.0, 0.5 + 1.0]))


def test_focus_of_a_walk_is_close_before_its_middle_view():
    """Rays that pass each other by far have a nearest point, but nobody looks at it."""
    turns = rotation_about(UP, torch.linspace(-1.5, 1.5, 11)) @ look_at(
        torch.zeros(3), torch.tensor([1.0, 0, -0.4]), UP, EYE
    )
    cameras = make_cameras([[0.4 * i, 0.1 * i, 1.6] for i in range(11)], turns)
    extent = float((cameras.centers[-1] - cameras.centers[0]).norm())
    torch.testing.assert_close(focus_point(cameras), cameras.centers[5] + 0.25 * extent * cameras.forward[5])


def test_focus_behind_the_cameras_is_refused():
    outward = ring().c2w.clone()
    outward[:, :3, :3] = outward[:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    cameras = ring().replace(c2w=outward)
    ahead = ((focus_point(cameras) - cameras.centers) * cameras.forward).sum(-1)
    assert bool((ahead > 0).double().mean() > 0.7)
    assert float((focus_point(cameras).double() - PIVOT).norm()) > 1


@every_set
def test_focus_is_finite_and_before_the_middle_view(cameras):
    path = orbit(cameras, 1)
    assert float((focus_point(cameras) - path.centers[0]) @ path.forward[0]) > 0.1


@pytest.mark.parametrize("preset", ["orbit", "arc"])
@pytest.mark.parametrize("reference", [0, 3])
def test_orbit_is_a_true_circle_around_the_focus(preset, reference):
    cameras = ring()
    path = make_trajectory(preset, cameras, FRAMES, reference=reference)
    offset = from_pivot(path)
    distance = offset.norm(dim=-1)
    torch.testing.assert_close(distance, distance[:1].expand(FRAMES), rtol=1e-5, atol=0)
    torch.testing.assert_close(offset @ UP, (offset @ UP)[:1].expand(FRAMES), rtol=1e-4, atol=0)
    torch.testing.assert_close(path.forward.double(), -offset / distance[:, None], atol=1e-5, rtol=0)
    torch.testing.assert_close(path.c2w[0], cameras.c2w[reference], atol=1e-4, rtol=0)


def test_orbit_steps_are_equal_and_the_turn_closes_without_repeating():
    centers = orbit(ring(), FRAMES).centers
    steps = (centers - centers.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1].expand(FRAMES), rtol=1e-4, atol=0)


@pytest.mark.parametrize("degrees", [30.0, -90.0, 180.0])
def test_part_of_an_orbit_ends_at_its_angle_to_the_right(degrees):
    path = orbit(ring(), FRAMES, degrees=degrees)
    ends = from_pivot(path)[[0, -1]] - from_pivot(path)[[0, -1]] @ UP[:, None] * UP
    angle = torch.atan2(torch.linalg.cross(ends[0], ends[1]) @ UP, ends[0] @ ends[1])
    assert math.isclose(abs(float(angle)), math.radians(abs(degrees)), rel_tol=1e-4)
    sideways = (path.centers[1] - path.centers[0]) @ path.c2w[0, :3, 0]
    assert float(sideways) * degrees > 0


def test_arc_swings_to_both_sides_by_half_its_angle():
    cameras = ring(height=0.0)
    path = make_trajectory("arc", cameras, FRAMES, degrees=60.0)
    turn = (path.forward @ path.forward[0]).clamp(-1, 1).arccos().rad2deg()
    assert math.isclose(float(turn.max()), 30.0, abs_tol=0.1)
    back = make_trajectory("arc", cameras, FRAMES, degrees=-60.0)
    torch.testing.assert_close(path.c2w[1:], back.c2w[1:].flip(0), atol=1e-6, rtol=0)


def test_focus_distance_sets_the_pivot():
    path = orbit(walk(), FRAMES, reference=2, focus_distance=0.5)
    pivot = walk().centers[2] + 0.5 * walk().forward[2]
    torch.testing.assert_close((path.centers - pivot).norm(dim=-1), torch.full((FRAMES,), 0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("distance", [0.5, -0.25])
def test_dolly_moves_along_the_view_by_a_share_of_the_focus_distance(distance):
    cameras = ring()
    path = make_trajectory("dolly", cameras, FRAMES, distance=distance, reference=1)
    focus = (focus_point(cameras) - cameras.centers[1]).norm()
    moved = path.centers - cameras.centers[1]
    expected = torch.linspace(0, 1, FRAMES)[:, None] * distance * focus * cameras.forward[1]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.c2w[:, :3, :3], cameras.c2w[1, :3, :3].expand(FRAMES, 3, 3))


@pytest.mark.parametrize(("preset", "axis"), [("pan", 0), ("tilt", 1)])
@pytest.mark.parametrize("degrees", [40.0, -20.0])
def test_pan_turns_right_and_tilt_turns_up_in_place(preset, axis, degrees):
    cameras = ring(height=0.0)
    path = make_trajectory(preset, cameras, FRAMES, degrees=degrees, reference=0)
    torch.testing.assert_close(path.centers, cameras.centers[:1].expand(FRAMES, 3))
    seen = cameras.c2w[0, :3, :3].T @ path.forward[-1]
    expected = torch.zeros(3)
    expected[axis] = math.sin(math.radians(degrees)) * (1 if preset == "pan" else -1)
    expected[2] = math.cos(math.radians(degrees))
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)


def test_spiral_winds_around_the_line_to_the_focus():
    cameras = ring()
    path = make_trajectory("spiral", cameras, 201, radius=0.3, turns=2.0, forward=0.4, reference=4)
    start = cameras.centers[4].double()
    line = PIVOT - start
    along = (path.centers.double() - start) @ line / line.square().sum()
    aside = (path.centers.double() - start - along[:, None] * line).norm(dim=-1) / line.norm()
    torch.testing.assert_close(along, torch.linspace(0, 0.4, 201).double(), atol=1e-4, rtol=0)
    assert math.isclose(float(aside.max()), 0.3, rel_tol=1e-3)
    assert float(aside[[0, -1]].max()) < 1e-4
    toward = torch.nn.functional.normalize(-from_pivot(path), dim=-1)
    torch.testing.assert_close(path.forward.double(), toward, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", ["follow", "keyframes"])
@every_set
def test_follow_and_keyframes_start_and_end_at_the_inputs(preset, cameras):
    path = make_trajectory(preset, cameras, FRAMES)
    torch.testing.assert_close(path.c2w[0], cameras.c2w[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.c2w[-1], cameras.c2w[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", ["follow", "keyframes"])
@pytest.mark.parametrize("name", ["ring", "walk", "panorama", "two"])
def test_follow_and_keyframes_keep_a_constant_pace(preset, name):
    path = make_trajectory(preset, SETS[name], 400)
    assert_constant_pace(path)


def test_follow_takes_the_shake_out_but_stays_close():
    shaky, dense = walk(40), 400
    rough, smooth = (make_trajectory("follow", shaky, dense, smoothing=s).centers for s in (0.0, 0.03))
    assert float(smooth.diff(n=2, dim=0).norm(dim=-1).mean()) < 0.3 * float(rough.diff(n=2, dim=0).norm(dim=-1).mean())
    assert float(torch.cdist(shaky.centers, smooth).amin(dim=1).max()) < 0.15


def test_follow_keeps_a_straight_line_straight():
    path = make_trajectory("follow", SETS["straight ahead"], 11, smoothing=0.1)
    torch.testing.assert_close(path.centers[:, 2], torch.linspace(0, 1, 11), atol=1e-4, rtol=0)


@pytest.mark.parametrize("loop", [False, True])
def test_keyframes_pass_through_every_key(loop):
    keys = ring(5, degrees=200)
    path = keyframes(keys, 3000, loop=loop)
    nearest = pose_distance(torch.cat([keys.c2w, path.c2w]).double())[: len(keys), len(keys) :].amin(dim=1).sqrt()
    assert float(nearest.max()) < 0.01


def test_looping_keyframes_close_smoothly_without_repeating():
    path = keyframes(ring(6, degrees=300), 300, loop=True)
    assert_constant_pace(path[[*range(300), 0]])


def test_looping_through_two_keys_comes_back_the_same_way():
    path = keyframes(ring(2, degrees=50), 8, loop=True).c2w
    torch.testing.assert_close(path[1:], path[1:].flip(0), atol=1e-5, rtol=0)


def test_a_repeated_key_takes_no_time_and_a_single_key_stands_still():
    keys = ring(3)
    with_repeat = keyframes([keys[[0]], keys[[1, 1]], keys[[2]]], FRAMES)
    assert float((with_repeat.centers.diff(dim=0).norm(dim=-1)).min()) > 0.05
    still = keyframes(keys[[1]], FRAMES)
    torch.testing.assert_close(still.c2w, keys.c2w[[1]].expand(FRAMES, 4, 4), atol=1e-6, rtol=0)


def test_keyframes_zoom_on_one_spot():
    wide, tele = make_cameras([[1.0, 2, 3]], EYE, focal=0.5), make_cameras([[1.0, 2, 3]], EYE, focal=2.0)
    focal = keyframes([wide, tele], FRAMES).K[:, 1, 1]
    assert math.isclose(float(focal[0]), 0.5) and math.isclose(float(focal[-1]), 2.0)
    assert bool((focal.diff() > 0).all())


@pytest.mark.parametrize("preset", ["follow", "keyframes"])
def test_half_turns_stay_level(preset):
    path = make_trajectory(preset, panorama(3, degrees=540.0), 90)
    assert_rotations(path)
    assert float(path.c2w[:, 2, 0].abs().max()) < 1e-4


def test_json_keys_of_every_form():
    cameras = ring()
    matrix = cameras.c2w[2].tolist()
    entries = [
        {"view": 1},
        {"c2w": matrix, "fov": 60},
        {"position": [3, 0, 1], "look_at": PIVOT.tolist(), "fov": 90.0},
    ]
    keys = keyframes_from_json(json.dumps(entries), cameras)
    assert len(keys) == 3 and keys.size == SIZE
    torch.testing.assert_close(keys.c2w[:2], cameras.c2w[1:3])
    torch.testing.assert_close(keys.c2w[2], looking_at([[3, 0, 1]]).c2w[0], atol=1e-5, rtol=0)
    focal = torch.tensor([FOCAL, 0.5 / math.tan(math.radians(30)), 0.5])
    torch.testing.assert_close(keys.K[:, 1, 1], focal)
    torch.testing.assert_close(keys.K[:, 0, 0] * SIZE[1], focal * SIZE[0])
    path = make_trajectory("keyframes", cameras, 5, keys=json.dumps(entries), loop=True)
    torch.testing.assert_close(path.c2w[0], cameras.c2w[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "not valid JSON"),
        ("{}", "must be a JSON list"),
        ("[]", "non-empty JSON list"),
        ('[{"view": 0}, {"view": 99}]', "keyframe 1: view must be .* between 0 and 8, got 99"),
        ('[{"view": true}]', "keyframe 0: view must"),
        ('[{"view": 0}, 7]', "keyframe 1: expected"),
        ('[{"eye": [0, 0, 0]}]', "keyframe 0: expected"),
        ('[{"position": [0, 0, 0]}]', "keyframe 0: needs .*look_at"),
        ('[{"view": 0, "roll": 3}]', "keyframe 0: needs .*view.* got .*roll"),
        ('[{"position": [0, 0], "look_at": [1, 1, 1]}]', "keyframe 0: position must hold 3 numbers"),
        ('[{"position": [1, 1, 1], "look_at": [1, 1, 1]}]', "keyframe 0: .*same point"),
        ('[{"position": ["a", 1, 1], "look_at": [1, 1, 1]}]', "keyframe 0: "),
        ('[{"position": [NaN, 1, 1], "look_at": [1, 1, 1]}]', "keyframe 0: .*NaN"),
        ('[{"c2w": [[1, 0], [0, 1]]}]', "keyframe 0: c2w must hold 4 x 4"),
        (json.dumps([{"c2w": (2 * torch.eye(4)).tolist()}]), "keyframe 0: .*not a rotation"),
        ('[{"view": 0, "fov": 180}]', "keyframe 0: fov must be"),
    ],
)
def test_broken_json_keys_name_the_entry(text, message):
    with pytest.raises(ValueError, match=message):
        keyframes_from_json(text, ring())


@every_preset
def test_zero_frames_are_refused(preset):
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        make_trajectory(preset, ring(), 0)


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("zoomies", {}, "unknown trajectory 'zoomies'.*follow.*orbit"),
        ("orbit", {"turns": 2}, "no option turns.*degrees.*speed"),
        ("orbit", {"reference": 9}, "between 0 and 8, got 9"),
        ("orbit", {"focus_distance": 0.0}, "positive length"),
        ("spiral", {"forward": 1.0}, "below 1"),
        ("follow", {"smoothing": -1.0}, "smoothing"),
        ("dolly", {"distance": math.nan}, "NaN"),
    ],
)
def test_bad_options_are_refused(preset, options, message):
    with pytest.raises(ValueError, match=message):
        make_trajectory(preset, ring(), 4, **options)


@every_preset
def test_several_scenes_are_refused(preset):
    batch = Cameras(ring().c2w[None].repeat(2, 1, 1, 1), ring().K[None].repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match="one scene"):
        make_trajectory(preset, batch, 4)


def test_no_keys_are_refused():
    with pytest.raises(ValueError, match="at least one key"):
        keyframes([], 4)


def test_options_of_a_preset_are_listed_with_their_defaults():
    assert preset_options("orbit") == {"degrees": 360.0, "reference": None, "focus_distance": None}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@every_preset
def test_paths_stay_on_the_device_of_their_cameras(preset):
    given = ring().to("cuda")
    on_gpu, on_cpu = make_trajectory(preset, given, 5), make_trajectory(preset, ring(), 5)
    assert (on_gpu.c2w.device, on_gpu.K.device) == (given.c2w.device, given.c2w.device)
    torch.testing.assert_close(on_gpu.c2w.cpu(), on_cpu.c2w)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_keys_are_read_to_the_device_of_their_cameras():
    text = '[{"position": [3, 0, 1], "look_at": [0, 0, 0]}, {"view": 1, "fov": 50}]'
    assert keyframes_from_json(text, ring().to("cuda")).c2w.is_cuda
