"""The networks of a 3DRAE: what attends to what."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from scenetok_core.camera import plucker_features
from scenetok_core.models.rae import FuseNeck, PictureDecoder, PointDecoder, QueryDecoder, RaeNetworks, with_octaves
from tests import small, small_latents

SAME = 2e-5
SIDE, VIEWS = 8, 5
PATCHES = (SIDE // small_latents.PATCH) ** 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind, *given, **changes) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(small_latents.rae_config(**changes), *given).requires_grad_(False)


def rays(views=VIEWS):
    cameras = small.cameras(views)
    return plucker_features(cameras.c2w, cameras.K, (SIDE, SIDE))[None]


def features(views=VIEWS, seed=0):
    return torch.randn(1, views, PATCHES, 32, generator=seeded(seed))


def tokens(scenes=1, seed=0):
    return torch.randn(scenes, small_latents.TOKENS, small_latents.TOKEN_DIM, generator=seeded(seed))


@pytest.fixture(scope="module")
def neck():
    return make(FuseNeck)


def flags(*values):
    return torch.tensor([values], dtype=torch.bool)


# ---- neck ----------------------------------------------------------------------------------------


def test_padding_changes_nothing(neck):
    """Three views, alone and followed by two that are not there, whatever stands in their place."""
    given, around = features(), rays()
    want = neck(given[:, :3], around[:, :3], flags(True, False, True))
    visible, present = flags(True, False, True, True, False), flags(True, True, True, False, False)
    for rubbish in (0.0, 1e4):
        padded, poses = given.clone(), around.clone()
        padded[:, 3:], poses[:, 3:] = rubbish, rubbish
        assert (neck(padded, poses, visible, present) - want).abs().max() < SAME
    assert (neck(given, around, visible) - want).abs().max() > 1e-3


def test_scenes_of_different_numbers_of_views_make_one_batch(neck):
    given, around = torch.cat([features(), features(seed=1)]), rays().expand(2, -1, -1, -1, -1)
    visible, present = torch.ones(2, VIEWS, dtype=torch.bool), torch.ones(2, VIEWS, dtype=torch.bool)
    present[0, 2:] = False
    both = neck(given, around, visible, present)
    assert (both[:1] - neck(given[:1, :2], around[:1, :2], visible[:1, :2])).abs().max() < SAME
    assert (both[1:] - neck(given[1:], around[1:], visible[1:])).abs().max() < SAME


def test_an_invisible_view_counts_by_its_pose_alone(neck):
    given, visible = features(), flags(True, False, True, False, True)
    want = neck(given, rays(), visible)
    for value in (0.0, 1e6, math.nan):
        other = given.clone()
        other[:, 1], other[:, 3] = value, value
        assert torch.equal(neck(other, rays(), visible), want), "bit for bit"
    poses = rays()
    poses[:, 3] += 0.3
    assert (neck(given, poses, visible) - want).abs().max() > 1e-3
    assert (neck(given, rays(), ~visible) - want).abs().max() > 1e-3
    seen = given.clone()
    seen[:, 0] = 0
    assert (neck(seen, rays(), visible) - want).abs().max() > 1e-3


def test_a_visible_view_of_nothing_is_no_invisible_one(neck):
    """The mask tells black from unknown."""
    nothing = torch.zeros_like(features())
    both = [neck(nothing, rays(), flags(*[seen] * VIEWS)) for seen in (True, False)]
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_octaves_are_sines_and_cosines_beside_the_rays():
    plain = rays()
    out = with_octaves(plain, 2)
    assert out.shape == (1, VIEWS, 30, SIDE, SIDE) and torch.equal(out[:, :, :6], plain)
    assert torch.allclose(out[:, :, 24:30], (2 * math.pi * plain).cos())
    neck = make(FuseNeck, ray_octaves=2)
    assert neck(features(), plain, flags(*[True] * VIEWS)).isfinite().all()


# ---- decoder -------------------------------------------------------------------------------------


def by_definition(decoder, around, scene, layers):
    """Blocks over the patches of one view and all latents, which do not see the patches."""
    x = torch.cat([decoder.ray_embed(around), decoder.from_tokens(scene)], 1)
    latent = torch.arange(x.shape[1]) >= PATCHES
    bias = torch.zeros(x.shape[1], x.shape[1]).masked_fill(latent[:, None] & ~latent, -math.inf)
    out = []
    for block in decoder.blocks:
        x = block(x, bias=bias[None, None])
        out.append(x[:, :PATCHES])
    return [out[layer] for layer in layers]


def test_a_view_attends_to_itself_and_the_latents_and_these_to_the_latents():
    decoder, layers = make(QueryDecoder, 4), (0, 2, 3)
    scenes, around = tokens(2), torch.cat([rays(3), rays(4)[:, 1:]])
    found = decoder(around, decoder.memory(scenes), layers)
    for i, (scene, view) in enumerate((s, v) for s in range(2) for v in range(3)):
        want = by_definition(decoder, around[scene : scene + 1, view : view + 1], scenes[scene : scene + 1], layers)
        for a, b in zip(found, want, strict=True):
            assert (a[i : i + 1] - b).abs().max() < SAME


def test_keys_and_values_of_the_latents_serve_all_views():
    decoder = make(PictureDecoder)
    memory, around = decoder.memory(tokens()), rays(3)
    (pictures,) = decoder(around, memory)
    for view in range(3):
        (again,) = decoder(around[:, view : view + 1], decoder.memory(tokens()))
        assert (pictures[:, view : view + 1] - again).abs().max() < SAME
    assert len(memory) == 2 and all(part.shape[0] == 1 for pair in memory for part in pair)


def test_global_attention_is_that_of_one_sequence():
    decoder = make(QueryDecoder, 3, view_attention="global")
    around, scene = rays(2), tokens()
    x = torch.cat([decoder.ray_embed(around), decoder.from_tokens(scene)], 1)
    for block in decoder.blocks:
        x = block(x)
    (found,) = decoder(around, decoder.memory(scene))
    assert torch.equal(found.flatten(0, 1), x[0, : 2 * PATCHES])


@pytest.mark.parametrize("view_attention", ["per_view", "global"])
def test_what_a_decoder_says_of_a_view_belongs_to_it(view_attention):
    """In another order, every view has its own picture and points."""
    order = [2, 0, 3, 1]
    for kind in (PictureDecoder, PointDecoder):
        decoder = make(kind, view_attention=view_attention)
        memory = decoder.memory(tokens())
        for a, b in zip(decoder(rays(4), memory), decoder(rays(4)[:, order], memory), strict=True):
            assert torch.allclose(a[:, order], b, atol=1e-4)


def test_a_patch_of_a_picture_stands_where_its_rays_do():
    """Without attention, rays of one patch change the pixels of that patch only."""
    decoder = make(PictureDecoder, decoder_depth=1)
    nn.init.zeros_(decoder.queries.blocks[0].attn.proj.weight)
    around = rays(1)
    other = around.clone()
    other[..., :4, 4:] += 1  # the upper right patch
    changed = (decoder(around, decoder.memory(tokens()))[0] != decoder(other, decoder.memory(tokens()))[0]).any(2)[0, 0]
    assert changed[:4, 4:].all() and changed.sum() == 16


def test_training_encodes_and_decodes_in_one_pass():
    """The same pictures and points as the parts, noise on the tokens, and only what is asked for."""
    networks, rgb, visible = (
        make(RaeNetworks),
        torch.rand(1, VIEWS, 3, SIDE, SIDE, generator=seeded()),
        flags(*[True] * 5),
    )
    scene = networks.neck(networks.neck.embed_pictures(rgb), rays(), visible)
    (pictures,), (points, confidence) = networks(rgb, rays(), visible, rays(2))
    assert torch.equal(pictures, networks.decoder(rays(2), networks.decoder.memory(scene))[0])
    assert torch.equal(points, networks.points(rays(2), networks.points.memory(scene))[0]) and confidence.min() > 1
    noisy, nothing = networks(rgb, rays(), visible, rays(2), noise=tokens(), points=False)
    assert not torch.equal(noisy[0], pictures) and nothing == ()
    assert networks(rgb, rays(), visible, rays(2), pictures=False)[0] == ()


@pytest.mark.parametrize("attention", ["per_view", "global"])
@pytest.mark.parametrize("token_dim", [32, 8])
def test_autocast_keeps_residual_streams_exact(attention, token_dim):
    config = small_latents.rae_config(view_attention=attention, token_dim=token_dim)
    networks, seen = RaeNetworks(config), []
    for block in (*networks.neck.blocks, *networks.decoder.queries.blocks):
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    rays = torch.randn(1, 2, 6, small_latents.SQUARE, small_latents.SQUARE)
    tokens = torch.randn(1, config.tokens, config.token_dim)
    with torch.autocast("cpu", torch.bfloat16):
        networks.neck(networks.neck.embed_pictures(torch.rand(1, 2, 3, *rays.shape[-2:])), rays, torch.ones(1, 2) > 0)
        networks.decoder(rays, networks.decoder.memory(tokens))
    assert set(seen) == {torch.float32} and len(seen) >= config.neck_depth + config.decoder_depth
