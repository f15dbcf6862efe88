"""The autoencoders of the released models at small widths; the official outputs are in test_golden.py."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from scenetok_core.autoencoders import LatentSpec, PatchAutoencoder, build_autoencoder, vavae, videodc, wan
from scenetok_core.autoencoders.tiles import Axis, in_tiles

ROOT = Path(__file__).resolve().parents[1]
RELEASED = {"va-vae": vavae, "videodcae": videodc, "wan2.2": wan}
SAME = 1e-5
MEAN, STD = (0.5, -0.25, 0.0, 1.0), (2.0, 0.5, 1.0, 4.0)
SMALL = {
    "va-vae": (
        vavae.VaVae,
        vavae.VaVaeConfig(channels=32, multipliers=(1, 2), res_blocks=1, latent_channels=4, mean=MEAN, std=STD),
    ),
    "videodcae": (
        videodc.VideoDcAutoencoder,
        videodc.VideoDcConfig(
            widths=(8, 8, 32),
            encoder_depths=(1, 1, 1),
            decoder_depths=(1, 1, 1),
            blocks=("ResBlock", "ResBlock", "EViTS5_GLU"),
            temporal_down=(True, True, False),
            latent_channels=4,
        ),
    ),
    "wan2.2": (
        wan.WanVae,
        wan.WanConfig(
            base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=(1, 2, 2), res_blocks=1, temporal_downsample=(True, True),
            group_frames=5, mean=MEAN, std=STD,
        ),
    ),
}  # fmt: skip


def weights(name, seed=0):
    """Random weights of the small autoencoder `name`, under published names."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in RELEASED[name].published_shapes(SMALL[name][1]).items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        value = torch.randn(shape, generator=generator) / fan_in**0.5
        state[key] = 1 + 0.1 * value if key.endswith("gamma") or (".norm" in key and key.endswith("weight")) else value
    return state


def small(name, **options):
    kind, config = SMALL[name]
    return kind(weights(name), config, **options)


def video(frames=20, side=16, batch=1):
    return torch.rand(batch, frames, 3, side, side, generator=torch.Generator().manual_seed(1))


def whole_groups(autoencoder, groups=2):
    return video(groups * autoencoder.spec.group_frames, batch=2)


@pytest.fixture(scope="module", params=SMALL)
def autoencoder(request):
    return small(request.param)


# ---- published files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RELEASED)
def test_names_and_shapes_are_those_of_the_published_file(name):
    lines = (ROOT / "tests" / "golden" / f"keys_{name}.txt").read_text("utf-8").splitlines()
    listed = {key: tuple(map(int, shape)) for key, *shape in map(str.split, lines)}
    assert RELEASED[name].published_shapes() == listed


@pytest.mark.parametrize(
    ("name", "channels", "spatial", "frames", "latents"),
    [("va-vae", 32, 16, 1, 1), ("videodcae", 128, 32, 4, 1), ("wan2.2", 48, 16, 17, 5)],
)
def test_released_layout_of_latents(name, channels, spatial, frames, latents):
    """Built on the meta device: full sizes without their memory."""
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in RELEASED[name].published_shapes().items()}
    spec = build_autoencoder(name, state).spec
    assert (spec.channels, spec.spatial, spec.group_frames, spec.group_latents) == (channels, spatial, frames, latents)
    assert {len(spec.mean), len(spec.std)} <= {1, channels}


def test_videodcae_latents_are_scaled_by_the_published_factor():
    autoencoder = small("videodcae")
    raw = autoencoder.encode_clip(video(8).transpose(1, 2) * 2 - 1)
    assert torch.allclose(autoencoder.encode(video(8)), 0.493 * raw.transpose(1, 2), atol=SAME)


@pytest.mark.parametrize("name", SMALL)
def test_weights_that_do_not_fit_are_named(name):
    kind, config = SMALL[name]
    state = weights(name)
    names = list(state)
    for key in names[:7]:
        del state[key]
    state["loss.logvar"] = torch.zeros(1)  # of a training run, left out
    state["decoder.extra"] = torch.zeros(1)
    state[names[-1]] = torch.zeros(9, 9)
    with pytest.raises(ValueError, match="these are not the weights of") as error:
        kind(state, config)
    message = str(error.value)
    assert kind.files[0] in message and "1 unexpected: decoder.extra;" in message
    assert f"7 missing: {', '.join(names[:5])} ...;" in message
    assert f"1 mis-shaped: {names[-1]} is [9, 9], expected" in message


