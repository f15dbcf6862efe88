"""A 3DRAE trained from posed pictures: rendering of other views and their point maps (3DRAE, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate.utils import extract_model_from_parallel
from PIL import Image
from torch import Tensor, nn

from scenetok_core.camera import crop_intrinsics, fit_image, plucker_features, reference_scales, to_scene_frame
from scenetok_core.depth import colour_depth
from scenetok_core.encoders import load_encoder
from scenetok_core.metrics import psnr
from scenetok_core.models.rae import RaeNetworks
from scenetok_core.nn.attention import Attention, RMSNorm
from scenetok_core.pictures.sheets import contact_sheet
from scenetok_core.types import Cameras
from scenetok_core.views.picture_size import fitting_size
from scenetok_core.weights.checkpoints import save_checkpoint
from training.adversary import Adversaries, adversarial_losses, generator_of, generator_state
from training.config import TrainConfig
from training.data.batch import Batch, Frames
from training.data.depths import nearest_pixels
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.data.scene_source import BatchShape
from training.dataset import build_dataset
from training.discriminators import load_features
from training.distribute import sharding_wanted
from training.perceptual import load_perceptual
from training.tasks.picture_loss import picture_losses
from training.tasks.point_loss import points_and_logs, points_of_depth
from training.tasks.rae_config import RaeTaskConfig, RaeTrainConfig
from training.tasks.shared import frozen_precision, gradient_loss, move_frozen, weight_folders, with_chance, xavier
from training.tasks.views import choose_example, draw_difficulty

__all__ = ["RaeExample", "RaeTask", "RaeTaskConfig", "RaeTrainConfig", "gradient_loss", "nearest_pixels", "resized"]

_SHEET_SCENES = 5
_NEAREST = 1e-3  # shown of distances, in the frame of the scene; fresh networks put all points at 0
_SOURCE = "patch-8"  # an autoencoder without weights: pictures stay pictures


@dataclass(frozen=True)
class RaeExample:
    """One batch as the networks take it, in every scene's own frame."""

    rgb: Tensor  # [B, V, 3, H, W] in [0, 1]
    rays: Tensor  # [B, V, 6, H, W]
    visible: Tensor  # [B, V] bool
    target: Tensor  # [B, T, 3, H, W] in [0, 1]
    target_rays: Tensor  # [B, T, 6, H, W]
    points: Tensor | None  # [B, T, 3, H, W]
    known: Tensor | None  # [B, T, H, W] bool


