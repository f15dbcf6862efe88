"""The trunk that the decoder and the scene generator share, under the released parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..configs import DecoderConfig, GeneratorConfig
from ..nn.attention import KeysValues
from ..nn.blocks import DiTBlock
from ..nn.layers import FinalLayer, TimestepEmbed


class DiT(nn.Module):
    """Input embedding, time embedding, blocks, final layer."""

    def __init__(self, config: DecoderConfig | GeneratorConfig, x_embedder: nn.Module, out: int) -> None:
        super().__init__()
        self.x_embedder = x_embedder
        self.t_embedder = TimestepEmbed(config.hidden)
        self.blocks = nn.ModuleList(
            DiTBlock(config.hidden, config.heads, qk_norm=config.qk_norm, ratio=config.mlp_ratio, eps=config.norm_eps)
            for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(config.hidden, out, config.norm_eps)

    def keys_values(self, context: Tensor) -> list[KeysValues]:
        """Keys and values of a context [B, K, hidden] for every block."""
        return [block.attn2.keys_values(context) for block in self.blocks]  # type: ignore[union-attr]


def side_by_side(one: list[KeysValues], other: list[KeysValues]) -> tuple[list[KeysValues], Tensor]:
    """Two contexts of B scenes for one batch of 2 B, and the bias that lets each half see its own.

    The keys of a block stand beside each other, so that the contexts may differ in length.
    """
    joined = [
        (torch.cat([k, other_k], dim=2).repeat(2, 1, 1, 1), torch.cat([v, other_v], dim=2).repeat(2, 1, 1, 1))
        for (k, v), (other_k, other_v) in zip(one, other, strict=True)
    ]
    key, other_key = one[0][0], other[0][0]
    own = torch.arange(key.shape[2] + other_key.shape[2], device=key.device) < key.shape[2]
    seen = torch.stack([own, ~own]).repeat_interleave(len(key), dim=0)
    bias = torch.zeros(seen.shape, device=key.device).masked_fill(~seen, -torch.inf)
    return joined, bias[:, None, None]
