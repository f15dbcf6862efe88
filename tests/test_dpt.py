"""Point maps: the DPT head, what depth and rays say of points, and the way back."""

import pytest
import torch

from scenetok_core.camera import ray_map
from scenetok_core.configs import PointsConfig
from scenetok_core.models.dpt import PointHead
from scenetok_core.rae import PointMaps
from tests import small
from training.tasks.point_loss import points_of_depth

CONFIG = PointsConfig(depth=4, layers=(0, 1, 2, 3), channels=(8, 8, 12, 12), features=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def head():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PointHead(32, CONFIG, 1e-6).requires_grad_(False)


def features(grid, views=2, gain=1.0):
    return [gain * torch.randn(views, grid[0] * grid[1], 32, generator=seeded(i)) for i in range(4)]


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (3, 7), (9, 2)])
def test_every_pixel_has_a_point_and_a_confidence(head, grid):
    size = (4 * grid[0], 4 * grid[1])
    points, confidence = head(features(grid), grid, size)
    assert points.shape == (2, 3, *size) and confidence.shape == (2, *size)
    assert points.dtype == confidence.dtype == torch.float32 and confidence.min() > 1


def test_views_of_a_batch_are_apart(head):
    given = features((3, 4))
    both = head(given, (3, 4), (12, 16))
    for view in range(2):
        for a, b in zip(both, head([x[[view]] for x in given], (3, 4), (12, 16)), strict=True):
            assert torch.allclose(a[[view]], b, atol=1e-5)


def test_all_four_layers_count_and_places_stay(head):
    given = features((6, 6))
    points, _ = head(given, (6, 6), (24, 24))
    for layer in range(4):
        other = [x.clone() for x in given]
        other[layer][0, 0] += 1  # the upper left patch
        change = (head(other, (6, 6), (24, 24))[0] - points)[0].abs().sum(0)
        assert change[:4, :4].max() > 1e-4
        assert change[:12, :12].sum() > change[12:, 12:].sum()


def test_outputs_stay_finite_in_half_precision_and_for_wild_features(head):
    half = PointHead(32, CONFIG, 1e-6).to(torch.bfloat16).requires_grad_(False)
    half.load_state_dict(head.state_dict())
    for gain in (1.0, 1e4):
        points, confidence = half([x.bfloat16() for x in features((3, 3), gain=gain)], (3, 3), (12, 12))
        assert points.isfinite().all() and confidence.isfinite().all() and points.dtype == torch.float32
    torch.nn.init.constant_(half.out2[-1].bias, 1e5)  # type: ignore[arg-type]
    points, confidence = half([x.bfloat16() for x in features((3, 3))], (3, 3), (12, 12))
    assert points.isfinite().all() and confidence.isfinite().all()


# ---- geometry ------------------------------------------------------------------------------------


def true_depth(size=(6, 9), views=3):
    return 0.5 + 4 * torch.rand(views, *size, generator=seeded())


def test_depth_of_a_point_map_is_along_the_axis_of_its_camera():
    points, cameras = torch.randn(3, 3, 4, 5, generator=seeded()), small.cameras(3, (4, 5))
    depth = PointMaps(points, torch.ones(3, 4, 5), cameras).depth
    for view in range(3):
        w2c = torch.linalg.inv(cameras.c2w[view])
        for row in range(4):
            for column in range(5):
                local = w2c @ torch.cat([points[view, :, row, column], torch.ones(1)])
                assert float(depth[view, row, column]) == pytest.approx(float(local[2]), abs=1e-5)


def test_points_of_true_depth_have_that_depth_and_project_to_the_centres_of_their_pixels():
    depth, cameras = true_depth(), small.cameras(3, (6, 9))
    points, known = points_of_depth(depth[None], cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]))
    maps = PointMaps(points[0], torch.ones(3, 6, 9), cameras)
    assert known.all() and torch.allclose(maps.depth, depth, atol=1e-5)
    w2c = torch.linalg.inv(cameras.c2w)
    local = torch.einsum("vij,vjhw->vihw", w2c[:, :3, :3], maps.points) + w2c[:, :3, 3, None, None]
    pixels = torch.einsum("vij,vjhw->vihw", cameras.K, local / local[:, 2:])
    y, x = torch.meshgrid((torch.arange(6) + 0.5) / 6, (torch.arange(9) + 0.5) / 9, indexing="ij")
    assert torch.allclose(pixels[:, 0], x.expand(3, -1, -1), atol=1e-5)
    assert torch.allclose(pixels[:, 1], y.expand(3, -1, -1), atol=1e-5)


def test_points_of_depth_lie_on_their_rays():
    depth, cameras = true_depth(), small.cameras(3, (6, 9))
    points, _ = points_of_depth(depth[None], cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]))
    origins, directions = ray_map(cameras.c2w, cameras.K, (6, 9))
    towards = torch.nn.functional.normalize(points[0] - origins, dim=1)
    assert torch.allclose(towards, directions, atol=1e-5)


def test_unknown_and_very_far_depth_makes_no_points():
    depth, cameras = true_depth(), small.cameras(3, (6, 9))
    depth[0, 0, :4] = torch.tensor([0.0, -1.0, torch.inf, 1e4])
    depth[1, 1, 1] = torch.nan
    points, known = points_of_depth(depth[None], cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]))
    assert (~known).sum() == 5 and points.isfinite().all()
