"""Training a depth head on a frozen model, from rooms or from depth on disk to a checkpoint that renders depth."""

from dataclasses import replace

import pytest
import torch

from scenetok_core import DepthHead, SceneTok
from scenetok_core.autoencoders import LatentSpec
from scenetok_core.configs import from_dict
from scenetok_core.depth import depth_pictures
from scenetok_core.flow import interpolate
from scenetok_core.types import Views
from tests import small, videos
from tests.fitting import (
    EXACT,
    RATE,
    SEED,
    assert_frozen_precision,
    assert_losses_reach_every_weight,
    fit,
    fresh,
    generator,
)
from tests.test_depth_data import write_arrays
from tests.test_held_out import sheet_rows
from training.config import DataConfig, OptimConfig, RunConfig
from training.data.batch import Batch
from training.data.rooms import RoomsConfig
from training.data.source import VideoDataConfig
from training.state import list_states, load_state
from training.tasks import DepthTask, build_task, depth
from training.tasks.depth import DepthTaskConfig, DepthTrainConfig, known_cells
from training.tasks.shared import scene_of
from training.trainer import Trainer

WALK, STRAYS, CONTEXT, TARGETS, SCENES = 6, 3, 4, 3, 3
STEPS = 40


@pytest.fixture(scope="module")
def scene_checkpoint(tmp_path_factory):
    return small.checkpoint(tmp_path_factory.mktemp("frozen"))


def run_config(checkpoint, run=EXACT, model=None, data=None, **task):
    rooms = RoomsConfig(image_size=small.IMAGE, views=WALK, strays=STRAYS, textures=8, texture_size=32)
    return DepthTrainConfig(
        RunConfig(**{"name": "test", "steps": STEPS, **run}),
        small.depth_config(**{"near": 0.1, "far": 30.0, **(model or {})}),
        optim=OptimConfig(lr=RATE, warmup=2, ema=0.9),
        data=data or DataConfig(SCENES, CONTEXT, TARGETS, rooms),
        task=DepthTaskConfig(scene_checkpoint=str(checkpoint), **task),
    )


@pytest.fixture(scope="module")
def task(scene_checkpoint):
    return DepthTask(run_config(scene_checkpoint))


@pytest.fixture(scope="module")
def batch(task):
    return task.dataset(torch.device("cpu")).batch(SEED, SCENES)


def test_a_fresh_head_predicts_nothing_and_may_keep_the_models_output(task, scene_checkpoint):
    decoder = task.scene.networks.denoiser.model
    assert not any(weight.any() for weight in fresh(task).denoiser.model.final_layer.linear.parameters())
    kept = fresh(DepthTask(run_config(scene_checkpoint, fresh_output=False)))
    linear = kept.denoiser.model.final_layer.linear
    assert torch.equal(linear.weight, decoder.final_layer.linear.weight)
    assert linear.weight.data_ptr() != decoder.final_layer.linear.weight.data_ptr()


@pytest.mark.parametrize("rank", [2, None])
def test_one_batch_is_overfitted(batch, scene_checkpoint, rank):
    task = DepthTask(run_config(scene_checkpoint, model={"rank": rank}))
    before = {name: weight.clone() for name, weight in task.scene.networks.state_dict().items()}
    _, history = fit(task, batch, STEPS)
    assert history[-1] < 0.9 * history[0]
    assert all(torch.equal(before[name], now) for name, now in task.scene.networks.state_dict().items())


@pytest.mark.parametrize("rank", [2, None])
def test_losses_reach_every_weight_and_depend_on_the_generator_alone(batch, scene_checkpoint, rank):
    assert_losses_reach_every_weight(DepthTask(run_config(scene_checkpoint, model={"rank": rank})), batch)


