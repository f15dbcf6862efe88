"""Point clouds: fused points lie on the surfaces that were seen, and filters leave out what they say."""

import pytest
import torch

from scenetok_core.points.fusion import PointCloud, PointFilters, edges, fuse_points, project, unproject
from scenetok_core.points.geometry import PosedDepth
from scenetok_core.types import Cameras, Views
from tests import small
from training.data.rooms import Rooms, RoomsConfig

VIEWS, SIZE, PLANE = 4, (24, 32), 3.0
EXACT = 2e-3  # metres, of float32 rays through a house
SAME = 1e-4  # of one point, computed twice
ALL = PointFilters(min_confidence=0, edge=0, agree=0, voxel=0)


def posed(depth, confidence=None, cameras=None, rgb=None):
    cameras = cameras or small.cameras(len(depth), tuple(depth.shape[-2:]))
    rgb = torch.rand(len(depth), 3, *depth.shape[-2:]) if rgb is None else rgb
    confidence = torch.ones_like(depth) if confidence is None else confidence
    return PosedDepth(Views(rgb, cameras), depth, confidence, torch.ones_like(depth, dtype=torch.bool))


@pytest.fixture
def plane():
    """Exact depth of the world's plane z = 3, seen slanted by four cameras: [4, 24, 32]."""
    cameras = small.cameras(VIEWS, SIZE)
    along = unproject(torch.ones(VIEWS, *SIZE), cameras) - cameras.centers[:, None, None]
    return (PLANE - cameras.centers[:, 2, None, None]) / along[..., 2]


@pytest.fixture(scope="module")
def room():
    rooms = Rooms(RoomsConfig(image_size=64, views=12))
    scenes, batch = rooms.scenes(3, 1), rooms.batch(3, 1)
    cameras = Cameras(batch.cameras.c2w[0], batch.cameras.K[0], size=(64, 64), unit="metric")
    return scenes.geometry, posed(batch.depth[0], cameras=cameras, rgb=batch.rgb[0])


def distances(left, right):
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


def distance_to_surfaces(geometry, xyz):
    """Distance of points [N, 3] to the nearest box, sphere or wall of a house, in metres."""
    rows = geometry.primitives[0].double()
    away = []
    for index, (cx, cy, cz, hx, hy, hz, cos, sin, _) in enumerate(rows.unbind(0)):
        if hx <= 0:
            continue
        x, y, z = (xyz.double() - torch.stack([cx, cy, cz])).unbind(-1)
        if geometry.boxes <= index < len(rows) - 1:
            away.append(torch.stack([x, y, z]).norm(dim=0) - hx)
            continue
        beyond = torch.stack([x * cos - z * sin, y, x * sin + z * cos], -1).abs() - torch.stack([hx, hy, hz])
        away.append(beyond.clamp_min(0).norm(dim=-1) + beyond.amax(-1).clamp_max(0))
    return torch.stack(away).abs().amin(0)


def test_unprojected_points_fall_back_into_their_pixels(plane):
    cameras = small.cameras(VIEWS, SIZE)
    for i in range(VIEWS):
        place, depth = project(unproject(plane[[i]], cameras[[i]]).reshape(-1, 3), cameras[[i]])
        rows, columns = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in SIZE), indexing="ij")
        torch.testing.assert_close(place[0], torch.stack([columns, rows], -1).view(-1, 2), atol=1e-5, rtol=0)
        torch.testing.assert_close(depth[0], plane[i].flatten(), atol=0, rtol=1e-5)


def test_fused_points_of_a_room_lie_on_its_surfaces(room):
    geometry, seen = room
    every = fuse_points(seen, ALL)
    assert len(every) == seen.depth.numel()
    assert distance_to_surfaces(geometry, every.xyz).max() < EXACT
    side = 0.1
    extent = (every.xyz.quantile(0.98, 0) - every.xyz.quantile(0.02, 0)).norm()
    fused = fuse_points(seen, PointFilters(voxel=side / float(extent)))
    assert 1000 < len(fused) < len(every) / 3
    assert distance_to_surfaces(geometry, fused.xyz).max() < side
    assert distance_to_surfaces(geometry, fused.xyz).mean() < side / 20


def test_the_measure_of_surfaces_can_fail(room):
    geometry, seen = room
    wrong = fuse_points(posed(seen.depth * 1.05, cameras=seen.views.cameras), ALL)
    assert distance_to_surfaces(geometry, wrong.xyz).mean() > 10 * EXACT


def test_normals_stand_on_the_plane_and_look_at_the_cameras(plane):
    cloud = fuse_points(posed(plane), ALL)
    torch.testing.assert_close(cloud.normals, torch.tensor([0.0, 0.0, -1.0]).expand(len(cloud), 3), atol=1e-3, rtol=0)


