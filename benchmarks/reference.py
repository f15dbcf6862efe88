"""The reference formulation, for comparison: everything computed where the published code computes it.

Every step embeds the rays, projects the scene tokens or the conditioning, and makes keys and values again in every
block; one modulation per token, also where all tokens share one; every masked conditioning cell is a key of its own;
the conditional and the unconditional pass follow each other. The weights, and the layers they belong to, are those of
the networks that are compared.
"""

from __future__ import annotations

import copy
from types import MethodType
from typing import TypeVar

import torch
from einops import repeat
from torch import Tensor, nn

from scenetok_core.autoencoders.tiles import in_tiles
from scenetok_core.autoencoders.vavae import VaVae
from scenetok_core.autoencoders.videodc import ChannelNorm, Upsample, VideoDcAutoencoder
from scenetok_core.flow import guide
from scenetok_core.models.decoder import Decoder
from scenetok_core.models.scenegen import SceneGen
from scenetok_core.nn.layers import modulate
from scenetok_core.nn.rope import AxialRope
from scenetok_core.sampling import Schedule, denoise

N = TypeVar("N", bound=nn.Module)


def decoder_step(
    decoder: Decoder,
    noisy: Tensor,  # [B, L, C, h, w]
    t: Tensor,  # [B, L]
    packed_rays: Tensor,  # [B, L, t, 6, R, R]
    tokens: Tensor,  # [B, N, D]
    rope: AxialRope,  # of the window; the published code keeps a table, too
) -> Tensor:
    """The decoder's prediction [B, L, C, h, w]."""
    trunk, cells = decoder.model, noisy.shape[-2] * noisy.shape[-1]
    dtype = decoder.cnd_proj.weight.dtype
    rays = decoder.pose_embed(packed_rays)
    scene = decoder.cnd_proj(tokens.to(dtype))
    x = trunk.x_embedder(noisy)
    cond = trunk.t_embedder(t).repeat_interleave(cells, dim=1) + rays
    x = x + rays if decoder.config.ray_input else x
    x = _blocks(trunk, x, cond, scene, rope)
    out = trunk.final_layer(x, cond).float()
    return out.unflatten(1, (noisy.shape[1], *noisy.shape[-2:])).movedim(-1, 2)


def guided_step(
    model: SceneGen,
    noisy: Tensor,  # [B, N, D]
    t: Tensor,  # [B]
    latents: Tensor,  # [B, V, C, h, w] with V = cond_views, masked ones arbitrary
    rays: Tensor,  # [B, V, 6, R, R]
    anchor_rays: Tensor,  # [B, A, 6, R, R]
    seen: Tensor,  # [B, V] bool
    guidance: float,
) -> Tensor:
    """The guided velocity [B, N, D]."""
    conditional = _scenegen(model, noisy, t, latents, rays, anchor_rays, seen)
    unconditional = _scenegen(model, noisy, t, latents, rays, anchor_rays, torch.zeros_like(seen))
    return guide(conditional, unconditional, guidance)


def draw(
    model: SceneGen,
    latents: Tensor,  # and following: as `guided_step`
    rays: Tensor,
    anchor_rays: Tensor,
    seen: Tensor,
    noise: Tensor,  # [B, N, D]
    schedule: Schedule,  # of one latent
    guidance: float,
) -> Tensor:
    """Scene tokens [B, N, D]."""

    def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
        return guided_step(model, noisy[:, 0], t[:, 0], latents, rays, anchor_rays, seen, guidance)[:, None]

    return denoise(velocity, noise[:, None], schedule)[:, 0] / model.config.token_scale


