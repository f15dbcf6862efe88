"""The scene generator against slow twins and the properties its conditioning promises."""

import dataclasses
import itertools

import pytest
import torch

from scenetok_core.camera import plucker_features
from scenetok_core.configs import GeneratorConfig, SceneGenConfig, from_dict, to_dict
from scenetok_core.flow import guide
from scenetok_core.models.scenegen import SceneGen, sample_tokens
from scenetok_core.nn.attention import attend, use_attention
from scenetok_core.nn.layers import grid_positions
from scenetok_core.sampling import make_schedule
from tests import small

TOLERANCE = 1e-5
SCENES, VIEWS, ANCHORS, TOKENS, DIM, CHANNELS = 2, 3, 4, 6, 8, 5
RAY_MAP, RAY_PATCH = 16, 4
SIDE = RAY_MAP // RAY_PATCH
CELLS = SIDE**2
CONFIG = GeneratorConfig(
    hidden=32, depth=2, heads=2, tokens=TOKENS, token_dim=DIM, latent_channels=CHANNELS, ray_map=RAY_MAP,
    ray_patch=RAY_PATCH, cond_views=VIEWS,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SceneGen(CONFIG).eval().requires_grad_(False)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given(scenes=SCENES, views=VIEWS):
    rays = draw(scenes, views, 6, RAY_MAP, RAY_MAP, seed=1)
    return draw(scenes, views, CHANNELS, SIDE, SIDE), rays, draw(scenes, ANCHORS, 6, RAY_MAP, RAY_MAP, seed=2)


def schedule(steps=3, shift=1.0):
    return make_schedule("full_sequence", horizon=1, steps=steps, window=1, clean_targets=0, shift=shift)


def slow_velocity(model, noisy, t, latents, rays, anchors, seen):
    """Every masked cell is a key of its own, as the method is described; one scene."""
    trunk = model.model
    cells = (trunk.c_embedder(latents) + model.pose_embed(rays)).unflatten(1, (VIEWS, CELLS)).clone()
    cells[0, [view for view in range(VIEWS) if not seen[view]]] = trunk.null_tokens
    pooled = [model.anchor_pose_embed(anchors[:, [i]]).mean(1, keepdim=True) for i in range(ANCHORS)]
    context = torch.cat([cells.flatten(1, 2), *pooled], dim=1)
    x, cond = trunk.x_embedder(noisy) + trunk.pos_embed, trunk.t_embedder(t[:, None]).repeat(1, TOKENS, 1)
    for block in trunk.blocks:
        x = block(x, cond, block.attn2.keys_values(context))
    return trunk.final_layer(x, cond)


@pytest.mark.parametrize("seen", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 0, 0)])
def test_one_key_for_all_masked_cells_is_exact(model, seen):
    latents, rays, anchors = given(scenes=1)
    noisy, t = draw(1, TOKENS, DIM, seed=3), torch.tensor([0.4])
    conditioning = model.condition(latents, rays, anchors, torch.tensor([seen]).bool())
    assert conditioning.bias.shape[-1] == sum(seen) * CELLS + 1 + ANCHORS
    want = slow_velocity(model, noisy, t, latents, rays, anchors, seen)
    assert torch.allclose(model(noisy, t, conditioning), want, atol=TOLERANCE)
    want = slow_velocity(model, noisy, t, latents, rays, anchors, (0, 0, 0))
    assert torch.allclose(model(noisy, t, conditioning.unconditional()), want, atol=TOLERANCE)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_counts_survive_rounding_of_the_bias(count):
    released = SceneGen(dataclasses.replace(CONFIG, ray_map=128, ray_patch=8))
    seen = torch.arange(VIEWS)[None] < count
    bias = released._bias(seen.float(), ANCHORS)[0, 0, 0].to(torch.bfloat16).double().exp()
    want = torch.tensor(
        [1.0] * count * 256 + [0.0] * (VIEWS - count) * 256 + [(VIEWS - count) * 256.0] + [1.0] * ANCHORS
    )
    assert torch.allclose(bias / bias[-1], want.double(), rtol=1e-4)


