"""A depth head on the tokens of a frozen model: its decoder, changed a little, renders depth (SceneTok, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from scenetok_core.autoencoders import LatentSpec
from scenetok_core.configs import DepthConfig, require
from scenetok_core.depth import DepthHead, colour_depth, depth_pictures, is_known, metre_of, read_depth
from scenetok_core.flow import interpolate
from scenetok_core.models.depth import DepthNetworks, LowRankLinear, SizeToken
from scenetok_core.pictures.sheets import contact_sheet
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import save_checkpoint
from training.config import TrainConfig
from training.data.batch import Batch
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.dataset import build_dataset
from training.measures.depth import depth_errors
from training.tasks.shared import (
    FlowTaskConfig,
    check_groups,
    choose_frames,
    draw_levels,
    flow_errors,
    frozen_precision,
    latents_of,
    level_logs,
    load_scene_model,
    move_frozen,
    pictures_of,
    require_shares,
    scene_of,
    scene_rays,
    with_chance,
)
from training.tasks.views import choose_example

_SHEET_SCENES = 4
_SHEET_STEPS = 10
_SIZE_SLOPE = 2.0  # scales differ by a factor of 2 or so, and tokens have entries of about 1


@dataclass(frozen=True)
class DepthTaskConfig(FlowTaskConfig):
    """How a depth head is trained."""

    kind: Literal["depth"] = "depth"
    scene_checkpoint: str = field(kw_only=True)  # the SceneTok model whose tokens are read; it stays as it is
    mean_fraction: float = 0.5  # of the scenes at t = 1, which teaches the posterior mean; the others: `weighting`
    loss_weight_cap: float = 5.0  # squared error of clean latents is weighted min(1 / t^2, cap)
    fresh_output: bool = True  # the output layer starts at zero; False: as that of the scene model, for another latent
    metric_share: float = 0.75  # of the scenes in metres whose size token says so
    far_share: float = 0.5  # rooms: batches with targets away from the inputs; the others show inputs again

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shares(self, "mean_fraction metric_share far_share")
        require(self.loss_weight_cap >= 0, f"task.loss_weight_cap must be >= 0, got {self.loss_weight_cap}")
        require(
            self.unconditional == 0,
            f"task.unconditional must be 0, got {self.unconditional}: depth is rendered without guidance",
        )


@dataclass(frozen=True)
class DepthTrainConfig(TrainConfig):
    """A complete run that trains a depth head."""

    model: DepthConfig
    task: DepthTaskConfig = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        videos = self.data.videos
        if videos is None:
            return
        require(
            videos.depth is not None,
            "a depth head learns from depth: name the folder with it in a table [data.videos.depth] (docs/data.md)",
        )
        assert videos.depth is not None
        require(
            self.model.units == "relative" or videos.depth.values == "depth",
            "model.units is 'scene', but data.videos.depth.values is 'inverse', which is known up to a factor and an "
            "offset; set model.units = 'relative', or give metric depth",
        )


@dataclass(frozen=True)
class DepthExample:
    """One batch as the decoder takes it, in every scene's own frame."""

    tokens: Tensor  # [B, N, D]
    target: Tensor  # [B, L, C, h, w] latents of pictures of depth
    known: Tensor  # [B, L, 1, h, w] share of the pixels under a cell whose depth is known
    rays: Tensor  # [B, L, t, 6, R, R]
    scale: Tensor  # [B] network units per input unit
    metre: Tensor  # [B] network units per metre, 0 where unknown


