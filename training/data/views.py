"""Which frames of a posed video are context and which are targets (SceneTok, training), and mirrored scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scenetok_core.autoencoders import LatentSpec
from scenetok_core.configs import require
from scenetok_core.types import Cameras, Views
from scenetok_core.views.selection import select_views


@dataclass(frozen=True)
class ViewsConfig:
    """How context and targets are drawn. Gaps and margins are counted in frames and widen over the first `warm_up`."""

    context_views: int = 12
    target_groups: int = 8  # latent groups of the target autoencoder: 4 frames each for VideoDCAE, 17 for Wan 2.2
    choice: Literal["farthest", "uniform"] = "farthest"  # of the context: far apart by pose, or evenly in time
    gap: tuple[int, int] | None = None  # least and most from the first to the last context view; None: the whole video
    first_gap: tuple[int, int] | None = None  # the gap at the start of the run; None: as `gap`
    margin: int = 0  # targets may lie so far outside of the context
    first_margin: int = 0  # the margin at the start of the run
    warm_up: float = 0.0  # share of the run
    target_stride: int = 1  # groups; targets start at a multiple of it
    target_windows: int = 1  # pieces into which the targets may be cut, which start at different places
    windows_share: float = 0.8  # probability that they are

    def __post_init__(self) -> None:
        counts = (self.context_views, self.target_groups, self.target_stride, self.target_windows)
        require(
            min(counts) >= 1,
            "data.videos.views.context_views, target_groups, target_stride and target_windows must be >= 1, got "
            f"{counts}",
        )
        for name in ("gap", "first_gap"):
            low, high = getattr(self, name) or (self.context_views, self.context_views)
            require(
                self.context_views - 1 <= low <= high,
                f"data.videos.views.{name} must rise from at least context_views - 1 = {self.context_views - 1} "
                f"frames, got {[low, high]}",
            )
        require(
            self.first_gap is None or self.gap is not None,
            "data.videos.views.first_gap needs data.videos.views.gap, to which the gap widens",
        )
        require(min(self.margin, self.first_margin) >= 0, "data.videos.views.margin and first_margin must be >= 0")
        for name in ("warm_up", "windows_share"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"data.videos.views.{name} must lie in [0, 1], got {share}")
        require(
            self.target_groups % self.target_windows == 0,
            f"data.videos.views.target_groups {self.target_groups} must divide by target_windows {self.target_windows}",
        )

    @property
    def widens(self) -> bool:
        """Whether gap or margin change in the course of a run."""
        gaps, margins = (self.first_gap or self.gap, self.gap), (self.first_margin, self.margin)
        return self.warm_up > 0 and (len(set(gaps)) > 1 or len(set(margins)) > 1)

    def gap_at(self, progress: float) -> tuple[int, int] | None:
        """Least and most frames from the first to the last context view when a share of the run is done."""
        if self.gap is None or self.first_gap is None:
            return self.gap
        low, high = (self._widened(first, last, progress) for first, last in zip(self.first_gap, self.gap, strict=True))
        return low, high

    def margin_at(self, progress: float) -> int:
        """Frames that targets may lie outside of the context when a share of the run is done."""
        return self._widened(self.first_margin, self.margin, progress)

    def _widened(self, first: int, last: int, progress: float) -> int:
        done = min(1.0, progress / self.warm_up) if self.warm_up else 1.0
        return first + int((last - first) * done)


@dataclass(frozen=True)
class ViewChoice:
    """Frames of one scene, counted from the start of its video."""

    context: tuple[int, ...]  # in order
    target: tuple[int, ...]  # whole groups of consecutive frames
    latents: tuple[int, ...]  # the target latents of these groups
    reference: int  # position in `context` of the view that becomes the origin


def draw_views(
    cameras: Cameras,  # F frames of one scene
    groups: int,
    spec: LatentSpec,
    config: ViewsConfig,
    progress: float,
    generator: torch.Generator,
) -> ViewChoice:
    """Draw context, targets and reference view.

    Args:
        cameras: of all frames of the video.
        groups: latent groups of targets to choose from, counted from the first frame.
        spec: of the target latents.
        config: settings.
        progress: share of the run that is done, in [0, 1].
        generator: CPU generator of all draws.

    Raises:
        ValueError: the video has too few frames.
    """
    frames, span = len(cameras), config.target_groups // config.target_windows
    gap = _draw_gap(frames, config, progress, generator)
    left, first, last = _draw_start(frames, groups, gap, spec, config, progress, generator)
    context = _context(cameras, left, left + gap, config, generator)
    starts = torch.arange(first, last + 1, config.target_stride)  # of the pieces, while all groups follow each other
    split = bool(torch.rand((), generator=generator) < config.windows_share) and config.target_windows <= len(starts)
    pieces, length = (config.target_windows, span) if split else (1, config.target_groups)
    chosen = starts[torch.randperm(len(starts), generator=generator)[:pieces]].sort().values
    picked = (chosen[:, None] + torch.arange(length)).flatten()
    return ViewChoice(
        context=context,
        target=_expand(picked, spec.group_frames),
        latents=_expand(picked, spec.group_latents),
        reference=int(torch.randint(len(context), (), generator=generator)),
    )


def _draw_gap(frames: int, config: ViewsConfig, progress: float, generator: torch.Generator) -> int:
    bounds = config.gap_at(progress)
    if bounds is None:
        low = high = frames - 1
    else:
        low, high = bounds[0], min(bounds[1], frames - 1)
    needed = max(low, config.context_views - 1) + 1
    if frames < needed:
        raise ValueError(
            f"{frames} frames are too few, {needed} are needed for {config.context_views} context views"
            + (f" at least {low} frames apart" if bounds else "")
            + f"; lower data.videos.views.{'gap' if bounds else 'context_views'}"
        )
    return int(torch.randint(low, high + 1, (), generator=generator))


def _draw_start(
    frames: int,
    groups: int,
    gap: int,
    spec: LatentSpec,
    config: ViewsConfig,
    progress: float,
    generator: torch.Generator,
) -> tuple[int, int, int]:
    """The first frame of the context, and the first and last group with which all targets in reach can start."""
    left = torch.arange(frames - gap)
    margin, stride, size = config.margin_at(progress), config.target_stride, spec.group_frames
    low = (left - margin).clamp_min(0)
    high = (left + gap + margin).clamp_max(frames - 1)
    per_step = size * stride
    first = -(-low // per_step) * stride
    last = torch.minimum((high + 1) // size, torch.tensor(groups)) - config.target_groups
    possible = (last >= first).nonzero().flatten()
    if not len(possible):
        raise ValueError(
            f"{frames} frames ({groups} groups of {size} with targets) hold no {config.target_groups} groups of targets"
            + (
                f" within {margin} frames of a context of {gap + 1}; widen data.videos.views.gap or margin"
                if config.gap
                else ""
            )
        )
    index = possible[int(torch.randint(len(possible), (), generator=generator))]
    return int(left[index]), int(first[index]), int(last[index])


def _context(
    cameras: Cameras, left: int, right: int, config: ViewsConfig, generator: torch.Generator
) -> tuple[int, ...]:
    """Context views in [left, right]; with a gap, both ends are among them."""
    count, length = config.context_views, right - left + 1
    if config.choice == "uniform":
        return tuple(torch.linspace(left, right, count).round().long().tolist())
    seed_view = int(torch.randint(length, (), generator=generator))
    chosen = select_views(cameras[left : right + 1], count, seed_view=seed_view)
    if config.gap is not None and count > 1:
        chosen[0], chosen[-1] = 0, length - 1
    return tuple(left + i for i in chosen)


def _expand(groups: Tensor, size: int) -> tuple[int, ...]:
    return tuple((groups[:, None] * size + torch.arange(size)).flatten().tolist())


def mirror_cameras(cameras: Cameras) -> Cameras:
    """The cameras of the scene seen in a mirror: the x axes of camera and world are turned over.

    Poses stay rotations. A mirrored picture's column j is column W - 1 - j of the original.
    """
    flip = torch.tensor([-1.0, 1, 1, 1], device=cameras.c2w.device)
    K = cameras.K.clone()
    K[..., 0, 2] = 1 - K[..., 0, 2]
    K[..., 0, 1] *= -1
    return cameras.replace(c2w=flip[:, None] * cameras.c2w * flip, K=K)


def mirror_views(views: Views) -> Views:
    """Pictures and cameras of the scene seen in a mirror."""
    return Views(views.rgb.flip(-1), mirror_cameras(views.cameras))
