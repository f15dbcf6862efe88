"""The perceiver that compresses posed view latents into scene tokens (SceneTok, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import CompressorConfig
from ..nn.blocks import PerceiverBlock
from ..nn.layers import PatchEmbed, RayEmbed
from ..nn.rope import AxialRope

_LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over scene tokens; `logvar` is None for a point estimate."""

    mean: Tensor  # [B, N, D]
    logvar: Tensor | None = None  # [B, N, D]

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw [B, N, D] with noise of `generator`, on any device; the mean of a point estimate."""
        if self.logvar is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator, dtype=torch.float32, device=generator.device)
        return self.mean + noise.to(self.mean) * torch.exp(0.5 * self.logvar)

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence from the unit Gaussian [B] in nats, averaged over all numbers of the tokens.

        Raises:
            ValueError: a point estimate has none.
        """
        if self.logvar is None:
            raise ValueError("a point estimate has no divergence; it takes a compressor with posterior 'gaussian'")
        return (0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar)).flatten(1).mean(1)


class Compressor(nn.Module):
    """Learnt queries read all views at once; every view token is modulated by the embedding of its rays.

    With depth 0 there are no queries: the embedded view tokens are the scene tokens.
    """

    def __init__(self, config: CompressorConfig) -> None:
        super().__init__()
        self.config = config
        if config.depth:
            self.scene_tokens = nn.Parameter(torch.randn(1, config.tokens, config.hidden))
        self.y_embed = PatchEmbed(config.latent_channels, config.hidden, config.patch)
        self.pose_embed = RayEmbed(config.hidden, config.ray_patch, frames=1)
        self.aggregate = nn.ModuleList(
            PerceiverBlock(
                config.hidden,
                config.heads,
                last=i == config.depth - 1,
                qk_norm=config.qk_norm,
                ratio=config.mlp_ratio,
                eps=config.norm_eps,
            )
            for i in range(config.depth)
        )
        statistics = 2 if config.posterior == "gaussian" else 1
        self.out_proj = nn.Sequential(nn.Linear(config.hidden, statistics * config.token_dim))

    def forward(
        self,
        latents: Tensor,  # [B, V, C, h, w]
        rays: Tensor,  # [B, V, 6, R, R] direction and origin in the scene's frame
    ) -> Posterior:
        """Posterior over the tokens [B, N, D]; with depth 0 N is V times the patches of a view."""
        side = self.config.ray_map // self.config.ray_patch
        cells = (latents.shape[-2] // self.config.patch, latents.shape[-1] // self.config.patch)
        if cells != (side, side):
            raise ValueError(
                f"latents give {cells} cells a view, the ray map gives {(side, side)}; resize the pictures"
            )
        views, cond = self.y_embed(latents), self.pose_embed(rays[:, :, None])
        views = views + cond if self.config.ray_input else views
        out = self.out_proj(self._read(views, cond, cells) if self.config.depth else views)
        if self.config.posterior == "normalised":
            return Posterior(F.layer_norm(out.float(), out.shape[-1:]))
        mean, logvar = out.float().chunk(2, dim=-1)
        return Posterior(mean, logvar.clamp(*_LOGVAR_RANGE))

    def _read(
        self,
        views: Tensor,  # [B, V * cells, hidden]
        cond: Tensor,  # [B, V * cells, hidden]
        cells: tuple[int, int],
    ) -> Tensor:
        """What the queries read of the views, [B, N, hidden]."""
        count = views.shape[1] // (cells[0] * cells[1])
        rope = AxialRope(cells, self.config.hidden // self.config.heads, tile=count, device=views.device)
        tokens = self.scene_tokens.expand(len(views), -1, -1)
        views = views.to(tokens.dtype)  # under autocast the residual streams stay float32: bfloat16 loses small updates
        for block in self.aggregate:
            tokens, views = block(tokens, views, cond, rope)
        return tokens
