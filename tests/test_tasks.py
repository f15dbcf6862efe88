"""What the networks are shown in training, how they are corrected, and that the result is what inference expects."""

import math
from dataclasses import replace

import pytest
import torch

from scenetok_core import SceneTok, Views
from scenetok_core.autoencoders import PatchAutoencoder
from scenetok_core.camera import camera_extents, ray_features
from scenetok_core.models.compressor import Posterior
from scenetok_core.models.networks import Networks
from tests import small
from tests.test_view_choice import chosen, rows
from training.config import DataConfig, RunConfig
from training.data.batch import Batch, Frames
from training.data.rooms import RoomsConfig
from training.tasks import SceneTokTask
from training.tasks.scenetok import SceneTokTaskConfig, SceneTokTrainConfig
from training.tasks.shared import draw_levels

WALK, STRAYS, CONTEXT, TARGETS, SCENES = 6, 3, 4, 3, 3
LATENTS = 4
EXTENT = 1.4
SEED = 7
SAME = 1e-5
BRIGHT = 0.75
STEPS, RATE = 30, 5e-3
EARLY, LATE = 0.0, 0.9  # before and after `SceneTokTaskConfig.mean_share`
PREDICTIONS = ("x", "v")
FITTED = {"x": 0.7, "v": 0.9}  # most that may be left of the first loss; in "v" all of the noise counts too


def generator(seed=SEED):
    return torch.Generator().manual_seed(seed)


def run_config(prediction="x", posterior="normalised", focal=(1.0, 1.0), **task):
    plain = small.config(scene_extent=EXTENT, context_focal=focal, target_focal=focal)
    compressor = replace(plain.compressor, posterior=posterior)
    decoder = replace(plain.decoder, prediction=prediction, null_tokens=task.get("unconditional", 0) > 0)
    model = replace(plain, compressor=compressor, decoder=decoder)
    rooms = RoomsConfig(image_size=small.IMAGE, views=WALK, strays=STRAYS, textures=8, texture_size=32)
    return SceneTokTrainConfig(
        RunConfig("test", steps=STEPS),
        model,
        data=DataConfig(SCENES, CONTEXT, TARGETS, rooms),
        task=SceneTokTaskConfig(**{"least_context": CONTEXT, **task}),
    )


@pytest.fixture(scope="module")
def batch():
    return SceneTokTask(run_config()).dataset(torch.device("cpu")).batch(SEED, SCENES)


@pytest.fixture
def task():
    return SceneTokTask(run_config())


@pytest.fixture
def example(task, batch):
    return task.prepare(batch, generator(), far=True, context=CONTEXT, jitter=False)


def reference_views(rays):
    """The input view [B] whose camera stands at the scene's origin, from ray features [B, V, 6, R, R]."""
    return rays[:, :, 3:].abs().amax((2, 3, 4)).argmin(1).tolist()


def inference_model(folder, config, networks, task):
    path = folder / "trained.safetensors"
    task.export(path, networks.state_dict(), {"step": "1"})
    return SceneTok.load(path)


