"""Which frames of a walk through a room are shown: input views, and targets or a path."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.batch import Batch, Frames
from training.data.rooms import RoomBatch


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
