"""Training a 3DDiT on the tokens of a frozen 3DRAE, from rooms to a checkpoint that inference takes."""

import pytest
import torch

from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.types import Views
from tests import rae_runs, small, small_latents, videos
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
from training.tasks.dit3d import Dit3dTask, Dit3dTaskConfig, Dit3dTrainConfig, reordered
from training.tasks.shared import move_frozen, scene_of
from training.trainer import Trainer

SCENES, MANY, SIZE = 3, 4000, (small_latents.SQUARE, small_latents.SQUARE)


@pytest.fixture(scope="module")
def scene_checkpoint(tmp_path_factory):
    return small_latents.rae_checkpoint(tmp_path_factory.mktemp("frozen"))


def run_config(checkpoint, run=EXACT, model=None, views=small_latents.COND_VIEWS, data=None, **task):
    rooms = RoomsConfig(image_size=small.IMAGE, views=views, strays=2, textures=8, texture_size=32)
    return Dit3dTrainConfig(
        RunConfig(**{"name": "test", "steps": 40, **run}),
        small_latents.dit3d_config(**(model or {})),
        optim=OptimConfig(lr=RATE, warmup=2, ema=0.9),
        data=data or DataConfig(SCENES, views, 2, rooms),
        task=Dit3dTaskConfig(scene_checkpoint=str(checkpoint), **{"time_shift": 1.5, **task}),
    )


@pytest.fixture(scope="module")
def task(scene_checkpoint):
    return Dit3dTask(run_config(scene_checkpoint))


@pytest.fixture(scope="module")
def batch(task):
    return task.dataset(torch.device("cpu")).batch(SEED, SCENES)


def test_training_and_inference_encode_a_scene_alike(scene_checkpoint, batch):
    task = Dit3dTask(run_config(scene_checkpoint, unconditional=0.0, mask_share=(0.8, 0.8)))  # one view of five stays
    chosen = task.choose(batch, generator(1))
    assert chosen.context.rgb is not None
    example = task.frame(chosen, SIZE, generator(2))
    drawer = LatentGenerator(task.config.model, fresh(task), hash="")
    visible = task.views.draw_visible((SCENES, small_latents.COND_VIEWS), generator(2))
    assert visible.sum(1).tolist() == [1] * SCENES
    for i in range(SCENES):
        order = visible[i].long().argsort(descending=True, stable=True).tolist()
        cameras = scene_of(chosen.context.cameras, i)[order]
        views = Views(chosen.context.rgb[i, order], cameras)
        prepared = drawer.prepare(views[[0]], cameras[list(range(1, len(order)))], task.scene)
        torch.testing.assert_close(example.condition[i], prepared.condition[0], rtol=1e-4, atol=1e-4)
        whole = task.scene.encode(views)
        torch.testing.assert_close(example.tokens[i], whole.tokens, rtol=1e-4, atol=1e-4)


