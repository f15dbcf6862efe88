"""Measures against cases that can be computed by hand."""

import math

import pytest
import torch
from torch import nn

from scenetok_core.camera import ray_map
from scenetok_core.trajectories.splines import rotation_about
from scenetok_core.types import Cameras, Views
from tests import small
from training.cases import Case
from training.extras import Extras, LeftOut
from training.measures.availability import UnavailableError, require_hub_file, require_module
from training.measures.calibration import calibration, prediction_error_factor, rank_correlation
from training.measures.depth import align_inverse, best_constant, depth_errors
from training.measures.flicker import flicker, second_difference
from training.measures.perceptual import FrechetDistance, Lpips
from training.measures.pose_estimators import PoseEstimate, SiftEstimator, VggtEstimator, choose_estimator
from training.measures.pose_search import OffsetGrid, OffsetSearch, offset_cameras
from training.measures.poses import (
    FAILED_DEGREES,
    pairs,
    pose_auc,
    relative_of,
    relative_pose_errors,
    rotation_angles,
    trajectory_errors,
)
from training.protocol import PROTOCOLS
from training.scores import GENERATED, Scores

X, Y, Z = torch.eye(3)


def turned(axis, *degrees):
    return rotation_about(axis, torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))


def poses(centres, rotations=None):
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(centres), 1, 1)
    c2w[:, :3, 3] = torch.tensor(centres, dtype=torch.float64)
    if rotations is not None:
        c2w[:, :3, :3] = rotations
    return c2w


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Poses


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 10.0, 90.0, 179.0, 180.0])
def test_angles_between_rotations(degrees):
    base = turned(Z, 33)[0]
    assert float(rotation_angles(base @ turned(X, degrees)[0], base)) == pytest.approx(degrees, rel=1e-4, abs=1e-6)


def test_relative_poses_are_compared_by_their_worse_half():
    truth = poses([[0, 0, 0], [1, 0, 0]])
    assert float(relative_pose_errors(relative_of(truth), truth)) == pytest.approx(0, abs=1e-6)
    rolled = poses([[0, 0, 0], [5, 0, 0]], turned(Z, 0, 10))  # the unit of translation does not matter
    assert float(relative_pose_errors(relative_of(rolled), truth)) == pytest.approx(10)
    aside = poses([[0, 0, 0], [math.cos(math.radians(25)), math.sin(math.radians(25)), 0]], turned(Z, 0, 10))
    assert float(relative_pose_errors(relative_of(aside), truth)) == pytest.approx(25)


def test_the_sign_of_a_direction_counts_only_where_asked():
    truth, behind = poses([[0, 0, 0], [1, 0, 0]]), poses([[0, 0, 0], [-1, 0, 0]])
    assert float(relative_pose_errors(relative_of(behind), truth)) == pytest.approx(0, abs=1e-6)
    assert float(relative_pose_errors(relative_of(behind), truth, signed=True)) == pytest.approx(180)


def test_pairs_without_estimate_or_without_distance():
    truth = poses([[0, 0, 0], [0, 0, 1e-3], [1, 0, 0]])
    found = relative_of(truth)
    found[0, :3, 3] = torch.tensor([1.0, 0, 0])  # across: no error, the two stand in one place
    found[1] = torch.nan
    found[2, :3, 3] = 0  # no movement where there is one
    assert relative_pose_errors(found, truth).tolist() == pytest.approx([0, FAILED_DEGREES, 90], abs=1e-6)
    assert pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_the_area_under_the_curve_is_exact():
    errors = torch.tensor([0.0, 15.0, 30.0, 45.0])
    assert pose_auc(errors, 30) == pytest.approx((1 + 0.5) / 4)
    assert pose_auc(errors, 60) == pytest.approx((1 + 0.75 + 0.5 + 0.25) / 4)


