"""The trunk that the decoder and the scene generator share, under the released parameter names."""

from __future__ import annotations

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
