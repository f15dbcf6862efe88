"""What tasks share: settings of the flow and of the scene's frame, noise levels, fresh weights, frozen autoencoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenetok_core.autoencoders import Autoencoder, LatentSpec
from scenetok_core.camera import camera_extents, ray_features, scale_focal, scale_to, to_scene_frame
from scenetok_core.configs import DepthConfig, SceneGenConfig, require
from scenetok_core.flow import shift_time
from scenetok_core.models.dit import DiT
from scenetok_core.pipeline import SceneTok
from scenetok_core.types import Cameras
from training.config import RunConfig, TaskConfig, TrainConfig
from training.data.batch import Batch, Frames

_GRADIENT_SCALES = 2
_LEVEL_BUCKETS = 5  # of equal width over the noise levels in [0, 1)


@dataclass(frozen=True)
class FlowTaskConfig(TaskConfig):
    """Settings of every task that trains a rectified flow over posed pictures."""

    # How noise levels are drawn: lognorm is sigmoid(N(time_mean, time_std)), uniform in [0, 1], shifted the same after
    # the timestep shift `time_shift`.
    weighting: Literal["lognorm", "uniform", "shifted"] = "lognorm"
    time_mean: float = 0.0
    time_std: float = 1.0
    time_shift: float = 1.0
    unconditional: float = 0.0  # share of the scenes without condition, which guidance needs
    # The view that becomes the origin. Encoding takes the most central one, on a walk about the middle one.
    reference: Literal["random", "middle"] = "random"
    scene_scale: Literal["auto", "none"] = "auto"  # auto: as in inference, from the extent of the cameras; none: 1
    scale_range: tuple[float, float] = (0.7, 1.4)  # random factor on the scene scale

    def __post_init__(self) -> None:
        require_shares(self, "unconditional")
        require(self.time_std >= 0, f"task.time_std must be >= 0, got {self.time_std}")
        require(self.time_shift > 0, f"task.time_shift must be positive, got {self.time_shift}")
        low, high = self.scale_range
        require(0 < low <= high, f"task.scale_range must rise from above 0, got {self.scale_range}")


def require_shares(task: TaskConfig, names: str) -> None:
    """Raise `ValueError` unless the settings `names`, parted by spaces, lie in [0, 1]."""
    for name in names.split():
        share = getattr(task, name)
        require(0 <= share <= 1, f"task.{name} must lie in [0, 1], got {share}")


def draw_levels(task: FlowTaskConfig, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent noise levels in [0, 1] as `task.weighting` says."""
    if task.weighting == "lognorm":
        draws = torch.randn(shape, generator=generator, device=generator.device)
        return torch.sigmoid(draws * task.time_std + task.time_mean)
    levels = torch.rand(shape, generator=generator, device=generator.device)
    return shift_time(levels, task.time_shift) if task.weighting == "shifted" else levels


def level_logs(
    values: Mapping[str, Tensor],  # [...] each, by name
    t: Tensor,  # [...] noise levels in [0, 1]
) -> dict[str, Tensor]:
    """Means of the values by noise level, to log: in five buckets of t, and where t is exactly 1.

    They are named `NAME_by_t/0.0_0.2` to `NAME_by_t/0.8_1.0` (its upper end is not inside) and `NAME_by_t/1`; a bucket
    without a value is NaN.
    """
    width = 1 / _LEVEL_BUCKETS
    labels = [*(f"{i * width:.1f}_{(i + 1) * width:.1f}" for i in range(_LEVEL_BUCKETS)), "1"]
    bucket = (t * _LEVEL_BUCKETS).long().clamp(0, _LEVEL_BUCKETS - 1).masked_fill(t == 1, _LEVEL_BUCKETS)
    member = bucket.flatten() == torch.arange(len(labels), device=t.device)[:, None]
    logs = {}
    for name, value in values.items():
        means = torch.where(member, value.detach().float().flatten(), 0).sum(1) / member.sum(1)
        logs |= {f"{name}_by_t/{label}": mean for label, mean in zip(labels, means, strict=True)}
    return logs


def draw_factors(task: FlowTaskConfig, scenes: int, generator: torch.Generator, *, jitter: bool) -> Tensor:
    """Factors [scenes] on the scene scales; 1 without `jitter`."""
    low, high = task.scale_range if jitter else (1.0, 1.0)
    return torch.rand(scenes, generator=generator, device=generator.device) * (high - low) + low


def with_chance(share: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent booleans that are true with probability `share`."""
    return torch.rand(shape, generator=generator, device=generator.device) < share


def xavier(model: nn.Module) -> None:
    """Xavier weights and zero biases in every linear layer and convolution."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def open_gates(blocks: Iterable[nn.Module], hidden: int) -> None:
    """Modulation that ignores its input and leaves residual branches as they are: shift 0, scale 0, gate 1."""
    for block in blocks:
        last: nn.Linear = block.adaLN_modulation[1]  # type: ignore[index,assignment]
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.view(6, hidden).copy_(torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None].expand(6, hidden))


def silence(trunk: DiT) -> None:
    """Let a trunk predict zeros at first."""
    for parameter in (*trunk.final_layer.adaLN_modulation.parameters(), *trunk.final_layer.linear.parameters()):
        nn.init.zeros_(parameter)


