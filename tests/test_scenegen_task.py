"""Training a scene generator on the tokens of a frozen model, from rooms to a checkpoint that inference takes."""

from dataclasses import replace

import pytest
import torch

from scenetok_core import SceneGenerator, SceneTok
from scenetok_core.generation import conditioning_rays
from scenetok_core.models.compressor import Posterior
from scenetok_core.types import Views
from tests import small
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
from training.config import DataConfig, OptimConfig, RunConfig
from training.data.rooms import RoomsConfig
from training.state import list_states
from training.tasks.scenegen import SceneGenTask, SceneGenTaskConfig, SceneGenTrainConfig
from training.tasks.shared import pictures_of, scene_of
from training.trainer import Trainer

WALK, CONTEXT, PATH, SCENES = 8, 4, 3, 3
STEPS, MANY = 40, 300


@pytest.fixture(scope="module")
def scene_checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    return small.checkpoint(folder)


def run_config(checkpoint, run=EXACT, model=None, **task):
    rooms = RoomsConfig(image_size=small.IMAGE, views=WALK, textures=8, texture_size=32)
    return SceneGenTrainConfig(
        RunConfig(**{"name": "test", "steps": STEPS, **run}),
        small.generator_config(**(model or {})),
        optim=OptimConfig(lr=RATE, warmup=2, ema=0.9),
        data=DataConfig(SCENES, CONTEXT, PATH, rooms),
        task=SceneGenTaskConfig(scene_checkpoint=str(checkpoint), **task),
    )


@pytest.fixture(scope="module")
def task(scene_checkpoint):
    return SceneGenTask(run_config(scene_checkpoint))


@pytest.fixture(scope="module")
def batch(task):
    return task.dataset(torch.device("cpu")).batch(SEED, SCENES)


@pytest.mark.parametrize("seed", [1, 2])
def test_inference_shows_the_generator_the_same_rays_and_pictures(task, batch, seed, monkeypatch):
    chosen = task.choose(batch, generator(seed))
    example = task.frame(chosen, generator(seed))
    drawer, seen = SceneGenerator(task.config.model, fresh(task), task.autoencoder, ""), {}
    monkeypatch.setattr(drawer.networks.scene_generator, "condition", lambda *given: seen.update(given=given))
    for i in range(SCENES):
        views, path = chosen.context, scene_of(chosen.target.cameras, i)
        order = [
            next(
                v for v in range(CONTEXT) if torch.equal(task.autoencoder.encode(views.rgb[i : i + 1, [v]])[0, 0], one)
            )
            for one, there in zip(example.latents[i], example.given[i], strict=True)
            if there
        ]
        given = Views(views.rgb[i, order], scene_of(views.cameras, i)[order])
        prepared = drawer.prepare(given, path, task.scene)
        for got, want in zip(seen["given"], (example.latents, example.rays, example.anchor_rays), strict=True):
            kept = want[i][example.given[i]] if want is not example.anchor_rays else want[i]
            assert torch.allclose(got[0], kept, atol=1e-5)
        assert prepared.scale == pytest.approx(float(example.scale[i]), rel=1e-6)
        assert torch.equal(prepared.reference_c2w, example.reference_c2w[i])


def test_tokens_are_those_that_encoding_makes_in_that_frame(task, batch, scene_checkpoint):
    point = SceneGenTask(run_config(scene_checkpoint))
    compressor = point.scene.networks.compressor
    compressor.register_forward_hook(lambda module, given, posterior: Posterior(posterior.mean))
    chosen = point.choose(batch, generator())
    example = point.frame(chosen, generator())
    for i in range(SCENES):
        cameras = scene_of(chosen.context.cameras, i)
        reference = next(v for v in range(CONTEXT) if torch.equal(cameras.c2w[v], example.reference_c2w[i]))
        views = Views(pictures_of(chosen.context, point.autoencoder)[i], cameras)
        scene = point.scene.encode(views, reference=reference, scale=float(example.scale[i]))
        assert torch.allclose(example.tokens[i], scene.tokens * point.config.model.generator.token_scale, atol=1e-5)


def test_tokens_are_drawn_from_the_posterior(task, batch):
    chosen = task.choose(batch, generator())
    first, again = (task.frame(chosen, generator()) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    seen = {}
    handle = task.scene.networks.compressor.register_forward_hook(lambda m, g, posterior: seen.update(p=posterior))
    drawn = task.frame(chosen, generator()).tokens / task.config.model.generator.token_scale
    handle.remove()
    spread = (drawn - seen["p"].mean) / (0.5 * seen["p"].logvar).exp()
    assert 0.8 < float(spread.std()) < 1.2


def test_views_are_masked_as_often_as_asked(scene_checkpoint, batch):
    task, seen = SceneGenTask(run_config(scene_checkpoint, unconditional=0.25, extra_views=0.5)), []

    class Model(torch.nn.Module):
        def forward(self, noisy, t, latents, rays, anchor_rays, mask):
            seen.append(mask)
            return torch.zeros_like(noisy)

    for seed in range(MANY):
        task.loss(Model(), batch, generator(seed), 0.0)
    mask = torch.cat(seen)
    masked = ~mask.any(1)
    assert float(masked.float().mean()) == pytest.approx(0.25, abs=0.05)
    assert mask[~masked][:, 0].all(), "the first view is always there"
    assert mask[~masked][:, 1:].float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.06)


