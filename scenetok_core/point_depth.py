"""Depth from the point maps of a 3DRAE, which needs no head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .depth import MeasuredDepth
from .families import SceneModel
from .rae import Rae
from .sampling import Progress
from .types import Cameras, SceneTokens


@dataclass(frozen=True)
class PointDepth:
    """A 3DRAE as a source of depth, with the methods of `DepthHead`; there is no noise, so seeds change nothing."""

    model: Rae

    @classmethod
    def of(cls, model: SceneModel) -> PointDepth:
        """The point maps of `model`. Raises `ValueError` when it has none."""
        if not isinstance(model, Rae):
            raise ValueError(
                f"{model.config.name!r} ({model.config.family}) has no point maps of its own; choose a depth head that "
                "was trained on it, or load a 3DRAE"
            )
        model.check_points()
        return cls(model)

    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        views_per_pass: int = 0,
        progress: Progress | None = None,
        **sampling: object,
    ) -> Tensor:
        """Depth [T, 1, H, W] along the camera's z axis, in units of the cameras; not positive behind the camera.

        Arguments and errors as `Rae.point_maps`; settings of `DepthHead.render` for its sampling change nothing.
        """
        maps = self.model.point_maps(scene, cameras, views_per_pass=views_per_pass, progress=progress)
        return maps.depth[:, None]

    def measure(
        self, scene: SceneTokens, cameras: Cameras, *, progress: Progress | None = None, **sampling: object
    ) -> MeasuredDepth:
        """Depth with the confidence that the model has learnt.

        A confidence c > 1 stands for an expected error of a point in proportion to 1 / c, so 1 - 1 / c falls evenly
        from 1, where none is expected, to 0 at the largest that the model can tell: `points_alpha` of its training,
        relative to the mean distance of the scene's points. Depth is known in front of the camera.
        """
        maps = self.model.point_maps(scene, cameras, progress=progress)
        depth = maps.depth
        return MeasuredDepth(depth, 1 - 1 / maps.confidence, torch.isfinite(depth) & (depth > 0))
