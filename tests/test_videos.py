"""Readers of posed videos: every layout gives the same cameras and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scenetok_core.autoencoders import build_autoencoder, latent_spec
from tests import captures, videos
from tests.captures import assert_same_cameras
from training.data.dl3dv import open_dl3dv
from training.data.latents import LatentKind
from training.data.official import OfficialVideos
from training.data.re10k import RealEstateVideos
from training.data.source import guess_kind, open_pictures
from training.data.videos import open_captures

PICKED = (7, 0, 3)
CELLS = 2  # latent cells a side of a context latent
SIZE = 16 * CELLS


class Stranger:
    """What no data set should hold."""


def kind(name):
    return LatentKind(name, latent_spec(name))


WRITERS = {
    "re10k": (videos.write_realestate, ("a", "b", "c")),
    "dl3dv": (videos.write_dl3dv, ("1K/aa", "1K/bb")),
    "captures": (videos.write_captures, ("scene0", "scene1", "scene2")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_cameras_and_pictures(tmp_path, name):
    write, names = WRITERS[name]
    opened = open_pictures(guess_kind(write(tmp_path)), tmp_path, videos.CROP)
    assert tuple(opened.names) == names
    for scene, each in enumerate(names):
        video = opened.open(each)
        assert video.name == each and video.latents is None
        assert_same_cameras(video.cameras, videos.walk())
        views, truth = video.frames(PICKED, videos.CROP), videos.expected(PICKED, scene)
        torch.testing.assert_close(views.rgb, truth.rgb, atol=videos.JPEG_ERROR, rtol=0)
        assert_same_cameras(views.cameras, truth.cameras)
        assert views.cameras.size == (videos.CROP, videos.CROP)


@pytest.mark.parametrize("name", WRITERS)
def test_layouts_are_recognised(tmp_path, name):
    assert guess_kind(WRITERS[name][0](tmp_path)) == name


def test_a_single_capture_and_captures_of_several_formats(tmp_path):
    assert open_captures(videos.write_capture(tmp_path / "one")).names == ("one",)
    captures.write_colmap_text(tmp_path / "deep" / "room")
    captures.write_realestate(tmp_path / "re10k")
    videos.write_capture(tmp_path / ".deleted")
    opened = open_captures(tmp_path)
    assert opened.names == ("deep/room", "one", "re10k")
    assert_same_cameras(opened.open("deep/room").cameras, captures.reference())
    assert opened.open("re10k").frames([1], 8).rgb.shape == (1, 3, 8, 8)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        guess_kind(tmp_path / "missing")
    openers = (RealEstateVideos, lambda root: open_dl3dv(root, videos.CROP), open_captures)
    for opener, what in zip(openers, ("no chunks", "no DL3DV scenes", "no captures"), strict=True):
        with pytest.raises(ValueError, match=what):
            opener(tmp_path)


def test_chunks_without_an_index_are_searched(tmp_path):
    opened = RealEstateVideos(videos.write_realestate(tmp_path, index=False))
    assert opened.names == ("a", "b", "c")
    assert opened.open("c").cameras.names[:2] == ("0", "1000")


def test_chunks_of_objects_are_not_loaded(tmp_path):
    videos.write_realestate(tmp_path)
    torch.save([{"key": "a", "cameras": torch.zeros(1, 18), "images": [Stranger()]}], tmp_path / "000000.torch")
    with pytest.raises(ValueError, match="more than tensors"):
        RealEstateVideos(tmp_path).open("a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "damaged"),
        (lambda path: path.unlink(), "no such chunk"),
        (lambda path: torch.save({"weights": torch.zeros(2)}, path), "no chunk"),
        (lambda path: torch.save([videos.realestate_scene("other")], path), "has no scene 'a'"),
    ],
)
def test_broken_chunks_are_named(tmp_path, change, message):
    path = videos.write_realestate(tmp_path) / "000000.torch"
    opened = RealEstateVideos(tmp_path)
    change(path)
    with pytest.raises(ValueError, match=message) as error:
        opened.open("a")
    assert "000000.torch" in str(error.value)
    assert opened.open("c").name == "c", "other chunks are still read"


def test_broken_scenes_of_a_chunk_are_named(tmp_path):
    scene = videos.realestate_scene("a")
    short, poses, jpeg = {**scene, "images": scene["images"][:-1]}, {**scene, "key": "p"}, {**scene, "key": "j"}
    paths = {**scene, "key": "f", "images": ["0.jpg"] * videos.FRAMES}
    poses["cameras"] = scene["cameras"] * 3
    jpeg["images"] = [torch.zeros(9, dtype=torch.uint8), *scene["images"][1:]]
    torch.save([short, poses, jpeg, paths], tmp_path / "0.torch")
    opened = RealEstateVideos(tmp_path)
    with pytest.raises(ValueError, match="11 pictures and cameras"):
        opened.open("a")
    with pytest.raises(ValueError, match="must be tensors with the bytes of JPEG files"):
        opened.open("f")
    with pytest.raises(ValueError, match=r"p in .* not a rotation"):
        opened.open("p")
    with pytest.raises(ValueError, match="cannot read the picture 0 of j in"):
        opened.open("j").frames([0], 8)
    assert len(opened.open("j").frames([1], 8)) == 1


def test_the_smallest_large_enough_pictures_are_read(tmp_path):
    videos.write_capture(tmp_path, images="images_4", scale=4)
    for frame in sorted((tmp_path / "images_4").iterdir()):
        rgb = torch.zeros(3, videos.HEIGHT // 2, videos.WIDTH // 2)
        videos.save(rgb, tmp_path / "images_8" / frame.name)
    assert float(open_dl3dv(tmp_path, 12).open(tmp_path.name).frames([0], 12).rgb.max()) == 0
    assert float(open_dl3dv(tmp_path, 13).open(tmp_path.name).frames([0], 13).rgb.max()) > 0.9
    larger = open_dl3dv(tmp_path, 100).open(tmp_path.name)
    assert larger.cameras.size == (videos.HEIGHT, videos.WIDTH), "none is large enough: the largest"


def test_broken_scenes_of_dl3dv_are_named(tmp_path):
    root = videos.write_dl3dv(tmp_path)
    (root / "1K/aa/images_4/frame_00003.png").unlink()
    opened = open_dl3dv(root, videos.CROP)
    with pytest.raises(ValueError, match=r"1 of 12 pictures .*frame_00003"):
        opened.open("1K/aa")
    for picture in (root / "1K/bb/nerfstudio/images_4").iterdir():
        picture.unlink()
    with pytest.raises(ValueError, match="has no pictures; expected one of the folders images_8"):
        opened.open("1K/bb")


def official(root: Path, *, mirrored=False, target="videodcae", latent=None) -> OfficialVideos:
    spec = latent_spec(target)
    side = SIZE // spec.spatial
    shape = (videos.FRAMES // spec.group_frames * spec.group_latents, spec.channels, side, side)
    for suffix, sign in (("", 1), ("_flipped", -1)):
        context = torch.arange(videos.FRAMES).view(-1, 1, 1, 1).expand(-1, 32, CELLS, CELLS)
        videos.write_npz(root / "context", f"s{suffix}", sign * context)
        given = torch.full(shape, 0.5) if latent is None else latent
        videos.write_npz(root / "target", f"s{suffix}", sign * given, shape[0] * spec.frames_per_latent)
    kinds = (kind("va-vae"), kind(target))
    return OfficialVideos(root / "context", root / "target", kinds, SIZE, mirrored=mirrored)


def test_published_latents_are_normalised_and_grouped(tmp_path):
    video = official(tmp_path).open("s")
    assert len(video.cameras) == videos.FRAMES and video.groups == videos.FRAMES // 4
    torch.testing.assert_close(video.cameras.c2w, videos.walk().c2w, atol=2e-3, rtol=0)
    for mirrored, sign in ((False, 1), (True, -1)):
        raw = sign * torch.tensor([5.0, 2]).view(2, 1, 1, 1).expand(2, 32, CELLS, CELLS)
        torch.testing.assert_close(video.context([5, 2], mirrored), latent_spec("va-vae").normalise(raw))
        torch.testing.assert_close(video.target([1], mirrored), torch.full((1, 128, 1, 1), sign * 0.5 * 0.493))
    with pytest.raises(ValueError, match="holds latents and no pictures"):
        video.frames([0], SIZE)


def test_published_wan_latents_are_taken_as_they_are(tmp_path):
    frames, latents = 17, torch.rand(1, 5, 48, CELLS, CELLS)  # with the leading 1 of the published script
    many = videos.walk(frames)
    poses = {"extrinsics": many.c2w.half().numpy(), "intrinsics": many.K.half().numpy()}
    videos.write_npz(tmp_path / "c", "s", torch.zeros(frames, 32, CELLS, CELLS), frames, **poses)
    videos.write_npz(tmp_path / "t", "s", latents, frames, **poses)
    kinds = (kind("va-vae"), kind("wan2.2"))
    video = OfficialVideos(tmp_path / "c", tmp_path / "t", kinds, SIZE, mirrored=False).open("s")
    assert video.groups == 1
    torch.testing.assert_close(video.target(range(5), False), latents[0].half().float())


def test_published_latents_with_other_arrays_are_refused(tmp_path):
    videos_of = official(tmp_path)
    plain = torch.zeros(videos.FRAMES, 32, CELLS, CELLS)
    videos.write_npz(tmp_path / "context", "s", plain, extrinsics=None, poses=torch.zeros(3).numpy())
    with pytest.raises(ValueError, match=r"'poses'\], extrinsics missing.*expected latent, extrinsics, intrinsics"):
        videos_of.open("s")
    videos.write_npz(tmp_path / "context", "s", plain[:, :16])
    with pytest.raises(ValueError, match=r"shape \[12, 16, 2, 2\], expected \[L, 32, 2, 2\] of 'va-vae' at 32 px"):
        videos_of.open("s")
    videos.write_npz(tmp_path / "context", "s", plain[:-1])
    with pytest.raises(ValueError, match="11 latents and 12 cameras"):
        videos_of.open("s")
    (tmp_path / "context/s.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match="damaged"):
        videos_of.open("s")


def test_scenes_without_mirror_images_are_left_out_when_these_are_wanted(tmp_path):
    assert official(tmp_path, mirrored=True).names == ("s",)
    (tmp_path / "target/s_flipped.npz").unlink()
    folders, kinds = (tmp_path / "context", tmp_path / "target"), (kind("va-vae"), kind("videodcae"))
    assert OfficialVideos(*folders, kinds, SIZE, mirrored=False).names == ("s",)
    with pytest.raises(ValueError, match=r"no scene has mirrored latents.*set data.videos.mirror = 0"):
        OfficialVideos(*folders, kinds, SIZE, mirrored=True)


def test_a_spec_needs_no_weights_and_is_that_of_the_autoencoder():
    assert latent_spec("patch-8") == build_autoencoder("patch-8").spec
    assert latent_spec("wan2.2").group_frames == 17 and latent_spec("videodcae").frames_per_latent == 4
    with pytest.raises(ValueError, match="unknown autoencoder"):
        latent_spec("jpeg")


def test_an_index_that_is_no_json_is_refused(tmp_path):
    (videos.write_realestate(tmp_path) / "index.json").write_text("{")
    with pytest.raises(ValueError, match=r"index.json is no JSON.*delete it"):
        RealEstateVideos(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"a": 3}))
    with pytest.raises(ValueError, match="must map keys"):
        RealEstateVideos(tmp_path)
