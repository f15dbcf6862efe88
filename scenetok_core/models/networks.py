"""Both networks of a SceneTok model under the released parameter prefixes, and the sampling of target latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..configs import SceneTokConfig
from ..flow import guide, to_velocity
from ..nn.attention import KeysValues
from ..sampling import Progress, Schedule, Velocity, denoise
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


@dataclass(frozen=True)
class DecoderVelocity:
    """The decoder's velocity for given scene tokens: their keys and values are computed once.

    With guidance, both predictions of a step come from one pass of twice the batch.
    """

    decoder: Decoder
    context: list[KeysValues]
    bias: Tensor | None
    guidance: float

    @classmethod
    def of_tokens(cls, decoder: Decoder, tokens: Tensor, guidance: float = 1.0) -> DecoderVelocity:
        """For scenes of tokens [B, N, D].

        Raises:
            ValueError: guidance, and the checkpoint was trained without the null tokens for that.
        """
        context = decoder.condition(tokens)
        if guidance == 1.0:
            return cls(decoder, context, None, guidance)
        return cls(decoder, *side_by_side(context, decoder.null_condition(len(tokens))), guidance)

    def repeated(self, windows: int) -> DecoderVelocity:
        """The same for a batch of so many windows of every scene."""
        if windows == 1:
            return self
        context = [(_repeat(k, windows), _repeat(v, windows)) for k, v in self.context]
        bias = None if self.bias is None else _repeat(self.bias, windows)
        return DecoderVelocity(self.decoder, context, bias, self.guidance)

    def along(self, rays: Callable[[slice], Tensor]) -> Velocity:
        """The velocity along a path.

        `rays` gives the packed ray maps [B, W, t, 6, R, R] of a window; it is asked once per window, whose maps are
        embedded once.
        """
        decoder, copies = self.decoder, 1 if self.bias is None else 2
        embedded: dict[tuple[int, int], Tensor] = {}

        def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
            key = (window.start, window.stop)
            if key not in embedded:
                embedded.clear()
                embedded[key] = decoder.embed_rays(rays(window)).repeat(copies, 1, 1)
            x, level = torch.cat([noisy] * copies), torch.cat([t] * copies)
            prediction = decoder(x, level, embedded[key], self.context, self.bias)
            v = to_velocity(prediction, decoder.config.prediction, x, level.view(*level.shape, 1, 1, 1))
            if copies == 1:
                return v
            conditional, unconditional = v.chunk(2)
            return guide(conditional, unconditional, self.guidance)

        return velocity


def _repeat(x: Tensor, times: int) -> Tensor:
    """Every row of a batch, `times` times in place; without a copy where the batch is one."""
    return x.expand(times, *x.shape[1:]) if len(x) == 1 else x.repeat_interleave(times, dim=0)


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
    """Target latents [B, L, C, h, w] by rectified flow, all of them at once; see `DecoderVelocity`."""
    velocity = DecoderVelocity.of_tokens(decoder, tokens, guidance).along(lambda window: packed_rays[:, window])
    return denoise(velocity, noise, schedule, progress, solver)
