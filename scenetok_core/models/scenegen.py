"""SceneGen: scene tokens drawn by rectified flow, given one to three views and the cameras of a path.

SceneTok, section 3.3. The conditioning depends neither on the noise level nor on the noisy tokens, so its keys and
values are computed once per scene.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..configs import GeneratorConfig, SceneGenConfig
from ..flow import guide
from ..nn.attention import KeysValues
from ..nn.layers import PatchEmbed, RayPatchEmbed, small_noise
from ..sampling import Preview, Progress, Schedule, denoise
from ..types import check_shape
from .dit import DiT


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the tokens attend to: the cells of the views, one key for all that is masked, one key per anchor camera."""

    keys_values: list[KeysValues]  # per block, [B, H, K, D] each
    bias: Tensor  # [B, 1, 1, K] log of how many equal keys each one stands for, up to a shift per scene; -inf: none
    null_bias: Tensor  # [B, 1, 1, K] the same when every view is masked

    def unconditional(self) -> Conditioning:
        """The same scenes with every view masked; the anchors stay."""
        return dataclasses.replace(self, bias=self.null_bias)

    def with_unconditional(self) -> Conditioning:
        """B scenes as given, then the same B scenes with every view masked."""
        twice = [(_twice(k), _twice(v)) for k, v in self.keys_values]
        return Conditioning(twice, torch.cat([self.bias, self.null_bias]), _twice(self.null_bias))


def _twice(x: Tensor) -> Tensor:
    return x.expand(2, *x.shape[1:]) if len(x) == 1 else torch.cat([x, x])


