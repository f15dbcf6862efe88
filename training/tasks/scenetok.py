"""Compressor and decoder trained together, from posed pictures of the same scene (SceneTok, section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from scenetok_core.autoencoders import Autoencoder
from scenetok_core.configs import SceneTokConfig, require
from scenetok_core.flow import interpolate, to_clean
from scenetok_core.metrics import psnr
from scenetok_core.models.compressor import Posterior
from scenetok_core.models.networks import Networks, sample_latents
from scenetok_core.nn.attention import RMSNorm
from scenetok_core.pictures.sheets import contact_sheet
from scenetok_core.sampling import make_schedule
from scenetok_core.weights.checkpoints import save_checkpoint
from scenetok_core.weights.published import load_autoencoder
from training.config import TrainConfig
from training.data.batch import Batch
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.dataset import build_dataset
from training.tasks.shared import (
    FlowTaskConfig,
    check_groups,
    choose_frames,
    draw_levels,
    flow_errors,
    gradient_loss,
    latents_of,
    level_logs,
    move_frozen,
    open_gates,
    require_shares,
    scene_rays,
    silence,
    weight_folders,
    with_chance,
    xavier,
)
from training.tasks.views import CurriculumConfig, check_curriculum, choose_example, draw_difficulty

_CROSS_ATTENTION_GAIN = 4.0  # of the queries at the start
_SHEET_STEPS = 10
_SHEET_SCENES = 5
_SHEET_SHARES = (0.25, 0.5, 0.75, 1.0)  # of the tokens


@dataclass(frozen=True)
class SceneTokTaskConfig(CurriculumConfig, FlowTaskConfig):
    """How the compressor and the decoder are trained together."""

    kind: Literal["scenetok"] = "scenetok"
    time_mean: float = 1.0
    mean_share: float = 0.4  # first share of the run with all targets at t = 1: plain regression from tokens and pose
    mean_fraction: float = 0.25  # of the targets at t = 1 after that; the others are drawn as `weighting` says
    split_times: float = 0.3  # probability that two groups of targets have noise levels of their own
    kl_weight: float = 0.0  # of the divergence of a Gaussian posterior from the unit Gaussian
    loss_weight_cap: float = 5.0  # squared error of clean latents is weighted min(1 / t^2, cap)
    gradient_weight: float = 0.1  # of the L1 loss between picture gradients
    token_drop: float = 0.3  # probability that the scenes of a batch keep only some tokens, from mean_share / 2 on
    token_keep: float = 0.25  # smallest share kept then
    token_noise: float = 0.0  # largest standard deviation of noise on tokens in the second half

    def __post_init__(self) -> None:
        FlowTaskConfig.__post_init__(self)
        CurriculumConfig.__post_init__(self)
        require_shares(self, "mean_share mean_fraction split_times token_drop token_keep")
        strengths = (self.loss_weight_cap, self.gradient_weight, self.token_noise, self.kl_weight)
        require(
            min(strengths) >= 0,
            f"task.loss_weight_cap, gradient_weight, token_noise and kl_weight must be >= 0, got {strengths}",
        )


@dataclass(frozen=True)
class SceneTokTrainConfig(TrainConfig):
    """A complete run that trains a SceneTok model."""

    model: SceneTokConfig
    task: SceneTokTaskConfig = field(default_factory=SceneTokTaskConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        data, model, task = self.data, self.model, self.task
        require(
            data.context_views <= model.context_views,
            f"data.context_views {data.context_views} is more than model.context_views {model.context_views}",
        )
        check_curriculum(data, task)
        require(
            model.decoder.null_tokens == (task.unconditional > 0),
            f"model.decoder.null_tokens = {model.decoder.null_tokens} does not fit task.unconditional = "
            f"{task.unconditional}: null tokens are learnt from unconditional scenes; set both or neither",
        )
        require(
            model.compressor.posterior == "gaussian" or task.kl_weight == 0,
            f"task.kl_weight = {task.kl_weight} needs model.compressor.posterior = 'gaussian', got "
            f"{model.compressor.posterior!r}",
        )


@dataclass(frozen=True)
class Example:
    """One batch as the networks take it: latents and rays in every scene's own frame."""

    context: Tensor  # [B, V, C, h, w]
    context_rays: Tensor  # [B, V, 6, R, R]
    target: Tensor  # [B, L, C, h, w]
    target_rays: Tensor  # [B, L, t, 6, R, R]

    def first(self, count: int) -> Example:
        """At most `count` of the scenes."""
        return Example(*(getattr(self, part.name)[:count] for part in dataclasses.fields(self)))