class DepthTask:
    """Rectified flow on latents of pictures of depth, given tokens and cameras; the scene model stays as it is."""

    config_class: ClassVar[type[TrainConfig]] = DepthTrainConfig

    def __init__(self, config: DepthTrainConfig) -> None:
        """Take a run's settings and load the frozen model.

        Raises:
            ValueError: no such model, weights of an autoencoder are not found, or sizes that do not fit together.
        """
        self.config = config
        self.scene = load_scene_model(config, config.task.scene_checkpoint)
        self.frozen: Mapping[str, str] = {"scene_model": self.scene.hash}
        self.autoencoder = self.scene.target_autoencoder
        check_groups(config, self.scene.config.target_autoencoder, self.autoencoder.spec)

    def build(self) -> DepthNetworks:
        """The scene model's decoder, in float32; updates of rank r start as zero products of random `down` matrices."""
        networks = DepthNetworks(self.config.model, self.scene.networks.denoiser).float()
        for module in networks.modules():
            if isinstance(module, LowRankLinear):
                nn.init.normal_(module.down, std=module.down.shape[1] ** -0.5)
            if isinstance(module, SizeToken):
                nn.init.normal_(module.slope, std=_SIZE_SLOPE)
        if self.config.task.fresh_output:
            for parameter in networks.denoiser.model.final_layer.linear.parameters():
                nn.init.zeros_(parameter)
        return networks

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names; the frozen model follows to `device`."""
        move_frozen(self.scene.modules, device, self.config.run)
        scene = self.scene.config
        return build_dataset(self.config, device, scene.context_autoencoder, scene.target_autoencoder)

    def choose(self, batch: RoomBatch, generator: torch.Generator) -> Batch:
        """Inputs on the walk; targets are inputs again, or others, or a run where latents join frames."""
        data, device = self.config.data, batch.rgb.device
        return choose_example(
            batch,
            torch.arange(len(batch.rgb), device=device),
            data.rooms.strays,
            data.context_views,
            data.target_views,
            in_runs=self.autoencoder.spec.group_frames > 1,
            far=bool(with_chance(self.config.task.far_share, (), generator)),
            generator=generator,
        )

    @torch.no_grad()
    def frame(self, batch: Batch, generator: torch.Generator, *, jitter: bool) -> DepthExample:
        """Bring the cameras into the scenes' frames, compress the inputs and encode the depth of the targets.

        Raises:
            ValueError: the source gives no depth.
        """
        task, scene, depth = self.config.task, self.scene.config, batch.target.depth
        if depth is None:
            raise ValueError("the data set gives no depth; set [data.videos.depth], or take data.kind = 'rooms'")
        reference, scale = choose_frames(task, batch, scene.scene_extent, generator, jitter=jitter)
        given, asked = batch.context.cameras, batch.target.cameras
        latents = latents_of(batch.context, self.scene.context_autoencoder)
        rays = scene_rays(given, reference, scale, scene.context_focal, scene.compressor.ray_map)
        with frozen_precision(self.config.run, rays.device):
            posterior = self.scene.networks.compressor(latents, rays)
        spec = self.autoencoder.spec
        return DepthExample(
            tokens=posterior.sample(generator).float(),
            target=self.autoencoder.encode(depth_pictures(depth, scale, self.config.model)),
            known=known_cells(depth, spec),
            rays=spec.pack(scene_rays(asked, reference, scale, scene.target_focal, scene.decoder.ray_map)),
            scale=scale,
            metre=scale * metre_of(given, 1.0),
        )

    def loss(
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Squared error of the prediction where depth is known, one noise level per scene; [B] and scalars to log."""
        task = self.config.task
        batch = self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch
        example = self.frame(batch, generator, jitter=True)
        scenes, length = example.target.shape[:2]
        drawn, mean = draw_levels(task, (scenes,), generator), with_chance(task.mean_fraction, (scenes,), generator)
        t = torch.where(mean, 1.0, drawn)
        level = t[:, None, None, None, None]
        noise = torch.randn(example.target.shape, generator=generator, device=generator.device)
        noisy = interpolate(example.target, noise, level)
        told = with_chance(task.metric_share, (scenes,), generator)
        metre = torch.where(told, example.metre, 0)
        out = model(example.tokens, noisy, t[:, None].expand(-1, length), example.rays, metre).float()
        kind = self.scene.config.decoder.prediction
        errors = flow_errors(out, kind, example.target, noise, level, task.loss_weight_cap)
        cells = example.known.flatten(1).sum(1).clamp_min(1)
        losses = (errors * example.known).flatten(1).sum(1) / (cells * errors.shape[2])
        error = losses.detach()
        logs = {
            "loss_mean": torch.where(mean, error, 0).sum() / mean.sum(),  # NaN where there is none
            "loss_noisy": torch.where(mean, 0, error).sum() / (~mean).sum(),
        }
        return losses, logs | level_logs({"loss": losses}, t)

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """Inputs, true depth, posterior mean with its AbsRel, and one sample of a few held-out scenes."""
        assert isinstance(model, DepthNetworks)
        chosen = (self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch).first(_SHEET_SCENES)
        assert chosen.target.depth is not None
        head = DepthHead.around(model, "", self.scene)
        inputs = pictures_of(chosen.context, self.scene.context_autoencoder)
        rows: list[tuple[str, Tensor]] = []
        for i in range(len(inputs)):
            seen, path = scene_of(chosen.context.cameras, i), scene_of(chosen.target.cameras, i)
            scene = self.scene.encode(
                Views(inputs[i], seen), scale="none" if self.config.task.scene_scale == "none" else "auto"
            )
            shown = depth_pictures(
                chosen.target.depth[[i]].cpu(), torch.tensor([scene.scene_scale]), self.config.model
            )[0]
            truth = read_depth(shown, scene.scene_scale, self.config.model)  # as a head can know it
            known = torch.where(is_known(chosen.target.depth[i].cpu()), truth[:, 0], 0)
            mean, sample = (head.render(scene, path, steps=steps) for steps in (1, _SHEET_STEPS))
            quality = float(depth_errors(mean[:, 0], known).abs_rel.nanmean())
            bounds = (float(truth.min()), float(truth.max()))
            rows += [
                (f"inputs\n{chosen.title(i)}".rstrip(), inputs[i].cpu()),
                ("truth", colour_depth(truth, bounds)),
                (f"mean AbsRel {quality:.2f}", colour_depth(mean, bounds)),
                ("sample", colour_depth(sample, bounds)),
            ]
        return contact_sheet(rows, scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write a head that `DepthHead.load` takes, beside the frozen model."""
        save_checkpoint(path, state, self.config.model, metadata | {"scene_model_hash": self.scene.hash})


def known_cells(
    depth: Tensor,  # [B, T, H, W]
    spec: LatentSpec,
) -> Tensor:
    """Share of the pixels under each latent cell, in all its frames, whose depth is known: [B, L, 1, h, w]."""
    known = F.avg_pool2d(is_known(depth).float(), spec.spatial)[:, :, None]
    return spec.pack(known).sum(2) / spec.pack(torch.ones_like(known)).sum(2)
