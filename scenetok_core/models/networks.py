"""Both networks of a SceneTok model under the released parameter prefixes, and the sampling of target latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..configs import SceneTokConfig
from ..flow import guide, to_velocity
from ..sampling import Progress, Schedule, denoise
from .compressor import Compressor, Posterior
from .decoder import Decoder
from .dit import side_by_side


class Networks(nn.Module):
    """`compressor` and `denoiser` (the decoder), as they are stored in one checkpoint."""

    def __init__(self, config: SceneTokConfig) -> None:
        super().__init__()
        self.compressor = Compressor(config.compressor)
        self.denoiser = Decoder(config.decoder)

    def forward(
        self,
        context: Tensor,  # [B, V, C, h, w] latents of the input views
        context_rays: Tensor,  # [B, V, 6, R, R]
        noisy: Tensor,  # [B, L, C, h, w] noisy target latents
        t: Tensor,  # [B, L] their noise levels
        packed_rays: Tensor,  # [B, L, t, 6, R, R]
        choose: Callable[[Posterior], Tensor] = lambda posterior: posterior.mean,
        seen: Tensor | None = None,  # [B] bool, False: decoded without tokens; None: all with theirs
    ) -> tuple[Tensor, Posterior]:
        """Encode and decode in one pass, as joint training needs it.

        `choose` makes tokens [B, N, D] of the posterior: its mean or a draw, with tokens dropped or disturbed. Returns
        the decoder's prediction [B, L, C, h, w] and the posterior.
        """
        posterior = self.compressor(context, context_rays)
        tokens = self.denoiser.condition(choose(posterior), seen)
        return self.denoiser(noisy, t, self.denoiser.embed_rays(packed_rays), tokens), posterior


@torch.no_grad()
def sample_latents(
    decoder: Decoder,
    tokens: Tensor,  # [B, N, D]
    packed_rays: Tensor,  # [B, L, t, 6, R, R]
    noise: Tensor,  # [B, L, C, h, w]
    schedule: Schedule,
    *,
    guidance: float = 1.0,
    solver: str = "euler",
    progress: Progress | None = None,
) -> Tensor:
    """Target latents [B, L, C, h, w] by rectified flow; scene keys and values once, ray embeddings once per window.

    With guidance, both predictions of a step come from one pass of twice the batch.
    """
    context, bias, copies = decoder.condition(tokens), None, 1
    if guidance != 1.0:
        context, bias = side_by_side(context, decoder.null_condition(len(tokens)))
        copies = 2
    embedded: dict[tuple[int, int], Tensor] = {}

    def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
        key = (window.start, window.stop)
        if key not in embedded:
            embedded.clear()
            embedded[key] = decoder.embed_rays(packed_rays[:, window]).repeat(copies, 1, 1)
        x, level = torch.cat([noisy] * copies), torch.cat([t] * copies)
        prediction = decoder(x, level, embedded[key], context, bias)
        v = to_velocity(prediction, decoder.config.prediction, x, level.view(*level.shape, 1, 1, 1))
        if copies == 1:
            return v
        conditional, unconditional = v.chunk(2)
        return guide(conditional, unconditional, guidance)

    return denoise(velocity, noise, schedule, progress, solver)
