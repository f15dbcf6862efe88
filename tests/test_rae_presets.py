"""3DRAE and 3DDiT of the paper's tables: sizes, numbers of parameters, shifts."""

import math

import pytest
import torch

from scenetok_core.configs import DIT3D_PRESETS, RAE_PRESETS, from_dict, to_dict
from scenetok_core.encoders import ENCODERS
from scenetok_core.weights.checkpoints import build_networks

WIDTH, PATCH, RAY = 768, 14, 6


def shapes(config):
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_networks(config).state_dict().items()}


def numbers(found, prefix=""):
    return sum(math.prod(shape) for name, shape in found.items() if name.startswith(prefix))


def swiglu(width):
    inner = int(2 / 3 * 4 * width)
    return width * 2 * inner + 2 * inner + inner * width + width


def attention(width):
    return width * 3 * width + 3 * width + width * width + width


def block(width):
    return attention(width) + swiglu(width) + 2 * width


def dit_block(width, heads):
    return block(width) + 2 * width // heads + width * 6 * width + 6 * width


def test_every_variant_of_the_paper_has_a_name():
    encoders = {config.encoder for config in RAE_PRESETS.values()}
    assert encoders == {None, *ENCODERS}
    assert {(c.encoder, c.tokens) for c in RAE_PRESETS.values()} == {(e, n) for e in encoders for n in (256, 512, 1024)}
    sizes = {"s": (12, 384, 6), "b": (12, 768, 12), "xl": (28, 1152, 16)}
    for size, (depth, hidden, heads) in sizes.items():
        for tokens in (256, 512, 1024):
            config = DIT3D_PRESETS[f"3ddit-{size}" if tokens == 1024 else f"3ddit-{size}-{tokens}"]
            assert (config.depth, config.hidden, config.heads, config.tokens) == (depth, hidden, heads, tokens)
            assert (config.head_depth, config.head_hidden, config.head_heads) == (2, 2048, 16)
    for presets in (RAE_PRESETS, DIT3D_PRESETS):
        assert all(name == config.name for name, config in presets.items())
        assert all(from_dict(type(config), to_dict(config)) == config for config in presets.values())


@pytest.mark.parametrize(("tokens", "shift"), [(256, 6.93), (512, 9.80), (1024, 13.86)])
def test_a_generator_fits_its_3drae_and_is_shifted_by_its_dimensions(tokens, shift):
    for config in DIT3D_PRESETS.values():
        if config.tokens == tokens:
            scene = RAE_PRESETS[config.scene_model]
            assert (scene.tokens, scene.token_dim) == (config.tokens, config.token_dim) == (tokens, WIDTH)
            assert config.sampling.shift == pytest.approx(shift, abs=0.005)
            assert (config.sampling.steps, config.sampling.guidance) == (50, 2.0)


@pytest.mark.parametrize("name", ["3drae-dinov2", "3drae-siglip2-512", "3drae-da3-256", "3drae-image-only"])
def test_the_networks_of_a_3drae_have_the_sizes_of_the_table(name):
    config = RAE_PRESETS[name]
    found = shapes(config)
    assert found["neck.ray_embed.proj.weight"] == (WIDTH, RAY + 1, PATCH, PATCH)
    assert found["neck.latents"] == (1, config.tokens, WIDTH)
    assert found["decoder.to_rgb.weight"] == (3 * PATCH**2, WIDTH)
    assert ("neck.image_embed.proj.weight" in found) == (config.encoder is None)
    for part, depth in {"neck.blocks": 12, "decoder.queries.blocks": 16, "points.queries.blocks": 16}.items():
        assert numbers(found, part) == depth * block(WIDTH)
        assert {int(key[len(part) + 1 :].split(".")[0]) for key in found if key.startswith(part)} == set(range(depth))
    assert config.points is not None and config.points.layers == (3, 7, 11, 15)
    rays = RAY * PATCH**2 * WIDTH + WIDTH
    assert numbers(found, "decoder") == rays + 16 * block(WIDTH) + WIDTH + 3 * PATCH**2 * (WIDTH + 1)
    image = (3 * PATCH**2 + 1) * WIDTH if config.encoder is None else 0
    neck = (config.tokens + (RAY + 1) * PATCH**2 + 1) * WIDTH + image + 12 * block(WIDTH)
    assert numbers(found, "neck") == neck + 2 * WIDTH  # with the statistics of the tokens


@pytest.mark.parametrize("name", list(DIT3D_PRESETS))
def test_the_networks_of_a_3ddit_have_the_sizes_of_the_table(name):
    config = DIT3D_PRESETS[name]
    found = shapes(config)
    hidden, head, both = config.hidden, config.head_hidden, 2 * config.token_dim
    assert numbers(found, "generator.blocks") == config.depth * dit_block(hidden, config.heads)
    assert numbers(found, "generator.head.") == 2 * dit_block(head, config.head_heads)
    assert found["generator.x_embedder.weight"] == (hidden, both)
    assert found["generator.head_embedder.weight"] == (head, both)
    assert found["generator.positions"] == (1, config.tokens, hidden)
    assert found["generator.head_positions"] == (1, config.tokens, head)
    assert found["generator.final_layer.linear.weight"] == (config.token_dim, head)