def test_what_no_other_frame_confirms_is_left_out_and_nothing_else(plane):
    filters = PointFilters(edge=0, agree=0.04, voxel=0)
    spots = [(1, 6, 18), (1, 12, 20), (2, 8, 12), (2, 15, 14)]  # whose neighbours two other frames confirm
    wrong = plane.clone()
    for spot, factor in zip(spots, (0.5, 1.5, 0.9, 1.1), strict=True):
        wrong[spot] *= factor
    clean, planted = fuse_points(posed(plane), filters), fuse_points(posed(wrong), filters)
    assert len(clean) > 0.8 * plane.numel()  # the outermost fall into no other frame
    gone = clean.xyz[distances(clean.xyz, planted.xyz).amin(1) > SAME]
    where = unproject(plane, small.cameras(VIEWS, SIZE))
    assert len(gone) == len(clean) - len(planted) == len(spots)
    assert distances(torch.stack([where[spot] for spot in spots]), gone).amin(1).max() < SAME


def test_one_frame_needs_nobody_to_agree(plane):
    assert len(fuse_points(posed(plane[:1]), PointFilters(edge=0, agree=0.01, voxel=0))) == plane[0].numel()


def test_less_confidence_leaves_out_exactly_what_is_below(plane):
    confidence = torch.linspace(0, 1, plane.numel()).view_as(plane)
    assert len(fuse_points(posed(plane, confidence), PointFilters(0.25, 0, 0, 0))) == int((confidence >= 0.25).sum())


def test_edges_are_left_out_and_slanted_planes_are_not(plane):
    known = torch.ones_like(plane, dtype=torch.bool)
    assert not edges(plane, known, 1e-3).any()
    step = plane.clone()
    step[:, :, 16:] *= 2
    columns = edges(step, known, 0.1).any(1).any(0).nonzero().flatten().tolist()
    assert columns == [15, 16]
    spot = plane.clone()
    spot[0, 10, 10] *= 1.5
    found = edges(spot, known, 0.02).nonzero().tolist()
    assert [0, 10, 10] in found
    assert all(frame == 0 and abs(row - 10) + abs(column - 10) <= 1 for frame, row, column in found)
    assert not edges(spot, known & (spot == plane), 1e-3).any()  # what is not known is no edge


@pytest.mark.parametrize("voxel", [0, 0.01])
def test_unknown_depth_makes_no_points_and_spoils_none(plane, voxel):
    holes = plane.clone()
    for column, value in enumerate((0.0, -1.0, torch.nan, torch.inf, -torch.inf)):
        holes[:, 3, column * 4] = value
    cloud = fuse_points(posed(holes), PointFilters(edge=0.05, agree=0.05, voxel=voxel))
    assert all(bool(values.isfinite().all()) for values in (cloud.xyz, cloud.rgb, cloud.normals))
    assert (cloud.xyz[:, 2] - PLANE).abs().max() < EXACT
    assert voxel or len(cloud) <= plane.numel() - 5 * VIEWS


def test_a_cell_holds_the_mean_of_what_fell_into_it():
    depth = torch.full((2, 4, 4), 2.0)
    same = Cameras(torch.eye(4).repeat(2, 1, 1), small.cameras(2).K, size=(4, 4))
    rgb = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    cloud = fuse_points(posed(depth, cameras=same, rgb=rgb), PointFilters(voxel=0.01))
    assert len(cloud) == 16
    torch.testing.assert_close(cloud.rgb, torch.full((16, 3), 0.5))
    order = torch.cat([cloud.xyz, unproject(depth[:1], same[[0]]).view(-1, 3)]).mul(1e4).round().unique(dim=0)
    assert len(order) == 16


def test_of_too_many_points_an_even_choice_is_kept(plane):
    cloud = fuse_points(posed(plane), PointFilters(voxel=0.002, max_points=50))
    assert len(cloud) == 50
    assert (cloud.xyz[:, :2].amax(0) - cloud.xyz[:, :2].amin(0)).min() > 1


def test_progress_counts_frames_and_may_cancel(plane):
    told = []
    fuse_points(posed(plane), progress=lambda *call: told.append(call))
    assert told == [(i + 1, VIEWS, None) for i in range(VIEWS)]

    def stop(*call):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fuse_points(posed(plane), progress=stop)


def test_filters_that_leave_nothing_say_which_one_it_was(plane):
    with pytest.raises(ValueError, match=f"known: {plane.numel()}, confident: 0, not at an edge: 0"):
        fuse_points(posed(plane, torch.zeros_like(plane)))
    alone = posed(torch.stack([plane[0], plane[1] * 3]))
    with pytest.raises(ValueError, match="agree with another frame: 0"):
        fuse_points(alone, PointFilters(edge=0))


@pytest.mark.parametrize("settings", [{"min_confidence": 1.5}, {"edge": -1}, {"voxel": -0.1}, {"max_points": 0}])
def test_impossible_filters_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PointFilters(**settings)


def test_points_survive_their_plain_form(plane):
    cloud = fuse_points(posed(plane))
    again = PointCloud.from_dict(cloud.to_dict())
    assert torch.equal(again.xyz, cloud.xyz) and torch.equal(again.cameras.c2w, cloud.cameras.c2w)
    with pytest.raises(ValueError, match="connect the output of Point Cloud"):
        PointCloud.from_dict({"version": 1, "xyz": cloud.xyz})