def test_the_level_attentions_of_va_vae_are_converted():
    state, frames = weights("va-vae"), video(1)
    kind, config = SMALL["va-vae"]
    before = kind(state, config)
    latents = before.encode(frames)
    state["encoder.down.1.attn.0.v.weight"] = -state["encoder.down.1.attn.0.v.weight"]
    state["decoder.up.1.attn.1.v.weight"] = -state["decoder.up.1.attn.1.v.weight"]
    after = kind(state, config)
    assert not torch.allclose(after.encode(frames), latents, atol=1e-3)
    assert not torch.allclose(after.decode_unclamped(latents), before.decode_unclamped(latents), atol=1e-3)


def test_build_by_name_says_what_it_needs():
    for name in RELEASED:
        with pytest.raises(ValueError, match=f"{name}.*needs its weights"):
            build_autoencoder(name)
        with pytest.raises(ValueError, match="missing"):
            build_autoencoder(name, {})
    with pytest.raises(ValueError, match=r"va-vae, videodcae, wan2\.2 and patch-N"):
        build_autoencoder("va-vae-2")


@pytest.mark.parametrize("name", ["va-vae", "wan2.2"])
def test_without_diffusers_the_error_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match="pip install --upgrade diffusers"):
        build_autoencoder(name, {})


def test_a_diffusers_that_knows_only_wan_2_1_is_called_too_old(monkeypatch):
    def older(base_dim, decoder_base_dim, z_dim, dim_mult, num_res_blocks, temperal_downsample):
        raise AssertionError("built without the settings of Wan 2.2")

    monkeypatch.setattr("diffusers.AutoencoderKLWan", older)
    with pytest.raises(ImportError, match=r"diffusers 0\.35 or newer"):
        build_autoencoder("wan2.2", {})


def test_importing_the_package_leaves_diffusers_alone():
    code = "import sys, scenetok_core.autoencoders; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# ---- what all have in common ---------------------------------------------------------------------


def test_frames_to_latents_and_back(autoencoder):
    spec, frames = autoencoder.spec, whole_groups(autoencoder)
    latents = autoencoder.encode(frames)
    cells = frames.shape[-1] // spec.spatial
    assert latents.shape == (2, 2 * spec.group_latents, spec.channels, cells, cells)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == frames.shape and decoded.dtype == torch.float32
    assert decoded.min() >= 0 and decoded.max() <= 1
    assert torch.equal(autoencoder.decode_unclamped(latents).clamp(0, 1), decoded)


def test_coding_changes_nothing_of_the_caller(autoencoder):
    frames = whole_groups(autoencoder)
    kept, random = frames.clone(), torch.random.get_rng_state()
    latents = autoencoder.encode(frames)
    kept_latents = latents.clone()
    first, second = autoencoder.decode(latents), autoencoder.decode(latents)
    assert torch.equal(first, second) and torch.equal(frames, kept) and torch.equal(latents, kept_latents)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_every_scene_of_a_batch_is_coded_alone(autoencoder):
    frames = whole_groups(autoencoder)
    latents = autoencoder.encode(frames)
    assert torch.allclose(autoencoder.encode(frames[1:]), latents[1:], atol=SAME)
    assert torch.allclose(autoencoder.decode(latents[1:]), autoencoder.decode(latents)[1:], atol=SAME)


@pytest.mark.parametrize("name", ["va-vae", "wan2.2"])
def test_groups_know_nothing_of_each_other(name):
    autoencoder = small(name)
    spec, frames = autoencoder.spec, whole_groups(autoencoder)
    second = autoencoder.encode(frames[:, spec.group_frames :])
    assert torch.allclose(autoencoder.encode(frames)[:, spec.group_latents :], second, atol=SAME)
    lone = autoencoder.decode(second)
    assert torch.allclose(autoencoder.decode(autoencoder.encode(frames))[:, spec.group_frames :], lone, atol=SAME)


