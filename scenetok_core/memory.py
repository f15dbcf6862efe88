"""Bytes that the networks need beside their weights, from their sizes alone.

Counted is what lives at once at the widest place of a block, as measured on the released models with a margin of about
a tenth, and what stays through a stage: keys and values, ray maps, latents. Not counted is what kernels take for
themselves.
"""

from __future__ import annotations

import torch

from .configs import CompressorConfig, DecoderConfig, Dit3dConfig, GeneratorConfig, NetworkConfig, RaeConfig

_EXACT = torch.float32.itemsize  # of rays and of latents between steps
_RAY = 6  # numbers of a ray
# Numbers per token and channel at the widest place: modulation, queries, keys, values, SwiGLU.
_COMPRESSOR = 18  # measured 11 to 16
_DECODER = 26  # 22 to 24
_GENERATOR = 16  # 14
_CONDITIONING = 3  # 2.4, of the cells of views and anchors
_FUSION = 15  # 14, of blocks without modulation
_ADDENDS = 3  # features and cameras of views beside their sum
_DPT = 150  # numbers per patch and feature of a DPT head, 64 of them in the largest map; measured 130
_POINT_HEAD = 36  # numbers per pixel after that head's last resizing
_LATENT_COPIES = 4  # noise, state, clean estimate, velocity


def compressor_bytes(config: CompressorConfig, views: int, itemsize: int) -> int:
    """Bytes to compress `views` views in numbers of `itemsize` bytes each."""
    rows = views * _cells(config) + config.tokens
    return _COMPRESSOR * rows * config.hidden * itemsize + views * _map_bytes(config)


def decoder_bytes(
    config: DecoderConfig, tokens: int, window: int, *, windows: int = 1, guided: bool, itemsize: int
) -> int:
    """Bytes to sample target latents, whatever the length of the path.

    Args:
        config: sizes of the decoder.
        tokens: scene tokens.
        window: latents that the decoder sees at once.
        windows: that are sampled together, as a batch.
        guided: with classifier-free guidance; counted as one pass of twice the batch.
        itemsize: bytes of one of the decoder's numbers.
    """
    cells, passes, latents = _cells(config), 1 + guided, window * windows
    block = _DECODER * latents * cells * config.hidden
    keys_values = 2 * config.depth * tokens * config.hidden * (windows if guided else 1)
    states = _LATENT_COPIES * config.latent_channels * cells * config.patch**2 * _EXACT
    kept = latents * (states + config.frames_per_latent * _map_bytes(config))
    return passes * (block + keys_values) * itemsize + kept


def generator_bytes(config: GeneratorConfig, views: int, *, guided: bool, itemsize: int) -> int:
    """Bytes to draw the tokens of a scene from `views` views; other arguments as `decoder_bytes`."""
    cells, passes = _cells(config), 1 + guided
    conditioning = _CONDITIONING * (views + config.anchors) * cells
    block = _GENERATOR * passes * config.tokens
    keys_values = 2 * config.depth * (views * cells + 1 + config.anchors)
    numbers = config.hidden * (max(conditioning, block) + keys_values)
    return numbers * itemsize + (views + config.anchors) * _map_bytes(config)


def neck_bytes(config: RaeConfig, views: int, patches: int, itemsize: int) -> int:
    """Bytes to fuse `views` views of `patches` patches each."""
    rows = config.tokens + views * patches
    return (_FUSION + _ADDENDS) * rows * config.hidden * itemsize + views * _ray_bytes(config, patches)


def queries_bytes(config: RaeConfig, views: int, patches: int, itemsize: int, *, points: bool = False) -> int:
    """Bytes to decode `views` views of `patches` patches each, as pictures or, with `points`, as points."""
    shape, depth, tokens = config.points, config.decoder_depth, config.tokens
    head = 0
    if points:
        assert shape is not None, "only models with points have this"
        depth, pixels = shape.depth, patches * config.patch**2
        kept = len(shape.layers) * patches * config.hidden
        head = views * (kept + _DPT * patches * shape.features + pixels * (shape.features // 2 + _POINT_HEAD))
    if config.view_attention == "global":
        memory, block = tokens, _FUSION * (tokens + views * patches)
    else:  # of the latents alone, or of the views with keys and values of the latents for each of them
        memory = 2 * depth * tokens
        block = max(_FUSION * tokens, views * max(_FUSION * patches + 2 * tokens, 9 * patches + 4 * tokens))
    return (config.hidden * (memory + block) + head) * itemsize + views * _ray_bytes(config, patches)


def dit3d_bytes(config: Dit3dConfig, *, guided: bool, itemsize: int) -> int:
    """Bytes to draw the tokens of a scene."""
    trunk = config.tokens * (1 if config.condition == "channels" else 2)
    block = max(_FUSION * trunk * config.hidden, _DECODER * config.tokens * config.head_hidden)
    latents = (2 + _LATENT_COPIES) * config.tokens * config.token_dim
    return (1 + guided) * (block * itemsize + latents * _EXACT)


def _ray_bytes(config: RaeConfig, patches: int) -> int:
    """Of one view: its rays, and them with their octaves while these are joined."""
    return patches * config.patch**2 * _RAY * (3 + 4 * config.ray_octaves) * _EXACT


def _cells(config: NetworkConfig) -> int:
    return (config.ray_map // config.ray_patch) ** 2


def _map_bytes(config: NetworkConfig) -> int:
    return _RAY * config.ray_map**2 * _EXACT
