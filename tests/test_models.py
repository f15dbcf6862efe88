"""The network parts against slow twins and the properties the method relies on."""

import dataclasses
import math
import shutil
import sys
from types import ModuleType

import pytest
import torch
from torch._dynamo.utils import counters

from scenetok_core.autoencoders import LatentSpec, PatchAutoencoder, build_autoencoder
from scenetok_core.configs import DecoderConfig
from scenetok_core.models.compressor import Posterior
from scenetok_core.models.decoder import Decoder
from scenetok_core.models.dit import side_by_side
from scenetok_core.models.networks import Networks
from scenetok_core.nn import attention as attentions
from scenetok_core.nn.attention import Attention, attend, use_attention
from scenetok_core.nn.blocks import compile_blocks
from scenetok_core.nn.rope import AxialRope, axis_pairs
from tests import small

TOLERANCE = 1e-5
HEADS, LENGTH, HEAD_DIM = 2, 12, 16


@pytest.fixture(scope="module")
def networks():
    net = Networks(small.config())
    net.load_state_dict(small.state())
    return net.eval()


def example(seed=0, views=3, latents=4):
    generator = torch.Generator().manual_seed(seed)
    side, channels, rays = small.IMAGE // small.PATCH, 3 * small.PATCH**2, small.config().compressor.ray_map
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "context": draw(2, views, channels, side, side),
        "context_rays": draw(2, views, 6, rays, rays),
        "noisy": draw(2, latents, channels, side, side),
        "t": torch.rand(2, latents, generator=generator),
        "packed_rays": draw(2, latents, 1, 6, rays, rays),
    }