def choose_frames(
    task: FlowTaskConfig, batch: Batch, extent: float, generator: torch.Generator, *, jitter: bool
) -> tuple[Tensor, Tensor]:
    """The frame of every scene: the pose of the input view that becomes the origin [B, 4, 4], and the scale [B].

    `extent` is what scale "auto" brings the extent of the input cameras to.
    """
    given = batch.context.cameras
    device, (count, context) = given.c2w.device, given.c2w.shape[:2]
    views = torch.randint(context, (count,), generator=generator, device=device)
    if task.reference == "middle":
        views = torch.full_like(views, context // 2)
    elif batch.reference is not None:
        views = batch.reference
    scale = draw_factors(task, count, generator, jitter=jitter)
    if task.scene_scale == "auto":
        scale = scale_to(camera_extents(given.centers).float(), extent) * scale
    return given.c2w[torch.arange(count, device=device), views], scale


def flow_errors(
    out: Tensor,  # [B, L, C, h, w] prediction
    kind: str,  # v or x, what is predicted
    clean: Tensor,  # [B, L, C, h, w]
    noise: Tensor,  # [B, L, C, h, w]
    level: Tensor,  # noise levels, broadcast against these
    cap: float,
) -> Tensor:
    """Squared errors [B, L, C, h, w] of the prediction; those of clean latents are weighted min(1 / t^2, cap)."""
    if kind == "v":
        return (out - (noise - clean)).square()
    return level.square().reciprocal().clamp(max=cap) * (out - clean).square()


def scene_rays(
    cameras: Cameras,  # [B, V]
    reference_c2w: Tensor,  # [B, 4, 4]
    scale: Tensor,  # [B]
    focal: tuple[float, float],
    side: int,
) -> Tensor:
    """Ray maps [B, V, 6, side, side] in the scene's frame, with focal lengths times `focal`."""
    local = to_scene_frame(cameras, reference_c2w, scale)
    return ray_features(local.c2w, scale_focal(local.K, focal), (side, side))


def scene_of(cameras: Cameras, index: int) -> Cameras:
    """The cameras of one scene of a batch."""
    return cameras.replace(c2w=cameras.c2w[index], K=cameras.K[index])


def move_frozen(parts: Iterable[nn.Module | None], device: torch.device, run: RunConfig) -> None:
    """Bring frozen networks to `device`, on a GPU with weights in the precision of the run; buffers stay exact."""
    for part in parts:
        if part is not None:
            part.to(device)
            if device.type != "cpu" and run.mixed_precision == "bf16":
                for weight in part.parameters():
                    weight.data = weight.data.to(torch.bfloat16)


def frozen_precision(run: RunConfig, device: torch.device) -> torch.autocast:
    """What frozen networks work in, so that they have the precision of the run, as those that are trained do."""
    return torch.autocast(device.type, torch.bfloat16, enabled=run.mixed_precision == "bf16")


@torch.no_grad()
def latents_of(frames: Frames, autoencoder: Autoencoder) -> Tensor:
    """Latents [B, L, C, h, w], encoded unless they are at hand."""
    if frames.latents is not None:
        return frames.latents
    assert frames.rgb is not None
    return autoencoder.encode(frames.rgb)


@torch.no_grad()
def pictures_of(frames: Frames, autoencoder: Autoencoder) -> Tensor:
    """Pictures [B, T, 3, H, W] in [0, 1], decoded unless they are at hand."""
    return autoencoder.decode(latents_of(frames, autoencoder)) if frames.rgb is None else frames.rgb


def load_scene_model(config: TrainConfig, checkpoint: str) -> SceneTok:
    """The frozen model of a run on its tokens, from `task.scene_checkpoint`.

    Raises:
        ValueError: no such model, weights of an autoencoder are not found, or it does not fit `config`.
    """
    model, name = config.model, Path(checkpoint).name
    assert isinstance(model, SceneGenConfig | DepthConfig), "these name a scene model"
    scene = SceneTok.load(checkpoint, folders=weight_folders(config.run.autoencoders, checkpoint))
    require_same("model.scene_model", model.scene_model, scene.config.name, name)
    require_same("model.image_size", model.image_size, scene.config.image_size, name)
    require(
        config.data.context_views <= scene.config.context_views,
        f"data.context_views {config.data.context_views} is more than the {scene.config.context_views} that {name} "
        "takes",
    )
    return scene


def require_same(setting: str, ours: object, theirs: object, file: str) -> None:
    """Raise `ValueError` unless a setting is what the frozen model in `file` has."""
    require(ours == theirs, f"{setting} is {ours!r}, but {file} has {theirs!r}; set it to that")


def check_groups(config: TrainConfig, name: str, spec: LatentSpec) -> None:
    """Raise `ValueError` unless the targets are whole groups of the target autoencoder `name`."""
    group = spec.group_frames
    require(
        config.data.target_views % group == 0,
        f"data.target_views {config.data.target_views} must be a multiple of {group}: {name!r} makes latents of groups "
        f"of {group} frames",
    )


def weight_folders(folder: str, *checkpoints: str) -> list[Path]:
    """Where weights of autoencoders may lie: `run.autoencoders`, then beside checkpoints."""
    return [Path(folder), *(Path(checkpoint).parent for checkpoint in checkpoints)]


def gradient_loss(pictures: Tensor, truth: Tensor) -> Tensor:
    """L1 loss [B] between the gradients of pictures [B, T, 3, H, W] at two scales."""
    total = torch.zeros(len(truth), device=truth.device)
    a, b = pictures.float(), truth
    for _ in range(_GRADIENT_SCALES):
        for dim in (-1, -2):
            total = total + (a.diff(dim=dim) - b.diff(dim=dim)).abs().flatten(1).mean(1)
        a, b = (F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2]) for x in (a, b))
    return total
