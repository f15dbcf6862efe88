"""Estimates of the 3DRAE and 3DDiT networks beside the measured peak, as `test_memory` does it."""

from typing import Any

import pytest
import torch

from scenetok_core.configs import Dit3dConfig, PointsConfig, RaeConfig
from scenetok_core.memory import dit3d_bytes, neck_bytes, queries_bytes
from scenetok_core.models.dit3d import sample_latents
from scenetok_core.sampling import make_schedule
from scenetok_core.weights.checkpoints import build_networks
from tests.memory import PeakMemory
from tests.test_memory import DEPTH, FORMATS, assert_covered, attention_without_scores

__all__ = ["attention_without_scores"]

SIDE = (224, 294)  # of pictures, in pixels


def networks(config, dtype) -> Any:
    with torch.device("meta"):
        return build_networks(config).to(dtype).requires_grad_(False)


def full(**changes):
    """The released size with fewer blocks: they need the same memory one after the other."""
    points = PointsConfig(depth=DEPTH, layers=(0, 1, 2, 3))
    return RaeConfig("full", **{"neck_depth": DEPTH, "decoder_depth": DEPTH, "points": points, **changes})


def patches(config):
    return SIDE[0] * SIDE[1] // config.patch**2


def rays(views):
    return torch.empty(1, views, 6, *SIDE, device="meta")


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("views", [1, 16, 128])
@pytest.mark.parametrize("encoder", ["dinov2", None])
def test_the_neck_needs_what_is_said(views, encoder, dtype):
    config = full(encoder=encoder)
    neck = networks(config, dtype).neck
    with torch.no_grad(), PeakMemory(neck) as peak:
        if encoder is None:
            features = neck.embed_pictures(torch.empty(1, views, 3, *SIDE, device="meta", dtype=dtype))
        else:
            features = torch.empty(1, views, patches(config), config.hidden, device="meta", dtype=dtype)
        neck(features, rays(views), torch.ones(1, views, dtype=torch.bool, device="meta"))
    assert_covered(neck_bytes(config, views, patches(config), dtype.itemsize), peak.bytes)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("views", [1, 16])
@pytest.mark.parametrize("part", ["decoder", "points"])
@pytest.mark.parametrize("view_attention", ["per_view", "global"])
def test_decoders_need_what_is_said(views, part, view_attention, dtype):
    config = full(view_attention=view_attention)
    decoder = getattr(networks(config, dtype), part)
    with torch.no_grad(), PeakMemory(decoder) as peak:
        memory = decoder.memory(torch.empty(1, config.tokens, config.token_dim, device="meta"))
        decoder(rays(views), memory)
    estimate = queries_bytes(config, views, patches(config), dtype.itemsize, points=part == "points")
    assert_covered(estimate, peak.bytes)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("condition", ["channels", "tokens"])
@pytest.mark.parametrize(("hidden", "heads"), [(384, 6), (1152, 16)])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_drawing_latents_needs_what_is_said(hidden, heads, condition, guidance, dtype):
    config = Dit3dConfig("full", hidden=hidden, heads=heads, depth=DEPTH, condition=condition)
    model = networks(config, dtype).generator
    shape = (1, config.tokens, config.token_dim)
    schedule = make_schedule("full_sequence", horizon=1, steps=2, window=1, clean_targets=0)
    with torch.no_grad(), PeakMemory(model) as peak:
        given, poses, noise = (torch.empty(shape, device="meta") for _ in range(3))
        sample_latents(model, given, poses if guidance != 1 else None, noise, schedule, guidance=guidance)
    assert_covered(dit3d_bytes(config, guided=guidance != 1.0, itemsize=dtype.itemsize), peak.bytes)
