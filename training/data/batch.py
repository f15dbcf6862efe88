"""What a training step takes from any source of posed videos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scenetok_core.types import Cameras


@dataclass(frozen=True, eq=False)
class Frames:
    """T posed frames of each of B scenes: as pictures of the model's size, or as latents of its autoencoder.

    Cameras are in the units and axes of their data set, not yet relative to the reference view.

    Raises:
        ValueError: neither pictures nor latents.
    """

    cameras: Cameras  # c2w [B, T, 4, 4], K [B, T, 3, 3] of these pictures
    rgb: Tensor | None = None  # [B, T, 3, H, W] in [0, 1]
    latents: Tensor | None = None  # [B, L, C, h, w], normalised
    # [B, T, H, W] along the camera's z axis, in the cameras' units; 0 where unknown. Of relative estimates: one over an
    # inverse depth with a factor and an offset that are unknown and the same in all frames.
    depth: Tensor | None = None

    def __post_init__(self) -> None:
        if self.rgb is None and self.latents is None:
            raise ValueError("frames need pictures or latents, got neither")

    @property
    def content(self) -> Tensor:
        """The latents if there are some, else the pictures."""
        content = self.rgb if self.latents is None else self.latents
        assert content is not None, "checked at the start"
        return content

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Frames:
        """The same frames on another device."""
        parts = (self.rgb, self.latents, self.depth)
        moved = (part if part is None else part.to(device, non_blocking=non_blocking) for part in parts)
        return Frames(self.cameras.to(device), *moved)

    def first(self, count: int) -> Frames:
        """Those of the first `count` scenes, or of all if there are fewer."""
        cameras = self.cameras.replace(c2w=self.cameras.c2w[:count], K=self.cameras.K[:count])
        parts = (part if part is None else part[:count] for part in (self.rgb, self.latents, self.depth))
        return Frames(cameras, *parts)


@dataclass(frozen=True, eq=False)
class Batch:
    """B scenes; input views are sorted along the video."""

    context: Frames  # the input views
    target: Frames  # frames of the same scenes: whole groups of consecutive ones where the autoencoder takes groups
    reference: Tensor | None = None  # [B] int64: the input view that becomes the origin, where the source chooses it
    names: tuple[str, ...] = ()  # of the scenes, where they have some
    held_out: bool = True  # none of the scenes is trained on; told where it is asked for, on sheets

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same scenes on another device."""
        context, target = (frames.to(device, non_blocking) for frames in (self.context, self.target))
        reference = None if self.reference is None else self.reference.to(device)
        return dataclasses.replace(self, context=context, target=target, reference=reference)

    def first(self, count: int) -> Batch:
        """The first `count` scenes, or all if there are fewer."""
        context, target = (frames.first(count) for frames in (self.context, self.target))
        reference = None if self.reference is None else self.reference[:count]
        return dataclasses.replace(self, context=context, target=target, reference=reference, names=self.names[:count])

    def title(self, index: int) -> str:
        """What a sheet says of a scene: its name, and whether it is a training scene."""
        name = [self.names[index]] if self.names else []
        return "\n".join([*name, *([] if self.held_out else ["(training scene)"])])


@dataclass(frozen=True)
class SceneViews:
    """What a batch holds of one scene."""

    context: Tensor  # [V, 3, H, W] or [V, C, h, w]
    target: Tensor  # [T, 3, H, W] or [L, C, h, w]
    context_cameras: Cameras  # [V]
    target_cameras: Cameras  # [T]
    reference: int
    name: str
    target_depth: Tensor | None = None  # [T, H, W], as that of `Frames`


def collate(scenes: Sequence[SceneViews], *, encoded: bool, held_out: bool = False) -> Batch:
    """The batch of some scenes with equal numbers of views, as pictures or, `encoded`, as latents.

    Depth of scenes without it is unknown everywhere, where others have some.
    """

    def frames(content: list[Tensor], cameras: list[Cameras], depth: Tensor | None = None) -> Frames:
        stacked = torch.stack(content)
        return Frames(_stack(cameras), **{"latents" if encoded else "rgb": stacked}, depth=depth)

    known = next((scene.target_depth for scene in scenes if scene.target_depth is not None), None)
    depths = (
        [known.new_zeros(known.shape) if scene.target_depth is None else scene.target_depth for scene in scenes]
        if known is not None
        else []
    )

    return Batch(
        context=frames([scene.context for scene in scenes], [scene.context_cameras for scene in scenes]),
        target=frames(
            [scene.target for scene in scenes],
            [scene.target_cameras for scene in scenes],
            torch.stack(depths) if depths else None,
        ),
        reference=torch.tensor([scene.reference for scene in scenes]),
        names=tuple(scene.name for scene in scenes),
        held_out=held_out,
    )


def _stack(cameras: Sequence[Cameras]) -> Cameras:
    sizes = {each.size for each in cameras}
    return Cameras(
        torch.stack([each.c2w for each in cameras]),
        torch.stack([each.K for each in cameras]),
        size=sizes.pop() if len(sizes) == 1 else None,
    )
