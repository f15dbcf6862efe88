"""Batches of posed videos: the same from pictures and from latents, and fit for the networks."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from scenetok_core.autoencoders import build_autoencoder, latent_spec
from scenetok_core.camera import ray_features, to_scene_frame
from scenetok_core.configs import from_dict
from scenetok_core.models.networks import Networks
from tests import small, videos
from training.config import DataConfig, RunConfig
from training.data.batch import Batch
from training.data.latents import LatentKind, Manifest, write_manifest, write_scene
from training.data.loader import batches, step_seed
from training.data.source import VideoDataConfig, VideoSource
from training.data.views import ViewsConfig
from training.prepare import PrepareConfig, prepare
from training.tasks import SceneTokTask
from training.tasks.scenetok import SceneTokTaskConfig, SceneTokTrainConfig
from training.trainer import Trainer

AUTOENCODER = f"patch-{small.PATCH}"
SCENES, SEED = 4, 2**20 + 5
VIEWS = ViewsConfig(context_views=3, target_groups=4)
assert small.IMAGE == videos.CROP


def config(root, kind="captures", **changes) -> VideoDataConfig:
    table = {"kind": kind, "root": str(root), "image_size": videos.CROP}
    return replace(from_dict(VideoDataConfig, table), **{"views": VIEWS, **changes})


def source(root, kind="captures", **changes) -> VideoSource:
    return VideoSource(config(root, kind, **changes), AUTOENCODER, AUTOENCODER)


def reference_of(batch: Batch) -> torch.Tensor:
    assert batch.reference is not None, "videos choose it"
    return batch.reference


def tensors(batch: Batch) -> list[torch.Tensor]:
    given, asked = batch.context.cameras, batch.target.cameras
    return [batch.context.content, batch.target.content, given.c2w, given.K, asked.c2w, asked.K, reference_of(batch)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return videos.write_captures(tmp_path_factory.mktemp("source") / "data")


@pytest.fixture(scope="module")
def latents(data):
    out = data.parent / "latents"
    prepare(
        PrepareConfig(
            data, out, AUTOENCODER, AUTOENCODER, image_size=videos.CROP, mirror=True, precision="fp32"
        )
    )  # fmt: skip
    return out


def test_a_batch_holds_posed_pictures(data):
    batch = source(data, mirror=0.0).batch(SEED, SCENES)
    side = videos.CROP
    assert batch.context.content.shape == (SCENES, 3, 3, side, side)
    assert batch.target.content.shape == (SCENES, 4, 3, side, side)
    assert batch.context.cameras.size == (side, side) and batch.context.latents is None
    reference = reference_of(batch)
    assert reference.min() >= 0 and reference.max() < 3 and reference.shape == (SCENES,)
    for i, name in enumerate(batch.names):
        truth = videos.expected(scene=int(name[-1]))
        for rgb, cameras in (
            (batch.context.content[i], batch.context.cameras),
            (batch.target.content[i], batch.target.cameras),
        ):
            frames = [int((truth.cameras.c2w - c2w).abs().amax((1, 2)).argmin()) for c2w in cameras.c2w[i]]
            torch.testing.assert_close(rgb, truth.rgb[frames], atol=1e-5, rtol=0)
            torch.testing.assert_close(cameras.K[i], truth.cameras.K[frames], atol=1e-5, rtol=0)


def test_a_batch_depends_on_seed_and_progress_alone(data):
    state = torch.get_rng_state()
    opened = source(data)
    first, again = opened.batch(SEED, SCENES), source(data, workers=3).batch(SEED, SCENES)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    other = opened.batch(SEED + 1, SCENES)
    assert any(not torch.equal(a, b) for a, b in zip(tensors(first), tensors(other), strict=True))
    longer = opened.batch(SEED, SCENES + 2)
    assert torch.equal(longer.context.content[:SCENES], first.context.content), (
        "a scene does not depend on the batch's size"
    )


def test_the_gap_follows_progress(data):
    views = replace(VIEWS, context_views=2, gap=(10, 10), first_gap=(4, 4), warm_up=1.0, target_groups=2)
    opened = source(data, views=views, mirror=0.0)
    extents = {}
    for progress in (0.0, 1.0):
        centers = opened.batch(SEED, SCENES, progress).context.cameras.centers
        extents[progress] = (centers[:, 1] - centers[:, 0])[:, 0].mean()
    assert float(extents[1.0] / extents[0.0]) == pytest.approx(10 / 4, rel=1e-3)
    assert torch.equal(opened.batch(SEED, SCENES).context.content, opened.batch(SEED, SCENES, 1.0).context.content)


def test_mirrored_scenes_are_mirror_images(data):
    plain, mirrored = (source(data, mirror=share).batch(SEED, SCENES) for share in (0.0, 1.0))
    assert mirrored.names == plain.names
    assert torch.equal(mirrored.context.content, plain.context.content.flip(-1)) and torch.equal(
        mirrored.target.content, plain.target.content.flip(-1)
    )
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored.target.cameras.centers, plain.target.cameras.centers * flip)
    mixed = source(data, mirror=0.5).batch(SEED, 12).context.cameras.K[:, 0, 0, 2]
    assert 0.45 < mixed.min() < 0.5 < mixed.max() < 0.55 and 2 <= int((mixed < 0.5).sum()) <= 10


@pytest.mark.parametrize("mirror", [0.0, 0.5])
def test_latents_and_pictures_give_the_same_batches(data, latents, mirror):
    pictures = source(data, mirror=mirror).batch(SEED, SCENES)
    stored = source(latents, "latents", mirror=mirror).batch(SEED, SCENES)
    assert stored.context.rgb is None and stored.names == pictures.names
    encode = build_autoencoder(AUTOENCODER).encode
    torch.testing.assert_close(stored.context.content, encode(pictures.context.content))
    torch.testing.assert_close(stored.target.content, encode(pictures.target.content))
    for a, b in zip(tensors(stored)[2:], tensors(pictures)[2:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_latents_of_groups_belong_to_their_frames(tmp_path):
    """Latent L of four frames is filled with L, the latent of frame F with F, so that both can be told."""
    names, size = ("va-vae", "videodcae"), 32
    context, target = (LatentKind(name, latent_spec(name)) for name in names)
    write_manifest(tmp_path, Manifest(size, False, "fp32", context, target, None, "test", 1))
    cameras = videos.walk(50).replace(size=(size, size))
    cameras = cameras.replace(c2w=torch.eye(4).repeat(50, 1, 1))
    cameras.c2w[:, 0, 3] = torch.arange(50)
    filled = {
        "context": torch.arange(50.0).view(-1, 1, 1, 1).expand(-1, 32, 2, 2),
        "target": torch.arange(9.0).view(-1, 1, 1, 1).expand(-1, 128, 1, 1),
    }
    write_scene(tmp_path / "s.safetensors", "s", cameras, filled)
    views = ViewsConfig(context_views=3, target_groups=2)
    batch = VideoSource(VideoDataConfig("latents", str(tmp_path), None, size, 0.0, 1, views), *names).batch(SEED, 20)
    assert torch.equal(batch.context.content[:, :, 0, 0, 0], batch.context.cameras.centers[..., 0])
    frames = batch.target.cameras.centers[..., 0].view(20, 2, 4)
    assert torch.equal(batch.target.content[:, :, 0, 0, 0], (frames / 4).floor()[..., 0])
    assert torch.equal(frames, 4 * batch.target.content[:, :, 0, 0, :1] + torch.arange(4.0))
    assert len(frames[:, 0, 0].unique()) > 5 and frames.max() == 35


def test_published_latents_make_batches(tmp_path):
    for suffix in ("", "_flipped"):
        videos.write_npz(tmp_path / "context", f"s{suffix}", torch.randn(videos.FRAMES, 32, 2, 2))
        videos.write_npz(tmp_path / "target", f"s{suffix}", torch.randn(3, 128, 1, 1))
    views = ViewsConfig(context_views=3, target_groups=2)
    given = VideoDataConfig("latents", str(tmp_path / "context"), str(tmp_path / "target"), 32, 0.5, 1, views)
    batch = VideoSource(given, "va-vae", "videodcae").batch(SEED, SCENES)
    assert batch.context.content.shape == (SCENES, 3, 32, 2, 2) and batch.target.content.shape == (SCENES, 2, 128, 1, 1)
    assert batch.target.cameras.c2w.shape == (SCENES, 8, 4, 4)


def test_broken_scenes_are_replaced(tmp_path, caplog):
    data = videos.write_captures(tmp_path)
    whole = source(data, mirror=0.0).batch(SEED, 8)
    broken = whole.names[0]
    (data / broken / "images/frame_00001.png").write_bytes(b"no picture")
    (data / broken / "images/frame_00006.png").unlink()
    opened = source(data, mirror=0.0)
    with caplog.at_level(logging.WARNING, "training"):
        first, again = opened.batch(SEED, 8), opened.batch(SEED, 8)
    assert broken not in first.names and all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again)))  # noqa: B905
    assert [record.message for record in caplog.records if broken in record.message] == [caplog.records[0].message]
    assert "frame_00006.png" in caplog.text
    for i, name in enumerate(whole.names):
        if name != broken:
            assert first.names[i] == name and torch.equal(first.context.content[i], whole.context.content[i])


def test_a_data_set_without_a_usable_scene_is_an_error(data):
    opened = source(data, views=replace(VIEWS, context_views=20))
    with pytest.raises(ValueError, match=r"16 scenes of .* cannot be used.*12 frames are too few, 20 are needed"):
        opened.batch(SEED, 1)


def test_latents_of_another_model_are_refused(latents):
    with pytest.raises(ValueError, match=r"latents of 'patch-4' and 'patch-4' at 16 px, expected 'patch-8'"):
        VideoSource(config(latents, "latents"), "patch-8", "patch-8")
    with pytest.raises(ValueError, match="at 32 px; prepare them anew"):
        source(latents, "latents", image_size=32)


def test_latents_without_mirror_images_cannot_be_mirrored(data):
    out = data.parent / "plain"
    prepare(PrepareConfig(data, out, AUTOENCODER, AUTOENCODER, image_size=videos.CROP))
    assert source(out, "latents", mirror=0.0).batch(SEED, 1).target.rgb is None
    with pytest.raises(ValueError, match=r"has no mirror images; set data.videos.mirror = 0"):
        source(out, "latents")


def test_settings_are_read_strictly():
    table = {
        "kind": "re10k",
        "root": "train",
        "views": {"choice": "uniform", "gap": [48, 96], "first_gap": [32, 48], "warm_up": 0.1, "margin": 8},
    }
    read = from_dict(VideoDataConfig, table)
    assert read.views.gap == (48, 96) and read.views.choice == "uniform" and read.image_size == 256
    for change, message in (
        ({"kind": "video"}, "kind must be one of"),
        ({"size": 3}, "unknown setting size"),
        ({"mirror": 2.0}, "data.videos.mirror must lie"),
        ({"target_root": "x"}, "not used with kind 're10k'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_dict(VideoDataConfig, {**table, **change})


def test_the_loader_takes_a_source(data):
    opened = source(data)
    stream = batches(opened, 2, seed=0, start=3)
    assert torch.equal(next(stream).context.content, opened.batch(step_seed(0, 3), 2).context.content)
    stream.close()


@pytest.mark.parametrize("kind", ["captures", "latents"])
def test_a_batch_feeds_the_networks(data, latents, kind):
    """The steps of a task: cameras into the scene's frame, rays, latents, one pass with a gradient."""
    batch = source(latents if kind == "latents" else data, kind).batch(SEED, SCENES).to("cpu")
    model, autoencoder = small.config(), build_autoencoder(AUTOENCODER)
    reference = batch.context.cameras.c2w[torch.arange(SCENES), reference_of(batch)]
    given, asked = (
        to_scene_frame(cameras, reference, torch.ones(SCENES))
        for cameras in (batch.context.cameras, batch.target.cameras)
    )
    at_origin = given.c2w[torch.arange(SCENES), reference_of(batch)]
    torch.testing.assert_close(at_origin, torch.eye(4).expand(SCENES, 4, 4), atol=1e-5, rtol=0)
    context, target = batch.context.content, batch.target.content
    if batch.context.latents is None:
        context, target = autoencoder.encode(context), autoencoder.encode(target)
    side = (model.compressor.ray_map, model.decoder.ray_map)
    networks = Networks(model)
    rays = [ray_features(cameras.c2w, cameras.K, (s, s)) for cameras, s in zip((given, asked), side, strict=True)]
    t = torch.ones(target.shape[:2])
    out, _ = networks(context, rays[0], target, t, autoencoder.spec.pack(rays[1]))
    assert out.shape == target.shape and bool(out.isfinite().all())


