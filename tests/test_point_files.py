"""Point clouds in files, their axes, and the pictures of a turntable."""

import struct
import sys
from typing import Any

import pytest
import torch
import trimesh

from scenetok_core.points.axes import AXES
from scenetok_core.points.files import file_points, save_glb, save_ply
from scenetok_core.points.fusion import PointCloud, unproject
from scenetok_core.points.turntable import INPUT_COLOUR, PATH_COLOUR, turntable
from scenetok_core.types import Cameras
from tests import small
from training.data.rooms import Rooms, RoomsConfig

POINTS = 300
RED, GREEN, BLUE = torch.eye(3)
ROUNDED = 0.51 / 255  # colours of 8 bits


def cameras(c2w=None):
    c2w = torch.eye(4) if c2w is None else c2w
    return Cameras(c2w[None], small.cameras(1).K, size=(16, 16))


def cloud(xyz, rgb=None, towards=(0.0, 0.0, -1.0), seen_by=None):
    rgb = torch.ones_like(xyz) if rgb is None else rgb
    return PointCloud(xyz, rgb, torch.tensor(towards).expand_as(xyz).contiguous(), seen_by or cameras())


@pytest.fixture
def random_cloud():
    generator = torch.Generator().manual_seed(0)
    return cloud(torch.randn(POINTS, 3, generator=generator), torch.rand(POINTS, 3, generator=generator))


def read_points(path) -> Any:
    """What trimesh finds in a file of points: an object with vertices and colors."""
    read: Any = trimesh.load(path)
    return read if isinstance(read, trimesh.PointCloud) else next(iter(read.geometry.values()))


@pytest.mark.parametrize(("save", "suffix"), [(save_ply, "ply"), (save_glb, "glb")])
@pytest.mark.parametrize("axes", AXES)
def test_another_reader_finds_the_points_and_colours(tmp_path, random_cloud, save, suffix, axes):
    path = tmp_path / "new folder" / f"points.{suffix}"
    save(path, random_cloud, axes)
    read = read_points(path)
    torch.testing.assert_close(torch.tensor(read.vertices).float(), file_points(random_cloud, axes))
    colours = torch.tensor(read.colors)[:, :3].float() / 255
    torch.testing.assert_close(colours, random_cloud.rgb, atol=ROUNDED, rtol=0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_ply_is_little_endian_with_three_floats_and_three_bytes_a_point(tmp_path):
    save_ply(tmp_path / "one.ply", cloud(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.5, 0.0]])), "input")
    header, _, body = (tmp_path / "one.ply").read_bytes().partition(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n") and b"\nelement vertex 1\n" in header
    assert struct.unpack("<fffBBB", body) == (1.0, 2.0, 3.0, 255, 128, 0)


def test_without_trimesh_a_glb_says_what_to_install(tmp_path, random_cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ValueError, match="pip install trimesh"):
        save_glb(tmp_path / "points.glb", random_cloud)
    assert not list(tmp_path.iterdir())


def test_unknown_axes_are_refused(tmp_path, random_cloud):
    with pytest.raises(ValueError, match="unknown axes 'z-up'; choose one of upright, flipped, input"):
        save_ply(tmp_path / "points.ply", random_cloud, "z-up")


@pytest.mark.parametrize("axes", ["upright", "flipped"])
def test_up_and_right_in_the_picture_is_up_and_right_in_the_file(axes):
    """In the world of an OpenCV camera, which Depth Anything 3 has too."""
    depth = torch.full((1, 8, 8), 2.0)
    xyz = file_points(cloud(unproject(depth, cameras())[0, 1, 6][None]), axes)[0]
    assert xyz[0] > 0 and xyz[1] > 0 and xyz[2] < 0
    torch.testing.assert_close(xyz, unproject(depth, cameras())[0, 1, 6] * torch.tensor([1.0, -1.0, -1.0]))


def test_upright_files_of_a_room_stand_on_their_floor():
    """In rooms y is up already, and cameras look down a little."""
    rooms = Rooms(RoomsConfig(image_size=32, views=6))
    batch = rooms.batch(5, 1)
    walk = Cameras(batch.cameras.c2w[0], batch.cameras.K[0])
    points = unproject(batch.depth[0], walk)
    upright = file_points(cloud(points.reshape(-1, 3), seen_by=walk), "upright").view(*points.shape)
    torch.testing.assert_close(upright[..., 1], points[..., 1], atol=0.05, rtol=0.02)
    first = upright[0]
    assert first[4, :, 1].mean() > first[-4, :, 1].mean() + 1
    assert first[:, -4, 0].mean() > first[:, 4, 0].mean()
    centre = walk.centers[0] @ AXES["upright"](walk).T.float()
    assert (first[..., 2].mean() - centre[2]) < -1  # ahead is -z
    assert torch.equal(file_points(cloud(points.reshape(-1, 3), seen_by=walk), "input"), points.reshape(-1, 3))


def shares(picture, colour):
    """Which pixels [H, W] of a picture have a colour, near enough."""
    return (picture - torch.as_tensor(colour)[:, None, None]).abs().amax(0) < 0.2


def middle(where):
    rows, columns = where.nonzero().float().mean(0)
    return float(rows), float(columns)


def blobs(*places):
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.tensor(place) + 0.1 * torch.rand(200, 3, generator=generator) for place in places])


