"""Estimates beside the measured peak: on the meta device, where the released sizes cost nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from scenetok_core.autoencoders import build_autoencoder
from scenetok_core.configs import SceneGenConfig, SceneTokConfig
from scenetok_core.memory import compressor_bytes, decoder_bytes, generator_bytes
from scenetok_core.models.networks import DecoderVelocity
from scenetok_core.models.scenegen import sample_tokens
from scenetok_core.sampling import denoise_windows, make_schedule
from scenetok_core.weights.checkpoints import build_networks
from scenetok_core.weights.presets import PRESETS
from tests.memory import PeakMemory
from tests.test_autoencoders import RELEASED
from tests.test_autoencoders import small as small_autoencoder

MOST = 1.7  # estimate over measured peak; at least 1
SCENETOK = ["va-videodc_re10k", "va-videodc_dl3dv", "va-wan_dl3dv"]
FORMATS = [torch.float32, torch.bfloat16]
DEPTH = 4  # blocks; the others need the same memory one after the other


def test_the_measure_counts_what_lives_at_once():
    kept = torch.zeros(100)
    with PeakMemory() as peak:
        a = kept + 1  # 400 bytes
        a = a[:50] * 2  # 200 more, then the first are gone
        a = torch.cat([a, a, a])  # 600 more
        del a
        kept.view(10, 10)
        kept + 1
    assert peak.bytes == 800


def without_scores(q, k, v, *_, **__):
    """Attention as kernels do it, which keep no scores."""
    return torch.empty_like(q)


@pytest.fixture(autouse=True)
def attention_without_scores(monkeypatch):
    """On the meta device torch's own keeps them."""
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", without_scores)


def released(name, dtype):
    with torch.device("meta"):
        state = {key: torch.empty(shape, dtype=dtype) for key, shape in RELEASED[name].published_shapes().items()}
        return build_autoencoder(name, state, dtype)


@torch.no_grad()
def coding_peaks(autoencoder, frames, side, device="meta"):
    """Bytes of encoding and decoding, and the frames and latents."""
    with PeakMemory(*filter(None, [autoencoder.network])) as encoding:
        pictures = torch.zeros(1, frames, 3, side, side, device=device)
        latents = autoencoder.encode(pictures)
    with PeakMemory(*filter(None, [autoencoder.network])) as decoding:
        autoencoder.decode(latents.clone())
    return (encoding.bytes, decoding.bytes), (pictures, latents)


def assert_covered(estimate, peak):
    assert 1 <= estimate / peak <= MOST, f"{estimate / 2**20:.1f} MiB for {peak / 2**20:.1f} MiB"


@pytest.mark.parametrize("name", RELEASED)
def test_the_meta_device_measures_what_a_cpu_does(name):
    autoencoder = small_autoencoder(name)
    frames = 2 * autoencoder.spec.group_frames
    real, _ = coding_peaks(autoencoder, frames, 16, "cpu")
    autoencoder.network.to("meta")
    assert coding_peaks(autoencoder, frames, 16)[0] == real


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("name", "groups", "side"),
    [
    ("va-vae", 1, 256), ("va-vae", 16, 256), ("va-vae", 1, 64),
    ("videodcae", 1, 256), ("videodcae", 9, 256), ("videodcae", 12, 384), ("videodcae", 5, 64),
    ("wan2.2", 1, 256), ("wan2.2", 2, 256), ("wan2.2", 1, 64),
])  # fmt: skip
def test_autoencoders_need_what_they_say(name, groups, side, dtype):
    autoencoder = released(name, dtype)
    (encoding, decoding), (frames, latents) = coding_peaks(autoencoder, groups * autoencoder.spec.group_frames, side)
    assert_covered(autoencoder.encode_bytes(frames), encoding)
    assert_covered(autoencoder.decode_bytes(latents), decoding)