def fit(task, batch, steps=STEPS, progress=EARLY):
    """A model after `steps` on one batch with the same draws, and its losses."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    history = []
    for _ in range(steps):
        losses, _ = task.loss(model, batch, generator(), progress)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        history.append(float(losses.detach().mean()))
    return model, history


def test_an_example_holds_the_chosen_pictures(task, batch, example):
    scene = torch.arange(SCENES)[:, None]
    inputs, targets = chosen()
    assert torch.allclose(task.context_autoencoder.decode(example.context), batch.rgb[scene, inputs], atol=SAME)
    assert torch.allclose(task.target_autoencoder.decode(example.target), batch.rgb[scene, targets], atol=SAME)


def test_few_inputs_give_several_examples_of_every_scene(task, batch):
    example = task.prepare(batch, generator(), far=False, context=1, jitter=False)
    assert len(example.context) == CONTEXT * SCENES and example.context.shape[1] == example.target.shape[1] == 1
    assert torch.equal(example.context, example.target)
    shown = task.context_autoencoder.decode(example.context)[:, 0].unflatten(0, (SCENES, CONTEXT))
    for scene, pictures in zip(batch.rgb, shown, strict=True):
        distances = (pictures[:, None] - scene[None]).abs().amax((2, 3, 4))
        assert (distances.amin(1) < SAME).all(), "pictures of another scene"
        assert len(set(distances.argmin(1).tolist())) > 1


def test_one_input_of_every_scene_is_the_origin(batch, example):
    side = example.context_rays.shape[-1]
    for scene, view in enumerate(reference_views(example.context_rays)):
        at_origin = ray_features(torch.eye(4), batch.cameras.K[scene, 0], (side, side))
        assert (example.context_rays[scene, view] - at_origin).abs().max() < SAME


def test_the_origin_is_a_random_input_or_the_middle_one(batch):
    def origins(reference):
        task, found = SceneTokTask(run_config(reference=reference)), []
        for seed in range(8):
            given = task.prepare(batch, generator(seed), far=True, context=CONTEXT, jitter=True)
            found += reference_views(given.context_rays)
        return set(found)

    assert origins("random") == set(range(CONTEXT))
    assert origins("middle") == {CONTEXT // 2}


def test_cameras_have_the_extent_of_the_model_and_jitter_changes_it(task, batch, example):
    jittered = task.prepare(batch, generator(), far=True, context=CONTEXT, jitter=True)
    centers, moved = (rays[:, :, 3:, 0, 0] for rays in (example.context_rays, jittered.context_rays))
    assert torch.allclose(camera_extents(centers).float(), torch.full((SCENES,), EXTENT), atol=1e-4)
    factors = camera_extents(moved) / EXTENT
    low, high = task.config.task.scale_range
    assert factors.min() >= low - SAME and factors.max() <= high + SAME
    assert len(factors.round(decimals=4).unique()) == SCENES, "every scene has a factor of its own"


def test_inference_shows_the_networks_the_same_rays_and_pictures(task, batch, example, tmp_path):
    model = inference_model(tmp_path, task.config, Networks(task.config.model), task)
    seen = {}
    model.networks.compressor.register_forward_pre_hook(lambda _, given: seen.update(context=given))
    model.networks.denoiser.pose_embed.register_forward_pre_hook(lambda _, given: seen.update(target=given))
    chosen_views = list(rows(chosen()))
    for i, reference in enumerate(reference_views(example.context_rays)):
        inputs, targets = chosen_views[i]
        cameras = batch.cameras.replace(c2w=batch.cameras.c2w[i], K=batch.cameras.K[i])
        scene = model.encode(Views(batch.rgb[i], cameras)[inputs], reference=reference)
        model.render(scene, cameras[targets], steps=1)
        latents, context_rays = seen["context"]
        assert (latents[0] - example.context[i]).abs().max() < SAME
        assert (context_rays[0] - example.context_rays[i]).abs().max() < SAME
        assert (seen["target"][0][0] - example.target_rays[i]).abs().max() < SAME


def test_all_times_are_one_at_first():
    task = SceneTokTask(run_config(mean_share=0.5))
    assert torch.equal(task.times((SCENES, LATENTS), generator(), 0.49), torch.ones(SCENES, LATENTS))
    assert not torch.equal(task.times((SCENES, LATENTS), generator(), 0.5), torch.ones(SCENES, LATENTS))


def test_times_are_a_mixture_later():
    many, task = 4000, SceneTokTask(run_config(mean_fraction=0.25, split_times=0.3, time_mean=1.0))
    t = task.times((many, LATENTS), generator(), LATE)
    assert t.min() > 0 and t.max() <= 1
    changes = (t.diff(dim=1) != 0).sum(1)
    assert changes.max() == 1, "at most two groups"
    full = (t == 1).all(1)
    assert float(full.float().mean()) == pytest.approx(0.25, abs=0.03)
    split = changes[~full].float().mean()  # a border before the first latent leaves one group
    assert float(split) == pytest.approx(0.3 * (LATENTS - 1) / LATENTS, abs=0.03)
    assert float(t[~full].logit().mean()) == pytest.approx(1.0, abs=0.1)


def test_fresh_networks_predict_nothing_yet(task, example):
    t = torch.ones(example.target.shape[:2])
    out, _ = task.build()(example.context, example.context_rays, example.target, t, example.target_rays)
    assert torch.equal(out, torch.zeros_like(example.target))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unconditional": 1.5}, r"task\.unconditional must lie in \[0, 1\], got 1.5"),
        ({"kl_weight": 1e-6}, r"kl_weight = 1e-06 needs model\.compressor\.posterior = 'gaussian'"),
        ({"time_shift": 0.0}, r"task\.time_shift must be positive"),
        ({"kl_weight": -1.0}, "must be >= 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        run_config(**settings)


def test_null_tokens_and_unconditional_scenes_go_together():
    config = run_config(unconditional=0.1)
    with pytest.raises(ValueError, match="null tokens are learnt from unconditional scenes; set both or neither"):
        replace(config, task=replace(config.task, unconditional=0.0))


def test_weights_of_an_autoencoder_that_are_missing_are_named():
    config = run_config()
    with pytest.raises(ValueError, match=r"'va-vae' needs .* put it into nowhere"):
        run = replace(config.run, autoencoders="nowhere")
        SceneTokTask(replace(config, run=run, model=replace(config.model, context_autoencoder="va-vae")))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_losses_are_finite_and_reach_every_weight(batch, prediction, progress):
    """Some layers start at zero, so the gradient needs a few steps to pass them."""
    task = SceneTokTask(run_config(prediction, token_noise=0.05))
    model, _ = fit(task, batch, steps=3, progress=progress)
    model.zero_grad()
    losses, _ = task.loss(model, batch, generator(), progress)
    assert losses.shape == (SCENES,) and losses.isfinite().all()
    losses.mean().backward()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_the_loss_depends_on_the_generator_alone(task, batch):
    model, _ = fit(task, batch, steps=2)
    torch.manual_seed(0)
    first, _ = task.loss(model, batch, generator(1), LATE)
    torch.manual_seed(1)
    again, _ = task.loss(model, batch, generator(1), LATE)
    other, _ = task.loss(model, batch, generator(2), LATE)
    assert torch.equal(first, again) and not torch.equal(first, other)


class KnowsTheAnswer(torch.nn.Module):
    """Predicts pictures that are `BRIGHT` everywhere, whatever it is shown."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, context, context_rays, noisy, t, packed_rays, choose, seen):
        clean = torch.full_like(noisy, BRIGHT * 2 - 1)
        return clean if self.prediction == "x" else (noisy - clean) / t[:, :, None, None, None], Posterior(context)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_prediction_has_no_loss(batch, prediction):
    bright = replace(batch, rgb=torch.full_like(batch.rgb, BRIGHT))
    task = SceneTokTask(run_config(prediction, mean_fraction=0.3))
    for seed in range(5):
        losses, logs = task.loss(KnowsTheAnswer(prediction), bright, generator(seed), LATE)
        assert losses.max() < SAME
        qualities = [float(value) for name, value in logs.items() if name.startswith("psnr_")]
        assert all(not quality < 60 for quality in qualities), "above 60 dB, or NaN where there is none"
        assert len(qualities) > 2 and all(
            not float(value) > SAME for name, value in logs.items() if name.startswith("loss_")
        )