class TokenDiT(DiT):
    """The trunk over scene tokens, with the embeddings of tokens and conditioning latents."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config, nn.Linear(config.token_dim, config.hidden), out=config.token_dim)
        self.pos_embed = small_noise(1, config.tokens, config.hidden)
        self.null_tokens = nn.Parameter(torch.randn(1, 1, config.hidden))
        self.c_embedder = PatchEmbed(config.latent_channels, config.hidden, config.patch)


class SceneGen(nn.Module):
    """Predicts the velocity of all scene tokens together, given one noise level per scene."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.pose_embed = RayPatchEmbed(config.hidden, config.ray_patch, config.ray_map)
        self.anchor_pose_embed = RayPatchEmbed(config.hidden, config.ray_patch, config.ray_map)
        self.model = TokenDiT(config)

    def condition(
        self,
        latents: Tensor,  # [B, V, C, h, w] of the conditioning views, 1 <= V <= cond_views
        rays: Tensor,  # [B, V, 6, R, R] their Pluecker rays, in the frame of the first view
        anchor_rays: Tensor,  # [B, A, 6, R, R] of cameras along the wanted path, in the same frame
        seen: Tensor | None = None,  # [B, V] bool, False: this view is masked; None: all are seen
    ) -> Conditioning:
        """Keys and values of every block; they serve all steps.

        The network was trained with `cond_views` views of which some are masked, each of their cells replaced by one
        vector. n equal keys act as one whose score is log n higher, so all masked cells together cost one key.

        Raises:
            ValueError: no views or too many, no anchors, or sizes that do not belong together.
        """
        self._check(latents, rays, anchor_rays)
        seen = torch.ones(latents.shape[:2], device=latents.device) if seen is None else seen
        if seen.shape != latents.shape[:2]:
            raise ValueError(f"seen must have shape {list(latents.shape[:2])}, got {list(seen.shape)}")
        seen = seen.to(latents.device, torch.float32)
        needed = seen.any(dim=0)
        views = self.model.c_embedder(latents[:, needed]) + self.pose_embed(rays[:, needed])
        anchors = self.anchor_pose_embed(anchor_rays).unflatten(1, (anchor_rays.shape[1], -1)).mean(dim=2)
        null = self.model.null_tokens.to(views.dtype).expand(len(latents), -1, -1)
        seen = seen[:, needed]
        return Conditioning(
            keys_values=self.model.keys_values(torch.cat([views, null, anchors], dim=1)),
            bias=self._bias(seen, anchors.shape[1]),
            null_bias=self._bias(torch.zeros_like(seen), anchors.shape[1]),
        )

    def _bias(self, seen: Tensor, anchors: int) -> Tensor:
        cells = (self.config.ray_map // self.config.ray_patch) ** 2
        masked = (self.config.cond_views - seen.sum(dim=1, keepdim=True)) * cells
        counts = torch.cat([seen.repeat_interleave(cells, dim=1), masked, seen.new_ones(len(seen), anchors)], dim=1)
        # A shift common to all keys changes nothing. This one leaves numbers that bfloat16 holds: there the logarithm
        # of 512 would be worth 518 keys.
        shift = masked.clamp_min(1).log().to(torch.bfloat16).float()
        return (counts.log() - shift)[:, None, None]

    def _check(self, latents: Tensor, rays: Tensor, anchor_rays: Tensor) -> None:
        config = self.config
        if not 1 <= latents.shape[1] <= config.cond_views:
            raise ValueError(f"the generator takes 1 to {config.cond_views} views, got {latents.shape[1]}")
        if anchor_rays.shape[1] == 0:
            raise ValueError("the generator needs at least one anchor camera on the wanted path, got none")
        side = config.ray_map // config.ray_patch * config.patch
        expected = {
            "latents": (latents, (config.latent_channels, side, side)),
            "rays": (rays, (latents.shape[1], 6, config.ray_map, config.ray_map)),
            "anchor_rays": (anchor_rays, (6, config.ray_map, config.ray_map)),
        }
        for name, (tensor, shape) in expected.items():
            check_shape(name, tensor, shape)

    def forward(
        self,
        noisy: Tensor,  # [B, N, D] scene tokens times token_scale, with noise
        t: Tensor,  # [B] noise level in [0, 1], one for all tokens of a scene
        conditioning: Conditioning,
    ) -> Tensor:
        """Velocity [B, N, D] in float32."""
        model = self.model
        x = model.x_embedder(noisy.to(model.pos_embed.dtype)) + model.pos_embed
        cond = model.t_embedder(t[:, None])  # one row for all tokens
        for block, keys_values in zip(model.blocks, conditioning.keys_values, strict=True):
            x = block(x, cond, keys_values, bias=conditioning.bias)
        return model.final_layer(x, cond).float()


class GeneratorNetworks(nn.Module):
    """`scene_generator`, as it is stored in a checkpoint."""

    def __init__(self, config: SceneGenConfig) -> None:
        super().__init__()
        self.scene_generator = SceneGen(config.generator)

    def forward(
        self,
        noisy: Tensor,  # [B, N, D] scene tokens times token_scale, with noise
        t: Tensor,  # [B]
        latents: Tensor,  # [B, V, C, h, w]
        rays: Tensor,  # [B, V, 6, R, R]
        anchor_rays: Tensor,  # [B, A, 6, R, R]
        seen: Tensor,  # [B, V] bool, False: this view is masked
    ) -> Tensor:
        """Condition and predict the velocity [B, N, D] in one pass, as training needs it."""
        return self.scene_generator(noisy, t, self.scene_generator.condition(latents, rays, anchor_rays, seen))


@torch.no_grad()
def sample_tokens(
    model: SceneGen,
    conditioning: Conditioning,  # of B scenes
    noise: Tensor,  # [B, N, D]
    schedule: Schedule,  # of one latent: all tokens of a scene share their noise level
    *,
    guidance: float = 1.0,
    solver: str = "euler",
    progress: Progress | None = None,
) -> Tensor:
    """Scene tokens [B, N, D] by rectified flow, as the compressor gives them (`token_scale` is divided out).

    With guidance, both predictions of a step come from one pass of twice the batch.
    """
    both = conditioning if guidance == 1.0 else conditioning.with_unconditional()
    scale = model.config.token_scale

    def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
        x, level = noisy[:, 0], t[:, 0]
        if guidance == 1.0:
            return model(x, level, both)[:, None]
        conditional, unconditional = model(torch.cat([x, x]), torch.cat([level, level]), both).chunk(2)
        return guide(conditional, unconditional, guidance)[:, None]

    def report(done: int, total: int, clean: Preview | None) -> None:
        assert progress is not None and clean is not None, "denoise always offers its clean estimate"
        progress(done, total, lambda: clean()[:, 0] / scale)

    return denoise(velocity, noise[:, None], schedule, progress and report, solver)[:, 0] / scale