def test_a_trajectory_in_another_frame_and_unit_has_no_error():
    centres = [[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 1, 3]]
    truth = poses(centres, turned(Y, 0, 20, 40, 60))
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3], world[:3, 3] = turned(X + Y, 70)[0], torch.tensor([5.0, -3, 2])
    other = world @ truth
    other[:, :3, 3] *= 0.01
    errors = trajectory_errors(other, truth)
    assert (errors.rotation_degrees, errors.translation) == pytest.approx((0, 0), abs=1e-5)


def test_a_straight_walk_does_not_hide_a_turned_frame():
    """Its centres alone leave the rotation about the line open."""
    truth = poses([[i, 0, 0] for i in range(4)], turned(Y, 0, 5, 10, 15))
    errors = trajectory_errors(torch.block_diag(turned(X, 120)[0], torch.eye(1)).double() @ truth, truth)
    assert errors.rotation_degrees == pytest.approx(0, abs=1e-5)


def test_a_mirrored_trajectory_is_another_one():
    centres = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    mirrored = poses((centres * torch.tensor([-1, 1, 1])).tolist())
    assert trajectory_errors(mirrored, poses(centres.tolist())).translation > 0.3


def test_known_errors_of_trajectories():
    corners = [[1, 1, 0], [-1, 1, 0], [1, -1, 0], [-1, -1, 0]]
    flat = [[x, 0, 0] for x, _, _ in corners]
    truth = poses(corners)
    assert trajectory_errors(poses(flat), truth).translation == pytest.approx(math.sqrt(0.5))
    assert trajectory_errors(poses([[2, 2, 2]] * 4), truth).translation == pytest.approx(1)
    swaying = poses(corners, turned(Y, 10, -10, 10, -10))
    assert trajectory_errors(swaying, truth).rotation_degrees == pytest.approx(10)
    assert math.isnan(trajectory_errors(truth, poses([[0, 0, 0]] * 4)).translation)
    with pytest.raises(ValueError, match="trajectories must both be"):
        trajectory_errors(truth[:1], truth[:1])


def wall(cameras):
    """A coloured wall at z = 3, whatever the camera."""
    origins, directions = ray_map(cameras.c2w, cameras.K, (24, 24))
    points = origins + directions * ((3 - origins[:, 2:]) / directions[:, 2:])
    return 0.5 + 0.5 * torch.sin(points * torch.tensor([3.0, 4.0, 1.0])[:, None, None])


def test_offsets_are_those_of_the_camera_and_not_of_the_world():
    c2w = torch.eye(4)
    c2w[:3, :3], c2w[:3, 3] = turned(Y, 90)[0].float(), torch.tensor([1.0, 2, 3])
    camera = Cameras(c2w[None], torch.eye(3)[None])
    tilt, turn, right, down, forward = offset_cameras(camera, OffsetGrid((10.0,), (0.5,)))
    for moved, axis in zip((right, down, forward), range(3), strict=True):
        assert torch.allclose(moved.centers[0], camera.centers[0] + 0.5 * c2w[:3, axis])
        assert torch.allclose(moved.c2w[0, :3, :3], c2w[:3, :3])
    for rotated, axis in ((tilt, 0), (turn, 1)):
        assert torch.allclose(rotated.centers, camera.centers)
        assert torch.allclose(rotated.c2w[0, :3, axis], c2w[:3, axis])
        assert float(rotation_angles(rotated.c2w[0, :3, :3], c2w[:3, :3])) == pytest.approx(10, rel=1e-4)