def test_reported_quality_is_that_of_the_posterior_mean_at_first(task, batch):
    bright = replace(batch, rgb=torch.full_like(batch.rgb, BRIGHT))
    _, logs = task.loss(task.build(), bright, generator(), EARLY)  # fresh networks predict 0.5, the middle grey
    assert float(logs["psnr_mean"]) == pytest.approx(-20 * math.log10(BRIGHT - 0.5), abs=1e-3)
    assert torch.as_tensor(logs["psnr_noisy"]).isnan()


def given_to_the_model(task, batch, seeds, progress):
    """What `loss` gives to the networks: input rays [B, V, 6, R, R] and target rays [B, L, 6, R, R] of every draw."""
    model, seen = task.build(), []
    model.register_forward_pre_hook(lambda _, given: seen.append((given[1], given[4][:, :, 0])))
    with torch.no_grad():
        for seed in range(seeds):
            task.loss(model, batch, generator(seed), progress)
    return seen


def test_batches_have_few_inputs_at_first_and_varied_numbers_later(batch):
    task = SceneTokTask(run_config(least_context=2))
    counts = [{rays.shape[1] for rays, _ in given_to_the_model(task, batch, 30, at)} for at in (EARLY, LATE)]
    assert counts == [{2}, {2, 3, CONTEXT}]


