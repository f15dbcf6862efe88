"""What is trained: compressor and decoder together, from posed pictures of the same scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from scenetok_core.autoencoders import build_autoencoder
from scenetok_core.camera import camera_extents, ray_features, to_scene_frame
from scenetok_core.checkpoints import save_checkpoint
from scenetok_core.configs import require
from scenetok_core.flow import interpolate, to_clean
from scenetok_core.metrics import psnr
from scenetok_core.models.networks import Networks, sample_latents
from scenetok_core.nn.attention import RMSNorm
from scenetok_core.sampling import make_schedule
from scenetok_core.sheets import contact_sheet
from training.config import TrainConfig
from training.data.rooms import RoomBatch, Rooms

_GRADIENT_SCALES = 2
_CROSS_ATTENTION_GAIN = 4.0  # of the queries at the start
_SHEET_STEPS = 10
_SHEET_SCENES = 5


@dataclass(frozen=True)
class Example:
    """One batch as the networks take it: latents and rays in every scene's own frame."""

    context: Tensor  # [B, V, C, h, w]
    context_rays: Tensor  # [B, V, 6, R, R]
    target: Tensor  # [B, L, C, h, w]
    target_rays: Tensor  # [B, L, t, 6, R, R]


def choose_views(
    walk: int, strays: int, context: int, targets: int, *, far: bool, scenes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs [B, context] and targets [B, targets] among the `walk` frames of a walk and the `strays` behind them.

    Inputs are frames of the walk, drawn anew for each of the B `scenes`. Far: the targets are strays first, then frames
    that are no inputs. Near: the targets are inputs (fewer where there are fewer), which teaches the tokens to carry
    pictures at all.
    """

    def shuffled(count: int) -> Tensor:
        return torch.rand((scenes, count), generator=generator, device=generator.device).argsort(1)

    order = shuffled(walk)
    inputs = order[:, :context]
    pool = torch.cat([walk + shuffled(strays), order[:, context:]], 1) if far else inputs
    if far and pool.shape[1] < targets:
        raise ValueError(
            f"{targets} targets besides {context} inputs need more pictures than {walk} frames and {strays} strays; "
            "raise data.rooms.views or data.rooms.strays"
        )
    return inputs.sort(1).values, pool[:, :targets].sort(1).values


class SceneTokTask:
    """Joint training of compressor and decoder by rectified flow on the target latents (SceneTok, section 3)."""

    def __init__(self, config: TrainConfig) -> None:
        """Take a run's settings.

        Raises:
            ValueError: a model that this task does not train, or whose parts do not fit together.
        """
        model = config.model
        for name, given, wanted in (
            ("compressor.posterior", model.compressor.posterior, "normalised"),
            ("decoder.null_tokens", model.decoder.null_tokens, False),
            ("context_focal", model.context_focal, (1.0, 1.0)),
            ("target_focal", model.target_focal, (1.0, 1.0)),
        ):
            require(given == wanted, f"this task trains models with model.{name} = {wanted!r}, got {given!r}")
        self.config = config
        self.context_autoencoder = build_autoencoder(config.model.context_autoencoder)
        self.target_autoencoder = build_autoencoder(config.model.target_autoencoder)
        model.check_latents(self.context_autoencoder.spec, self.target_autoencoder.spec)

    def build(self) -> nn.Module:
        """Fresh networks: Xavier weights, residual branches open (gates 1), modulation and output at zero.

        The decoder does not see its noisy input at first, and cross attention starts sharp: while tokens are averages
        of all views, and pixels averages of all tokens, nothing but the mean colour is learnt.
        """
        networks = Networks(self.config.model)
        for module in networks.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        hidden = {**dict.fromkeys(networks.compressor.aggregate, self.config.model.compressor.hidden)}
        hidden |= dict.fromkeys(networks.denoiser.model.blocks, self.config.model.decoder.hidden)
        for block, width in hidden.items():
            last: nn.Linear = block.adaLN_modulation[1]  # type: ignore[index,assignment]
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.view(6, width).copy_(torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None].expand(6, width))
        final = networks.denoiser.model.final_layer
        for parameter in (
            *final.adaLN_modulation.parameters(),
            *final.linear.parameters(),
            networks.denoiser.model.x_embedder.proj.weight,
        ):
            nn.init.zeros_(parameter)
        readers = [block.attn3 for block in networks.compressor.aggregate]
        for attention in (*readers, *(block.attn2 for block in networks.denoiser.model.blocks)):
            if isinstance(attention.q_norm, RMSNorm):  # type: ignore[union-attr]
                nn.init.constant_(attention.q_norm.weight, _CROSS_ATTENTION_GAIN)  # type: ignore[union-attr]
        return networks

    def dataset(self, device: torch.device) -> Rooms:
        """Procedural rooms, rendered on `device`."""
        return Rooms(self.config.data.rooms, device, compile=self.config.run.compile_rooms)

    def prepare(
        self, batch: RoomBatch, generator: torch.Generator, *, far: bool, context: int, jitter: bool
    ) -> Example:
        """Choose inputs and targets, bring their cameras into the scene's frame, encode the pictures.

        Where few inputs are asked for, every scene gives several examples, so that all batches are of about one size.
        """
        data, model = self.config.data, self.config.model
        device, strays = batch.rgb.device, data.rooms.strays
        copies = max(1, data.context_views // context)
        row = torch.arange(len(batch.rgb), device=device).repeat_interleave(copies)
        count, most = len(row), max(1, data.target_views // copies)
        inputs, targets = choose_views(
            batch.rgb.shape[1] - strays, strays, context, most, far=far, scenes=count, generator=generator
        )
        views = torch.randint(context, (count,), generator=generator, device=device)
        if self.config.task.reference == "middle":
            views = torch.full_like(views, context // 2)
        cameras = batch.cameras.to(device)
        given, asked = (
            cameras.replace(c2w=cameras.c2w[row[:, None], picked], K=cameras.K[row[:, None], picked])
            for picked in (inputs, targets)
        )
        reference = given.c2w[torch.arange(count, device=device), views]
        low, high = self.config.task.scale_range if jitter else (1.0, 1.0)
        factor = torch.rand(count, generator=generator, device=device) * (high - low) + low
        extent = camera_extents(given.centers).float()
        scale = torch.where(extent > 0, model.scene_extent / extent.clamp_min(1e-9), 1.0) * factor
        given, asked = (to_scene_frame(cameras, reference, scale) for cameras in (given, asked))
        side, target_side = model.compressor.ray_map, model.decoder.ray_map
        target_rays = ray_features(asked.c2w, asked.K, (target_side, target_side))
        return Example(
            context=self.context_autoencoder.encode(batch.rgb[row[:, None], inputs]),
            context_rays=ray_features(given.c2w, given.K, (side, side)),
            target=self.target_autoencoder.encode(batch.rgb[row[:, None], targets]),
            target_rays=self.target_autoencoder.spec.pack(target_rays),
        )

    def times(self, shape: tuple[int, int], generator: torch.Generator, progress: float) -> Tensor:
        """Noise levels [B, L]: all 1 in the first share of the run, later a mixture (see `TaskConfig`)."""
        task, device = self.config.task, generator.device
        ones = torch.ones(shape, device=device)
        if progress < task.mean_share:
            return ones
        draws = torch.randn((shape[0], 2), generator=generator, device=device)
        level = torch.sigmoid(draws * task.time_std + task.time_mean)
        chance = torch.rand((shape[0], 3), generator=generator, device=device)
        level[:, 1] = torch.where(chance[:, 0] < task.split_times, level[:, 1], level[:, 0])
        border = (chance[:, 1] * shape[1]).floor()
        second = torch.arange(shape[1], device=device)[None] >= border[:, None]
        t = torch.where(second, level[:, 1:], level[:, :1])
        return torch.where(chance[:, 2:] < task.mean_fraction, ones, t)

    def edit(self, generator: torch.Generator, progress: float) -> Callable[[Tensor], Tensor]:
        """Drop a random part of every scene's tokens and disturb the rest a little, so that both are harmless later."""
        task, device = self.config.task, generator.device
        dropping, share, strength = torch.rand(3, generator=generator, device=device).tolist()

        def edited(tokens: Tensor) -> Tensor:
            count = tokens.shape[1]
            if dropping < task.token_drop and progress > task.mean_share / 2:
                kept = max(1, round(count * (task.token_keep + (1 - task.token_keep) * share)))
                order = torch.rand(tokens.shape[:2], generator=generator, device=device).argsort(1)[:, :kept]
                tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
            if task.token_noise > 0 and progress > 0.5:
                noise = torch.randn(tokens.shape, generator=generator, device=device)
                tokens = tokens + noise * (strength * task.token_noise)
            return tokens

        return edited

    def loss(
        self, model: nn.Module, batch: RoomBatch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Weighted squared error of the prediction plus a picture-gradient term; [examples] and scalars to log."""
        task, data, device = self.config.task, self.config.data, generator.device
        far, fewer = torch.rand(2, generator=generator, device=device).tolist()
        hardness = min(1.0, max(0.0, progress - task.copy_share) / (task.far_from - task.copy_share))
        span = round((data.context_views - task.least_context) * hardness)
        context = task.least_context + min(span, int(2 * fewer * (span + 1)))  # half of the batches have the most
        is_far = far < task.far_share * hardness
        example = self.prepare(batch, generator, far=is_far, context=context, jitter=True)
        t = self.times(tuple(example.target.shape[:2]), generator, progress)  # type: ignore[arg-type]
        level = t[:, :, None, None, None]
        noise = torch.randn(example.target.shape, generator=generator, device=device)
        noisy = interpolate(example.target, noise, level)
        edit = self.edit(generator, progress)
        out = model(example.context, example.context_rays, noisy, t, example.target_rays, edit).float()
        kind = self.config.model.decoder.prediction
        clean = to_clean(out, kind, noisy, level)
        goal = example.target if kind == "x" else noise - example.target
        weight = level.square().reciprocal().clamp(max=task.loss_weight_cap) if kind == "x" else torch.ones_like(level)
        losses = (weight * (out - goal).square()).flatten(1).mean(1)
        if task.gradient_weight:
            losses = losses + task.gradient_weight * self._gradient_loss(clean, example.target)
        error = (clean - example.target).detach().square().mean((2, 3, 4)) / 4
        return losses, _psnr_logs(error, t)

    def _gradient_loss(self, clean: Tensor, target: Tensor) -> Tensor:
        decode = self.target_autoencoder.decode_unclamped
        a, b = decode(clean), decode(target)
        total = torch.zeros(len(a), device=a.device)
        for _ in range(_GRADIENT_SCALES):
            for dim in (-1, -2):
                total = total + (a.diff(dim=dim) - b.diff(dim=dim)).abs().flatten(1).mean(1)
            a, b = (F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2]) for x in (a, b))
        return total

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch, generator: torch.Generator) -> Image.Image:
        """Inputs, truth, posterior mean and one sample of a few held-out scenes, with the PSNR of the means."""
        assert isinstance(model, Networks)
        example = self.prepare(batch, generator, far=True, context=self.config.data.context_views, jitter=False)
        tokens = model.compressor(example.context, example.context_rays).mean
        noise = torch.randn(example.target.shape, generator=generator, device=generator.device)
        decode = self.target_autoencoder.decode
        truth = decode(example.target)
        rows: list[tuple[str, Tensor]] = []
        pictures = {}
        for steps in (1, _SHEET_STEPS):
            length = noise.shape[1]
            schedule = make_schedule("full_sequence", horizon=length, steps=steps, window=length, clean_targets=0)
            latents = sample_latents(model.denoiser, tokens, example.target_rays, noise, schedule)
            pictures[steps] = decode(latents)
        for i in range(min(_SHEET_SCENES, len(truth))):
            quality = float(psnr(pictures[1][i], truth[i]).mean())
            rows.append(("inputs", self.context_autoencoder.decode(example.context)[i]))
            rows += [
                ("truth", truth[i]),
                (f"mean {quality:.1f} dB", pictures[1][i]),
                ("sample", pictures[_SHEET_STEPS][i]),
            ]
        return contact_sheet([(label, frames.cpu()) for label, frames in rows], scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that the nodes load."""
        save_checkpoint(path, state, self.config.model, metadata)


def _psnr_logs(error: Tensor, t: Tensor) -> dict[str, Tensor]:
    """PSNR over the targets at t = 1 (the posterior mean) and over the others, NaN where there are none.

    `error` is the squared error of the latents divided by 4, so that it is that of the pixels where latents are pixels
    in [-1, 1], as those of the patch autoencoder are.
    """
    quality, mean = -10 * error.clamp_min(1e-10).log10(), t == 1
    return {
        "psnr_mean": torch.where(mean, quality, 0).sum() / mean.sum(),
        "psnr_noisy": torch.where(mean, 0, quality).sum() / (~mean).sum(),
    }
