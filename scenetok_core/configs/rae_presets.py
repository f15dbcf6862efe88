"""The 3DRAE and 3DDiT of the paper by name (arXiv 2604.11331, tables 5 and 6); no weights are published."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .rae import Dit3dConfig, RaeConfig, dimension_shift
from .sampling import SamplingConfig

_TOKENS = (1024, 512, 256)
_ENCODERS = {"dinov2": "dinov2", "siglip2": "siglip2", "da3": "depth_anything_3", "image-only": None}
_SIZES = {"s": (12, 384, 6), "b": (12, 768, 12), "xl": (28, 1152, 16)}  # depth, hidden, heads of the trunk
_MOST = _TOKENS[0]


def _name(start: str, tokens: int) -> str:
    return start if tokens == _MOST else f"{start}-{tokens}"


def _dit3d(size: str, tokens: int) -> Dit3dConfig:
    shift, (depth, hidden, heads) = dimension_shift(tokens, RaeConfig.token_dim), _SIZES[size]
    return Dit3dConfig(
        _name(f"3ddit-{size}", tokens),
        scene_model=_name("3drae-dinov2", tokens),
        tokens=tokens,
        depth=depth,
        hidden=hidden,
        heads=heads,
        sampling=SamplingConfig(steps=50, shift=shift, guidance=2.0, window=1, clean_targets=0),
    )


# 1024 tokens unless the name ends in another number.
RAE_PRESETS: Mapping[str, RaeConfig] = MappingProxyType(
    {
        (name := _name(f"3drae-{label}", tokens)): RaeConfig(name, encoder=encoder, tokens=tokens)
        for label, encoder in _ENCODERS.items()
        for tokens in _TOKENS
    }
)
DIT3D_PRESETS: Mapping[str, Dit3dConfig] = MappingProxyType(
    {config.name: config for size in _SIZES for tokens in _TOKENS for config in (_dit3d(size, tokens),)}
)
