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
_FUSION = 12  # neck and query decoder of a 3DRAE
_DPT = 24  # numbers per pixel and feature of a DPT head
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
    return _FUSION * rows * config.hidden * itemsize + views * patches * config.patch**2 * (_RAY + 1) * _EXACT


def queries_bytes(config: RaeConfig, views: int, patches: int, itemsize: int) -> int:
    """Bytes to decode `views` views of `patches` patches each, as pictures or as points."""
    depth = max(config.decoder_depth, config.points.depth if config.points else 0)
    kept = 2 * depth * config.tokens * config.hidden
    block = _FUSION * views * (patches + config.tokens) * config.hidden
    pixels = views * patches * config.patch**2
    head = _DPT * pixels * (config.points.features if config.points else 0)
    return (kept + block + head) * itemsize + 2 * pixels * _RAY * _EXACT


def dit3d_bytes(config: Dit3dConfig, *, guided: bool, itemsize: int) -> int:
    """Bytes to draw the tokens of a scene."""
    rows = (1 + guided) * config.tokens * (1 if config.condition == "channels" else 2)
    return _DECODER * rows * max(config.hidden, config.head_hidden) * itemsize


def _cells(config: NetworkConfig) -> int:
    return (config.ray_map // config.ray_patch) ** 2


def _map_bytes(config: NetworkConfig) -> int:
    return _RAY * config.ray_map**2 * _EXACT
