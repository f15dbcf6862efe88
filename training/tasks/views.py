"""Which frames of a walk through a room are shown: input views, and targets or a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from scenetok_core.configs import require
from training.config import DataConfig, TaskConfig
from training.data.batch import Batch, Frames
from training.data.rooms import RoomBatch


@dataclass(frozen=True)
class CurriculumConfig(TaskConfig):
    """How batches of rooms get harder in the course of a run."""

    copy_share: float = 0.0  # first share of the run with `least_context` inputs that are the targets themselves
    far_from: float = 0.3  # share of the run from which on batches are as hard as they get; between, they get harder:
    far_share: float = 0.8  # of the batches has targets away from the inputs
    least_context: int = 1  # input views vary from here to data.context_views

    def __post_init__(self) -> None:
        require(0 <= self.far_share <= 1, f"task.far_share must lie in [0, 1], got {self.far_share}")
        require(self.least_context >= 1, f"task.least_context must be >= 1, got {self.least_context}")
        require(
            0 <= self.copy_share < self.far_from <= 1,
            f"task.copy_share and far_from must rise within [0, 1], got {self.copy_share} and {self.far_from}",
        )


def check_curriculum(data: DataConfig, task: CurriculumConfig) -> None:
    """Raise `ValueError` unless every batch of the run can have as many inputs and targets as it is to have."""
    require(
        task.least_context <= data.context_views,
        f"task.least_context {task.least_context} is more than data.context_views {data.context_views}",
    )
    require(
        data.kind != "rooms" or data.context_views + data.target_views <= data.rooms.views + data.rooms.strays,
        f"data.rooms.views {data.rooms.views} and strays {data.rooms.strays} are too few for "
        f"{data.context_views} inputs and {data.target_views} targets",
    )


class Difficulty(TypedDict):
    """Whether targets lie away from the inputs, and how many inputs there are."""

    far: bool
    context: int


def draw_difficulty(
    task: CurriculumConfig, context_views: int, generator: torch.Generator, progress: float
) -> Difficulty:
    """How many inputs, at most `context_views`, a batch of rooms has, and whether its targets lie far from them."""
    far, fewer = torch.rand(2, generator=generator, device=generator.device).tolist()
    hardness = min(1.0, max(0.0, progress - task.copy_share) / (task.far_from - task.copy_share))
    span = round((context_views - task.least_context) * hardness)
    context = task.least_context + min(span, int(2 * fewer * (span + 1)))  # half of the batches have the most
    return {"far": far < task.far_share * hardness, "context": context}


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


def choose_run(walk: int, length: int, *, scenes: int, generator: torch.Generator) -> Tensor:
    """`length` consecutive frames of a walk of `walk` frames, from anywhere, anew for each scene: [scenes, length].

    Raises:
        ValueError: the walk is shorter than that.
    """
    if walk < length:
        raise ValueError(f"{length} consecutive frames need a longer walk than {walk} frames; raise data.rooms.views")
    first = torch.randint(walk - length + 1, (scenes, 1), generator=generator, device=generator.device)
    return first + torch.arange(length, device=generator.device)


def choose_example(
    batch: RoomBatch,
    rows: Tensor,  # [n] rooms, each may occur several times
    strays: int,
    context: int,
    targets: int,
    *,
    in_runs: bool,
    far: bool,
    generator: torch.Generator,
) -> Batch:
    """Inputs and targets in rooms; targets are single frames, or `in_runs` consecutive ones from anywhere on the walk.

    Other arguments as `choose_views`; runs lie where they lie, whatever `far` says.
    """
    walk, scenes = batch.rgb.shape[1] - strays, len(rows)
    singles, far = (0, False) if in_runs else (targets, far)
    inputs, asked = choose_views(walk, strays, context, singles, far=far, scenes=scenes, generator=generator)
    if in_runs:
        asked = choose_run(walk, targets, scenes=scenes, generator=generator)
    return pick(batch, rows, inputs, asked)


def pick(
    batch: RoomBatch,
    rows: Tensor,  # [n] rooms, each may occur several times
    context: Tensor,  # [n, V] frames
    target: Tensor,  # [n, T] frames
) -> Batch:
    """The chosen frames of the chosen rooms."""
    cameras = batch.cameras.to(batch.rgb.device)

    def frames(index: Tensor) -> Frames:
        at = (rows[:, None], index)
        return Frames(cameras.replace(c2w=cameras.c2w[at], K=cameras.K[at]), batch.rgb[at], depth=batch.depth[at])

    return Batch(frames(context), frames(target))