def test_the_turn_begins_behind_the_first_camera_and_goes_around():
    xyz = blobs((-1.0, 0.0, 3.0), (1.0, 0.0, 3.0), (0.0, -1.0, 3.0))  # left, right, above
    points = cloud(xyz, torch.stack([RED, GREEN, BLUE]).repeat_interleave(200, 0), towards=(0.0, 0.0, 0.0))
    front, _, back, _ = turntable(points, frames=4, size=64, elevation=0, frustums=False)
    (_, left), (_, right), (top, centre) = (middle(shares(front, colour)) for colour in (RED, GREEN, BLUE))
    assert left < centre < right and top < middle(shares(front, RED))[0]
    assert middle(shares(back, RED))[1] > middle(shares(back, GREEN))[1]
    assert middle(shares(back, BLUE))[0] < middle(shares(back, RED))[0]
    above = turntable(points, frames=1, size=64, elevation=90, frustums=False)[0]
    assert middle(shares(above, RED))[1] < middle(shares(above, GREEN))[1]


def test_the_nearest_point_is_seen_and_only_from_its_own_side():
    xyz = blobs((0.0, 0.0, 2.0), (0.0, 0.0, 4.0))
    rgb = torch.stack([RED, GREEN]).repeat_interleave(200, 0)
    front, back = turntable(cloud(xyz, rgb, (0.0, 0.0, 0.0)), frames=2, size=64, elevation=0, frustums=False)
    assert shares(front, RED).sum() > 9 * shares(front, GREEN).sum()
    assert shares(back, GREEN).sum() > 9 * shares(back, RED).sum()
    front, back = turntable(cloud(xyz, rgb), frames=2, size=64, elevation=0, frustums=False)
    assert shares(front, RED).any() and float(back.std()) == pytest.approx(0, abs=1e-6)


def test_cameras_are_blue_and_those_of_the_inputs_red():
    points = cloud(blobs((0.0, 0.0, 2.0)), seen_by=small.cameras(3))
    inputs = cameras(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0.03], [0, 0, 1, 1.9], [0, 0, 0, 1]]))
    for frustums, given, expected in ((False, inputs, (0, 0)), (True, None, (1, 0)), (True, inputs, (1, 1))):
        pictures = turntable(points, given, frames=4, size=128, frustums=frustums)
        found = [any(bool(shares(p, c).any()) for p in pictures) for c in (PATH_COLOUR, INPUT_COLOUR)]
        assert found == [bool(n) for n in expected]


def test_the_turntable_reports_every_picture_and_refuses_none():
    told = []
    points = cloud(blobs((0.0, 0.0, 2.0)))
    pictures = turntable(points, frames=3, size=32, progress=lambda *call: told.append(call))
    assert pictures.shape == (3, 3, 32, 32) and told == [(1, 3, None), (2, 3, None), (3, 3, None)]
    with pytest.raises(ValueError, match="at least 1 frame of 16 pixels, got 0 of 32"):
        turntable(points, frames=0, size=32)
    assert turntable(cloud(torch.zeros(1, 3)), frames=1, size=16).isfinite().all()
