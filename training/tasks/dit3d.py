"""A 3DDiT that draws the latent tokens of a frozen 3DRAE, given some of the views and all cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from scenetok_core.configs import Dit3dConfig, require
from scenetok_core.flow import interpolate
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.metrics import psnr
from scenetok_core.models.dit3d import Dit3dNetworks
from scenetok_core.pictures.sheets import contact_sheet
from scenetok_core.rae import Rae
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import save_checkpoint
from training.config import TrainConfig
from training.data.batch import Batch, Frames
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.tasks.rae import RaeTask, RaeTaskConfig, RaeTrainConfig
from training.tasks.rae_config import check_mixed
from training.tasks.shared import (
    FlowTaskConfig,
    draw_levels,
    flow_errors,
    frozen_precision,
    level_logs,
    move_frozen,
    open_gates,
    require_same,
    scene_of,
    weight_folders,
    with_chance,
    xavier,
)

_SHEET_SCENES = 4
_SHEET_SEEDS = (0, 1)


@dataclass(frozen=True)
class Dit3dTaskConfig(FlowTaskConfig):
    """How a 3DDiT is trained; table 6."""

    kind: Literal["dit3d"] = "dit3d"
    scene_checkpoint: str = field(kw_only=True)  # the 3DRAE whose tokens are drawn; it stays as it is
    weighting: Literal["lognorm", "uniform", "shifted"] = "shifted"
    time_shift: float = 1.0  # must be that of the sampling, see `configs.dimension_shift`
    unconditional: float = 0.1  # share of the scenes of which no view is given
    mask_share: tuple[float, float] = (0.6, 0.9)  # of the views of the others
    aspects: tuple[float, float] = (0.7, 1.8)  # width / height of pictures
    loss_weight_cap: float = 5.0  # squared error of clean tokens is weighted min(1 / t^2, cap)
    levels_per_scene: int = 1  # noise levels drawn for every encoded scene; a small 3DDiT costs less than the encoding
    # Videos alone: as in RaeTaskConfig, batches of random sizes and numbers of views. None: of data.context_views.
    tokens_per_batch: int | None = None
    least_context: int = 2  # then, views vary from here to data.context_views

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reference", "scene_scale", "scale_range"):
            require(
                getattr(self, name) == getattr(FlowTaskConfig, name),
                f"task.{name} is for SceneTok; the origin of a 3DRAE is the first given view and its scale that of "
                "inference: leave it out",
            )
        for name, least in (("levels_per_scene", 1), ("least_context", 2)):
            require(getattr(self, name) >= least, f"task.{name} must be >= {least}, got {getattr(self, name)}")
        require(
            self.tokens_per_batch is None or self.tokens_per_batch >= 1,
            f"task.tokens_per_batch must be >= 1, got {self.tokens_per_batch}",
        )


@dataclass(frozen=True)
class Dit3dTrainConfig(TrainConfig):
    """A complete run that trains a 3DDiT."""

    model: Dit3dConfig
    task: Dit3dTaskConfig = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.data.context_views == self.model.cond_views,
            f"data.context_views {self.data.context_views} must be model.cond_views {self.model.cond_views}: all views "
            "of a scene are its conditioning, visible or not",
        )
        require(
            self.task.weighting != "shifted" or abs(self.task.time_shift - self.model.sampling.shift) < 1e-3,
            f"task.time_shift {self.task.time_shift} must be model.sampling.shift {self.model.sampling.shift}",
        )
        if self.task.tokens_per_batch is not None:
            check_mixed(self.data, self.task.least_context, self.data.target_views)


@dataclass(frozen=True)
class LatentExample:
    """One batch as the network takes it."""

    tokens: Tensor  # [B, N, D] of all views
    condition: Tensor  # [B, N, D] of those that are given, and of all cameras


class Dit3dTask:
    """Rectified flow on the latent tokens of a scene; what is given of it is encoded by the frozen 3DRAE, too."""

    config_class: ClassVar[type[TrainConfig]] = Dit3dTrainConfig

    def __init__(self, config: Dit3dTrainConfig) -> None:
        """Take a run's settings and load the frozen model.

        Raises:
            ValueError: no such model, or sizes that do not fit together.
        """
        model, task = config.model, config.task
        self.config = config
        self.scene = Rae.load(
            task.scene_checkpoint, folders=weight_folders(config.run.autoencoders, task.scene_checkpoint)
        )
        self.frozen: Mapping[str, str] = {"scene_model": self.scene.hash}
        scene, file = self.scene.config, Path(task.scene_checkpoint).name
        for name, ours, theirs in (
            ("model.scene_model", model.scene_model, scene.name),
            ("model.tokens", model.tokens, scene.tokens),
            ("model.token_dim", model.token_dim, scene.token_dim),
        ):
            require_same(name, ours, theirs, file)
        views = RaeTaskConfig(
            mask_probability=1.0,
            mask_share=task.mask_share,
            aspects=task.aspects,
            tokens_per_batch=task.tokens_per_batch,
            least_context=task.least_context,
        )
        self.views = RaeTask(
            RaeTrainConfig(config.run, replace(scene, encoder=None, points=None), data=config.data, task=views)
        )

    def build(self) -> Dit3dNetworks:
        """Fresh networks: Xavier weights, residual branches open (gates 1), modulation and output at zero."""
        networks = Dit3dNetworks(self.config.model)
        model = networks.generator
        xavier(networks)
        open_gates(model.blocks, self.config.model.hidden)
        open_gates(model.head, self.config.model.head_hidden)
        for parameter in (*model.final_layer.adaLN_modulation.parameters(), *model.final_layer.linear.parameters()):
            nn.init.zeros_(parameter)
        return networks

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names; the frozen model follows to `device`."""
        move_frozen(self.scene.modules, device, self.config.run)
        return self.views.dataset(device)

    def choose(self, batch: RoomBatch, generator: torch.Generator) -> Batch:
        """All views of a walk, and others, which sheets show: away from it where there are some."""
        data = self.config.data
        return self.views.choose(batch, generator, far=data.rooms.strays > 0, context=data.context_views)

    @torch.no_grad()
    def frame(self, batch: Batch, size: tuple[int, int], generator: torch.Generator) -> LatentExample:
        """Encode all views of every scene, and those that are given; the first one that is given is the origin."""
        assert batch.context.rgb is not None, "pictures, as patch autoencoders have them"
        seen = self.views.draw_visible((batch.context.rgb.shape[0], batch.context.rgb.shape[1]), generator)
        order = seen.long().argsort(dim=1, descending=True, stable=True)
        example = self.views.frame(replace(batch, context=reordered(batch.context, order)), size, generator)
        given = seen.gather(1, order) & ~with_chance(self.config.task.unconditional, (len(seen), 1), generator)
        neck, encoder = self.scene.networks.neck, self.scene.encoder
        with frozen_precision(self.config.run, example.rgb.device):
            if encoder is None:
                features = neck.embed_pictures(example.rgb)
            else:
                features = encoder.encode(example.rgb.flatten(0, 1)).unflatten(0, example.rgb.shape[:2])
            return LatentExample(
                tokens=neck(features, example.rays, torch.ones_like(given)),
                condition=neck(features, example.rays, given),
            )

    def loss(
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Squared error of the prediction, with noise levels of every scene's own; [B] and scalars to log."""
        task = self.config.task
        batch = self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch
        assert batch.context.rgb is not None
        size = (batch.context.rgb.shape[-2], batch.context.rgb.shape[-1])
        if task.tokens_per_batch is None:  # else the source has drawn it
            size = self.views.draw_size(size, generator)
        example = self.frame(batch, size, generator)
        count = task.levels_per_scene
        tokens, condition = (part.repeat_interleave(count, 0) for part in (example.tokens, example.condition))
        t = draw_levels(task, (len(tokens),), generator)
        level = t[:, None, None]
        noise = torch.randn(tokens.shape, generator=generator, device=generator.device)
        out = model(interpolate(tokens, noise, level), t, condition).float()
        errors = flow_errors(out, self.config.model.prediction, tokens, noise, level, task.loss_weight_cap)
        losses = errors.flatten(1).mean(1)
        scenes, logs = losses.unflatten(0, (-1, count)).mean(1), level_logs({"loss": losses}, t)
        return scenes, logs if task.tokens_per_batch is None else logs | {"scenes": float(len(scenes))}

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """Of a few held-out scenes: one given view, the truth, renderings of the real tokens and of drawn ones."""
        assert isinstance(model, Dit3dNetworks)
        chosen = (self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch).first(_SHEET_SCENES)
        assert chosen.context.rgb is not None and chosen.target.rgb is not None
        drawer = LatentGenerator(self.config.model, model, hash="")
        rows: list[tuple[str, Tensor]] = []
        for i in range(len(chosen.context.rgb)):
            seen, path = scene_of(chosen.context.cameras, i), scene_of(chosen.target.cameras, i)
            views, truth = Views(chosen.context.rgb[i], seen), chosen.target.rgb[i].cpu()
            prepared = drawer.prepare(views[[0]], seen[list(range(1, len(seen)))], self.scene)
            drawn = [drawer.draw(prepared, generator=torch.Generator().manual_seed(seed)) for seed in _SHEET_SEEDS]
            real = self.scene.encode(views)
            frames = [self.scene.render(tokens, path) for tokens in (real, *drawn)]
            quality = [f"{float(psnr(made, truth).mean()):.1f}" for made in frames]
            again = [self.scene.render(tokens, seen[[0]]) for tokens in drawn]
            rows += [
                (f"view, and as drawn\n{chosen.title(i)}".rstrip(), torch.cat([views.rgb[:1].cpu(), *again])),
                ("truth", truth),
                (f"real tokens {quality[0]} dB", frames[0]),
                *((f"seed {s} {q} dB", made) for s, q, made in zip(_SHEET_SEEDS, quality[1:], frames[1:], strict=True)),
            ]
        return contact_sheet(rows, scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that `LatentGenerator.load` and the nodes take."""
        save_checkpoint(path, state, self.config.model, metadata | {"scene_model_hash": self.scene.hash})


def reordered(frames: Frames, order: Tensor) -> Frames:
    """The views of every scene in another order, [B, V] int64."""
    assert frames.rgb is not None
    rows = torch.arange(len(order), device=order.device)[:, None]
    cameras = frames.cameras
    poses = cameras.replace(c2w=cameras.c2w[rows, order], K=cameras.K[rows, order], names=())
    return Frames(poses, frames.rgb[rows, order], depth=None if frames.depth is None else frames.depth[rows, order])
