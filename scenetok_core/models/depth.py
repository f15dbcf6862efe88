"""A decoder that renders depth: the scene model's own, with low-rank updates and another output layer; or a whole one.

Frozen weights are buffers that share the memory of the scene model's and are no part of the state. So the state is
what a checkpoint of a head holds, and parameters are what is trained.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import DepthConfig
from ..nn.attention import Attention
from .decoder import Decoder


class LowRankLinear(nn.Module):
    """A frozen linear layer plus an update of low rank: W x + b + up (down x); LoRA, arXiv 2106.09685, scale 1."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, base: nn.Linear, rank: int) -> None:
        """Start without an update: `down` and `up` are zero, and training must give one of them other values."""
        super().__init__()
        outputs, inputs = base.weight.shape
        self.register_buffer("weight", base.weight.detach(), persistent=False)
        self.register_buffer("bias", None if base.bias is None else base.bias.detach(), persistent=False)
        self.down = nn.Parameter(base.weight.new_zeros(rank, inputs))
        self.up = nn.Parameter(base.weight.new_zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.down), self.up)


class SizeToken(nn.Module):
    """One token of a scene that says how large the scene's frame is, or that this is unknown."""

    def __init__(self, token_dim: int) -> None:
        """Start with zeros; training must give `slope` other values."""
        super().__init__()
        self.unknown, self.known, self.slope = (nn.Parameter(torch.zeros(token_dim)) for _ in range(3))

    def forward(
        self,
        scale: Tensor,  # [B] network units per metre, 0 where unknown
    ) -> Tensor:
        """The token of every scene, [B, 1, D]."""
        known = (scale > 0)[:, None]
        size = torch.where(known, scale[:, None], 1.0).log().to(self.slope.dtype)
        return torch.where(known, self.known + size * self.slope, self.unknown)[:, None]


class DepthNetworks(nn.Module):
    """`denoiser`, a decoder of pictures of depth for the tokens of a scene model; it knows no null tokens.

    `size_token` is None where `config` has none.

    Args:
        config: of the head.
        decoder: of the scene model; not changed. A low-rank head shares its weights, a whole decoder copies them.

    Raises:
        ValueError: `config.layers` names no linear layer of the decoder.
    """

    def __init__(self, config: DepthConfig, decoder: Decoder) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.denoiser = Decoder(replace(decoder.config, null_tokens=False))
        for module, like in zip(self.denoiser.modules(), decoder.modules(), strict=True):
            if isinstance(module, Attention) and isinstance(like, Attention):
                module.attend = like.attend
        weights, whole = decoder.state_dict(), config.rank is None
        weights.pop("null_tokens", None)
        self.denoiser.load_state_dict({k: v.clone() if whole else v for k, v in weights.items()}, assign=True)
        if config.rank is not None:
            _keep(self.denoiser, "final_layer")
            _update(self.denoiser, config.layers, config.rank)
        self.size_token = SizeToken(decoder.config.token_dim) if config.size_token else None
        self.requires_grad_(True)

    def forward(
        self,
        tokens: Tensor,  # [B, N, D] scene tokens
        noisy: Tensor,  # [B, L, C, h, w] noisy latents of pictures of depth
        t: Tensor,  # [B, L] their noise levels
        packed_rays: Tensor,  # [B, L, t, 6, R, R]
        metre: Tensor | None = None,  # [B] network units per metre, 0 where unknown; None: unknown
    ) -> Tensor:
        """The prediction [B, L, C, h, w] in one pass, as training needs it."""
        decoder = self.denoiser
        if self.size_token is not None:
            metre = tokens.new_zeros(len(tokens)) if metre is None else metre
            tokens = torch.cat([tokens, self.size_token(metre).to(tokens)], 1)
        return decoder(noisy, t, decoder.embed_rays(packed_rays), decoder.condition(tokens))


def _keep(decoder: Decoder, part: str) -> None:
    """Turn parameters into buffers that are not saved, but for those of `part`, which get memory of their own."""
    for path, module in decoder.named_modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if part in path.split("."):
                setattr(module, name, nn.Parameter(weight.detach().clone()))
            else:
                delattr(module, name)
                module.register_buffer(name, weight.detach(), persistent=False)


def _update(decoder: Decoder, layers: tuple[str, ...], rank: int) -> None:
    chosen = {
        path: module
        for path, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and "final_layer" not in path and any(layer in path for layer in layers)
    }
    if not chosen:
        known = sorted(path for path, module in decoder.named_modules() if isinstance(module, nn.Linear))
        raise ValueError(f"layers {list(layers)} are in no name of a linear layer; names are {', '.join(known[:12])}")
    for path, linear in chosen.items():
        parent, _, name = path.rpartition(".")
        setattr(decoder.get_submodule(parent), name, LowRankLinear(linear, rank))