def test_scenes_with_different_masks_share_a_batch(model):
    latents, rays, anchors = given()
    seen = torch.tensor([[1, 0, 0], [1, 0, 1]]).bool()
    noisy, t = draw(SCENES, TOKENS, DIM, seed=3), torch.tensor([0.4, 0.9])
    together = model(noisy, t, model.condition(latents, rays, anchors, seen))
    for i in range(SCENES):
        one = slice(i, i + 1)
        alone = model(noisy[one], t[one], model.condition(latents[one], rays[one], anchors[one], seen[one]))
        assert torch.allclose(together[one], alone, atol=TOLERANCE)


@pytest.mark.parametrize("count", [1, 2])
def test_views_that_are_not_given_are_masked(model, count):
    latents, rays, anchors = given()
    noisy, t = draw(SCENES, TOKENS, DIM, seed=3), torch.tensor([0.4, 0.9])
    seen = torch.arange(VIEWS).expand(SCENES, -1) < count
    masked = model(noisy, t, model.condition(latents, rays, anchors, seen))
    short = model(noisy, t, model.condition(latents[:, :count], rays[:, :count], anchors))
    torch.testing.assert_close(masked, short, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(masked, model(noisy, t, model.condition(latents, rays, anchors)), atol=1e-3)


def test_every_input_counts_and_none_is_changed(model):
    inputs = given()
    copies = [x.clone() for x in inputs]
    noisy, t = draw(SCENES, TOKENS, DIM, seed=3), torch.tensor([0.4, 0.9])
    plain = model(noisy, t, model.condition(*inputs))
    for i in range(len(inputs)):
        changed = [x + (i == j) for j, x in enumerate(inputs)]
        assert not torch.allclose(model(noisy, t, model.condition(*changed)), plain, atol=1e-3)
    assert not torch.allclose(model(noisy, t / 2, model.condition(*inputs)), plain, atol=1e-3)
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("scenes", [1, SCENES])
def test_sampling_in_one_batch_equals_two_passes_in_a_plain_loop(model, scenes):
    conditioning = model.condition(*given(scenes))
    noise, guidance, plan = draw(scenes, TOKENS, DIM, seed=4), 3.0, schedule(shift=4.0)
    kept, levels = noise.clone(), plan.sigma[:, 0]
    x = noise.clone()
    for t, t_next in itertools.pairwise(levels):
        both = [model(x, t.expand(scenes), c) for c in (conditioning, conditioning.unconditional())]
        x = x + (t_next - t) * guide(*both, guidance)
    tokens = sample_tokens(model, conditioning, noise, plan, guidance=guidance)
    assert torch.allclose(tokens, x / CONFIG.token_scale, atol=1e-4)
    assert torch.equal(noise, kept)
    plain = sample_tokens(model, conditioning, noise, plan)
    assert torch.allclose(plain, sample_tokens(model, conditioning, noise, plan, guidance=1 + 1e-6), atol=1e-3)
    assert not torch.allclose(plain, tokens, atol=1e-2)


def test_progress_offers_tokens_in_their_own_scale(model):
    conditioning, noise, reports = model.condition(*given()), draw(SCENES, TOKENS, DIM, seed=4), []
    tokens = sample_tokens(
        model, conditioning, noise, schedule(), progress=lambda done, total, clean: reports.append((done, total, clean))
    )
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert torch.allclose(reports[-1][2](), tokens, atol=TOLERANCE)


def test_another_attention_receives_the_bias(model):
    def slow_attention(q, k, v, bias=None):
        scores = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
        return ((scores if bias is None else scores + bias).softmax(-1) @ v.double()).float()

    seen = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    noisy, t = draw(SCENES, TOKENS, DIM, seed=3), torch.tensor([0.4, 0.9])
    conditioning = model.condition(*given(), seen)
    want = model(noisy, t, conditioning)
    use_attention(model, slow_attention)
    try:
        assert torch.allclose(model(noisy, t, conditioning), want, atol=TOLERANCE)
    finally:
        use_attention(model, attend)


def test_bfloat16_weights_stay_close(model):
    coarse = SceneGen(CONFIG)
    coarse.load_state_dict(model.state_dict())
    coarse = coarse.to(torch.bfloat16).eval()
    conditioning, noise = [m.condition(*given()) for m in (model, coarse)], draw(SCENES, TOKENS, DIM, seed=4)
    fine, rough = (
        sample_tokens(m, c, noise, schedule(), guidance=2.0) for m, c in zip((model, coarse), conditioning, strict=True)
    )
    assert rough.dtype == torch.float32
    assert (fine - rough).abs().max() < 0.05 * fine.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, r, a: (x.repeat(1, 2, 1, 1, 1), r, a), "takes 1 to 3 views, got 6"),
        (lambda x, r, a: (x[:, :0], r[:, :0], a), "takes 1 to 3 views, got 0"),
        (lambda x, r, a: (x, r, a[:, :0]), "at least one anchor camera"),
        (lambda x, r, a: (x[..., :-1], r, a), r"latents must have shape \[..., 5, 4, 4\]"),
        (lambda x, r, a: (x, r[:, :2], a), r"rays must have shape \[..., 3, 6, 16, 16\]"),
        (lambda x, r, a: (x, r, a[..., :8]), r"anchor_rays must have shape \[..., 6, 16, 16\]"),
        (lambda x, r, a: (x, r, a, torch.ones(SCENES, 2)), r"seen must have shape \[2, 3\], got \[2, 2\]"),
    ],
)
def test_conditioning_that_does_not_fit_is_refused(model, change, message):
    with pytest.raises(ValueError, match=message):
        model.condition(*change(*given()))