def test_masked_views_do_not_decide_the_scale():
    views, path, config = small.cameras(4), small.cameras(3), small.generator_config()
    far = views.replace(c2w=views.c2w.clone())
    far.c2w[2, 0, 3] = 50.0
    given = torch.tensor([True, True, False, True])
    scales = [float(conditioning_rays(far, path, config, given=mask).scale) for mask in (given, None)]
    assert scales[0] == pytest.approx(config.scene_extent) and scales[1] == pytest.approx(config.scene_extent / 50)


def test_the_first_view_is_random_or_the_middle_one(task, batch, scene_checkpoint):
    middle, cameras = SceneGenTask(run_config(scene_checkpoint, reference="middle")), batch.cameras[:CONTEXT]

    def orders(task):
        return [order for seed in range(20) for order in task._conditioning_views(cameras, generator(seed)).tolist()]

    assert {order[0] for order in orders(task)} == set(range(CONTEXT))
    assert {order[0] for order in orders(middle)} == {CONTEXT // 2}
    assert all(len(set(order)) == len(order) == 3 for order in orders(task) + orders(middle))


def test_the_right_velocity_has_no_loss(task, batch):
    class KnowsTheTokens(torch.nn.Module):
        def forward(self, noisy, t, *conditioning):
            level = t[:, None, None]
            return (noisy - (1 - level) * tokens) / level - tokens

    same = generator()
    tokens = task.frame(task.choose(batch, same), same).tokens
    losses, logs = task.loss(KnowsTheTokens(), batch, generator(), 0.0)
    assert losses.max() < 1e-5
    assert {"loss_by_t/0.0_0.2", "loss_by_t/0.8_1.0", "loss_by_t/1"} < set(logs)


def test_losses_reach_every_weight_and_depend_on_the_generator_alone(task, batch):
    assert_losses_reach_every_weight(task, batch)


def test_a_run_ends_in_a_checkpoint_that_draws_scenes(scene_checkpoint, tmp_path):
    settings = {"output": str(tmp_path), "sheet_every": STEPS, "save_every": STEPS}
    config = run_config(scene_checkpoint, settings)
    task = SceneGenTask(config)
    weights = {name: tensor.clone() for name, tensor in task.scene.networks.state_dict().items()}
    trainer = Trainer(config, task)
    trainer.train()
    assert all(torch.equal(weights[name], now) for name, now in task.scene.networks.state_dict().items())
    state = list_states(config.run.folder / "states")[-1]
    assert state.stat().st_size < 5 * sum(4 * w.numel() for w in trainer.trained.model.parameters())
    assert not [name for name in trainer.trained.tensors() if "compressor" in name]
    assert list((config.run.folder / "sheets").iterdir())
    drawer = SceneGenerator.load(config.run.folder / "model.safetensors")
    assert (drawer.config.scene_model, drawer.scene_model_hash) == ("small", task.scene.hash)
    model, views, path = SceneTok.load(scene_checkpoint), small.views(2), small.cameras(5)
    scene = drawer.generate(views, path, model)
    frames = model.render(scene, path)
    assert frames.shape == (5, 3, small.IMAGE, small.IMAGE) and frames.isfinite().all()
    more = replace(config, run=replace(config.run, name="more", init=str(config.run.folder / "model.safetensors")))
    started = Trainer(more, task).trained
    saved = drawer.networks.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in started.model.state_dict().items())
    assert all(torch.equal(tensor, saved[name]) for name, tensor in started.ema.average.items())


def test_one_batch_is_overfitted(task, batch):
    _, history = fit(task, batch, STEPS)
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"scene_model": "other"}, r"model\.scene_model is 'other', but small\.safetensors has 'small'; set it"),
        ({"context_autoencoder": "patch-8"}, r"model\.context_autoencoder is 'patch-8'"),
    ],
)
def test_a_frozen_model_that_does_not_fit_is_refused(scene_checkpoint, model, message):
    with pytest.raises(ValueError, match=message):
        SceneGenTask(run_config(scene_checkpoint, model=model))


def test_settings_that_make_no_sense_are_refused(scene_checkpoint):
    with pytest.raises(ValueError, match=r"task\.extra_views must lie in \[0, 1\], got 2"):
        run_config(scene_checkpoint, extra_views=2.0)
    with pytest.raises(ValueError, match="no such file: nowhere"):
        SceneGenTask(run_config("nowhere.safetensors"))


def test_the_frozen_model_works_in_the_precision_of_the_run(task, batch, scene_checkpoint):
    rough = SceneGenTask(run_config(scene_checkpoint, run={"mixed_precision": "bf16"}))
    chosen = task.choose(batch, generator())
    assert_frozen_precision(task, rough, lambda each: each.frame(chosen, generator()).tokens)
