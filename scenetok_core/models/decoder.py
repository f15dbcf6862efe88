"""The rectified-flow transformer that renders target latents from scene tokens (SceneTok, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..configs import DecoderConfig
from ..nn.attention import KeysValues
from ..nn.layers import PatchEmbed, RayEmbed
from ..nn.rope import AxialRope
from .dit import DiT


class LatentDiT(DiT):
    """The trunk over the cells of target latents."""

    x_embedder: PatchEmbed

    def __init__(self, config: DecoderConfig) -> None:
        embedder = PatchEmbed(config.latent_channels, config.hidden, config.patch)
        super().__init__(config, embedder, out=config.latent_channels * config.patch**2)


class Decoder(nn.Module):
    """Predicts velocity or clean latents of a window, given per-latent noise levels, rays and scene tokens."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.null_tokens:
            self.null_tokens = nn.Parameter(torch.randn(1, 1, config.hidden))
        self.pose_embed = RayEmbed(config.hidden, config.ray_patch, config.frames_per_latent, config.ray_order)
        self.model = LatentDiT(config)
        self.cnd_proj = nn.Linear(config.token_dim, config.hidden)

    def condition(
        self,
        tokens: Tensor,  # [B, N, D]
        seen: Tensor | None = None,  # [B] bool, False: this scene is unconditional; None: all are seen
    ) -> list[KeysValues]:
        """Keys and values of scene tokens for every block; they serve all steps and windows of a scene.

        Raises:
            ValueError: scenes are to be unconditional and there are no null tokens for that.
        """
        context = self.cnd_proj(tokens.to(self.cnd_proj.weight.dtype))
        if seen is not None:  # N equal keys act as the one of `null_condition`
            self._need_null_tokens()
            context = torch.where(seen[:, None, None], context, self.null_tokens.to(context.dtype))
        return self._keys_values(context)

    def null_condition(self, batch: int) -> list[KeysValues]:
        """The unconditional context for classifier-free guidance.

        Raises:
            ValueError: the checkpoint was trained without one.
        """
        self._need_null_tokens()
        return self._keys_values(self.null_tokens.expand(batch, -1, -1).to(self.cnd_proj.weight.dtype))

    def _need_null_tokens(self) -> None:
        if not self.config.null_tokens:
            raise ValueError("this checkpoint has no null_tokens, so guidance is not possible; use guidance 1.0")

    def _keys_values(self, context: Tensor) -> list[KeysValues]:
        return self.model.keys_values(context)

    def embed_rays(self, packed: Tensor) -> Tensor:
        """Packed ray maps [B, L, t, 6, R, R] -> [B, L * cells, hidden]; once per window."""
        return self.pose_embed(packed)

    def forward(
        self,
        noisy: Tensor,  # [B, L, C, h, w]
        t: Tensor,  # [B, L] noise level in [0, 1]
        rays: Tensor,  # [B, L * cells, hidden] from embed_rays
        context: list[KeysValues],  # from condition or null_condition
        bias: Tensor | None = None,  # [B, 1, 1, K] on the scores of the context
    ) -> Tensor:
        """The network's prediction (velocity or clean latent, see the config), [B, L, C, h, w] in float32."""
        config, (batch, latents, _, height, width) = self.config, noisy.shape
        grid = (height // config.patch, width // config.patch)
        cells = grid[0] * grid[1]
        x = self.model.x_embedder(noisy).to(self.cnd_proj.weight.dtype)  # float32 residual stream under autocast
        cond = self.model.t_embedder(t).repeat_interleave(cells, dim=1) + rays
        x = x + rays if config.ray_input else x
        period = config.rope_group or latents
        if latents % period:
            raise ValueError(f"a window of {latents} latents is no whole number of groups of {period}")
        rope = AxialRope((period, *grid), config.hidden // config.heads, tile=latents // period, device=noisy.device)
        for block, keys_values in zip(self.model.blocks, context, strict=True):
            x = block(x, cond, keys_values, rope, bias)
        out = self.model.final_layer(x, cond).float()
        patch = config.patch
        out = out.view(batch, latents, *grid, patch, patch, config.latent_channels)
        return out.permute(0, 1, 6, 2, 4, 3, 5).reshape(noisy.shape)
