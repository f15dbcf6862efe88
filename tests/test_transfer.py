"""The path of one capture in the scene of another."""

import pytest
import torch

from scenetok_core.camera import camera_extent, relative_poses
from scenetok_core.trajectories.splines import rotation_about
from scenetok_core.transfer import transfer_path
from scenetok_core.types import Cameras
from scenetok_core.views.selection import middle_view
from tests import small

FRAMES = 5


def cameras(unit=1.0, count=FRAMES):
    return small.views(count).cameras.replace(c2w=scaled(small.views(count).cameras.c2w, unit))


def scaled(c2w, unit):
    moved = c2w.clone()
    moved[..., :3, 3] *= unit
    return moved


def elsewhere(given: Cameras, turn: float = 0.7) -> Cameras:
    """The same cameras in a world that is turned and moved."""
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([turn]).double())[0]
    world[:3, 3] = torch.tensor([3.0, -2.0, 5.0])
    return given.replace(c2w=(world @ given.c2w.double()).float())


def test_a_path_on_its_own_scene_stays():
    path = cameras()
    torch.testing.assert_close(transfer_path(path, path).c2w, path.c2w, atol=1e-5, rtol=0)


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_neither_world_nor_unit_of_the_path_matter(unit):
    onto = cameras()
    made = transfer_path(elsewhere(cameras(unit)), onto)
    torch.testing.assert_close(made.c2w, onto.c2w, atol=1e-4, rtol=0)


def test_the_path_keeps_its_shape_and_its_fields_of_view():
    path = cameras()
    K = path.K * torch.tensor([1.5, 1.5, 1.0])[:, None]
    path, onto = path.replace(K=K), elsewhere(cameras(2.0, 7))
    made = transfer_path(path, onto, scale=3.0, reference=0)
    assert torch.equal(made.K, K)
    torch.testing.assert_close(made.c2w[0], onto.c2w[middle_view(onto)], atol=1e-5, rtol=0)
    assert camera_extent(made) == pytest.approx(3 * camera_extent(path), rel=1e-4)
    relative, before = relative_poses(made.c2w, made.c2w[0]), relative_poses(path.c2w, path.c2w[0])
    torch.testing.assert_close(relative, scaled(before, 3.0), atol=1e-4, rtol=0)


def test_cameras_that_only_turn_keep_their_unit():
    still = cameras().replace(c2w=scaled(cameras().c2w, 0.0))
    made = transfer_path(still, cameras())
    assert camera_extent(made) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "settings", [{"scale": 0.0}, {"scale": float("nan")}, {"reference": FRAMES}, {"reference": -1}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="got"):
        transfer_path(cameras(), cameras(), **settings)