def test_patches_need_a_few_copies():
    autoencoder = build_autoencoder("patch-4")
    (encoding, decoding), (frames, latents) = coding_peaks(autoencoder, 5, 32, "cpu")
    assert_covered(autoencoder.encode_bytes(frames), encoding)
    assert_covered(autoencoder.decode_bytes(latents), decoding)


def networks(config, dtype, device="meta") -> Any:
    with torch.device(device):
        return build_networks(config).to(dtype).requires_grad_(False)


def scenetok(name):
    preset = PRESETS[name]
    assert isinstance(preset, SceneTokConfig)
    decoder = replace(preset.decoder, depth=DEPTH, null_tokens=True)
    return replace(preset, compressor=replace(preset.compressor, depth=DEPTH), decoder=decoder)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", SCENETOK)
@pytest.mark.parametrize("views", [1, 12])
def test_the_compressor_needs_what_is_said(name, views, dtype):
    config = scenetok(name).compressor
    model = networks(scenetok(name), dtype).compressor
    side = config.ray_map // config.ray_patch * config.patch
    with torch.no_grad(), PeakMemory(model) as peak:
        latents = torch.empty(1, views, config.latent_channels, side, side, device="meta")
        model(latents, torch.empty(1, views, 6, config.ray_map, config.ray_map, device="meta"))
    assert_covered(compressor_bytes(config, views, dtype.itemsize), peak.bytes)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", SCENETOK)
@pytest.mark.parametrize(("share", "path", "windows"), [(0.5, 1, 1), (1, 1, 1), (1, 4, 1), (1, 1, 3)])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_decoder_needs_what_is_said(name, share, path, windows, guidance, dtype):
    """For `share` of a window, a path of `path` of them one after the other, or `windows` as one batch."""
    preset = scenetok(name)
    config, model, kept = preset.decoder, networks(preset, dtype).denoiser, preset.sampling.clean_targets
    group, window, tokens = config.rope_group or 1, int(share * preset.sampling.window), preset.compressor.tokens
    side = config.ray_map // config.ray_patch * config.patch
    rays = (config.frames_per_latent, 6, config.ray_map, config.ray_map)
    schedule = make_schedule(
        "full_sequence", horizon=path * window, steps=2, window=window, clean_targets=min(kept, window - group),
        group=group,
    )  # fmt: skip

    def rows(*shape):
        return lambda part: torch.empty(windows, part.stop - part.start, *shape, device="meta")

    with torch.no_grad(), PeakMemory(model) as peak:
        scene = torch.empty(1, tokens, config.token_dim, device="meta")
        velocity = DecoderVelocity.of_tokens(model, scene, guidance).repeated(windows).along(rows(*rays))
        for _ in denoise_windows(velocity, rows(config.latent_channels, side, side), schedule):
            pass
    guided = guidance != 1.0
    estimate = decoder_bytes(config, tokens, window, windows=windows, guided=guided, itemsize=dtype.itemsize)
    assert_covered(estimate, peak.bytes)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_generator_needs_what_is_said(views, guidance, dtype):
    """On a real device, as it looks which views are masked."""
    preset = PRESETS["scenegen_shift4_re10k"]
    assert isinstance(preset, SceneGenConfig)
    config = replace(preset.generator, depth=2)
    model = networks(replace(preset, generator=config), dtype, "cpu").scene_generator
    side = config.ray_map // config.ray_patch
    with torch.no_grad(), PeakMemory(model) as peak:
        conditioning = model.condition(
            torch.zeros(1, views, config.latent_channels, side, side),
            torch.zeros(1, views, 6, config.ray_map, config.ray_map),
            torch.zeros(1, config.anchors, 6, config.ray_map, config.ray_map),
        )
        noise = torch.zeros(1, config.tokens, config.token_dim)
        schedule = make_schedule("full_sequence", horizon=1, steps=2, window=1, clean_targets=0)
        sample_tokens(model, conditioning, noise, schedule, guidance=guidance)
    guided = guidance != 1.0
    assert_covered(generator_bytes(config, views, guided=guided, itemsize=dtype.itemsize), peak.bytes)
