"""Depth of posed videos on disk: arrays and pictures of 16 bits, cropped, straightened and mirrored as pictures are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core.captures import Capture
from scenetok_core.captures.distortion import Distortion, resample, undistortion_grid
from tests import videos
from training.data.batch import Batch
from training.data.depths import DepthDataConfig, DepthFolder
from training.data.source import VideoDataConfig, VideoSource
from training.data.videos import CaptureVideo, open_captures
from training.data.views import ViewsConfig

PICKED = (7, 0, 3)
SEED = 2**20 + 3


def inverse(scene=0, height=videos.HEIGHT, width=videos.WIDTH):
    """[F, H, W] inverse depth that tells column, row, frame and scene apart."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frame = torch.arange(videos.FRAMES)[:, None, None]
    return x + 2 * y + 4 * frame + 100 * scene + 0.25


def write_arrays(root: Path, count=3, suffix="_depths", **changes) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for scene in range(count):
        np.savez_compressed(root / f"scene{scene}{suffix}.npz", **{"depths": inverse(scene).numpy(), **changes})
    return root


def write_pictures(folder: Path, values: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    for i, depth in enumerate(values):
        Image.fromarray(depth.numpy().astype(np.uint16)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return videos.write_captures(tmp_path_factory.mktemp("captures"))


@pytest.fixture(scope="module")
def video(data):
    return open_captures(data).open("scene1")


def read(root, video, size=videos.HEIGHT, **settings):
    return DepthFolder(DepthDataConfig(str(root), **settings)).read(video, PICKED, size)


def expected(scene=1):
    """The centred squares of the frames."""
    margin = (videos.WIDTH - videos.HEIGHT) // 2
    return inverse(scene)[list(PICKED), :, margin : margin + videos.HEIGHT]


@pytest.mark.parametrize("suffix", ["", "_depths"])
def test_arrays_of_inverse_depth_are_read(tmp_path, video, suffix):
    depth = read(write_arrays(tmp_path, suffix=suffix), video)
    torch.testing.assert_close(1 / depth, expected())


def test_pictures_of_16_bits_are_depth_in_units_of_the_cameras(tmp_path, video):
    millimetres = (1000 * inverse()).round()
    millimetres[:, 0] = 0
    write_pictures(tmp_path / "scene1", millimetres)
    depth = read(tmp_path, video, values="depth", scale=0.001)
    torch.testing.assert_close(depth[:, 1:], expected(0)[:, 1:], atol=1e-3, rtol=0)
    assert not depth[:, 0].any(), "0 is unknown"


def test_infinite_and_missing_values_are_told_apart(tmp_path, video):
    values = inverse(1)
    values[:, 0], values[:, 1], values[:, 2] = 0, float("nan"), -1
    write_arrays(tmp_path, depths=values.numpy())
    depth = read(tmp_path, video)
    assert depth[:, 0].isinf().all() and not depth[:, 1:3].any() and (depth[:, 3:] > 0).all()
    assert not read(tmp_path, video, values="depth")[:, :3].any()


def test_smaller_maps_serve_larger_pictures(tmp_path, video):
    small = inverse(1, videos.HEIGHT // 2, videos.WIDTH // 2)
    write_arrays(tmp_path, depths=small[..., None].numpy())
    assert read(tmp_path, video, size=videos.HEIGHT).shape == (len(PICKED), videos.HEIGHT, videos.HEIGHT)
    exact = 1 / read(tmp_path, video, size=videos.HEIGHT // 2)
    margin = (videos.WIDTH - videos.HEIGHT) // 4
    torch.testing.assert_close(exact, small[list(PICKED), :, margin : margin + videos.HEIGHT // 2])


def test_lenses_are_removed_from_depth_as_from_pictures(tmp_path, video):
    lens = Distortion(k1=-0.2, k2=0.05)
    capture = Capture(**{**vars_of(video.capture), "lenses": (lens,) * len(video.capture)})
    bent = CaptureVideo(video.name, capture)
    height, width, margin = 10 * videos.HEIGHT, 10 * videos.WIDTH, 5 * (videos.WIDTH - videos.HEIGHT)
    values = inverse(1, height, width)
    write_arrays(tmp_path, depths=values.numpy())
    grid = undistortion_grid(capture.K[0], lens, (height, width))
    squares = [maps[list(PICKED), :, margin : margin + height] for maps in (resample(values, grid), values)]
    found = 1 / read(tmp_path, bent, size=height)
    step = 1 / height + 0.5 / width  # half a pixel down and to the side
    assert float((found - squares[0]).abs().max()) < 1.1 * step
    assert float((found - squares[1]).abs().max()) > 5 * step


def vars_of(capture):
    return {name: getattr(capture, name) for name in capture.__dataclass_fields__}


def depth_of(batch: Batch) -> torch.Tensor:
    assert batch.target.depth is not None
    return batch.target.depth


def test_batches_hold_the_depth_of_their_targets(tmp_path, data):
    root = write_arrays(tmp_path)
    table = {"kind": "captures", "root": str(data), "image_size": videos.CROP}
    views, size = ViewsConfig(context_views=3, target_groups=4), (videos.CROP, videos.CROP)
    batches = {
        mirror: VideoSource(
            VideoDataConfig(**table, mirror=mirror, views=views, depth=DepthDataConfig(str(root))), "patch-4", "patch-4"
        ).batch(SEED, 4)
        for mirror in (0.0, 1.0)
    }
    plain, mirrored = (depth_of(batches[mirror]) for mirror in (0.0, 1.0))
    assert plain.shape == (4, 4, *size) and torch.equal(mirrored, plain.flip(-1))
    found = batches[0.0]
    for i, name in enumerate(found.names):
        value = 1 / depth_of(found)[i]
        frames = (((value - 100 * int(name[-1])) / 4).flatten(1).amin(1)).floor()
        blue = found.target.content[i, :, 2].mean((1, 2)) * 15
        assert torch.allclose(frames + 3 * int(name[-1]), blue, atol=0.2), "depth and picture are of one frame"
    assert found.context.depth is None
    blind = VideoSource(VideoDataConfig(**table, views=views), "patch-4", "patch-4").batch(SEED, 2)
    assert blind.target.depth is None


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: None, "no depth of scene scene1: expected one of"),
        (lambda root: (root / "scene1.npz").write_bytes(b"PK\x03\x04no"), r"scene1\.npz cannot be read"),
        (lambda root: write_arrays(root, depths=np.array([{}, 1], dtype=object)), r"scene1_depths\.npz cannot be read"),
        (lambda root: write_arrays(root, depths=inverse()[:5].numpy()), "depth of 5 frames, but the video has 12"),
        (lambda root: write_arrays(root, depths=inverse()[0].numpy()), r"must be numbers \[F, H, W\], got float32"),
        (lambda root: write_arrays(root, depths=inverse(0, 20, 20).numpy()), "depth of 20 x 20, but the pictures are"),
        (lambda root: write_pictures(root / "scene1", inverse()[:2]), "depth of 2 frames, but the video has 12"),
        (lambda root: videos.save(torch.zeros(3, 4, 4), root / "scene1" / "0.png"), "depth of 1 frames"),
    ],
)
def test_what_is_missing_or_broken_is_named(tmp_path, video, write, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, video)


def test_pictures_of_8_bits_and_of_several_sizes_are_refused(tmp_path, video):
    for i in range(videos.FRAMES):
        videos.save(torch.zeros(3, 4, 4), tmp_path / "scene1" / f"{i}.png")
    with pytest.raises(ValueError, match=r"7\.png is no readable picture of depth \(its mode is RGB, expected grey"):
        read(tmp_path, video)
    write_pictures(tmp_path / "two" / "scene1", inverse()[:, :12, :16])
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(tmp_path / "two" / "scene1" / "3.png")
    with pytest.raises(ValueError, match="holds depth of different sizes"):
        read(tmp_path / "two", video)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scale = 2\.0 is not used with values 'inverse'"):
        DepthDataConfig("depth", scale=2.0)
    with pytest.raises(ValueError, match=r"no such folder of depth: .*none"):
        DepthFolder(DepthDataConfig(str(tmp_path / "none")))
