"""A scene generator on the tokens of a frozen compressor (SceneTok, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from scenetok_core.baselines import thumbnail
from scenetok_core.configs import SceneGenConfig
from scenetok_core.flow import interpolate
from scenetok_core.generation import SceneGenerator, conditioning_rays
from scenetok_core.metrics import psnr
from scenetok_core.models.scenegen import GeneratorNetworks
from scenetok_core.pictures.sheets import contact_sheet
from scenetok_core.types import Cameras, SceneTokens, Views
from scenetok_core.weights.checkpoints import save_checkpoint
from training.config import TrainConfig
from training.data.batch import Batch, Frames
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.dataset import build_dataset
from training.tasks.shared import (
    FlowTaskConfig,
    draw_factors,
    draw_levels,
    frozen_precision,
    latents_of,
    level_logs,
    load_scene_model,
    move_frozen,
    open_gates,
    pictures_of,
    require_same,
    require_shares,
    scene_of,
    scene_rays,
    silence,
    with_chance,
    xavier,
)
from training.tasks.views import choose_run, choose_views, pick

_SHEET_SCENES = 4
_SHEET_SEEDS = (0, 1)
_THUMBNAIL = 8  # pixels along its side


@dataclass(frozen=True)
class SceneGenTaskConfig(FlowTaskConfig):
    """How the scene generator is trained."""

    kind: Literal["scenegen"] = "scenegen"
    scene_checkpoint: str = field(kw_only=True)  # the SceneTok model whose tokens are drawn; it stays as it is
    unconditional: float = 0.1
    extra_views: float = 0.5  # probability of each conditioning view after the first
    path: Literal["target", "context"] = "target"  # over which cameras the anchors are spread
    scale_range: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shares(self, "extra_views")


@dataclass(frozen=True)
class SceneGenTrainConfig(TrainConfig):
    """A complete run that trains a scene generator."""

    model: SceneGenConfig
    task: SceneGenTaskConfig = field(kw_only=True)


@dataclass(frozen=True)
class TokenExample:
    """One batch as the generator takes it, with the frame that every scene is in."""

    tokens: Tensor  # [B, N, D] times `token_scale`
    latents: Tensor  # [B, V, C, h, w] of the conditioning views
    rays: Tensor  # [B, V, 6, R, R]
    anchor_rays: Tensor  # [B, A, 6, R, R]
    given: Tensor  # [B, V] bool, which of the views there are
    reference_c2w: Tensor  # [B, 4, 4]
    scale: Tensor  # [B]


class SceneGenTask:
    """Rectified flow on scene tokens, given one to three input views and cameras along a path.

    The conditioning views are some of the compressor's input views; the first one is the origin for both networks.
    """

    config_class: ClassVar[type[TrainConfig]] = SceneGenTrainConfig

    def __init__(self, config: SceneGenTrainConfig) -> None:
        """Take a run's settings and load the frozen model.

        Raises:
            ValueError: no such model, weights of an autoencoder are not found, or sizes that do not fit together.
        """
        model, checkpoint = config.model, config.task.scene_checkpoint
        self.config = config
        self.scene = load_scene_model(config, checkpoint)
        self.autoencoder = self.scene.context_autoencoder
        self.frozen: Mapping[str, str] = {"scene_model": self.scene.hash}
        scene, compressor = self.scene.config, self.scene.config.compressor
        for name, ours, theirs in (
            ("model.context_autoencoder", model.context_autoencoder, scene.context_autoencoder),
            ("model.generator.tokens", model.generator.tokens, compressor.tokens),
            ("model.generator.token_dim", model.generator.token_dim, compressor.token_dim),
        ):
            require_same(name, ours, theirs, Path(checkpoint).name)
        model.check_latents(self.autoencoder.spec)

    def build(self) -> GeneratorNetworks:
        """Fresh networks: Xavier weights, residual branches open (gates 1), modulation and output at zero."""
        networks = GeneratorNetworks(self.config.model)
        trunk = networks.scene_generator.model
        xavier(networks)
        open_gates(trunk.blocks, self.config.model.generator.hidden)
        silence(trunk)
        return networks

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names; the frozen model follows to `device`."""
        move_frozen(self.scene.modules, device, self.config.run)
        scene = self.scene.config
        return build_dataset(self.config, device, scene.context_autoencoder, scene.target_autoencoder)

    def choose(self, batch: RoomBatch, generator: torch.Generator) -> Batch:
        """Input views anywhere on the walk through a room, and as the path a run of consecutive frames."""
        data, scenes = self.config.data, len(batch.rgb)
        walk = batch.rgb.shape[1] - data.rooms.strays
        inputs, _ = choose_views(walk, 0, data.context_views, 0, far=False, scenes=scenes, generator=generator)
        path = choose_run(walk, data.target_views, scenes=scenes, generator=generator)
        return pick(batch, torch.arange(scenes, device=batch.rgb.device), inputs, path)

    @torch.no_grad()
    def frame(self, batch: Batch, generator: torch.Generator) -> TokenExample:
        """Choose conditioning views, bring all cameras into the frame of the first, and compress the input views."""
        task, model, scene = self.config.task, self.config.model, self.scene.config
        cameras = batch.context.cameras
        views = self._conditioning_views(cameras, generator)
        rows = torch.arange(len(views), device=views.device)[:, None]
        given = with_chance(task.extra_views, tuple(views.shape), generator)
        given[:, 0] = True
        rays = conditioning_rays(
            cameras.replace(c2w=cameras.c2w[rows, views], K=cameras.K[rows, views]),
            self._path(batch).cameras,
            model,
            task.scene_scale,
            given=given,
            factor=draw_factors(task, len(views), generator, jitter=True),
        )
        latents, side = latents_of(batch.context, self.autoencoder), scene.compressor.ray_map
        inputs = scene_rays(cameras, rays.reference_c2w, rays.scale, scene.context_focal, side)
        with frozen_precision(self.config.run, inputs.device):
            posterior = self.scene.networks.compressor(latents, inputs)
        tokens = posterior.sample(generator).float() * model.generator.token_scale
        return TokenExample(
            tokens, latents[rows, views], rays.views, rays.anchors, given, rays.reference_c2w, rays.scale
        )

    def _conditioning_views(self, cameras: Cameras, generator: torch.Generator) -> Tensor:
        """Different ones [B, at most cond_views] of the input views, in random order."""
        scenes, available = cameras.c2w.shape[:2]
        order = torch.rand((scenes, available), generator=generator, device=generator.device)
        if self.config.task.reference == "middle":
            order[:, available // 2] = -1
        return order.argsort(1)[:, : self.config.model.generator.cond_views]

    def _path(self, batch: Batch) -> Frames:
        return batch.target if self.config.task.path == "target" else batch.context

    def loss(
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Squared error of the velocity, with one noise level per scene; [B] and scalars to log."""
        task = self.config.task
        example = self.frame(self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch, generator)
        seen = example.given & ~with_chance(task.unconditional, (len(example.given), 1), generator)
        t = draw_levels(task, (len(seen),), generator)
        noise = torch.randn(example.tokens.shape, generator=generator, device=generator.device)
        noisy = interpolate(example.tokens, noise, t[:, None, None])
        out = model(noisy, t, example.latents, example.rays, example.anchor_rays, seen).float()
        losses = (out - (noise - example.tokens)).square().flatten(1).mean(1)
        return losses, level_logs({"loss": losses}, t)

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """The conditioning view and, along the path of held-out scenes, the truth and renderings by the frozen model.

        Rendered are the compressor's tokens, with their PSNR, and for two seeds the drawn ones. Beside the conditioning
        view stand its own 8 x 8 thumbnail and the drawn scenes seen from there, with their PSNR.
        """
        assert isinstance(model, GeneratorNetworks)
        chosen = (self.choose(batch, generator) if isinstance(batch, RoomBatch) else batch).first(_SHEET_SCENES)
        drawer = SceneGenerator(self.config.model, model, self.autoencoder, hash="")
        views = self._conditioning_views(chosen.context.cameras, generator)[:, 0].tolist()
        inputs = pictures_of(chosen.context, self.autoencoder)
        truths = pictures_of(chosen.target, self.scene.target_autoencoder)
        scale = self.config.task.scene_scale
        rows: list[tuple[str, Tensor]] = []
        for i, view in enumerate(views):
            seen, path = scene_of(chosen.context.cameras, i), scene_of(chosen.target.cameras, i)
            anchors = scene_of(self._path(chosen).cameras, i)
            first = Views(inputs[i, [view]], seen[[view]])
            drawn = [
                drawer.generate(first, anchors, self.scene, scale=scale, generator=torch.Generator().manual_seed(seed))
                for seed in _SHEET_SEEDS
            ]
            true = self.scene.encode(Views(inputs[i], seen), reference=view, scale=drawn[0].scene_scale)
            frames = [self.scene.render(tokens, path) for tokens in (true, *drawn)]
            quality = float(psnr(frames[0], truths[i].cpu()).mean())
            labels = (f"true tokens {quality:.1f} dB", *(f"seed {seed}" for seed in _SHEET_SEEDS))
            rows += [
                self._again(chosen.title(i), first, drawn),
                ("truth", truths[i].cpu()),
                *zip(labels, frames, strict=True),
            ]
        return contact_sheet(rows, scale=2)

    def _again(self, title: str, view: Views, drawn: Sequence[SceneTokens]) -> tuple[str, Tensor]:
        """The conditioning view, its thumbnail and the drawn scenes seen from there, as a row of a sheet."""
        given = view.rgb.cpu()
        pictures = [thumbnail(given, _THUMBNAIL), *(self.scene.render(tokens, view.cameras) for tokens in drawn)]
        side = f"{_THUMBNAIL}x{_THUMBNAIL}"
        quality = " ".join(f"{float(psnr(made, given).mean()):.1f}" for made in pictures)
        label = f"view, as {side} pixels,\nof seeds {' '.join(map(str, _SHEET_SEEDS))}\n{quality} dB\n{title}"
        return label.rstrip(), torch.cat([given, *pictures])

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that `SceneGenerator.load` and the nodes take, beside the frozen model's."""
        save_checkpoint(path, state, self.config.model, metadata | {"scene_model_hash": self.scene.hash})