def test_the_offset_of_a_picture_is_found():
    camera = Cameras(torch.eye(4)[None], torch.tensor([[[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]]))
    search = OffsetSearch.around(camera, wall)
    offset = offset_cameras(camera, OffsetGrid((15.0,), (-0.2,)))
    assert [search.match(picture).degrees for picture in wall(offset)[:2]] == [15, 15]
    assert [search.match(picture).units for picture in wall(offset)[2:]] == pytest.approx([0.2] * 3)
    assert search.match(wall(camera)[0]).degrees == 0
    assert search.match(wall(offset)[0], within_degrees=8).degrees <= 8 * math.sqrt(2)


@pytest.fixture(scope="module")
def walk():
    """Three frames of a walk through a room, large enough for feature points."""
    protocol = PROTOCOLS["tiny"]
    rooms = protocol.rooms(SiftEstimator.smallest_side, 12)
    room = rooms.scenes(protocol.first_seed, 1)
    cameras = rooms.walk(room, protocol.first_seed)
    cameras = cameras.replace(c2w=cameras.c2w[:, :3], K=cameras.K[:, :3])
    return Views(rooms.render(room, cameras)[0][0], cameras.replace(c2w=cameras.c2w[0], K=cameras.K[0]))


def test_sift_finds_the_poses_of_true_pictures(walk):
    pytest.importorskip("cv2", reason="needs opencv-python-headless (extra eval)")
    rgb, c2w, K = walk.rgb, walk.cameras.c2w, walk.cameras.K
    found = SiftEstimator().estimate(rgb, K)
    assert found.c2w is None and found.relative.shape == (3, 4, 4)
    assert pose_auc(relative_pose_errors(found.relative, c2w, signed=True), 30) > 0.6
    again = SiftEstimator().estimate(rgb, K)
    assert torch.equal(found.relative, again.relative)
    blank = SiftEstimator().estimate(torch.full_like(rgb, 0.5), K)
    assert relative_pose_errors(blank.relative, c2w).tolist() == [FAILED_DEGREES] * 3


def test_what_posed_pairs_cannot_tell_is_left_out(walk):
    pytest.importorskip("cv2", reason="needs opencv-python-headless (extra eval)")
    left_out, scores = LeftOut(), Scores()
    extras = Extras(("sample",), SiftEstimator.smallest_side, torch.device("cpu"), left_out)
    extras.add(scores, Case("walk", 0, walk, walk), {"sample": walk.rgb}, {})
    figures = extras.figures(scores)
    if figures["tps_poses_by"] != "SIFT":
        pytest.skip("VGGT is installed and tells everything")
    assert figures["sample_tps_auc_30"] == figures["truth_tps_auc_30"] > 0.6
    assert "pairs" in left_out["ATE_r, ATE_t"]


def test_small_pictures_have_no_estimator_and_the_reason_names_what_is_missing():
    try:
        require_module("vggt.models.vggt")
    except UnavailableError:
        with pytest.raises(UnavailableError, match="vggt"):
            VggtEstimator()
        with pytest.raises(UnavailableError, match=r"facebookresearch/vggt; or .*(256 pixels, these have 64|cv2)"):
            choose_estimator(64)
    else:
        pytest.skip("VGGT is installed and takes pictures of any size")


# Depth, time, uncertainty


def test_relative_depth_is_aligned_by_a_factor_and_an_offset_of_its_inverse():
    truth = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    given = 1 / (torch.tensor([3.0, 0.2]).view(2, 1, 1) / truth + torch.tensor([1.0, 5.0]).view(2, 1, 1))
    holes = truth.clone()
    holes[:, 0] = 0
    for known in (truth, holes):
        torch.testing.assert_close(align_inverse(given, known), truth, rtol=1e-3, atol=0)
    flat = align_inverse(torch.ones_like(truth), truth)
    assert flat.isfinite().all() and torch.allclose(1 / flat, (1 / truth).mean((1, 2), keepdim=True), rtol=1e-4)


def test_no_constant_depth_is_better_than_the_best_one():
    truth = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(1)) * 5 + 0.2
    truth[0, 0, 0] = 0
    error = float(depth_errors(best_constant(truth).expand_as(truth), truth).abs_rel)
    others = [
        float(depth_errors(torch.full_like(truth, d), truth).abs_rel) for d in torch.linspace(0.2, 5.2, 300).tolist()
    ]
    assert error <= min(others) + 1e-9
    assert error < float(depth_errors(truth.median().expand_as(truth), truth).abs_rel)