def render(decoder: Decoder, packed_rays: Tensor, tokens: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """Target latents [B, L, C, h, w] of one window, without guidance; shapes as `decoder_step`."""
    grid = (noise.shape[1], *noise.shape[-2:])
    rope = AxialRope(grid, decoder.config.hidden // decoder.config.heads, device=noise.device)

    def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
        return decoder_step(decoder, noisy, t, packed_rays[:, window], tokens, rope)

    return denoise(velocity, noise, schedule)


def _scenegen(
    model: SceneGen, noisy: Tensor, t: Tensor, latents: Tensor, rays: Tensor, anchor_rays: Tensor, seen: Tensor
) -> Tensor:
    trunk, dtype = model.model, model.model.pos_embed.dtype
    views = trunk.c_embedder(latents) + model.pose_embed(rays)
    cells = views.shape[1] // latents.shape[1]
    views = torch.where(seen.repeat_interleave(cells, dim=1)[..., None], views, trunk.null_tokens)
    anchors = model.anchor_pose_embed(anchor_rays).unflatten(1, (anchor_rays.shape[1], -1)).mean(dim=2)
    x = trunk.x_embedder(noisy.to(dtype)) + trunk.pos_embed
    cond = trunk.t_embedder(t[:, None].expand(-1, x.shape[1]))
    x = _blocks(trunk, x, cond, torch.cat([views, anchors], dim=1))
    return trunk.final_layer(x, cond).float()


def _blocks(trunk: nn.Module, x: Tensor, cond: Tensor, context: Tensor, rope: AxialRope | None = None) -> Tensor:
    for block in trunk.blocks:  # type: ignore[union-attr]
        shift1, scale1, gate1, shift2, scale2, gate2 = block.adaLN_modulation(cond).chunk(6, dim=-1)
        x = x + gate1 * block.attn(modulate(block.norm1(x), shift1, scale1), rope=rope)
        x = x + block.attn2(x, block.attn2.keys_values(context), rope=rope)
        x = x + gate2 * block.mlp(modulate(block.norm2(x), shift2, scale2))
    return x


def _plain(network: N) -> N:
    """A copy in the usual memory layout."""
    network = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network


class PlainVaVae:
    """VA-VAE in the usual memory layout, all pictures at once."""

    def __init__(self, autoencoder: VaVae) -> None:
        self._spec = autoencoder.spec
        self._network = _plain(autoencoder.network)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [1, T, 3, H, W] in [0, 1] -> normalised latents [1, T, C, h, w]."""
        pictures = (frames[0] * 2 - 1).to(next(self._network.parameters()).dtype)
        posterior = self._network.encode(pictures).latent_dist  # type: ignore[union-attr]
        return self._spec.normalise(posterior.mode().float()[None])


class PlainVideoDc:
    """VideoDCAE's decoder in the usual memory layout, in the published tiles, every operation on its own."""

    def __init__(self, autoencoder: VideoDcAutoencoder) -> None:
        self._autoencoder = autoencoder
        self._decoder = _plain(autoencoder.network.decoder)
        for module in self._decoder.modules():
            if isinstance(module, ChannelNorm):
                module.forward = MethodType(_channel_norm, module)
            elif isinstance(module, Upsample):
                module.forward = MethodType(_upsample, module)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [1, L, C, h, w] -> frames [1, 4 L, 3, H, W] in [0, 1]."""
        spec, dtype = self._autoencoder.spec, next(self._decoder.parameters()).dtype
        raw = spec.denormalise(latents).movedim(2, 1).to(dtype)
        frames = in_tiles(self._decoder, raw, self._autoencoder.tiling.axes(spec, latents=True))
        return ((frames.float().movedim(1, 2) + 1) / 2).clamp(0, 1)


def _channel_norm(self: ChannelNorm, x: Tensor) -> Tensor:
    wide = x.float()
    normed = wide / torch.sqrt(wide.square().mean(dim=1, keepdim=True) + 1e-5)
    weight, bias = (p.view(-1, 1, 1, 1) for p in (self.weight, self.bias))
    return normed.to(x.dtype) * weight + bias


def _upsample(self: Upsample, x: Tensor) -> Tensor:
    return self.conv(repeat(x, "n c t h w -> n c (t p) (h 2) (w 2)", p=self.frames))