def test_inference_shows_the_head_the_same_tokens_rays_and_range(batch, scene_checkpoint):
    task = DepthTask(run_config(scene_checkpoint, reference="middle"))
    compressor = task.scene.networks.compressor
    compressor.register_forward_hook(lambda module, given, posterior: replace_noise(posterior))
    chosen = task.choose(batch, generator())
    example = task.frame(chosen, generator(), jitter=False)
    model, _ = fit(task, batch, steps=3)
    head = DepthHead.around(model.eval(), "", task.scene)
    for i in range(SCENES):
        path = scene_of(chosen.target.cameras, i)
        views = Views(chosen.context.content[i], scene_of(chosen.context.cameras, i))
        scene = task.scene.encode(views, reference=CONTEXT // 2)
        torch.testing.assert_close(scene.tokens, example.tokens[i], atol=1e-5, rtol=0)
        assert scene.scene_scale == pytest.approx(float(example.scale[i]), rel=1e-5)
        noise = torch.randn((1, TARGETS, *example.target.shape[2:]), generator=generator(3))
        seen = {}
        handle = model.denoiser.register_forward_pre_hook(lambda module, given, seen=seen: seen.update(given=given))
        head.render(scene, path, generator=generator(3))
        handle.remove()
        embedded = model.denoiser.embed_rays(example.rays[[i]])
        torch.testing.assert_close(seen["given"][2], embedded, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen["given"][0], noise)


def test_a_head_is_told_the_size_of_a_metre_in_training_as_in_rendering(batch, scene_checkpoint):
    def given(**changes):
        task = DepthTask(run_config(scene_checkpoint, model={"size_token": True}, **changes))
        model, seen = fresh(task), []
        token = model.size_token
        assert token is not None and token.slope.any()
        torch.nn.init.ones_(token.known)
        token.register_forward_hook(lambda module, given, made: seen.append(made[:, 0].detach()))
        return task, model, token, seen

    task, model, _, seen = given(reference="middle", metric_share=1.0)
    chosen = task.choose(batch, generator())
    example = task.frame(chosen, generator(), jitter=False)
    assert chosen.context.cameras.unit == "metric" and torch.equal(example.metre, example.scale)
    task.loss(model, chosen, generator(), 0.0)
    task.frame = lambda *_, **__: example
    task.loss(model, chosen, generator(), 0.0)
    assert not torch.equal(seen[0], seen[1]), "where the scale is jittered, so is the metre"
    head = DepthHead.around(model.eval(), "", task.scene)
    for i in range(SCENES):
        cameras = scene_of(chosen.context.cameras, i)
        scene = task.scene.encode(Views(chosen.context.content[i], cameras), reference=CONTEXT // 2)
        head.render(scene, scene_of(chosen.target.cameras, i))
        torch.testing.assert_close(seen[-1][0], seen[1][i], atol=1e-5, rtol=0)
    task, model, token, seen = given(metric_share=0.0)
    task.loss(model, chosen, generator(), 0.0)
    assert torch.equal(seen[0], token.unknown.detach().expand_as(seen[0]))


def test_losses_reach_the_size_token(batch, scene_checkpoint):
    task = DepthTask(run_config(scene_checkpoint, model={"size_token": True}, metric_share=1.0))
    frame = task.frame

    def half_known(*given, **how):
        example = frame(*given, **how)
        return replace(example, metre=example.metre * torch.tensor([1.0] * (SCENES - 1) + [0.0]))

    task.frame = half_known
    assert_losses_reach_every_weight(task, batch)


def replace_noise(posterior):
    return type(posterior)(posterior.mean)


def test_the_right_prediction_has_no_loss_and_unknown_depth_does_not_count(task, batch):
    chosen = task.choose(batch, generator())
    holes = chosen.target.depth.clone()
    holes[:, :, : small.PATCH] = 0  # one row of cells
    chosen = Batch(chosen.context, replace(chosen.target, depth=holes), chosen.reference)
    same = generator()
    example = task.frame(chosen, same, jitter=True)
    assert not example.known[:, :, :, 0].any() and (example.known[:, :, :, 1:] == 1).all()

    class KnowsTheTruth(torch.nn.Module):
        wrong = 0.0

        def forward(self, tokens, noisy, t, rays, metre):
            level = t[:, :, None, None, None]
            clean = example.target.clone()
            clean[:, :, :, 0] += 1.0
            clean[:, :, :, 1] += self.wrong
            noise = (noisy - (1 - level) * example.target) / level
            assert torch.allclose(interpolate(example.target, noise, level), noisy, atol=1e-4)
            return noise - clean

    model = KnowsTheTruth()
    losses, logs = task.loss(model, chosen, generator(), 0.0)
    assert losses.max() < 1e-5
    assert {"loss_mean", "loss_noisy", "loss_by_t/0.0_0.2", "loss_by_t/1"} <= set(logs)
    model.wrong = 1.0
    losses, logs = task.loss(model, chosen, generator(), 0.0)
    assert torch.allclose(torch.as_tensor(logs["loss_by_t/1"]), torch.as_tensor(logs["loss_mean"]), equal_nan=True)
    rows = small.IMAGE // small.PATCH - 1
    assert losses.tolist() == pytest.approx([1 / rows] * SCENES, rel=1e-3)


def test_targets_are_depth_in_the_scenes_frame(task, batch):
    chosen = task.choose(batch, generator())
    example = task.frame(chosen, generator(), jitter=True)
    expected = depth_pictures(chosen.target.depth, example.scale, task.config.model)
    torch.testing.assert_close(task.autoencoder.decode(example.target), expected)


def test_a_latent_of_several_frames_knows_the_share_of_all():
    spec = LatentSpec(channels=8, spatial=4, frames_per_latent=2, group_frames=3, group_latents=2)
    depth = torch.ones(1, 3, 8, 8)
    depth[0, 0, :4, :4] = 0  # the first latent is the first frame alone
    depth[0, 2, 4:, 4:] = 0
    known = known_cells(depth, spec)
    assert known.shape == (1, 2, 1, 2, 2)
    assert known[0, 0, 0].tolist() == [[0, 1], [1, 1]] and known[0, 1, 0].tolist() == [[1, 1], [1, 0.5]]


def test_a_run_ends_in_a_head_that_renders_depth(scene_checkpoint, tmp_path):
    settings = {"output": str(tmp_path), "sheet_every": STEPS, "save_every": STEPS // 2}
    config = run_config(scene_checkpoint, settings)
    task = build_task(config)
    trainer = Trainer(config, task)
    trainer.train()
    states = list_states(config.run.folder / "states")
    assert not [name for name in trainer.trained.tensors() if name.endswith("weight") and "final" not in name]
    assert list((config.run.folder / "sheets").iterdir())
    scene_model = SceneTok.load(scene_checkpoint)
    head = DepthHead.load(config.run.folder / "model.safetensors", scene_model)
    depth = head.render(scene_model.encode(small.views(CONTEXT)), small.cameras(5))
    assert depth.shape == (5, 1, small.IMAGE, small.IMAGE) and depth.isfinite().all()
    resumed = Trainer(config, build_task(config))
    load_state(states[0], resumed.trained, resumed.fingerprint)
    for state in states[1:]:
        state.unlink()
    resumed.train()
    again = resumed.trained.tensors()
    assert all(torch.equal(value, again[name]) for name, value in trainer.trained.tensors().items())
    more = replace(config, run=replace(config.run, name="more", init=str(config.run.folder / "model.safetensors")))
    started, saved = Trainer(more, task).trained.model.state_dict(), head.model.networks.denoiser.state_dict()
    assert all(torch.equal(value, saved[name.removeprefix("denoiser.")]) for name, value in started.items())


def test_a_run_does_not_go_on_with_another_scene_model(scene_checkpoint, tmp_path):
    config = run_config(scene_checkpoint, {"output": str(tmp_path), "steps": 2, "sheet_every": 0})
    Trainer(config, DepthTask(config)).train()
    task = DepthTask(config)
    task.frozen = {"scene_model": "0123456789abcdef"}
    with pytest.raises(ValueError, match=r"frozen\.scene_model: saved"):
        Trainer(config, task).resume()


def test_a_run_learns_from_depth_on_disk(scene_checkpoint, tmp_path, monkeypatch):
    videos.write_captures(tmp_path / "data")
    write_arrays(tmp_path / "depth")
    table = {
        "kind": "captures",
        "root": str(tmp_path / "data"),
        "image_size": videos.CROP,
        "views": {"context_views": 3, "target_groups": 3},
        "depth": {"root": str(tmp_path / "depth")},
    }
    data = DataConfig(SCENES, 3, 3, kind="videos", videos=from_dict(VideoDataConfig, table))
    settings = {"output": str(tmp_path / "runs"), "steps": 3, "sheet_every": 3}
    config = run_config(scene_checkpoint, settings, {"units": "relative"}, data)
    trainer = Trainer(config, DepthTask(config))
    trainer.train()
    assert trainer.trained.step == 3 and list((config.run.folder / "sheets").iterdir())
    batch, task = trainer.dataset.batch(0, 1), trainer.task
    rows = sheet_rows(depth, monkeypatch, lambda: task.sheet(trainer.trained.model.eval(), batch, generator()))
    assert next(iter(rows)) == f"inputs\n{batch.names[0]}\n(training scene)"
    with pytest.raises(ValueError, match=r"known up to a factor and an offset; set model\.units = 'relative'"):
        run_config(scene_checkpoint, {}, {"units": "scene"}, data)
    assert data.videos is not None
    blind = replace(data, videos=replace(data.videos, depth=None))
    with pytest.raises(ValueError, match=r"a table \[data\.videos\.depth\]"):
        run_config(scene_checkpoint, {}, {"units": "relative"}, blind)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"scene_model": "other"}, r"model\.scene_model is 'other', but small\.safetensors has 'small'; set it"),
        ({"layers": ("none",)}, r"layers \['none'\] are in no name"),
    ],
)
def test_settings_that_do_not_fit_the_frozen_model_are_refused(scene_checkpoint, model, message):
    with pytest.raises(ValueError, match=message):
        DepthTask(run_config(scene_checkpoint, model=model)).build()


def test_settings_that_make_no_sense_are_refused(scene_checkpoint):
    with pytest.raises(ValueError, match=r"task\.mean_fraction must lie in \[0, 1\], got 2"):
        run_config(scene_checkpoint, mean_fraction=2.0)
    with pytest.raises(ValueError, match=r"task\.unconditional must be 0, got 0\.1: depth is rendered without"):
        run_config(scene_checkpoint, unconditional=0.1)


def test_the_frozen_model_works_in_the_precision_of_the_run(task, batch, scene_checkpoint):
    rough = DepthTask(run_config(scene_checkpoint, run={"mixed_precision": "bf16"}))
    chosen = task.choose(batch, generator())
    assert_frozen_precision(task, rough, lambda each: each.frame(chosen, generator(), jitter=False).tokens)