def test_depth_errors_by_hand():
    truth = torch.tensor([[[1.0, 2.0], [4.0, torch.inf]]])
    errors = depth_errors(torch.tensor([[[1.0, 1.0], [5.0, 9.0]]]), truth)
    assert float(errors.abs_rel) == pytest.approx((0 + 0.5 + 0.25) / 3)
    assert float(errors.delta) == pytest.approx(1 / 3)  # a factor of exactly 1.25 is no inlier
    nothing = depth_errors(torch.zeros(1, 2, 2), truth)
    assert (float(nothing.abs_rel), float(nothing.delta)) == (1, 0)
    assert depth_errors(truth, torch.zeros(1, 2, 2)).abs_rel.isnan().all()
    with pytest.raises(ValueError, match="depth maps must both be"):
        depth_errors(truth, truth[0])


def test_median_scaling_forgives_a_factor_for_each_map():
    truth = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0)) + 1
    scaled = truth * torch.tensor([3.0, 0.2])[:, None, None]
    assert depth_errors(scaled, truth).delta.tolist() == [0, 0]
    errors = depth_errors(scaled, truth, median_scaling=True)
    assert errors.abs_rel.tolist() == pytest.approx([0, 0], abs=1e-6)
    assert errors.delta.tolist() == [1, 1]


def test_flicker_is_what_the_truth_has_not():
    ramp = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 4, 4)
    blinking = torch.tensor([0.0, 1, 0, 1])[:, None, None, None].expand(4, 3, 4, 4)
    assert second_difference(ramp) == pytest.approx(0, abs=1e-12)
    assert second_difference(blinking) == pytest.approx(4)
    assert flicker(blinking, blinking) == 0
    assert flicker(blinking * 0, blinking) == pytest.approx(-4)
    # Independent noise of deviation s adds (1 + 4 + 1) s^2.
    assert flicker(ramp + 0.1 * noise(5, 3, 4, 4), ramp) == pytest.approx(0.06, rel=0.3)
    with pytest.raises(ValueError, match="at least 3 frames"):
        second_difference(ramp[:2])
    with pytest.raises(ValueError, match="one shape"):
        flicker(ramp, blinking)


def test_calibration_bins_by_hand():
    spread = torch.tensor([0.3, 0.1, 0.3, 0.1])
    bins = calibration(spread, torch.tensor([0.3, 0.1, 0.5, 0.1]), bins=2)
    assert bins.spread.tolist() == pytest.approx([0.1, 0.3])
    assert bins.error.tolist() == pytest.approx([0.1, math.sqrt((0.09 + 0.25) / 2)])
    assert bins.count.tolist() == [2, 2]
    assert bins.binned_error == pytest.approx((math.sqrt(0.17) - 0.3) / 2)
    assert calibration(spread, spread, bins=4).binned_error == 0
    with pytest.raises(ValueError, match="at most as many bins as pixels"):
        calibration(spread, spread, bins=5)


def test_samples_of_the_right_distribution_are_calibrated():
    samples, deviation = 4, torch.linspace(0.1, 0.5, 20_000)
    draws = deviation * noise(samples, 20_000)
    predicted = draws.std(0) * prediction_error_factor(samples)
    error = (draws.mean(0) - deviation * noise(20_000, seed=1)).abs()
    whole = calibration(predicted, error, bins=1)
    assert float(whole.spread) == pytest.approx(float(whole.error), rel=0.03)
    assert rank_correlation(predicted, error) > 0.1


def test_rank_correlation_by_hand():
    rising = torch.arange(5.0)
    assert rank_correlation(rising, rising.exp()) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising, torch.ones(5)) == 0
    # Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 * 2 / (4 * 15).
    assert rank_correlation(torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 3, 2, 4])) == pytest.approx(0.8)


# Features


class MeanColour(nn.Module):
    """Three features of a picture: its mean colour in levels."""

    num_features = 3

    def forward(self, pictures):
        return pictures.double().mean((2, 3))


