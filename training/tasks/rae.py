"""A 3DRAE trained from posed pictures: rendering of other views and their point maps (3DRAE, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from scenetok_core.camera import crop_intrinsics, fit_image, plucker_features, reference_scales, to_scene_frame
from scenetok_core.checkpoints import save_checkpoint
from scenetok_core.configs import RaeConfig, require
from scenetok_core.depth import colour_depth
from scenetok_core.metrics import psnr
from scenetok_core.models.rae import RaeNetworks
from scenetok_core.nn.attention import Attention, RMSNorm
from scenetok_core.picture_size import fitting_size
from scenetok_core.sheets import contact_sheet
from scenetok_core.types import Cameras
from training.config import TrainConfig
from training.data.batch import Batch, Frames
from training.data.loader import Dataset
from training.data.rooms import RoomBatch
from training.dataset import build_dataset
from training.tasks.point_loss import point_loss, points_of_depth
from training.tasks.shared import require_shares, with_chance, xavier
from training.tasks.views import CurriculumConfig, choose_example, draw_difficulty

_SHEET_SCENES = 5
_GRADIENT_SCALES = 2
_SOURCE = "patch-8"  # an autoencoder without weights: pictures stay pictures


@dataclass(frozen=True)
class RaeTaskConfig(CurriculumConfig):
    """How a 3DRAE is trained."""

    kind: Literal["rae"] = "rae"
    mask_probability: float = 0.1  # of a batch in which some views are invisible ...
    mask_share: tuple[float, float] = (0.6, 0.9)  # ... so much of them; section A.4 (table 5 says 0.1 to 0.6)
    token_noise: float = 0.8  # tau: noise on tokens has a standard deviation |N(0, tau^2)| (arXiv 2510.11690)
    noise_from: float = 0.0  # share of the run from which on there is noise
    aspects: tuple[float, float] = (0.7, 1.8)  # width / height of pictures
    reference: Literal["first", "random"] = "first"  # the input view that becomes the origin
    gradient_weight: float = 0.0  # of the L1 loss between picture gradients
    picture_weight: float = 1.0
    points_weight: float = 1.0
    attention_gain: float = 1.0  # of the queries at the start, where they are normalised

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shares(self, "mask_probability noise_from")
        low, high = self.mask_share
        require(0 <= low <= high <= 1, f"task.mask_share must rise within [0, 1], got {self.mask_share}")
        low, high = self.aspects
        require(0 < low <= high, f"task.aspects must rise from above 0, got {self.aspects}")
        for name in ("token_noise", "picture_weight", "gradient_weight", "points_weight"):
            require(getattr(self, name) >= 0, f"task.{name} must be >= 0, got {getattr(self, name)}")
        require(
            max(self.picture_weight, self.points_weight) > 0,
            "task.picture_weight and points_weight are both 0: there is nothing to learn",
        )


@dataclass(frozen=True)
class RaeTrainConfig(TrainConfig):
    """A complete run that trains a 3DRAE."""

    model: RaeConfig
    task: RaeTaskConfig = field(default_factory=RaeTaskConfig)

    @property
    def picture_size(self) -> None:
        """Any: pictures are brought to sizes drawn anew for every batch."""
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.data.context_views <= self.model.context_views,
            f"data.context_views {self.data.context_views} is more than model.context_views {self.model.context_views}",
        )


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
        self.frozen: Mapping[str, str] = {}

    def build(self) -> RaeNetworks:
        """Fresh networks: Xavier weights, outputs at zero."""
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
        return networks

    def dataset(self, device: torch.device) -> Dataset:
        """The scenes that `data.kind` names."""
        return build_dataset(self.config, device, _SOURCE, _SOURCE)

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

    def loss(
        self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Squared error of pictures in [-1, 1], with the losses of gradients and points; [B] and scalars to log."""
        task, data = self.config.task, self.config.data
        if isinstance(batch, RoomBatch):
            batch = self.choose(batch, generator, **draw_difficulty(task, data.context_views, generator, progress))
        assert batch.context.rgb is not None
        source = (batch.context.rgb.shape[-2], batch.context.rgb.shape[-1])
        example = self.frame(batch, self.draw_size(source, generator), generator)
        noise = None
        if task.token_noise and progress >= task.noise_from:
            noise = self._noise(len(example.rgb), generator)
        drawn, placed = model(
            example.rgb,
            example.rays,
            example.visible,
            example.target_rays,
            noise,
            pictures=task.picture_weight > 0,
            points=example.points is not None and task.points_weight > 0,
        )
        losses, logs = example.target.new_zeros(len(example.target)), {}
        for pictures in drawn:
            squared = (pictures - example.target).square().flatten(1).mean(1)
            losses = losses + task.picture_weight * 4 * squared
            logs["psnr"] = (-10 * squared.detach().clamp_min(1e-10).log10()).mean()
            if task.gradient_weight:
                losses = losses + task.gradient_weight * gradient_loss(pictures, example.target)
        if placed:
            assert example.points is not None and example.known is not None
            points, confidence = placed
            of_points = point_loss(points, confidence, example.points, example.known)
            losses = losses + task.points_weight * of_points
            error = (points - example.points).norm(dim=2) / example.points.norm(dim=2).clamp_min(1e-6)
            logs |= {"loss_points": of_points.detach().mean(), "error_points": error[example.known].detach().mean()}
        return losses, logs

    def _noise(self, scenes: int, generator: torch.Generator) -> Tensor:
        model, device = self.config.model, generator.device
        strength = torch.randn((scenes, 1, 1), generator=generator, device=device).abs() * self.config.task.token_noise
        shape = (scenes, model.tokens, model.token_dim)
        return strength * torch.randn(shape, generator=generator, device=device)

    @torch.no_grad()
    def sheet(self, model: nn.Module, batch: RoomBatch | Batch, generator: torch.Generator) -> Image.Image:
        """Inputs, truth and renderings of a few held-out scenes, with their PSNR, and depth where there is some."""
        assert isinstance(model, RaeNetworks)
        if isinstance(batch, RoomBatch):
            batch = self.choose(batch, generator, far=True, context=self.config.data.context_views)
        batch = batch.first(_SHEET_SCENES)
        assert batch.context.rgb is not None
        source, config = (batch.context.rgb.shape[-2], batch.context.rgb.shape[-1]), self.config.model
        example = self.frame(batch, fitting_size(source, config.patch, config.pixels), generator)
        all_seen = torch.ones_like(example.visible)
        (pictures,), placed = model(
            example.rgb, example.rays, all_seen, example.target_rays, points=config.points is not None
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
                distance = placed[0][i].norm(dim=1, keepdim=True).cpu()
                rows.append(("distance from the\nfirst camera", colour_depth(distance)))
        return contact_sheet(rows, scale=2)

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an inference checkpoint that the nodes load."""
        save_checkpoint(path, state, self.config.model, metadata)


def gradient_loss(pictures: Tensor, truth: Tensor) -> Tensor:
    """L1 loss [B] between the gradients of pictures [B, T, 3, H, W] at two scales."""
    total = torch.zeros(len(truth), device=truth.device)
    a, b = pictures.float(), truth
    for _ in range(_GRADIENT_SCALES):
        for dim in (-1, -2):
            total = total + (a.diff(dim=dim) - b.diff(dim=dim)).abs().flatten(1).mean(1)
        a, b = (F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2]) for x in (a, b))
    return total


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


def nearest_pixels(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [..., H, W] at the nearest pixels of a picture resized to cover `size` and cropped; nothing is mixed."""
    height, width = maps.shape[-2:]
    zoom = max(size[0] / height, size[1] / width)
    rows, columns = (
        (((torch.arange(new, device=maps.device) + 0.5 - new / 2) / zoom + old / 2).floor().long().clamp(0, old - 1))
        for new, old in zip(size, (height, width), strict=True)
    )
    return maps[..., rows[:, None], columns]
