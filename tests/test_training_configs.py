"""The committed runs: they load, have the released sizes and the published schedule; and starting from weights."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenetok_core.configs import DepthConfig, RaeConfig, SceneTokConfig
from scenetok_core.configs.rae_presets import DIT3D_PRESETS, RAE_PRESETS
from scenetok_core.encoders import ENCODERS
from scenetok_core.models.networks import Networks
from scenetok_core.models.rae import RaeNetworks
from scenetok_core.weights.checkpoints import build_networks, load_checkpoint
from scenetok_core.weights.presets import PRESETS
from tests import small, small_latents
from training.config import at_default
from training.finetune import start_from
from training.optim import rate_share
from training.tasks import DepthTask, build_task, load_config
from training.tasks.dit3d import Dit3dTrainConfig
from training.tasks.rae import RaeTrainConfig
from training.tasks.shared import FlowTaskConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {path.stem: path for path in sorted((ROOT / "training" / "configs").glob("*.toml"))}
RELEASED = {
    "re10k_videodc_lognorm": ("va-videodc_re10k", 1.0),
    "dl3dv_videodc_shift4": ("va-videodc_dl3dv", 4.0),
    "dl3dv_videodc_shift8": ("va-videodc_dl3dv", 8.0),
    "dl3dv_wan_shift4": ("va-wan_dl3dv", 4.0),
    "dl3dv_wan_shift8": ("va-wan_dl3dv", 8.0),
    "scenegen_re10k_shift1": ("scenegen_shift1_re10k", 1.0),
    "scenegen_re10k_shift4": ("scenegen_shift4_re10k", 4.0),
    "scenegen_re10k_shift12": ("scenegen_shift12_re10k", 12.0),
}
SEED = 3


@pytest.mark.parametrize("name", CONFIGS)
def test_every_committed_run_loads_and_is_named_after_its_file(name):
    config = load_config(CONFIGS[name])
    assert config.run.name == name


@pytest.mark.parametrize("name", RELEASED)
def test_published_runs_train_the_released_models(name):
    config = load_config(CONFIGS[name])
    preset, shift = RELEASED[name]
    released = PRESETS[preset]
    assert config.model == replace(released, sampling=replace(released.sampling, shift=shift))
    assert isinstance(config.task, FlowTaskConfig)
    if config.task.weighting == "shifted":
        assert config.task.time_shift == shift


def test_published_rates_fall_in_steps():
    optim = load_config(CONFIGS["re10k_videodc_lognorm"]).optim
    rates = [optim.lr * rate_share(optim, step, 0.99) for step in (999, 5000, 20_000, 150_000, 500_000)]
    assert rates == pytest.approx([0.5e-4, 1e-4, 4e-5, 1.6e-5, 6.4e-6])
    assert (optim.freeze, optim.freeze_after) == (("compressor.",), 150_000)
    videos = load_config(CONFIGS["re10k_videodc_lognorm"]).data.videos
    assert videos is not None
    views = videos.views
    assert (views.target_stride, views.target_windows, views.windows_share) == (4, 2, 0.7)


def test_fine_tuning_on_dl3dv_is_as_published():
    for name in ("dl3dv_videodc_shift4", "dl3dv_videodc_shift8", "dl3dv_wan_shift4", "dl3dv_wan_shift8"):
        config = load_config(CONFIGS[name])
        assert config.data.videos is not None
        views, optim = config.data.videos.views, config.optim
        assert (views.target_windows, views.windows_share) == (2, 0.8), name
        assert (views.first_gap, views.gap, views.warm_up * config.run.steps) == ((48, 64), (64, 96), 30_000), name
        assert (optim.freeze, optim.freeze_after) == ((("compressor.",) if name == "dl3dv_wan_shift4" else ()), 0), name
        assert config.data.videos.root == ("latents/dl3dv_wan" if "wan" in name else "latents/dl3dv")


def test_the_published_depth_run_trains_the_whole_decoder():
    config = load_config(CONFIGS["depth_dl3dv_videodc"])
    assert isinstance(config.model, DepthConfig) and isinstance(config.task, FlowTaskConfig)
    assert config.model.rank is None
    assert (config.task.time_shift, config.optim.lr, config.optim.clip, config.data.scenes) == (8.0, 1e-5, 0.01, 16)
    adapted = load_config(CONFIGS["depth_dl3dv_videodc"], ["model.rank=16"])
    assert isinstance(adapted.model, DepthConfig) and adapted.model.rank == 16


def test_the_small_generator_fits_the_shipped_model_and_its_size_is_the_one_told(monkeypatch):
    monkeypatch.chdir(ROOT)
    task = build_task(load_config(CONFIGS["scenegen_tiny"]))
    weights = sum(weight.numel() for weight in task.build().parameters())
    assert weights == pytest.approx(7.6e6, rel=0.01)
    assert list(task.frozen) == ["scene_model"]


def test_the_small_depth_head_fits_the_shipped_model_and_is_small(monkeypatch):
    monkeypatch.chdir(ROOT)
    task = build_task(load_config(CONFIGS["depth_tiny"]))
    assert isinstance(task, DepthTask)
    head, decoder = (sum(w.numel() for w in part.parameters()) for part in (task.build(), task.scene.networks.denoiser))
    assert head < 0.25 * decoder
    assert list(task.frozen) == ["scene_model"]


@pytest.mark.parametrize("name", ["dinov2", "siglip2", "da3", "image_only"])
def test_runs_of_3drae_are_as_published(name):
    config = load_config(CONFIGS[f"3drae_{name}"])
    assert isinstance(config, RaeTrainConfig) and config.data.videos is not None
    model, task, optim = config.model, config.task, config.optim
    assert model == RAE_PRESETS[f"3drae-{name.replace('_', '-')}"]
    assert model.encoder is None or model.encoder in ENCODERS
    assert (model.patch, model.pixels, model.hidden, model.heads, model.tokens) == (14, (37000, 75500), 768, 16, 1024)
    assert (task.perceptual_weight, task.adversary_weight, task.points_weight) == (1.0, 0.75, 1.0)
    starts = [round(share * config.run.steps) for share in (task.adversary_from_disc, task.adversary_from)]
    assert starts == [50_000, 60_000]
    assert (task.least_context, config.data.context_views, task.aspects) == (6, 18, (0.7, 1.8))
    rates = [optim.lr * rate_share(optim, step, step / 120_000) for step in (3999, 8000, 64_000, 119_999)]
    assert rates == pytest.approx([1e-4, 2e-4, 1e-4, 0], abs=1e-7)
    weights = {each.kind: each.weight for each in config.data.videos.sets}
    assert weights == {"re10k": 17.3, "dl3dv": 8.4}


@pytest.mark.parametrize("size", ["s", "b", "xl"])
def test_runs_of_3ddit_are_as_published(size):
    config = load_config(CONFIGS[f"3ddit_{size}"])
    assert isinstance(config, Dit3dTrainConfig) and config.data.videos is not None
    model, task, optim = config.model, config.task, config.optim
    assert model == replace(DIT3D_PRESETS[f"3ddit-{size}"], cond_views=18)
    assert (task.mask_share, task.unconditional, task.aspects, task.least_context) == ((0.6, 0.9), 0.1, (0.7, 1.8), 6)
    assert task.time_shift == pytest.approx(math.sqrt(1024 * 768 / 4096), abs=1e-3)
    rates = [optim.lr * rate_share(optim, step, step / 80_000) for step in (3999, 8000, 44_000, 79_999)]
    assert rates == pytest.approx([1e-4, 2e-4, 1e-4, 0], abs=1e-7)
    assert (config.run.steps, optim.ema, optim.clip, optim.betas) == (80_000, 0.9995, 1.0, (0.9, 0.95))
    assert {each.kind for each in config.data.videos.sets} == {"re10k", "dl3dv"}


def test_the_small_3drae_run_is_that_of_before_there_were_more_losses():
    config = load_config(CONFIGS["rae_tiny"])
    new = "perceptual_weight perceptual adversary_weight discriminator adversary_from tokens_per_batch least_targets"
    assert {f"task.{name}" for name in new.split()} < at_default(config)
    task = build_task(config)
    assert task.frozen == {} and type(task.build()) is RaeNetworks


def fresh(config, seed=SEED):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_networks(config)


def test_a_run_starts_from_the_weights_of_a_checkpoint(tmp_path):
    path = small.checkpoint(tmp_path)
    saved, config, _ = load_checkpoint(path)
    model = fresh(config)
    start_from(path, model, config)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())


def test_a_checkpoint_that_is_not_there_is_named_with_what_to_do(tmp_path):
    config = small.config()
    with pytest.raises(ValueError, match=r"no such file: .*gone\.safetensors, which run\.init names; train that model"):
        start_from(tmp_path / "gone.safetensors", fresh(config), config)


def test_settings_may_differ_and_more_tokens_start_as_disturbed_copies(tmp_path):
    path = small.checkpoint(tmp_path)
    saved, config, _ = load_checkpoint(path)
    tokens = replace(config.compressor, tokens=2 * small.TOKENS)
    larger = replace(config, compressor=tokens, decoder=replace(config.decoder, null_tokens=False))
    model = fresh(larger)
    with pytest.raises(ValueError, match=r"compressor\.tokens is 6 there and 12 here; decoder\.null_tokens is True"):
        start_from(path, model, larger)
    start_from(path, model, larger, ("compressor.tokens", "decoder.null_tokens"))
    state = model.state_dict()
    queries = "compressor.scene_tokens"
    assert [name for name in state if not torch.equal(state[name], saved[name])] == [queries]
    noise = state[queries] - saved[queries].repeat(1, 2, 1)
    assert float(noise.std()) == pytest.approx(0.5 * float(saved[queries].std()), rel=0.2)
    assert not torch.equal(state[queries][:, : small.TOKENS], state[queries][:, small.TOKENS :])


def test_weights_of_another_shape_start_fresh(tmp_path):
    path = small.checkpoint(tmp_path)
    _, config, _ = load_checkpoint(path)
    wider = replace(config, compressor=replace(config.compressor, hidden=48))
    model, untouched = fresh(wider), fresh(wider)
    start_from(path, model, wider, ("compressor.hidden",))
    state, before = model.state_dict(), untouched.state_dict()
    assert torch.equal(state["compressor.scene_tokens"], before["compressor.scene_tokens"])


def test_weights_of_other_meaning_are_refused(tmp_path):
    path = small.checkpoint(tmp_path)
    config = small.config()
    other = replace(config, decoder=replace(config.decoder, prediction="x"))
    with pytest.raises(
        ValueError, match=r"small\.safetensors does not fit \[model\]: decoder\.prediction is 'v' there"
    ):
        start_from(path, Networks(other), other)
    with pytest.raises(ValueError, match=r"names 'decoder\.width', which is no setting"):
        start_from(path, Networks(config), config, ("decoder.width",))
    with pytest.raises(ValueError, match="not a scene generator"):
        start_from(path, fresh(small.generator_config()), small.generator_config())


def test_a_3drae_starts_from_one_of_the_same_networks(tmp_path):
    path = small_latents.rae_checkpoint(tmp_path)
    saved, config, _ = load_checkpoint(path, RaeConfig)
    larger = replace(config, pixels=(config.pixels[0], 4 * config.pixels[1]), context_views=99)
    model = fresh(larger)
    start_from(path, model, larger)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in saved.items())
    each = replace(config, statistics="token")
    with pytest.raises(ValueError, match=r"does not fit \[model\]: statistics is 'dimension' there and 'token' here;"):
        start_from(path, fresh(each), each)
    start_from(path, fresh(each), each, ("statistics",))
    without = replace(config, points=None)
    with pytest.raises(ValueError, match=r"points\.depth is 4 there and None here"):
        start_from(path, fresh(without), without)


def test_released_sizes_are_the_defaults():
    assert SceneTokConfig("va-videodc_re10k") == PRESETS["va-videodc_re10k"]
