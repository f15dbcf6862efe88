"""Depth that a head measures with its confidence, and the geometry of ComfyUI's Depth Anything 3 nodes."""

import pytest
import torch

from scenetok_core import DepthHead, SceneTok
from scenetok_core.depth import depth_limits, depth_pictures, grey_depth, read_depth
from scenetok_core.points.fusion import PointFilters, fuse_points, unproject
from scenetok_core.points.geometry import PosedDepth, from_da3, measure_depth, to_da3
from scenetok_core.types import Cameras, Views
from scenetok_core.weights.checkpoints import checkpoint_family, save_scene
from tests import small

FRAMES, SIZE = 3, (6, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("geometry")


@pytest.fixture(scope="module")
def model(folder):
    return SceneTok.load(small.checkpoint(folder))


@pytest.fixture(scope="module")
def scene(model):
    return model.encode(small.views())


@pytest.fixture(scope="module")
def head(folder, model):
    return DepthHead.load(small.depth_head(folder / "head.safetensors", model), model)


@pytest.fixture
def posed():
    generator = torch.Generator().manual_seed(0)
    K = small.cameras(FRAMES, SIZE).K.clone()
    K[:, 0, 2] = 0.4  # the principal point of a cropped picture
    cameras = small.cameras(FRAMES, SIZE).replace(K=K)
    depth, confidence = (torch.rand(FRAMES, *SIZE, generator=generator) + offset for offset in (1, 0))
    known = torch.ones(FRAMES, *SIZE, dtype=torch.bool)
    known[1, 2, 3] = False
    return PosedDepth(Views(torch.rand(FRAMES, 3, *SIZE, generator=generator), cameras), depth, confidence, known)


def recorded():
    """What Run Depth Anything 3 (ComfyUI 0.25) gives for two views of 8 x 6 that it resized to 56 x 42."""
    K = torch.tensor([[50.0, 0, 28], [0, 48.0, 21], [0, 0, 1]]).repeat(1, 2, 1, 1)
    extrinsics = torch.linalg.inv(small.cameras(2).c2w)[None, :, :3].contiguous()
    depth = torch.linspace(0.5, 3, 2 * 48).view(2, *SIZE)
    confidence = 1 + torch.linspace(0, 9, 2 * 48).view(2, *SIZE)
    image = torch.rand(2, *SIZE, 3)
    return {
        "depth": depth, "image": image, "mode": "multiview", "extrinsics": extrinsics, "intrinsics": K,
        "confidence": confidence,
    }  # fmt: skip


def test_one_sample_is_what_the_head_renders_and_certain_everywhere(head, scene):
    posed = measure_depth(head, scene, small.cameras(FRAMES), seed=5)
    depth = head.render(scene, small.cameras(FRAMES), generator=torch.Generator().manual_seed(5))
    assert torch.equal(posed.depth, depth[:, 0])
    assert torch.equal(posed.confidence, torch.ones_like(posed.depth))
    assert torch.equal(posed.views.rgb[:, 1], grey_depth(depth))


def test_confidence_falls_with_the_deviation_of_samples(head, scene):
    posed = measure_depth(head, scene, small.cameras(FRAMES), samples=3, steps=3, seed=2)
    mean, deviation = head.render_uncertainty(scene, small.cameras(FRAMES), 3, steps=3, seed=2)
    share = (deviation / mean)[:, 0]
    assert torch.equal(posed.depth, mean[:, 0])
    torch.testing.assert_close(posed.confidence, (1 - share / 0.2).clamp(0, 1), atol=1e-5, rtol=0)
    assert 0 < float(posed.mask(0.5).float().mean()) < float(posed.known.float().mean())


def test_frames_of_any_size_give_the_colours_and_must_be_those_of_the_path(head, scene):
    wide = small.cameras(FRAMES, (16, 32))
    rgb = torch.zeros(FRAMES, 3, 32, 64)
    rgb[..., 16:48] = 1  # what a square sees of it
    posed = measure_depth(head, scene, wide, rgb=rgb)
    assert posed.views.rgb.min() > 0.8 and posed.views.cameras.size == (small.IMAGE, small.IMAGE)
    torch.testing.assert_close(posed.views.cameras.K[:, 0, 0], wide.K[:, 0, 0] * 2)
    with pytest.raises(ValueError, match="2 frames but 3 cameras"):
        measure_depth(head, scene, wide, rgb=rgb[:2])


@pytest.mark.parametrize("mapping", ["inverse", "log"])
def test_depth_at_the_ends_of_what_a_head_shows_is_not_known(mapping):
    config, scale = small.depth_config(mapping=mapping), 0.7
    near, far = depth_limits(scale, config)
    assert config.near / scale < near < 1.5 * config.near / scale and near < far < config.far / scale
    depth = torch.tensor([0.01, 1.0, 2.0, 1e4]).view(1, 1, 2, 2)
    shown = read_depth(depth_pictures(depth, torch.tensor([scale]), config)[0], scale, config)
    assert ((shown > near) & (shown < far)).flatten().tolist() == [False, True, True, False]


def test_grey_depth_is_white_where_it_is_near_in_one_range_for_all_frames():
    grey = grey_depth(torch.tensor([1.0, 2.0, 2.0, 4.0]).view(2, 1, 1, 2), (1.0, 4.0))
    torch.testing.assert_close(grey.flatten(), torch.tensor([1, 1 / 3, 1 / 3, 0]))
    assert torch.equal(grey_depth(torch.tensor([1.0, 2.0, 2.0, 4.0]).view(2, 1, 1, 2)), grey)
    unknown = torch.tensor([[0.0, -3.0], [torch.nan, torch.inf]])
    some = grey_depth(torch.cat([torch.tensor([[1.0, 2.0], [2.0, 4.0]]), unknown]).view(4, 1, 1, 2))
    assert some.isfinite().all() and not some[2:].any() and some[0, 0, 0] == 1
    assert not grey_depth(torch.zeros(1, 1, 2, 2)).any()


def test_the_core_nodes_get_the_layout_that_they_read(posed):
    geometry = to_da3(posed)
    like = recorded()
    assert set(like) <= set(geometry) and geometry["mode"] == like["mode"]
    for key in set(like) - {"mode"}:
        expected = [FRAMES if size == 2 else size for size in like[key].shape]
        assert (list(geometry[key].shape), geometry[key].dtype) == (expected, like[key].dtype)
    assert geometry["confidence"][1, 2, 3] == 0
    ray = torch.linalg.inv(geometry["intrinsics"][0, 2]) @ torch.tensor([5.5, 1.5, 1.0])
    pose = geometry["extrinsics"][0, 2]
    xyz = pose[:, :3].T @ (ray * posed.depth[2, 1, 5] - pose[:, 3])
    torch.testing.assert_close(xyz, unproject(posed.depth, posed.views.cameras)[2, 1, 5], atol=1e-4, rtol=1e-4)


def test_our_geometry_comes_back_with_its_principal_point(posed):
    again = from_da3(to_da3(posed))
    assert torch.equal(again.depth, posed.depth) and torch.equal(again.views.rgb, posed.views.rgb)
    assert torch.equal(again.mask(0.01), posed.mask(0.01))
    torch.testing.assert_close(again.views.cameras.c2w, posed.views.cameras.c2w)
    torch.testing.assert_close(again.views.cameras.K, posed.views.cameras.K)


def test_geometry_of_depth_anything_is_read_in_its_own_resolution():
    read = from_da3(recorded())
    torch.testing.assert_close(read.views.cameras.c2w, small.cameras(2).c2w)
    torch.testing.assert_close(read.views.cameras.K[0], torch.tensor([[50 / 56, 0, 0.5], [0, 48 / 42, 0.5], [0, 0, 1]]))
    assert read.views.cameras.size == SIZE
    assert torch.equal(read.confidence.amin((1, 2)), torch.zeros(2))
    assert torch.equal(read.confidence.amax((1, 2)), torch.ones(2))
    assert len(fuse_points(read, PointFilters(edge=0, agree=0, voxel=0, min_confidence=0))) == read.depth.numel()


def test_sky_is_unknown_and_one_picture_needs_no_cameras():
    sky = torch.zeros(1, *SIZE)
    sky[:, :2] = 0.9
    read = from_da3({"depth": torch.ones(1, *SIZE), "image": torch.rand(1, *SIZE, 3), "mode": "mono", "sky": sky})
    assert not read.known[:, :2].any() and read.known[:, 2:].all()
    assert torch.equal(read.views.cameras.c2w[0], torch.eye(4))
    assert torch.equal(read.confidence, torch.ones(1, *SIZE))


def test_cameras_from_elsewhere_replace_those_of_the_geometry():
    given = small.cameras(2, (60, 80))
    read = from_da3(recorded(), given)
    assert torch.equal(read.views.cameras.K, given.K) and torch.equal(read.views.cameras.c2w, given.c2w)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": None}, r"\['depth'\] missing"),
        ({"depth": torch.ones(2, 1, *SIZE)}, "image of the DA3_GEOMETRY must have shape"),
        ({"image": torch.ones(2, 3, *SIZE)}, "image of the DA3_GEOMETRY must have shape"),
        ({"extrinsics": torch.eye(4)[None, None, :3]}, "extrinsics of this DA3_GEOMETRY must have shape"),
        ({"intrinsics": torch.eye(3).repeat(1, 2, 1, 1)}, "has no intrinsics"),
        ({"extrinsics": torch.full((1, 2, 3, 4), torch.nan)}, "NaN or infinite"),
        ({"confidence": torch.ones(1, *SIZE)}, "confidence must have shape"),
    ],
)
def test_geometry_that_cannot_be_read_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        from_da3(recorded() | changes)


def test_several_pictures_without_cameras_are_refused():
    mono = {key: value for key, value in recorded().items() if "insics" not in key}
    with pytest.raises(ValueError, match="2 pictures without cameras; run Depth Anything 3 in mode multiview"):
        from_da3(mono)
    with pytest.raises(ValueError, match="2 pictures but 3 cameras"):
        from_da3(mono, small.cameras(3, SIZE))


def test_files_say_which_family_of_models_they_are(folder, model, scene, head):
    save_scene(folder / "scene.safetensors", scene)
    (folder / "damaged.safetensors").write_bytes(b"no tensors")
    names = ("head", "small", "scene", "damaged", "missing")
    families = [checkpoint_family(folder / f"{name}.safetensors") for name in names]
    assert families == ["depth", "scenetok", None, None, None]


def test_posed_depth_has_one_shape(posed):
    with pytest.raises(ValueError, match="confidence must have shape"):
        PosedDepth(posed.views, posed.depth, posed.confidence[:1], posed.known)
    assert Cameras.from_dict(posed.views.cameras.to_dict()).size == SIZE