def test_the_most_inputs_are_the_most_common(batch):
    task = SceneTokTask(run_config(least_context=1))
    counts = [rays.shape[1] for rays, _ in given_to_the_model(task, batch, 60, LATE)]
    assert set(counts) == set(range(1, CONTEXT + 1)) and 0.4 < counts.count(CONTEXT) / len(counts) < 0.8


def test_targets_are_inputs_at_first_and_far_later(batch):
    task = SceneTokTask(run_config(far_share=1.0, copy_share=0.2, far_from=0.5))

    def shown_again(progress):
        seen = given_to_the_model(task, batch, 10, progress)
        return [(rays[:, :, None] == targets[:, None]).all((3, 4, 5)).any((1, 2)) for rays, targets in seen]

    assert all(scenes.all() for progress in (EARLY, 0.2) for scenes in shown_again(progress))
    assert not any(scenes.any() for scenes in shown_again(LATE))


def test_one_batch_is_overfitted_at_all_noise_levels(task, batch):
    _, history = fit(task, batch, progress=LATE)
    assert history[-1] < FITTED["x"] * history[0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_batch_is_overfitted_and_its_export_renders_the_same(batch, prediction, tmp_path):
    task = SceneTokTask(run_config(prediction))
    networks, history = fit(task, batch)
    assert history[-1] < FITTED[prediction] * history[0]
    model = inference_model(tmp_path, task.config, networks, task)
    assert model.config == task.config.model
    example = task.prepare(batch, generator(), far=False, context=CONTEXT, jitter=False)
    inputs, targets = next(rows(chosen(far=False)))
    reference = reference_views(example.context_rays)[0]
    cameras = batch.cameras.replace(c2w=batch.cameras.c2w[0], K=batch.cameras.K[0])
    scene = model.encode(Views(batch.rgb[0], cameras)[inputs], reference=reference)
    frames = model.render(scene, cameras[targets], steps=1, generator=generator())
    noise = torch.randn(example.target[:1].shape, generator=generator())
    with torch.no_grad():
        t = torch.ones(1, TARGETS)
        out, _ = networks(example.context[:1], example.context_rays[:1], noise, t, example.target_rays[:1])
    clean = out if prediction == "x" else noise - out
    assert torch.allclose(frames, task.target_autoencoder.decode(clean)[0], atol=1e-4)


def test_a_sheet_shows_inputs_truth_and_both_kinds_of_picture(task, batch):
    model, _ = fit(task, batch, steps=1)
    sheet = task.sheet(model, batch, generator())
    assert sheet.height >= SCENES * 4 * small.IMAGE and sheet.width >= CONTEXT * small.IMAGE


def test_a_gaussian_posterior_is_sampled_and_kept_near_the_unit_gaussian(batch):
    seen = {}

    def record(module, given, output):
        seen.update(posterior=output)

    for weight in (0.0, 0.5):
        task = SceneTokTask(run_config(posterior="gaussian", kl_weight=weight, token_drop=0.0))
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            model = task.build()
        model.compressor.register_forward_hook(record)
        model.denoiser.cnd_proj.register_forward_pre_hook(lambda _, given: seen.update(tokens=given[0]))
        losses, logs = task.loss(model, batch, generator(), EARLY)
        posterior = seen["posterior"]
        spread = ((seen["tokens"] - posterior.mean) / (0.5 * posterior.logvar).exp()).detach()
        assert 0.8 < float(spread.std()) < 1.2, "drawn"
        assert float(logs["kl"]) == pytest.approx(float(posterior.divergence().detach().mean()))
        seen[weight] = losses.detach(), posterior.divergence().detach()
    assert torch.allclose(seen[0.5][0], seen[0.0][0] + 0.5 * seen[0.5][1], atol=SAME)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_null_tokens_replace_those_of_the_unconditional_share(batch, share):
    task, counts = SceneTokTask(run_config(unconditional=share, least_context=1)), []
    model = task.build()
    model.register_forward_pre_hook(lambda _, given: counts.extend(given[6].tolist()))
    for seed in range(40):
        task.loss(model, batch, generator(seed), EARLY)
    assert float(torch.tensor(counts).float().mean()) == pytest.approx(1 - share, abs=0.06)
    fitted, _ = fit(task, batch, steps=3)
    fitted.zero_grad()
    task.loss(fitted, batch, generator(), EARLY)[0].mean().backward()
    gradient = fitted.denoiser.null_tokens.grad
    assert gradient is not None and gradient.any()


@pytest.mark.parametrize(
    ("settings", "inverse"),
    [
        ({"weighting": "lognorm", "time_mean": 0.0}, lambda t: torch.special.ndtr(t.logit())),
        ({"weighting": "uniform"}, lambda t: t),
        ({"weighting": "shifted", "time_shift": 4.0}, lambda t: t / (4 - 3 * t)),
    ],
)
def test_noise_levels_are_distributed_as_asked(settings, inverse):
    levels = draw_levels(SceneTokTaskConfig(**settings), (4000,), generator())
    ranks = inverse(levels).sort().values
    assert (ranks - torch.linspace(0, 1, 4000)).abs().max() < 0.03, "Kolmogorov-Smirnov"


def test_focal_factors_of_the_model_reach_both_ray_maps_as_in_inference(batch, tmp_path):
    task = SceneTokTask(run_config(focal=(2.0, 1.5)))
    plain = SceneTokTask(run_config()).prepare(batch, generator(), far=True, context=CONTEXT, jitter=False)
    example = task.prepare(batch, generator(), far=True, context=CONTEXT, jitter=False)
    assert not torch.allclose(plain.context_rays, example.context_rays, atol=1e-2)
    assert not torch.allclose(plain.target_rays, example.target_rays, atol=1e-2)
    test_inference_shows_the_networks_the_same_rays_and_pictures(task, batch, example, tmp_path)


def test_units_of_the_data_are_kept_when_asked(batch):
    task = SceneTokTask(run_config(scene_scale="none", scale_range=(1.0, 1.0), reference="middle"))
    example = task.prepare(batch, generator(), far=True, context=CONTEXT, jitter=True)
    inputs, _ = chosen()
    centers = batch.cameras.centers[torch.arange(SCENES)[:, None], inputs]
    want = camera_extents(centers)
    assert torch.allclose(camera_extents(example.context_rays[:, :, 3:, 0, 0]), want, atol=1e-4)


def test_borders_between_noise_levels_lie_between_groups():
    task = SceneTokTask(run_config(mean_share=0.0, mean_fraction=0.0, split_times=1.0))
    task.target_autoencoder = PatchAutoencoder(small.PATCH)
    task.target_autoencoder.spec = replace(task.target_autoencoder.spec, group_frames=2, group_latents=2)
    levels = task.times((200, 6), generator(), LATE)
    changes = levels.diff(dim=1) != 0
    assert changes.any(0).tolist() == [False, True, False, True, False]


def test_batches_of_videos_are_taken_as_pictures_or_as_latents(task, batch):
    chosen_frames = task.choose(batch, generator(), far=True, context=CONTEXT)
    context, target = (
        Frames(frames.cameras, latents=task.context_autoencoder.encode(frames.rgb))
        for frames in (chosen_frames.context, chosen_frames.target)
    )
    latents = Batch(context, target)
    model = task.build()
    first, _ = task.loss(model, chosen_frames, generator(), LATE)
    again, _ = task.loss(model, latents.to("cpu"), generator(), LATE)
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="pictures or latents, got neither"):
        Frames(chosen_frames.target.cameras)
    chosen = torch.tensor([0, CONTEXT - 1, 1])
    example = task.frame(replace(chosen_frames, reference=chosen), generator(), jitter=False)
    at_origin = example.context_rays[torch.arange(SCENES), chosen, 3:]  # origins of the rays
    assert at_origin.abs().max() < SAME, "the view that the source chose is the origin"