@pytest.mark.parametrize("name", ["va-vae", "wan2.2"])
def test_latents_are_normalised_by_the_statistics(name):
    autoencoder = small(name)
    frames = video(autoencoder.spec.group_frames)
    raw = autoencoder.encode_clip(frames.transpose(1, 2) * 2 - 1).transpose(1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    assert torch.allclose(autoencoder.encode(frames), (raw - mean) / std, atol=SAME)


@pytest.mark.parametrize("name", ["va-vae", "wan2.2"])
def test_latents_are_drawn_from_the_posterior_around_its_mean(name):
    autoencoder = small(name)
    frames, spec = video(autoencoder.spec.group_frames), autoencoder.spec
    clip = frames[:, 0] * 2 - 1 if name == "va-vae" else frames.transpose(1, 2) * 2 - 1
    posterior = autoencoder.network.encode(clip).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
    raw = posterior.mean + posterior.std * noise
    raw = raw[:, None] if name == "va-vae" else raw.transpose(1, 2)
    drawn = autoencoder.encode(frames, torch.Generator().manual_seed(3))
    assert torch.allclose(drawn, spec.normalise(raw), atol=SAME)
    assert not torch.allclose(drawn, autoencoder.encode(frames), atol=0.01)


@pytest.mark.parametrize("name", ["va-vae", "wan2.2"])
def test_every_clip_is_drawn_with_noise_of_its_own(name):
    autoencoder, state = small(name), torch.random.get_rng_state()
    group = video(autoencoder.spec.group_frames)
    twice = torch.cat([group, group], dim=1)
    first, second = autoencoder.encode(twice, torch.Generator().manual_seed(0)).chunk(2, dim=1)
    assert not torch.allclose(first, second, atol=0.01)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_posterior_the_generator_is_left_alone():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for autoencoder in (small("videodcae"), PatchAutoencoder(4)):
        frames = video(8)
        assert torch.equal(autoencoder.encode(frames, generator), autoencoder.encode(frames))
    assert torch.equal(generator.get_state(), before)


def test_a_loss_on_frames_has_a_gradient_beyond_the_range(autoencoder):
    latents = torch.full((1, autoencoder.spec.group_latents, autoencoder.spec.channels, 2, 2), 30.0)
    latents.requires_grad_()
    frames = autoencoder.decode_unclamped(latents)
    assert frames.min() < 0 or frames.max() > 1
    outside = frames[(frames < 0) | (frames > 1)].sum()
    (gradient,) = torch.autograd.grad(outside, latents)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert not any(p.requires_grad for p in autoencoder.network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_weights_give_float32_pictures(name):
    exact, rough = small(name), small(name, dtype=torch.bfloat16)
    frames = whole_groups(exact)
    latents = rough.encode(frames)
    assert latents.dtype == torch.float32 and next(rough.network.parameters()).dtype == torch.bfloat16
    reference = exact.encode(frames)
    assert (latents - reference).norm() < 0.05 * reference.norm()
    assert rough.decode(latents).dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused(autoencoder):
    spec, frames = autoencoder.spec, whole_groups(autoencoder)
    with pytest.raises(ValueError, match=f"sides must be multiples of {spec.spatial}"):
        autoencoder.encode(frames[..., :-1])
    with pytest.raises(ValueError, match=f"latents must be \\[B, L, {spec.channels}, h, w\\]"):
        autoencoder.decode(torch.zeros(1, spec.group_latents, spec.channels + 1, 2, 2))
    if spec.group_frames > 1:
        with pytest.raises(ValueError, match=f"groups of {spec.group_frames}"):
            autoencoder.encode(frames[:, 1:])


def test_statistics_undo_themselves_and_must_fit_the_channels():
    spec = LatentSpec(channels=4, spatial=8, mean=MEAN, std=STD)
    raw = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(spec.denormalise(spec.normalise(raw)), raw, atol=SAME)
    assert torch.equal(LatentSpec(4, 8).normalise(raw), raw)
    with pytest.raises(ValueError, match="4 channels need 1 or 4 values"):
        replace(spec, std=STD[:3])


def test_wan_decodes_as_diffusers_does_apart_from_the_clamp():
    autoencoder = small("wan2.2")
    raw = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    theirs = autoencoder.network.decode(raw).sample
    assert torch.allclose(autoencoder.decode_clip(raw).clamp(-1, 1), theirs, atol=SAME)


# ---- tiles ---------------------------------------------------------------------------------------


def published_blend(function, x, tile, stride, scale):
    """Slow twin along the last dimension: tiles cut and blended cell by cell."""
    pieces = [function(x[..., i : i + tile]) for i in range(0, x.shape[-1], stride)]
    extent = scale * (tile - stride)
    for before, piece in pairwise(pieces):
        shared = min(before.shape[-1], piece.shape[-1], extent)
        for i in range(shared):
            piece[..., i] = before[..., i - shared] * (1 - i / shared) + piece[..., i] * (i / shared)
    return torch.cat([piece[..., : scale * stride] for piece in pieces], dim=-1)


@pytest.mark.parametrize("length", [9, 10, 12, 14, 15, 18, 20])
def test_tiles_are_blended_as_published(length):
    x = torch.rand(2, length, generator=torch.Generator().manual_seed(length))

    def function(cells):
        return (cells - cells.mean(dim=-1, keepdim=True)).repeat_interleave(4, dim=-1)

    tiled = in_tiles(function, x, [Axis(1, 8, 1, 0.25)])
    assert torch.allclose(tiled, published_blend(function, x, 8, 6, 4), atol=SAME)


@pytest.mark.parametrize("length", [9, 13, 19, 25])
@pytest.mark.parametrize("cell", [1, 4])
def test_tiles_of_a_local_function_leave_no_trace(length, cell):
    """Also in two dimensions, and where a last cell would be left alone."""
    x = torch.rand(1, length * cell, 3 * cell, (length + 3) * cell, generator=torch.Generator().manual_seed(0))
    sizes = []

    def function(part):
        sizes.append((part.shape[1], part.shape[3]))
        return part[:, ::cell] + 1

    tiled = in_tiles(function, x, [Axis(1, 8, cell, 0.25), Axis(3, 8, cell, 0.25)])
    assert torch.allclose(tiled, x[:, ::cell] + 1, atol=SAME)
    assert len(sizes) > 1 and all(2 * cell <= side <= 8 * cell for pair in sizes for side in pair)


@pytest.fixture(scope="module")
def tiled_videodcae():
    return small("videodcae", tiling=videodc.Tiling(frames=16, pixels=32))


def test_videos_of_one_tile_do_not_depend_on_the_tiling(tiled_videodcae):
    whole = small("videodcae", tiling=videodc.Tiling(frames=None, pixels=None))
    latents = whole.encode(video(16, 32))
    assert torch.equal(tiled_videodcae.encode(video(16, 32)), latents)
    assert torch.equal(tiled_videodcae.decode(latents), whole.decode(latents))


def test_without_temporal_tiles_the_video_is_seen_whole(tiled_videodcae):
    """A change in the last latent reaches the first frame, which no tile of it shares."""
    latents = torch.randn(1, 8, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    changed = latents.clone()
    changed[:, -1] += 1
    seamless = small("videodcae", tiling=videodc.Tiling(frames=None))
    for autoencoder, reached in ((seamless, True), (tiled_videodcae, False)):
        before, after = (autoencoder.decode_unclamped(x) for x in (latents, changed))
        assert before.shape == (1, 32, 3, 8, 8)
        assert torch.equal(before[:, 0], after[:, 0]) is not reached
    one_piece = seamless.network.decoder(seamless.spec.denormalise(latents).transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(seamless.decode_unclamped(latents), (one_piece + 1) / 2, atol=SAME)


@pytest.mark.parametrize("latents", [1, 5, 7, 9])
def test_tiled_videos_have_all_their_frames(tiled_videodcae, latents):
    frames = video(4 * latents, side=40)
    encoded = tiled_videodcae.encode(frames)
    assert encoded.shape == (1, latents, 4, 10, 10)
    assert tiled_videodcae.decode(encoded).shape == frames.shape


def test_impossible_tiles_are_refused(tiled_videodcae):
    for overlap in (0.0, 1.0):
        with pytest.raises(ValueError, match="tiles must overlap"):
            videodc.Tiling(overlap=overlap)
    with pytest.raises(ValueError, match="use larger tiles"):
        small("videodcae", tiling=videodc.Tiling(frames=4)).encode(video(8))