def run_config(data, folder, **changes):
    plain, views = small.config(), ViewsConfig(context_views=3, target_groups=4)
    size = plain.image_size
    given = VideoDataConfig("captures", str(data), image_size=size, mirror=0.5, views=views)
    return SceneTokTrainConfig(
        RunConfig("captures", steps=3, output=str(folder), save_every=3, sheet_every=3, log_every=1),
        replace(plain, decoder=replace(plain.decoder, null_tokens=False)),
        data=replace(DataConfig(2, 3, 4, kind="videos", videos=given), **changes),
        task=SceneTokTaskConfig(least_context=3),
    )


def test_a_model_is_trained_on_captures_and_a_resumed_run_is_the_same(data, tmp_path, monkeypatch):
    weights = []
    for name, stops in (("whole", (3,)), ("resumed", (1, 3))):
        for stop in stops:
            config = run_config(data, tmp_path / name)
            config = replace(config, run=replace(config.run, save_every=1))
            trainer = Trainer(config, SceneTokTask(config))
            trainer.resume("auto")
            if stop < 3:
                monkeypatch.setattr(trainer, "progress", lambda _, trained=trainer.trained: float(trained.step >= 1))
            trainer.train()
        weights.append(load_file(tmp_path / name / "captures" / "model.safetensors"))
    assert list((tmp_path / "whole").rglob("sheets/*.png")), "a sheet shows what it does"
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())


def test_settings_of_views_that_disagree_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"context_views is 2, data\.videos\.views\.context_views is 3"):
        run_config(data, tmp_path, context_views=2)
    config = run_config(data, tmp_path, target_views=5)
    with pytest.raises(ValueError, match=r"data\.target_views is 5, .* = 4 of 'patch-4' are 4 frames"):
        SceneTokTask(config).dataset(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"a table \[data\.videos\] belongs to kind 'videos'"):
        run_config(data, tmp_path, kind="rooms")