def slow_rope(x, grid):
    """Rotate every pair of every cell by itself."""
    out = x.clone()
    pairs = axis_pairs(x.shape[-1], len(grid))
    for cell in range(math.prod(grid)):
        rest, position = cell, []
        for size in reversed(grid):
            position.insert(0, rest % size)
            rest //= size
        pair = 0
        for axis, count in enumerate(pairs):
            for i in range(count):
                angle = position[axis] * 10000 ** (-i / count)
                a, b = x[..., cell, 2 * pair], x[..., cell, 2 * pair + 1]
                out[..., cell, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
                out[..., cell, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
                pair += 1
    return out


@pytest.mark.parametrize("grid", [(3, 4), (3, 2, 2)])
def test_rope_equals_its_slow_twin(grid):
    x = torch.randn(1, HEADS, LENGTH, HEAD_DIM)
    assert torch.allclose(AxialRope(grid, HEAD_DIM)(x), slow_rope(x, grid), atol=TOLERANCE)


@pytest.mark.parametrize(("head_dim", "want"), [(64, [10, 11, 11]), (32, [6, 5, 5]), (48, [8, 8, 8])])
def test_rope_gives_the_remainder_as_released(head_dim, want):
    assert axis_pairs(head_dim, 3) == want


def test_rope_restarts_with_every_tile():
    x = torch.randn(1, HEADS, 2 * LENGTH, HEAD_DIM)
    both = AxialRope((3, 4), HEAD_DIM, tile=2)(x)
    assert torch.equal(both[..., LENGTH:, :], AxialRope((3, 4), HEAD_DIM)(x[..., LENGTH:, :]))


def slow_attention(q, k, v):
    scores = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores.softmax(-1) @ v.double()).float()


def test_attention_backend_equals_softmax_and_can_be_replaced(networks):
    q, k, v = torch.randn(3, 1, HEADS, LENGTH, HEAD_DIM)
    assert torch.allclose(attend(q, k, v), slow_attention(q, k, v), atol=TOLERANCE)
    given = example()
    want, _ = networks(**given)
    use_attention(networks, slow_attention)
    try:
        assert torch.allclose(networks(**given)[0], want, atol=1e-4)
        use_attention(networks, lambda q, k, v: torch.zeros_like(q))
        assert not torch.allclose(networks(**given)[0], want, atol=1e-4)
    finally:
        use_attention(networks, attend)


def test_kept_keys_and_values_equal_fresh_ones():
    attention = Attention(32, 2, cross=True, qk_norm=True)
    x, context = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    kept = attention.keys_values(context)
    assert torch.equal(attention(x, kept), attention(x, attention.keys_values(context)))


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    is_cuda = True  # type: ignore[assignment]


def test_flash_attention_is_used_where_it_can(monkeypatch):
    calls = []

    def flash(q, k, v):  # [B, L, H, D], as flash-attn has it
        calls.append(q.dtype)
        q, k, v = (x.transpose(1, 2).as_subclass(torch.Tensor) for x in (q, k, v))
        return slow_attention(q, k, v).transpose(1, 2)

    monkeypatch.setattr(attentions, "_flash_attention", lambda: flash)
    q, k, v = (torch.randn(2, HEADS, length, HEAD_DIM, dtype=torch.bfloat16) for length in (3, LENGTH, LENGTH))
    gpu_q, gpu_k, gpu_v = (x.as_subclass(OnGpu) for x in (q, k, v))
    assert torch.allclose(attend(gpu_q, gpu_k, gpu_v).float(), slow_attention(q, k, v).float(), atol=0.02)
    assert calls == [torch.bfloat16]
    attend(gpu_q, gpu_k, gpu_v, torch.zeros(1, 1, 1, LENGTH))
    attend(gpu_q.float(), gpu_k.float(), gpu_v.float())
    attend(q, k, v)
    assert len(calls) == 1, "a bias, float32 and a CPU are torch's"


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_a_broken_flash_attention_is_none(monkeypatch, error):
    class Broken(ModuleType):
        def __getattr__(self, name):
            raise error("built for another torch")

    monkeypatch.setitem(sys.modules, "flash_attn", Broken("flash_attn"))
    assert attentions._flash_attention.__wrapped__() is None


def test_token_order_carries_no_meaning(networks):
    given = example()
    shuffle = torch.randperm(small.TOKENS, generator=torch.Generator().manual_seed(1))
    plain, _ = networks(**given)
    shuffled, _ = networks(**given, choose=lambda posterior: posterior.mean[:, shuffle])
    assert torch.allclose(plain, shuffled, atol=TOLERANCE)
    fewer, _ = networks(**given, choose=lambda posterior: posterior.mean[:, :1])
    assert not torch.allclose(plain, fewer, atol=TOLERANCE)


def test_scenes_without_their_tokens_are_decoded_as_by_the_null_condition(networks):
    given, decoder = example(), networks.denoiser
    mixed, posterior = networks(**given, seen=torch.tensor([True, False]))
    rays = decoder.embed_rays(given["packed_rays"])
    for scene, context in enumerate((decoder.condition(posterior.mean), decoder.null_condition(2))):
        want = decoder(given["noisy"], given["t"], rays, context)
        assert torch.allclose(mixed[scene], want[scene], atol=TOLERANCE)


def test_the_divergence_is_that_of_the_unit_gaussian():
    mean, logvar = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    normal = torch.distributions.Normal
    want = torch.distributions.kl_divergence(normal(mean, (0.5 * logvar).exp()), normal(0.0, 1.0)).mean((1, 2))
    assert torch.allclose(Posterior(mean, logvar).divergence(), want, atol=TOLERANCE)
    with pytest.raises(ValueError, match="posterior 'gaussian'"):
        Posterior(mean).divergence()


def test_view_order_carries_no_meaning(networks):
    given = example()
    order = [2, 0, 1]
    plain = networks.compressor(given["context"], given["context_rays"]).mean
    shuffled = networks.compressor(given["context"][:, order], given["context_rays"][:, order]).mean
    assert torch.allclose(plain, shuffled, atol=TOLERANCE)


def test_posterior_mean_and_samples(networks):
    given = example()
    posterior = networks.compressor(given["context"], given["context_rays"])
    draws = torch.stack([posterior.sample(torch.Generator().manual_seed(i)) for i in range(400)])
    with pytest.raises(TypeError, match="generator"):
        posterior.sample()
    spread = torch.exp(0.5 * posterior.logvar)
    assert ((draws.mean(0) - posterior.mean).abs() < 6 * spread / 20).all()
    assert torch.allclose(draws.std(0) / spread, torch.ones_like(spread), atol=0.2)


def test_compiled_blocks_compute_the_same(networks):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    given = example()
    want, _ = networks(**given)
    compiled = Networks(small.config())
    compiled.load_state_dict(networks.state_dict())
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(compiled)
    with torch.no_grad():
        assert torch.allclose(compiled.eval()(**given)[0], want, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 3, "one form of the decoder's block, two of the compressor's"


def test_two_contexts_side_by_side_are_two_passes(networks):
    given, decoder = example(), networks.denoiser
    rays = decoder.embed_rays(given["packed_rays"])
    contexts = decoder.condition(torch.randn(2, small.TOKENS, small.TOKEN_DIM)), decoder.null_condition(2)
    joined, bias = side_by_side(*contexts)
    noisy, t, twice = (torch.cat([part, part]) for part in (given["noisy"], given["t"], rays))
    halves = decoder(noisy, t, twice, joined, bias).chunk(2)
    for half, context in zip(halves, contexts, strict=True):
        assert torch.allclose(half, decoder(given["noisy"], given["t"], rays, context), atol=TOLERANCE)


def test_guidance_without_null_tokens_is_refused():
    decoder = Decoder(DecoderConfig(hidden=32, depth=1, heads=2, null_tokens=False))
    with pytest.raises(ValueError, match="no null_tokens"):
        decoder.null_condition(1)


def test_wrong_picture_size_is_refused(networks):
    given = example()
    with pytest.raises(ValueError, match="resize the pictures"):
        networks.compressor(given["context"][..., :-1, :], given["context_rays"])


def test_patch_autoencoder_is_exact():
    autoencoder = build_autoencoder("patch-4")
    frames = torch.rand(2, 3, 3, 16, 8)
    latents = autoencoder.encode(frames)
    assert latents.shape == (2, 3, 48, 4, 2)
    assert torch.allclose(autoencoder.decode(latents), frames, atol=TOLERANCE)
    with pytest.raises(ValueError, match="multiples of 4"):
        autoencoder.encode(frames[..., :-1])
    with pytest.raises(ValueError, match="unknown autoencoder 'jpeg'"):
        build_autoencoder("jpeg")


@pytest.mark.parametrize(
    ("spec", "frames", "latents"),
    [
        (PatchAutoencoder(4).spec, 5, 5),
        (LatentSpec(1, 1, 4, 4, 1), 8, 2),
        (LatentSpec(1, 1, 4, 17, 5), 34, 10),
    ],
)
def test_packing_keeps_every_frame_once_and_in_order(spec, frames, latents):
    maps = torch.arange(1.0, frames + 1).view(1, frames, 1, 1, 1)
    packed = spec.pack(maps)
    assert packed.shape == (1, latents, spec.frames_per_latent, 1, 1, 1)
    kept = packed.flatten()
    assert kept[kept > 0].tolist() == maps.flatten().tolist()
    assert spec.groups(frames) * spec.group_frames == frames


def test_packing_puts_the_padding_after_the_leading_frame():
    packed = LatentSpec(1, 1, 4, 17, 5).pack(torch.ones(1, 17, 1, 1, 1))
    assert packed[0, 0].flatten().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert packed[0, 1:].min() == 1.0
    with pytest.raises(ValueError, match="no whole number of groups of 17"):
        LatentSpec(1, 1, 4, 17, 5).pack(torch.ones(1, 18, 1, 1, 1))


def uncompressed():
    compressor = small.config().compressor
    cells = (compressor.ray_map // compressor.ray_patch) ** 2
    compressor = dataclasses.replace(compressor, depth=0, ray_input=True, tokens=4 * cells)
    return small.config(compressor=compressor)


def test_without_compression_every_patch_is_a_token_that_knows_its_view():
    config = uncompressed()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        compressor = Networks(config).compressor.eval()
    latents, rays = torch.randn(1, 3, 48, 4, 4), torch.randn(1, 3, 6, 8, 8)
    tokens = compressor(latents, rays).mean
    assert tokens.shape == (1, 3 * 16, small.TOKEN_DIM)
    latents[:, 1, :, 0, 2] += 1
    moved = (compressor(latents, rays).mean != tokens).any(-1)[0].nonzero().flatten().tolist()
    assert moved == [16 + 2]
    rays[:, 2] += 1
    moved = (compressor(latents, rays).mean != tokens).any(-1)[0].nonzero().flatten().tolist()
    assert moved == [16 + 2, *range(32, 48)]


def test_without_compression_needs_rays_and_all_tokens():
    with pytest.raises(ValueError, match="ray_input"):
        dataclasses.replace(small.config().compressor, depth=0)
    compressor = dataclasses.replace(small.config().compressor, depth=0, ray_input=True)
    with pytest.raises(ValueError, match=r"keeps the 64 patches of 4 views.*got 6"):
        small.config(compressor=compressor)