def test_shares_of_visible_views_are_as_asked(scene_checkpoint):
    task = Dit3dTask(run_config(scene_checkpoint, mask_share=(0.4, 0.8)))
    counts = task.views.draw_visible((MANY, 5), generator(3)).sum(1)
    assert set(counts.tolist()) == {2, 3}  # of five, 40 to 80 % hidden, rounded down
    assert float((counts == 3).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_without_any_view_the_condition_knows_no_picture(scene_checkpoint, batch):
    task = Dit3dTask(run_config(scene_checkpoint, unconditional=1.0))
    chosen = task.choose(batch, generator(1))
    dark = reordered(chosen.context, torch.arange(small_latents.COND_VIEWS).expand(SCENES, -1))
    assert dark.rgb is not None
    dark.rgb.zero_()
    seen, unseen = (
        task.frame(type(chosen)(context, chosen.target), SIZE, generator(5)) for context in (chosen.context, dark)
    )
    assert torch.equal(seen.condition, unseen.condition) and not torch.equal(seen.tokens, unseen.tokens)


def test_every_scene_may_have_several_noise_levels(scene_checkpoint, batch):
    class Watched(torch.nn.Module):
        def forward(self, noisy, t, condition):
            self.t, self.condition = t, condition
            return torch.zeros_like(noisy)

    task, watched = Dit3dTask(run_config(scene_checkpoint, levels_per_scene=4)), Watched()
    losses, _ = task.loss(watched, batch, generator(1), 0.5)
    assert losses.shape == (SCENES,) and bool((losses > 0).all())
    assert len(watched.t.unique()) == SCENES * 4
    conditions = watched.condition.unflatten(0, (SCENES, 4))
    assert torch.equal(conditions, conditions[:, :1].expand_as(conditions))
    assert not torch.equal(conditions[0, 0], conditions[1, 0])


def test_one_batch_is_learnt(task, batch):
    _, history = fit(task, batch, steps=60)
    assert history[-1] < 0.5 * history[0]


def test_every_weight_learns(task, batch):
    assert_losses_reach_every_weight(task, batch)


def test_a_run_makes_a_checkpoint_that_draws_for_its_model_alone(scene_checkpoint, tmp_path):
    config = run_config(scene_checkpoint, {"steps": 2, "output": str(tmp_path), "sheet_every": 2})
    task = Dit3dTask(config)
    trainer = Trainer(config, task)
    trainer.resume("none")
    trainer.train()
    drawer = LatentGenerator.load(tmp_path / "test" / "model.safetensors")
    assert drawer.scene_model_hash == task.scene.hash
    scene = drawer.generate(None, small.cameras(3), task.scene)
    assert bool(scene.tokens.isfinite().all())
    assert list((tmp_path / "test").rglob("*.png")) or list((tmp_path / "test").rglob("*.jpg"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"views": 4}, r"data.context_views 4 must be model.cond_views 5"),
        ({"least_context": 1}, r"task.least_context must be >= 2, got 1"),
        ({"scene_scale": "none"}, r"task.scene_scale is for SceneTok"),
        ({"reference": "middle"}, r"task.reference is for SceneTok"),
        ({"tokens_per_batch": 0}, r"task.tokens_per_batch must be >= 1, got 0"),
        ({"tokens_per_batch": 99}, r"task.tokens_per_batch is for data.kind 'videos'"),
        ({"levels_per_scene": 0}, r"task.levels_per_scene must be >= 1, got 0"),
        ({"time_shift": 2.0}, r"task.time_shift 2.0 must be model.sampling.shift 1.5"),
        ({"model": {"tokens": 9}}, r"model.tokens is 9, but small-rae.safetensors has 6"),
        ({"model": {"scene_model": "other"}}, r"model.scene_model is 'other', but .* has 'small-rae'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(scene_checkpoint, changes, told):
    with pytest.raises(ValueError, match=told):
        Dit3dTask(run_config(scene_checkpoint, **changes))


def test_the_frozen_model_works_in_the_precision_of_the_run(task, batch, scene_checkpoint):
    rough = Dit3dTask(run_config(scene_checkpoint, run={"mixed_precision": "bf16"}))
    chosen = task.choose(batch, generator())
    assert_frozen_precision(task, rough, lambda each: each.frame(chosen, SIZE, generator()).condition)


def test_videos_of_mixed_sizes_train(scene_checkpoint, tmp_path):
    views = rae_runs.mixed(videos.write_captures(tmp_path / "data")).data
    config = run_config(scene_checkpoint, model={"cond_views": views.context_views}, data=views, tokens_per_batch=150)
    task, shapes = Dit3dTask(config), set()
    source, model = task.dataset(torch.device("cpu")), fresh(task)
    for seed in range(4):
        batch = source.batch(seed, views.scenes)
        assert batch.context.rgb is not None
        shapes.add(tuple(batch.context.rgb.shape[1:]))
        losses, logs = task.loss(model, batch, generator(), 0.0)
        assert logs["scenes"] == len(losses), "of which the trainer tells samples a second"
        assert losses.shape == (len(batch.context.rgb),) and bool(losses.isfinite().all())
    assert len(shapes) > 2
    assert task.sheet(model, source.batch(5, 2), generator()).size > (SIZE[1], SIZE[0])


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_frozen_weights_have_the_precision_of_the_run_and_statistics_stay_exact(scene_checkpoint, precision, dtype):
    task = Dit3dTask(run_config(scene_checkpoint, {"mixed_precision": precision}))
    move_frozen(task.scene.modules, torch.device("meta"), task.config.run)
    neck = task.scene.networks.neck
    assert (neck.latents.dtype, neck.mean.dtype, neck.std.dtype) == (dtype, torch.float32, torch.float32)
