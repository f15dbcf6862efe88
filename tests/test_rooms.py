import math

import pytest
import torch
from torch.nn.functional import grid_sample

from training.baselines import reproject
from training.data.raycast import STRUCTURE
from training.data.rooms import RoomBatch, Rooms, RoomsConfig
from training.data.scenes import Scenes
from training.data.walks import look, sample_strays

SIZE = 32
SCENES = 6
VIEWS = 6
SEED = 11
CLEARANCE_M = 0.25
STRAYS, STRAY_CLEARANCE_M = 3, 0.1


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return Rooms(RoomsConfig(image_size=SIZE, views=VIEWS))


@pytest.fixture(scope="module")
def batch(rooms: Rooms) -> RoomBatch:
    return rooms.batch(SEED, SCENES)


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return -10 * (a - b).square().mean((-3, -2, -1)).log10()


def pixel_rays(K: torch.Tensor, size: int) -> torch.Tensor:
    """Points [H, W, 3] at z = 1 in front of a camera."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
    return torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], -1)


def test_batch_has_pictures_depth_and_cameras(batch: RoomBatch):
    assert batch.rgb.shape == (SCENES, VIEWS, 3, SIZE, SIZE) and batch.rgb.dtype == torch.float32
    assert batch.depth.shape == (SCENES, VIEWS, SIZE, SIZE)
    assert batch.rgb.min() >= 0 and batch.rgb.max() <= 1 and batch.rgb.isfinite().all()
    assert batch.depth.isfinite().all()
    assert batch.cameras.unit == "metric" and batch.cameras.size == (SIZE, SIZE)


def test_field_of_view_is_drawn_for_each_scene(batch: RoomBatch):
    fov = torch.rad2deg(2 * torch.atan(0.5 / batch.cameras.K[..., 0, 0]))
    assert fov.min() >= 45 - 1e-3 and fov.max() <= 80 + 1e-3
    assert torch.equal(fov, fov[:, :1].expand_as(fov)) and len(fov[:, 0].unique()) == SCENES


def test_same_seed_same_rooms_and_other_seed_other_rooms(rooms: Rooms, batch: RoomBatch):
    state = torch.get_rng_state()
    again, other = Rooms(rooms.config).batch(SEED, SCENES), rooms.batch(SEED + 1, SCENES)
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    assert torch.equal(again.rgb, batch.rgb) and torch.equal(again.depth, batch.depth)
    assert torch.equal(again.cameras.c2w, batch.cameras.c2w)
    assert (other.rgb - batch.rgb).abs().mean() > 0.05


def test_parts_give_the_same_pictures_as_a_batch(rooms: Rooms, batch: RoomBatch):
    scenes = rooms.scenes(SEED, SCENES)
    rgb, depth = rooms.render(scenes, batch.cameras[[2, 0]])
    torch.testing.assert_close(rgb, batch.rgb[:, [2, 0]], atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, batch.depth[:, [2, 0]], atol=1e-4, rtol=0)


def test_depth_agrees_between_views(rooms: Rooms):
    size = 64
    scenes = rooms.scenes(SEED, SCENES)
    cameras = rooms.walk(scenes, SEED, 12)[[0, 1]]
    _, depth = rooms.render(scenes, cameras, size)
    shares = []
    for c2w, K, z in zip(cameras.c2w, cameras.K[:, 0], depth, strict=True):
        world = (pixel_rays(K, size) * z[0, ..., None]) @ c2w[0, :3, :3].T + c2w[0, :3, 3]
        there = (world - c2w[1, :3, 3]) @ c2w[1, :3, :3]
        uv = 2 * (there[..., :2] / there[..., 2:] * K.diagonal()[:2] + K[:2, 2]) - 1
        seen = (uv.abs() < 0.97).all(-1) & (there[..., 2] > 0)
        sampled = grid_sample(z[None, 1:], uv[None], mode="nearest", align_corners=False)[0, 0]
        close = (sampled - there[..., 2]).abs() < 0.03 * there[..., 2]
        assert seen.float().mean() > 0.5
        shares.append((close & seen).sum() / seen.sum())
    assert torch.stack(shares).mean() > 0.9 and min(shares) > 0.75


def test_depth_is_exact_on_the_floor(rooms: Rooms):
    scenes = rooms.scenes(SEED, SCENES)
    cameras = rooms.walk(scenes, SEED, 3)
    _, depth = rooms.render(scenes, cameras, SIZE)
    heights = []
    for c2w, K, z in zip(cameras.c2w.flatten(0, 1), cameras.K.flatten(0, 1), depth.flatten(0, 1), strict=True):
        heights.append((pixel_rays(K, SIZE) * z[..., None] @ c2w[:3, :3].T + c2w[:3, 3])[..., 1])
    height = torch.stack(heights)
    assert height.min() > -1e-3
    assert (height.abs() < 1e-3).float().mean() > 0.05


def test_supersampling_keeps_depth_and_smooths_colour(rooms: Rooms):
    scenes = rooms.scenes(SEED, 2)
    cameras = rooms.walk(scenes, SEED, 2)
    fine = Rooms(RoomsConfig(image_size=SIZE, views=VIEWS, supersample=2))
    rgb, depth = rooms.render(scenes, cameras)
    fine_rgb, fine_depth = fine.render(scenes, cameras)
    assert torch.equal(depth, fine_depth)
    assert 20 < psnr(rgb, fine_rgb).mean() < 50


def test_walks_keep_clear_and_see_something(rooms: Rooms):
    scenes = rooms.scenes(SEED, 24)
    cameras = rooms.walk(scenes, SEED, 12)
    x, z = cameras.centers[..., None, 0], cameras.centers[..., None, 2]
    x0, x1, z0, z1 = scenes.obstacles[:, None].unbind(-1)
    gap = torch.hypot(torch.maximum(x0 - x, x - x1).clamp_min(0), torch.maximum(z0 - z, z - z1).clamp_min(0))
    assert gap.min() > CLEARANCE_M
    step = (cameras.centers[:, 1:] - cameras.centers[:, :-1]).norm(dim=-1)
    assert step.max() < 0.5
    _, depth = rooms.render(scenes, cameras[[0, 5, 11]], 16)
    median = depth.flatten(2).median(-1).values
    assert depth.min() > 0.1
    assert median.min() > 0.8 and 1.8 < median.median() < 5


def test_some_walks_pass_a_door(rooms: Rooms):
    scenes = rooms.scenes(SEED, 24)
    centers = rooms.walk(scenes, SEED).centers
    side = centers[..., 0] > scenes.geometry.splits[:, :1]
    passed = (side.any(1) & ~side.all(1)).float().mean()
    assert 0.05 < passed < 0.9


def test_most_of_a_view_is_seen_by_others(batch: RoomBatch):
    forward = batch.cameras.forward
    turn = torch.rad2deg((forward[:, 1:] * forward[:, :-1]).sum(-1).clamp(-1, 1).acos())
    assert turn.max() < 20


def test_pictures_have_contrast(batch: RoomBatch):
    flat = batch.rgb.mean((1, 3, 4), keepdim=True).expand_as(batch.rgb)
    assert psnr(batch.rgb, flat).mean() < 17
    assert 0.2 < batch.rgb.mean() < 0.7


def test_gloss_changes_colour_with_the_view(rooms: Rooms):
    """A point of the floor has one colour from everywhere when matt, and several when glossy."""
    scenes = rooms.scenes(SEED, 8)
    floor = slice(2, 15, 5)
    scenes.geometry.materials[..., 14] = 0
    scenes.geometry.primitives[:, STRUCTURE:-1, 3:6] = -1  # no furniture
    center = scenes.rooms[:, 0].unflatten(-1, (2, 2)).mean(-1)
    yaw = torch.tensor([0.0, 0.7]).expand(8, 2)
    target = torch.stack([center[:, 0], torch.zeros(8), center[:, 1]], -1)[:, None]
    back = torch.stack([yaw.sin(), -torch.ones(8, 2), yaw.cos()], -1)
    c2w = look(target - 1.2 * back, yaw, torch.full((8, 2), math.pi / 4))
    cameras = rooms.walk(scenes, SEED, 2).replace(c2w=c2w)
    colors = {}
    for gloss in (0.0, 0.5):
        scenes.geometry.materials[:, floor, 14] = gloss
        scenes.geometry.materials[:, floor, :9] = 0.3
        rgb, _ = rooms.render(scenes, cameras)
        colors[gloss] = rgb[..., SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean((-2, -1))
    change = {gloss: (c[:, 0] - c[:, 1]).abs().mean(-1) for gloss, c in colors.items()}
    assert change[0.0].max() < 0.03
    assert change[0.5].mean() > 10 * change[0.0].mean() and change[0.5].mean() > 0.01


def draw_strays(rooms: Rooms, seed: int) -> tuple[Scenes, torch.Tensor, torch.Tensor]:
    """One scene, its walk [V, 4, 4] and its strays [STRAYS, 4, 4]."""
    scenes = rooms.scenes(seed, 1)
    walk = rooms.walk(scenes, seed)
    strays = sample_strays(scenes, seed, walk.c2w, walk.K[:, 0, 0, 0], STRAYS)
    return scenes, walk.c2w[0], strays[0]


def test_strays_stand_behind_an_unchanged_walk(batch: RoomBatch):
    more = Rooms(RoomsConfig(image_size=SIZE, views=VIEWS, strays=STRAYS)).batch(SEED, SCENES)
    assert more.rgb.shape == (SCENES, VIEWS + STRAYS, 3, SIZE, SIZE)
    assert torch.equal(more.cameras.c2w[:, :VIEWS], batch.cameras.c2w)
    assert torch.equal(more.cameras.K, batch.cameras.K[:, :1].expand_as(more.cameras.K))
    torch.testing.assert_close(more.rgb[:, :VIEWS], batch.rgb, atol=1e-4, rtol=0)
    torch.testing.assert_close(more.depth[:, :VIEWS], batch.depth, atol=1e-4, rtol=0)


def free_ground(scenes: Scenes, index: int, x: float, z: float) -> float:
    """Metres over the ground from a point to the nearest thing or outer wall; 0 inside of a thing."""
    half = scenes.geometry.primitives[index, -1, 3:6].tolist()
    distances = [half[0] - abs(x), half[2] - abs(z)]
    for left, right, near, far in scenes.obstacles[index].tolist():
        distances.append(math.hypot(max(left - x, x - right, 0), max(near - z, z - far, 0)))
    return min(distances)


def test_strays_follow_the_seed_alone(rooms: Rooms):
    state = torch.get_rng_state()
    _, walk, first = draw_strays(rooms, SEED)
    assert torch.equal(draw_strays(rooms, SEED)[2], first)
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    scenes = rooms.scenes(SEED, 1)
    other = sample_strays(scenes, SEED + 1, walk[None], torch.ones(1), STRAYS)[0]
    assert (other - first).abs().amax((1, 2)).min() > 1e-3
    assert torch.pdist(first[:, :3, 3]).min() > 1e-3


def test_strays_keep_clear_and_leave_the_walk(rooms: Rooms):
    free, moved, turned = [], [], []
    for seed in range(20):
        scenes, walk, strays = draw_strays(rooms, seed)
        free += [free_ground(scenes, 0, x, z) for x, _, z in strays[:, :3, 3].tolist()]
        nearest = torch.cdist(strays[:, :3, 3], walk[:, :3, 3])
        moved.append(nearest.amin(1))
        turned.append(torch.rad2deg((strays[:, :3, 2] @ walk[:, :3, 2].T).clamp(-1, 1).acos()).amin(1))
        down = strays[:, :3, 1]
        assert (down[:, 1] < -0.7).all(), "cameras are upright"
        assert (nearest.amin(1) < math.hypot(0.9, 0.9, 0.3)).all()
    assert min(free) > STRAY_CLEARANCE_M
    assert 0.3 < torch.cat(moved).mean() < 0.8
    assert 5 < torch.cat(turned).mean() < 30


def test_strays_see_the_room_of_their_walk():
    """Most of what a stray sees must be inside the pictures of the walk, or its target could not be learnt."""
    rooms = Rooms(RoomsConfig(image_size=SIZE, views=VIEWS, strays=STRAYS))
    batch = rooms.batch(SEED, SCENES)
    shares = []
    for i in range(SCENES):
        cameras = batch.cameras.replace(c2w=batch.cameras.c2w[i], K=batch.cameras.K[i])
        walk, strays = cameras[:VIEWS], cameras[VIEWS:]
        seen = reproject(strays, batch.depth[i, VIEWS:], walk, batch.depth[i, :VIEWS]).visible(0.05)
        shares.append(seen.float().mean((1, 2)))
    assert torch.cat(shares).mean() > 0.6


def test_exposure_jitter_changes_colour_only():
    plain = Rooms(RoomsConfig(image_size=16, views=2)).batch(SEED, 4)
    jittered = Rooms(RoomsConfig(image_size=16, views=2, exposure_jitter=0.7)).batch(SEED, 4)
    assert torch.equal(plain.depth, jittered.depth)
    assert (plain.rgb - jittered.rgb).abs().mean() > 0.02


def test_wrong_cameras_and_sizes_are_refused(rooms: Rooms):
    scenes = rooms.scenes(SEED, 2)
    cameras = rooms.walk(scenes, SEED, 2)
    with pytest.raises(ValueError, match="one row a scene"):
        rooms.render(rooms.scenes(SEED, 3), cameras)
    with pytest.raises(ValueError, match="multiple of 4"):
        rooms.render(scenes, cameras, 30)
    with pytest.raises(ValueError, match="power of two"):
        Rooms(RoomsConfig(texture_size=100))