def test_the_frechet_distance_of_shifted_colours_is_the_squared_shift():
    pytest.importorskip("torchmetrics", reason="needs torchmetrics (extra eval)")
    truth = torch.rand(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)).mul(0.7).expand(6, 3, 8, 8)
    distance = FrechetDistance(MeanColour())
    twin = distance.twin()
    distance.update(truth, truth)
    assert distance.compute() == pytest.approx(0, abs=1e-3)
    levels = (truth * 255).round() / 255
    twin.update(levels + torch.tensor([0.0, 51 / 255, 0.0])[:, None, None], truth)
    assert twin.compute() == pytest.approx(51**2, rel=1e-3)
    lonely = distance.twin()
    lonely.update(truth[:1], truth[:1])
    with pytest.raises(UnavailableError, match="at least two pictures"):
        lonely.compute()


@pytest.fixture(scope="module")
def random_lpips():
    """With random weights, because the trained ones are not part of the package."""
    lpips = pytest.importorskip("lpips", reason="needs lpips (extra eval)")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lpips(lpips.LPIPS(net="alex", pnet_rand=True, verbose=False))


def test_lpips_is_zero_for_equal_pictures_and_grows_with_noise(random_lpips):
    truth = torch.rand(18, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    weak, strong = ((truth + share * noise(*truth.shape)).clamp(0, 1) for share in (0.05, 0.5))
    assert random_lpips(truth, truth).tolist() == [0] * 18
    assert (random_lpips(strong, truth) > random_lpips(weak, truth)).all()


class Oracle:
    """Poses pictures by knowing the answer, in a frame and a unit of its own."""

    name, smallest_side, poses_trajectories = "oracle", 1, True

    def __init__(self, c2w):
        world = torch.eye(4).double()
        world[:3, :3] = turned(X, 50)[0]
        self.c2w = world @ c2w.double()
        self.c2w[:, :3, 3] *= 7

    def estimate(self, rgb, K):
        return PoseEstimate(relative_of(self.c2w), self.c2w)


def test_figures_of_everything_that_is_at_hand(random_lpips, monkeypatch):
    pytest.importorskip("torchmetrics", reason="needs torchmetrics (extra eval)")
    truth = small.views(4, (64, 64))
    monkeypatch.setattr(Lpips, "load", lambda device: random_lpips)
    monkeypatch.setattr(FrechetDistance, "load", lambda device: FrechetDistance(MeanColour(), device))
    monkeypatch.setattr("training.extras.choose_estimator", lambda side, device: Oracle(truth.cameras.c2w))
    left_out, scores = LeftOut(), Scores()
    extras = Extras(("sample", GENERATED), 64, torch.device("cpu"), left_out)
    ours = {"sample": truth.rgb, GENERATED: truth.rgb * 0.5}
    extras.add(scores, Case("small", 0, truth, truth), ours, {"nearest": truth.rgb.flip(0)})
    figures = extras.figures(scores)
    assert left_out == {}
    assert figures["sample_lpips"] == 0 < figures["nearest_lpips"]
    assert figures["sample_rfid"] == pytest.approx(0, abs=1e-3)
    assert figures["generated_gfid"] > 100 and "generated_rfid" not in figures
    assert figures["sample_tps_auc_5"] == pytest.approx(1, abs=1e-3)
    assert figures["truth_ate_rotation_degrees"] == pytest.approx(0, abs=1e-3)
    assert figures["truth_ate_translation"] == pytest.approx(0, abs=1e-3)
    assert figures["tps_poses_by"] == "oracle"


def test_what_is_missing_is_named_and_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"no_such_package: pip install -e .*\[eval\]"):
        require_module("no_such_package")
    with pytest.raises(UnavailableError, match=r"no_such\.pth in .*: python -c 'import this' downloads them"):
        require_hub_file("no_such.pth", "import this")
    left_out = LeftOut()
    assert left_out.attempt("LPIPS", Lpips.load) is None
    assert left_out.attempt("rFID", FrechetDistance.load) is None
    assert left_out.attempt("one", lambda: 1) == 1
    assert set(left_out) == {"LPIPS", "rFID"}
    assert list(tmp_path.rglob("*")) == []
