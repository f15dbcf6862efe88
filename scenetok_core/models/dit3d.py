"""3DDiT: latent tokens of a 3DRAE drawn by rectified flow, given views and cameras encoded by it (arXiv 2604.11331).

A deep trunk (LightningDiT, arXiv 2501.01423) makes one condition per token for a shallow, wide head (DDT,
arXiv 2504.05741), which predicts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import Dit3dConfig
from ..flow import guide, to_velocity
from ..nn.blocks import DiTBlock
from ..nn.layers import FinalLayer, FourierTimestepEmbed, small_noise
from ..sampling import Progress, Schedule, denoise


def _blocks(config: Dit3dConfig, width: int, heads: int, depth: int) -> nn.ModuleList:
    sizes = {"qk_norm": config.qk_norm, "ratio": config.mlp_ratio, "eps": config.norm_eps, "cross": False}
    return nn.ModuleList(DiTBlock(width, heads, **sizes) for _ in range(depth))  # type: ignore[arg-type]


class Dit3d(nn.Module):
    """Predicts the velocity, or the clean tokens, of all latent tokens of a scene together."""

    def __init__(self, config: Dit3dConfig) -> None:
        super().__init__()
        self.config = config
        self.joined = config.condition == "channels"
        width = config.token_dim * (2 if self.joined else 1)
        self.x_embedder = nn.Linear(width, config.hidden)
        self.positions = small_noise(1, config.tokens * (1 if self.joined else 2), config.hidden)
        self.t_embedder = FourierTimestepEmbed(config.hidden)
        self.blocks = _blocks(config, config.hidden, config.heads, config.depth)
        self.to_head = nn.Linear(config.hidden, config.head_hidden)
        self.head_embedder = nn.Linear(width, config.head_hidden)
        self.head_positions = small_noise(1, config.tokens, config.head_hidden)
        self.head = _blocks(config, config.head_hidden, config.head_heads, config.head_depth)
        self.final_layer = FinalLayer(config.head_hidden, config.token_dim, config.norm_eps)

    def forward(
        self,
        noisy: Tensor,  # [B, N, D]
        t: Tensor,  # [B] noise level in [0, 1], one for all tokens of a scene
        condition: Tensor,  # [B, N, D] tokens of the given views and cameras
    ) -> Tensor:
        """The network's prediction (velocity or clean tokens, see the config), [B, N, D] in float32."""
        dtype, count = self.positions.dtype, self.config.tokens
        given = torch.cat([noisy, condition.to(noisy)], dim=-1 if self.joined else 1).to(dtype)
        level = self.t_embedder(t[:, None])  # one row for all tokens
        x = self.x_embedder(given) + self.positions
        for block in self.blocks:
            x = block(x, level)
        cond = self.to_head(F.silu(x[:, :count] + level))
        x = self.head_embedder(given[:, :count]) + self.head_positions
        for block in self.head:
            x = block(x, cond)
        return self.final_layer(x, cond).float()


class Dit3dNetworks(nn.Module):
    """`generator`, as it is stored in a checkpoint."""

    def __init__(self, config: Dit3dConfig) -> None:
        super().__init__()
        self.generator = Dit3d(config)

    def forward(self, noisy: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """As `Dit3d.forward`."""
        return self.generator(noisy, t, condition)


@torch.no_grad()
def sample_latents(
    model: Dit3d,
    condition: Tensor,  # [B, N, D] tokens of the given views and cameras
    unconditional: Tensor | None,  # [B, N, D] of the cameras alone; None without guidance
    noise: Tensor,  # [B, N, D]
    schedule: Schedule,  # of one latent: all tokens of a scene share their noise level
    *,
    guidance: float = 1.0,
    solver: str = "euler",
    progress: Progress | None = None,
) -> Tensor:
    """Latent tokens [B, N, D] by rectified flow; with guidance, both predictions of a step come from one pass."""
    guided = unconditional is not None and guidance != 1.0
    both = torch.cat([condition, unconditional]) if guided and unconditional is not None else condition

    def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
        copies = 1 + guided
        x, level = noisy[:, 0].repeat(copies, 1, 1), t[:, 0].repeat(copies)
        v = to_velocity(model(x, level, both), model.config.prediction, x, level[:, None, None])
        if guided:
            conditional, cameras_only = v.chunk(2)
            v = guide(conditional, cameras_only, guidance)
        return v[:, None]

    return denoise(velocity, noise[:, None], schedule, progress, solver)[:, 0]