class RaeTask:
    """Regression of the pictures and points of other views of the scene, from its latent tokens."""

    config_class: ClassVar[type[TrainConfig]] = RaeTrainConfig

    def __init__(self, config: RaeTrainConfig) -> None:
        """Take a run's settings and load the frozen 2-D encoder.

        Raises:
            ValueError: its weights are not found.
        """
        self.config = config
        task, folders = config.task, weight_folders(config.run.autoencoders)
        name, model = config.model.encoder, config.model
        self.encoder = None
        if name is not None:
            self.encoder = load_encoder(name, folders, "cpu", torch.float32, patch=model.patch, width=model.hidden)
        self.perceptual = load_perceptual(task.perceptual) if task.perceptual_weight else None
        self.judge = load_features(task.discriminator, folders[0]) if task.adversary_weight else None
        if sharding_wanted():
            config.check_sharding()
        found = {
            "encoder": self.encoder and self.encoder.hash,
            "perceptual": self.perceptual and self.perceptual.digest,
            "discriminator": self.judge and self.judge.digest,
        }
        self.frozen: Mapping[str, str] = {name: digest for name, digest in found.items() if digest}

    def build(self) -> RaeNetworks | Adversaries:
        """Fresh networks: Xavier weights, outputs at zero; with an adversary where there is to be one."""
        networks = RaeNetworks(self.config.model)
        xavier(networks)
        for module in networks.modules():
            if isinstance(module, Attention) and isinstance(module.q_norm, RMSNorm):
                nn.init.constant_(module.q_norm.weight, self.config.task.attention_gain)
        for parameter in networks.decoder.to_rgb.parameters():
            nn.init.zeros_(parameter)
        if self.config.model.points is not None:
            last = networks.points.head.out2[-1]
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)
        return networks if self.judge is None else Adversaries(networks, self.judge)

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names; frozen parts are moved to `device`, too."""
        move_frozen([None if self.encoder is None else self.encoder.network], device, self.config.run)
        for judge in (self.perceptual, self.judge):  # in float32: their gradients count
            if judge is not None and judge.network is not None:
                judge.network.to(device)
        shape = None if self.config.task.tokens_per_batch is None else self.draw_shape
        return build_dataset(self.config, device, _SOURCE, _SOURCE, shape)

    def choose(self, batch: RoomBatch, generator: torch.Generator, *, far: bool, context: int) -> Batch:
        """Inputs and targets in rooms; few inputs give several examples of a scene, so that batches are of one size."""
        data = self.config.data
        copies = max(1, data.context_views // context)
        rows = torch.arange(len(batch.rgb), device=batch.rgb.device).repeat_interleave(copies)
        targets = max(1, data.target_views // copies)
        return choose_example(
            batch, rows, data.rooms.strays, context, targets, in_runs=False, far=far, generator=generator
        )

    def draw_size(self, source: tuple[int, int], generator: torch.Generator) -> tuple[int, int]:
        """A random (height, width): pixels and proportions as the model and the task say."""
        model, (narrow, wide) = self.config.model, self.config.task.aspects
        draws = torch.rand(2, generator=generator, device=generator.device).tolist()
        least, most = model.pixels
        pixels = least + (most - least) * draws[0]
        aspect = math.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * draws[1]) * source[1] / source[0]
        size = (max(1, round(math.sqrt(pixels / aspect))), max(1, round(math.sqrt(pixels * aspect))))
        return fitting_size(size, model.patch, model.pixels)

    def draw_shape(self, generator: torch.Generator) -> BatchShape:
        """A random size and numbers of views, with as many scenes as have `task.tokens_per_batch` tokens."""
        task, data, model = self.config.task, self.config.data, self.config.model
        height, width = self.draw_size((1, 1), generator)
        bounds = (
            (task.least_context, data.context_views),
            (task.least_targets or data.target_views, data.target_views),
        )
        context, target = (int(torch.randint(low, high + 1, (), generator=generator)) for low, high in bounds)
        tokens = model.tokens + (context + target) * (height * width // model.patch**2)
        scenes = max(1, min(data.scenes, (task.tokens_per_batch or 0) // tokens))
        return BatchShape(scenes, context, target, (height, width))

    def draw_visible(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Which views are visible [B, V] bool; at least one of every scene."""
        task, device = self.config.task, generator.device
        low, high = task.mask_share
        masked = with_chance(task.mask_probability, (shape[0],), generator)
        share = low + (high - low) * torch.rand(shape[0], generator=generator, device=device)
        hidden = (share * shape[1]).floor().clamp(max=shape[1] - 1) * masked
        rank = torch.rand(shape, generator=generator, device=device).argsort(1).argsort(1)
        return rank >= hidden[:, None]

    def frame(self, batch: Batch, size: tuple[int, int], generator: torch.Generator) -> RaeExample:
        """Bring pictures to `size` and cameras into the scenes' frames."""
        given, asked = (resized(frames, size) for frames in (batch.context, batch.target))
        assert given.rgb is not None and asked.rgb is not None, "pictures, as patch autoencoders have them"
        scenes, views = given.rgb.shape[:2]
        reference = torch.zeros(scenes, dtype=torch.long, device=given.rgb.device)
        if self.config.task.reference == "random":
            reference = torch.randint(views, (scenes,), generator=generator, device=generator.device)
        poses = given.cameras.c2w[torch.arange(scenes, device=reference.device), reference]
        scale = reference_scales(given.cameras.centers, poses[:, :3, 3]).float()
        local, path = (to_scene_frame(frames.cameras, poses, scale) for frames in (given, asked))
        points = known = None
        if asked.depth is not None and self.config.model.points is not None:
            points, known = points_of_depth(asked.depth * scale[:, None, None, None], path)
        return RaeExample(
            rgb=given.rgb,
            rays=plucker_features(local.c2w, local.K, size),
            visible=self.draw_visible((scenes, views), generator),
            target=asked.rgb,
            target_rays=plucker_features(path.c2w, path.K, size),
            points=points,
            known=known,
        )

    @torch.no_grad()
    def features_of(self, rgb: Tensor) -> Tensor:
        """What the neck takes of pictures [B, V, 3, H, W]: features of their patches [B, V, n, F], or themselves."""
        if self.encoder is None:
            return rgb
        with frozen_precision(self.config.run, rgb.device):
            return self.encoder.encode(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])

    def loss(
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The losses of pictures and points, with that of the discriminator; [B] and scalars to log."""
        task, data = self.config.task, self.config.data
        if isinstance(batch, RoomBatch):
            batch = self.choose(batch, generator, **draw_difficulty(task, data.context_views, generator, progress))
        assert batch.context.rgb is not None
        size = (batch.context.rgb.shape[-2], batch.context.rgb.shape[-1])
        if task.tokens_per_batch is None:  # else the source has drawn it
            size = self.draw_size(size, generator)
        example = self.frame(batch, size, generator)
        noise = None
        if task.token_noise and progress >= task.noise_from:
            noise = self._noise(len(example.rgb), generator)
        against: dict[str, Any] = {}
        if task.adversary_weight and progress >= task.adversary_from_disc:
            against = {"truth": example.target, "judged": progress >= task.adversary_from}
        drawn, placed, *scores = model(
            self.features_of(example.rgb),
            example.rays,
            example.visible,
            example.target_rays,
            noise,
            pictures=task.picture_weight > 0,
            points=example.points is not None and task.points_weight > 0,
            **against,
        )
        losses, logs = picture_losses(task, self.perceptual, drawn, example.target)
        if against:
            networks = generator_of(extract_model_from_parallel(model))
            assert isinstance(networks, RaeNetworks)
            last = networks.decoder.to_rgb.weight
            of_adversary, more = adversarial_losses(losses, scores[0], last, task.adversary_weight)
            losses, logs = losses + of_adversary, logs | more
        if placed:
            assert example.points is not None and example.known is not None
            points, confidence = placed
            of_points, more = points_and_logs(points, confidence, example.points, example.known, task.points_alpha)
            losses, logs = losses + task.points_weight * of_points, logs | more
        return losses, logs if task.tokens_per_batch is None else logs | {"scenes": float(len(losses))}

    def _noise(self, scenes: int, generator: torch.Generator) -> Tensor:
        model, device = self.config.model, generator.device
        strength = torch.randn((scenes, 1, 1), generator=generator, device=device).abs() * self.config.task.token_noise
        shape = (scenes, model.tokens, model.token_dim)
        return strength * torch.randn(shape, generator=generator, device=device)

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """Inputs, truth and renderings of a few held-out scenes, with their PSNR, and depth where there is some."""
        networks = generator_of(model)
        if isinstance(batch, RoomBatch):
            batch = self.choose(batch, generator, far=True, context=self.config.data.context_views)
        batch = batch.first(_SHEET_SCENES)
        assert batch.context.rgb is not None
        source, config = (batch.context.rgb.shape[-2], batch.context.rgb.shape[-1]), self.config.model
        example = self.frame(batch, fitting_size(source, config.patch, config.pixels), generator)
        all_seen = torch.ones_like(example.visible)
        (pictures,), placed = networks(
            self.features_of(example.rgb), example.rays, all_seen, example.target_rays, points=config.points is not None
        )
        pictures = pictures.clamp(0, 1)
        rows: list[tuple[str, Tensor]] = []
        for i in range(len(pictures)):
            quality = float(psnr(pictures[i], example.target[i]).mean())
            rows += [
                (f"inputs\n{batch.title(i)}".rstrip(), example.rgb[i].cpu()),
                ("truth", example.target[i].cpu()),
                (f"rendered {quality:.1f} dB", pictures[i].cpu()),
            ]
            if placed and self.config.task.points_weight:
                distance = placed[0][i].norm(dim=1, keepdim=True).clamp_min(_NEAREST).cpu()
                rows.append(("distance from the\nfirst camera", colour_depth(distance)))
        return contact_sheet(rows, scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that the nodes load; it has no discriminator."""
        state = state if self.judge is None else generator_state(state)
        save_checkpoint(path, state, self.config.model, metadata)


def resized(frames: Frames, size: tuple[int, int]) -> Frames:
    """Frames resized to cover `size` and cropped, with their cameras; depth is taken at the nearest pixel."""
    assert frames.rgb is not None
    source = (frames.rgb.shape[-2], frames.rgb.shape[-1])
    if source == size:
        return frames
    cameras = frames.cameras
    fitted = Cameras(cameras.c2w, crop_intrinsics(cameras.K, source, size), size=size)
    depth = None if frames.depth is None else nearest_pixels(frames.depth, size)
    return Frames(fitted, fit_image(frames.rgb, size), depth=depth)
