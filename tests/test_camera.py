"""Camera geometry against slow, obvious formulations."""

import math

import pytest
import torch

from scenetok_core.camera import (
    camera_extent,
    crop_intrinsics,
    fit_cameras,
    fit_image,
    fit_views,
    flip_opengl,
    pose_distance,
    ray_map,
    relative_poses,
    scene_scale,
    to_scene_frame,
)
from scenetok_core.types import Cameras, Views

TOLERANCE = 1e-5


def rotation(yaw, pitch):
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = torch.tensor([[1.0, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return about_y @ about_x


def path(views=4):
    c2w = torch.eye(4).repeat(views, 1, 1)
    for i in range(views):
        c2w[i, :3, :3] = rotation(0.3 * i, 0.1 * i)
        c2w[i, :3, 3] = torch.tensor([0.5 * i, 0.1, -0.2 * i])
    K = torch.tensor([[0.9, 0, 0.48], [0, 1.2, 0.53], [0, 0, 1.0]]).repeat(views, 1, 1)
    return Cameras(c2w, K, size=(48, 64))


def test_rays_pass_through_projected_points():
    cameras = path()
    origins, directions = ray_map(cameras.c2w, cameras.K, (6, 8))
    assert torch.allclose(directions.norm(dim=-3), torch.ones(4, 6, 8), atol=TOLERANCE)
    points = origins + 3.0 * directions
    homogeneous = torch.cat([points.flatten(2), torch.ones(4, 1, 48)], 1)
    local = (torch.linalg.inv(cameras.c2w) @ homogeneous)[:, :3]
    pixels = cameras.K @ local
    x, y = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    want_x = ((torch.arange(8) + 0.5) / 8).repeat(6)
    want_y = ((torch.arange(6) + 0.5) / 6).repeat_interleave(8)
    assert torch.allclose(x, want_x.expand(4, -1), atol=TOLERANCE)
    assert torch.allclose(y, want_y.expand(4, -1), atol=TOLERANCE)


def test_ray_map_leaves_the_callers_tensors_alone():
    cameras = path()
    before = cameras.K.clone()
    ray_map(cameras.c2w, cameras.K, (4, 4))
    assert torch.equal(cameras.K, before)


def test_relative_to_itself_is_identity():
    cameras = path()
    relative = relative_poses(cameras.c2w, cameras.c2w[2])
    assert torch.allclose(relative[2], torch.eye(4), atol=TOLERANCE)
    assert torch.allclose(cameras.c2w[2] @ relative, cameras.c2w, atol=TOLERANCE)


def test_pose_distance_adds_translation_and_angle():
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[1, :3, :3] = rotation(0.7, 0.0)
    c2w[1, :3, 3] = torch.tensor([3.0, 0.0, 4.0])
    assert pose_distance(c2w)[0, 1] == pytest.approx(25 + 0.49, abs=1e-4)


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_auto_scale_makes_units_irrelevant(unit):
    cameras, target = path(), 1.4
    scaled = cameras.replace(c2w=_scaled(cameras.c2w, unit))
    local = to_scene_frame(scaled, scaled.c2w[1], scene_scale(scaled, "auto", target))
    want = to_scene_frame(cameras, cameras.c2w[1], scene_scale(cameras, "auto", target))
    assert torch.allclose(local.c2w, want.c2w, atol=TOLERANCE)
    assert camera_extent(local) == pytest.approx(target, rel=1e-4)


def _scaled(c2w, unit):
    out = c2w.clone()
    out[:, :3, 3] *= unit
    return out


def test_scale_of_turning_cameras_and_other_choices():
    turning = path()
    c2w = turning.c2w.clone()
    c2w[:, :3, 3] = torch.tensor([100.0, 2.0, 3.0])
    turning = turning.replace(c2w=c2w)
    assert scene_scale(turning, "auto", 1.4) == 1.0
    assert scene_scale(path(), "none", 1.4) == 1.0
    assert scene_scale(path(), 0.25, 1.4) == 0.25
    for bad in ("big", 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scene scale must be"):
            scene_scale(path(), bad, 1.4)


@pytest.mark.parametrize(("magnitude", "motion"), [(0.0, 1e-6), (5e5, 3.0), (5e5, 1.0), (1e3, 0.01)])
def test_motion_far_from_the_origin_is_motion(magnitude, motion):
    c2w = torch.eye(4).repeat(40, 1, 1)
    c2w[:, 0, 3] = magnitude + torch.linspace(0, motion, 40)
    cameras = path().replace(c2w=c2w, K=path().K[:1].expand(40, 3, 3))
    assert camera_extent(cameras) == pytest.approx(motion, abs=magnitude * 1e-7 + 1e-12)


@pytest.mark.parametrize("magnitude", [0.0, 1.0, 1e3, 5e5])
def test_rounding_of_float32_poses_is_no_motion(magnitude):
    """Cameras that turn on the spot, stored as world-to-camera poses in float32."""
    center = magnitude * torch.tensor([0.3, -0.8, 0.52], dtype=torch.float64)
    w2c = torch.eye(4, dtype=torch.float64).repeat(40, 1, 1)
    w2c[:, :3, :3] = torch.stack([rotation(0.05 * i, 0.03 * i).double().mT for i in range(40)])
    w2c[:, :3, 3] = -(w2c[:, :3, :3] @ center)
    c2w = torch.linalg.inv(w2c.float())
    assert (c2w[:, :3, 3].unique(dim=0).shape[0] > 1) == (magnitude > 0), "the centres differ by rounding"
    assert camera_extent(path().replace(c2w=c2w, K=path().K[:1].expand(40, 3, 3))) == 0


def test_opengl_flip_is_its_own_inverse_and_turns_the_view():
    c2w = path().c2w
    assert torch.equal(flip_opengl(flip_opengl(c2w)), c2w)
    assert torch.equal(flip_opengl(c2w)[:, :3, 2], -c2w[:, :3, 2])
    assert torch.equal(flip_opengl(c2w)[:, :3, 0], c2w[:, :3, 0])


@pytest.mark.parametrize(("size_in", "size_out"), [((48, 64), (32, 32)), ((30, 20), (32, 32)), ((37, 91), (16, 24))])
def test_crop_keeps_projection_on_the_same_picture_point(size_in, size_out):
    """A bump drawn where a point projects must, after resize and crop, lie where the new intrinsics project it."""
    K = torch.tensor([[1.1, 0, 0.5], [0, 1.1 * size_in[1] / size_in[0], 0.5], [0, 0, 1.0]])
    point = torch.tensor([0.05, -0.03, 1.0])
    x, y = float((K @ point)[0]) * size_in[1], float((K @ point)[1]) * size_in[0]
    rows = torch.arange(size_in[0]) + 0.5
    columns = torch.arange(size_in[1]) + 0.5
    bump = torch.exp(-((rows[:, None] - y) ** 2 + (columns[None] - x) ** 2) / 8).expand(1, 3, -1, -1)
    fitted = fit_image(bump, size_out)[0, 0]
    weights = fitted / fitted.sum()
    got_y = float((weights.sum(1) * (torch.arange(size_out[0]) + 0.5)).sum()) / size_out[0]
    got_x = float((weights.sum(0) * (torch.arange(size_out[1]) + 0.5)).sum()) / size_out[1]
    want = crop_intrinsics(K, size_in, size_out) @ point
    assert got_x == pytest.approx(float(want[0]), abs=0.01)
    assert got_y == pytest.approx(float(want[1]), abs=0.01)


def test_fit_views_and_fit_cameras_agree():
    cameras = path()
    views = fit_views(Views(torch.rand(4, 3, 48, 64), cameras), (32, 32))
    assert views.rgb.shape == (4, 3, 32, 32)
    assert torch.allclose(views.cameras.K, fit_cameras(cameras, (32, 32)).K)
    assert views.cameras.size == (32, 32)
    assert views.rgb.min() >= 0 and views.rgb.max() <= 1


def test_fit_image_keeps_a_constant_and_an_equal_size():
    flat = torch.full((2, 3, 20, 30), 0.37)
    assert torch.allclose(fit_image(flat, (8, 8)), torch.full((2, 3, 8, 8), 0.37), atol=TOLERANCE)
    picture = torch.rand(3, 16, 16)
    assert fit_image(picture, (16, 16)) is picture