def test_positions_are_those_of_the_released_embedding():
    """diffusers' `PatchEmbed` keeps the whole table in the checkpoint; this package computes the part that is used."""
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    released = embeddings.PatchEmbed(
        height=RAY_MAP, width=RAY_MAP, patch_size=RAY_PATCH, in_channels=6, embed_dim=24, pos_embed_max_size=RAY_MAP
    )
    want = released.cropped_pos_embed(RAY_MAP, RAY_MAP)
    assert torch.allclose(grid_positions(24, SIDE, RAY_MAP), want, atol=1e-6)


def test_positions_are_real_on_the_meta_device_and_not_stored(model):
    with torch.device("meta"):
        built = SceneGen(CONFIG)
    assert built.model.pos_embed.is_meta
    for empty, full in zip(built.buffers(), model.buffers(), strict=True):
        assert torch.equal(empty, full)
    assert not any(name.endswith("model.model.pos_embed") for name in model.state_dict())


def test_pluecker_rays_do_not_depend_on_the_place_along_the_ray():
    cameras = small.cameras()
    features = plucker_features(cameras.c2w, cameras.K, (8, 8))
    direction, moment = features.split(3, dim=-3)
    assert features.shape == (len(cameras), 6, 8, 8)
    assert torch.allclose((direction * moment).sum(-3), torch.zeros(len(cameras), 8, 8), atol=1e-6)
    moved = cameras.c2w[:1].clone()
    moved[0, :3, 3] += 2 * direction[0, :, 3, 5]
    again = plucker_features(moved, cameras.K[:1], (8, 8))
    assert torch.allclose(again[0, :, 3, 5], features[0, :, 3, 5], atol=1e-5)
    assert not torch.allclose(again[0, :, 6, 1], features[0, :, 6, 1], atol=1e-2)


def test_configuration_is_read_strictly_and_checked():
    config = SceneGenConfig("generator", generator=CONFIG)
    assert from_dict(SceneGenConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match=r"unknown setting generator\.hiden"):
        from_dict(SceneGenConfig, {"name": "x", "generator": {"hiden": 3}})
    for change, message in [
        ({"hidden": 30, "heads": 2}, "multiple of 4"),
        ({"heads": 5}, r"generator\.hidden 32 must divide"),
        ({"token_scale": 0.0}, r"generator\.token_scale must be positive"),
        ({"cond_views": 0}, r"generator\.cond_views must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(CONFIG, **change)