class SceneTokTask:
    """Joint training of compressor and decoder by rectified flow on the target latents.

    Targets are single frames, or a run of consecutive ones where the target autoencoder joins several to a latent.
    """

    config_class: ClassVar[type[TrainConfig]] = SceneTokTrainConfig

    def __init__(self, config: SceneTokTrainConfig, autoencoders: Mapping[str, Autoencoder] | None = None) -> None:
        """Take a run's settings, and by name the autoencoders; None loads those of the model.

        Raises:
            ValueError: weights of an autoencoder are not found, or parts that do not fit together.
        """
        model = config.model
        names = {model.context_autoencoder, model.target_autoencoder}
        folders = weight_folders(config.run.autoencoders)
        autoencoders = autoencoders or {name: load_autoencoder(name, folders) for name in names}
        self.config = config
        self.frozen: Mapping[str, str] = {}
        self.context_autoencoder = autoencoders[model.context_autoencoder]
        self.target_autoencoder = autoencoders[model.target_autoencoder]
        model.check_latents(self.context_autoencoder.spec, self.target_autoencoder.spec)
        check_groups(config, model.target_autoencoder, self.target_autoencoder.spec)

    def build(self) -> Networks:
        """Fresh networks: Xavier weights, residual branches open (gates 1), modulation and output at zero.

        The decoder does not see its noisy input at first, and cross attention starts sharp: while tokens are averages
        of all views, and pixels averages of all tokens, nothing but the mean colour is learnt.
        """
        model, networks = self.config.model, Networks(self.config.model)
        decoder = networks.denoiser.model
        xavier(networks)
        open_gates(networks.compressor.aggregate, model.compressor.hidden)
        open_gates(decoder.blocks, model.decoder.hidden)
        silence(decoder)
        nn.init.zeros_(decoder.x_embedder.proj.weight)
        readers = [block.attn3 for block in networks.compressor.aggregate]
        for attention in (*readers, *(block.attn2 for block in decoder.blocks)):
            if isinstance(attention.q_norm, RMSNorm):  # type: ignore[union-attr]
                nn.init.constant_(attention.q_norm.weight, _CROSS_ATTENTION_GAIN)  # type: ignore[union-attr]
        return networks

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names; the autoencoders follow to `device`."""
        move_frozen((self.context_autoencoder.network, self.target_autoencoder.network), device, self.config.run)
        model = self.config.model
        return build_dataset(self.config, device, model.context_autoencoder, model.target_autoencoder)

    def choose(self, batch: RoomBatch, generator: torch.Generator, *, far: bool, context: int) -> Batch:
        """Inputs and targets in rooms.

        Where few inputs are asked for, every scene gives several examples, so that all batches are of about one size.
        Runs of consecutive frames lie anywhere on the walk, whatever `far` says.
        """
        data, group = self.config.data, self.target_autoencoder.spec.group_frames
        copies = max(1, data.context_views // context)
        rows = torch.arange(len(batch.rgb), device=batch.rgb.device).repeat_interleave(copies)
        most = max(1, data.target_views // copies // group) * group
        return choose_example(
            batch, rows, data.rooms.strays, context, most, in_runs=group > 1, far=far, generator=generator
        )

    def frame(self, batch: Batch, generator: torch.Generator, *, jitter: bool) -> Example:
        """Bring the cameras into the scenes' frames, and encode what is not encoded yet."""
        task, model = self.config.task, self.config.model
        given, asked = batch.context.cameras, batch.target.cameras
        reference, scale = choose_frames(task, batch, model.scene_extent, generator, jitter=jitter)
        target_rays = scene_rays(asked, reference, scale, model.target_focal, model.decoder.ray_map)
        return Example(
            context=latents_of(batch.context, self.context_autoencoder),
            context_rays=scene_rays(given, reference, scale, model.context_focal, model.compressor.ray_map),
            target=latents_of(batch.target, self.target_autoencoder),
            target_rays=self.target_autoencoder.spec.pack(target_rays),
        )

    def prepare(
        self, batch: RoomBatch, generator: torch.Generator, *, far: bool, context: int, jitter: bool
    ) -> Example:
        """`choose`, then `frame`."""
        return self.frame(self.choose(batch, generator, far=far, context=context), generator, jitter=jitter)

    def times(self, shape: tuple[int, int], generator: torch.Generator, progress: float) -> Tensor:
        """Noise levels [B, L]: all 1 in the first share of the run, later a mixture (see `SceneTokTaskConfig`)."""
        task, device = self.config.task, generator.device
        ones = torch.ones(shape, device=device)
        if progress < task.mean_share:
            return ones
        level = draw_levels(task, (shape[0], 2), generator)
        chance = torch.rand((shape[0], 3), generator=generator, device=device)
        level[:, 1] = torch.where(chance[:, 0] < task.split_times, level[:, 1], level[:, 0])
        group = self.target_autoencoder.spec.group_latents  # windows slide by whole groups
        border = (chance[:, 1] * (shape[1] // group)).floor() * group
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
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Weighted squared error of the prediction plus a picture-gradient term; [examples] and scalars to log."""
        task, device = self.config.task, generator.device
        if isinstance(batch, RoomBatch):
            batch = self.choose(
                batch, generator, **draw_difficulty(task, self.config.data.context_views, generator, progress)
            )
        example = self.frame(batch, generator, jitter=True)
        t = self.times(tuple(example.target.shape[:2]), generator, progress)  # type: ignore[arg-type]
        level = t[:, :, None, None, None]
        noise = torch.randn(example.target.shape, generator=generator, device=device)
        noisy = interpolate(example.target, noise, level)
        edit, seen = self.edit(generator, progress), None
        if task.unconditional:
            seen = ~with_chance(task.unconditional, (len(t),), generator)

        def choose_tokens(posterior: Posterior) -> Tensor:
            return edit(posterior.sample(generator))

        rays = (example.context_rays, example.target_rays)
        out, posterior = model(example.context, rays[0], noisy, t, rays[1], choose_tokens, seen)
        out, kind = out.float(), self.config.model.decoder.prediction
        clean = to_clean(out, kind, noisy, level)
        squared = flow_errors(out, kind, example.target, noise, level, task.loss_weight_cap)
        losses = squared.flatten(1).mean(1)
        if task.gradient_weight:
            decode = self.target_autoencoder.decode_unclamped
            losses = losses + task.gradient_weight * gradient_loss(decode(clean), decode(example.target))
        quality = _latent_psnr((clean - example.target).detach().square().mean((2, 3, 4)) / 4)
        logs = _psnr_logs(quality, t) | level_logs({"loss": squared.mean((2, 3, 4)), "psnr": quality}, t)
        if posterior.logvar is not None:
            divergence = posterior.divergence()
            losses = losses + task.kl_weight * divergence
            logs["kl"] = divergence.detach().mean()
        return losses, logs

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """Inputs, truth, posterior mean and one sample of a few held-out scenes, with the PSNR of the means.

        The last row of a scene is the posterior mean of its first target from some of the tokens, with the PSNR over
        all targets.
        """
        assert isinstance(model, Networks)
        if isinstance(batch, RoomBatch):
            batch = self.choose(batch, generator, far=True, context=self.config.data.context_views)
        example = self.frame(batch, generator, jitter=False).first(_SHEET_SCENES)
        tokens = model.compressor(example.context, example.context_rays).mean
        noise = torch.randn(example.target.shape, generator=generator, device=generator.device)
        order = torch.randperm(tokens.shape[1], generator=generator, device=generator.device)
        length = noise.shape[1]

        def render(steps: int, share: float) -> Tensor:
            kept = tokens[:, order[: max(1, round(share * len(order)))]]
            schedule = make_schedule("full_sequence", horizon=length, steps=steps, window=length, clean_targets=0)
            latents = sample_latents(model.denoiser, kept, example.target_rays, noise, schedule)
            return self.target_autoencoder.decode(latents)

        sweep = torch.stack([render(1, share) for share in _SHEET_SHARES], 1)  # [B, shares, T, 3, H, W]
        sample = render(_SHEET_STEPS, 1.0)
        truth = self.target_autoencoder.decode(example.target)
        inputs = self.context_autoencoder.decode(example.context)
        percent = " ".join(f"{share:.0%}".rstrip("%") for share in _SHEET_SHARES)
        rows: list[tuple[str, Tensor]] = []
        for i in range(len(truth)):
            quality = [f"{float(psnr(frames, truth[i]).mean()):.1f}" for frames in sweep[i]]
            rows += [
                (f"inputs\n{batch.title(i)}".rstrip(), inputs[i]),
                ("truth", truth[i]),
                (f"mean {quality[-1]} dB", sweep[i, -1]),
                ("sample", sample[i]),
                (f"mean from {percent} %\nof the tokens\n{' '.join(quality)} dB", sweep[i, :, 0]),
            ]
        return contact_sheet([(label, frames.cpu()) for label, frames in rows], scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that the nodes load."""
        save_checkpoint(path, state, self.config.model, metadata)


def _latent_psnr(error: Tensor) -> Tensor:
    """PSNR in dB.

    `error` is the squared error of the latents divided by 4, so that it is that of the pixels where latents are pixels
    in [-1, 1], as those of the patch autoencoder are.
    """
    return -10 * error.clamp_min(1e-10).log10()


def _psnr_logs(quality: Tensor, t: Tensor) -> dict[str, Tensor]:
    """PSNR over the targets at t = 1 (the posterior mean) and over the others, NaN where there are none."""
    mean = t == 1
    return {
        "psnr_mean": torch.where(mean, quality, 0).sum() / mean.sum(),
        "psnr_noisy": torch.where(mean, 0, quality).sum() / (~mean).sum(),
    }
