"""Pictures with depth and cameras: what a depth head measures, and the `DA3_GEOMETRY` of ComfyUI's core nodes.

`DA3_GEOMETRY` (ComfyUI 0.25 and newer) is a dict: depth (S, H, W), image (S, H, W, 3), mode; of several views also
world-to-camera extrinsics (1, S, 3, 4) and intrinsics (1, S, 3, 3) in pixels; maybe confidence and sky (S, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..camera import fit_cameras, fit_image, invert_poses
from ..depth import MeasuredDepth, grey_depth
from ..interchange.depth_anything import INTRINSICS_SIZE, geometry_cameras
from ..sampling import Progress
from ..trajectories.framing import DEFAULT_FOV, single_camera
from ..types import Cameras, SceneTokens, Views, check_shape

_SKY = 0.5  # probability


@dataclass(frozen=True, eq=False)
class PosedDepth:
    """Posed pictures with the depth of every pixel.

    Raises:
        ValueError: shapes that do not belong together.
    """

    views: Views  # rgb [T, 3, H, W] in [0, 1] and T cameras
    depth: Tensor  # [T, H, W] along the camera's z axis, in units of the cameras
    confidence: Tensor  # [T, H, W] in [0, 1]
    known: Tensor  # [T, H, W] bool; what is not positive or not finite counts as unknown in any case

    def __post_init__(self) -> None:
        count, _, height, width = self.views.rgb.shape
        for name in ("depth", "confidence", "known"):
            check_shape(name, getattr(self, name), (count, height, width))
        object.__setattr__(self, "known", self.known & self.depth.isfinite() & (self.depth > 0))

    def mask(self, min_confidence: float) -> Tensor:
        """Where depth is known and at least as confident as that: [T, H, W] bool."""
        return self.known & (self.confidence >= min_confidence)


class DepthSource(Protocol):
    """What measures depth in scenes: a `DepthHead`, or the point maps of a 3DRAE (`PointDepth`)."""

    def measure(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        samples: int = 1,
        steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> MeasuredDepth:
        """Depth along a camera path."""
        ...


def measure_depth(
    source: DepthSource,
    scene: SceneTokens,
    cameras: Cameras,
    *,
    rgb: Tensor | None = None,
    samples: int = 1,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PosedDepth:
    """Render depth along a camera path, with its confidence.

    Args:
        source: a head for the model that made the tokens, or that model's own point maps.
        scene: the scene.
        cameras: T cameras; depth is that of the model's pictures.
        rgb: [T, 3, *, *] frames of the path, which are resized and cropped to the size of these; None takes the depth
            itself as grey pictures.
        samples: of a head. 1 renders once, confidence is 1 everywhere. With more, depth is their mean, and confidence
            falls evenly from 1, where they agree, to 0, where their standard deviation is 20 % of the depth or more.
            Point maps are no samples and have a confidence that is learnt (`PointDepth.measure`).
        steps: sampling steps of a head. None: its default for one sample, the scene model's for several.
        seed: of the first sample; the others count up from it.
        progress: called after every step; may raise to cancel.

    Returns:
        Depth in units of the cameras; where it is known, the source's `measure` says.

    Raises:
        ValueError: another number of frames than cameras, tokens of another model, or impossible settings.
    """
    if rgb is not None and len(rgb) != len(cameras):
        raise ValueError(
            f"{len(rgb)} frames but {len(cameras)} cameras; give the frames that Render Trajectory made of this path"
        )
    found = source.measure(scene, cameras, samples=samples, steps=steps, seed=seed, progress=progress)
    size = (found.depth.shape[-2], found.depth.shape[-1])
    grey = found.depth[:, None]
    pictures = grey_depth(grey)[:, None].expand(-1, 3, -1, -1) if rgb is None else fit_image(rgb.float(), size)
    return PosedDepth(Views(pictures, fit_cameras(cameras, size)), found.depth, found.confidence, found.known)


def to_da3(posed: PosedDepth) -> dict[str, Any]:
    """Posed depth as a `DA3_GEOMETRY` of several views; confidence is 0 where depth is unknown."""
    cameras = posed.views.cameras.to("cpu")
    height, width = posed.depth.shape[-2:]
    w2c = invert_poses(cameras.c2w).float()
    return {
        "mode": "multiview",
        "depth": posed.depth.float().cpu().contiguous(),
        "image": posed.views.rgb.movedim(1, -1).float().cpu().contiguous(),
        "confidence": torch.where(posed.known, posed.confidence, 0).float().cpu(),
        "extrinsics": w2c[None, :, :3].contiguous(),
        "intrinsics": cameras.K[None] * torch.tensor([width, height, 1.0])[:, None],
        INTRINSICS_SIZE: (height, width),
    }


def from_da3(geometry: Mapping[str, Any], cameras: Cameras | None = None) -> PosedDepth:
    """Read a `DA3_GEOMETRY`, of Depth Anything 3 or of `to_da3`.

    Cameras as `interchange.depth_anything` reads them. Depth Anything 3's confidence has no upper bound: values that
    are not within [0, 1] are stretched to that range, frame by frame, as the core nodes do. Sky is unknown depth.

    Args:
        geometry: the dict.
        cameras: used instead of those of the geometry, for pictures of any size of the same proportions. Of a single
            picture without cameras the field of view is taken to be 60 degrees, the camera to be at the origin.

    Raises:
        ValueError: no such dict, wrong shapes, several pictures without cameras, or cameras that are none.
    """
    missing = [key for key in ("depth", "image") if not isinstance(geometry.get(key), Tensor)]
    if missing:
        raise ValueError(f"not a DA3_GEOMETRY: {missing} missing, got keys {sorted(map(str, geometry))[:8]}")
    depth, image = geometry["depth"].float().cpu(), geometry["image"].float().cpu()
    check_shape("depth of the DA3_GEOMETRY", depth, (None, None, None))
    check_shape("image of the DA3_GEOMETRY", image, (*depth.shape, 3))
    size = (depth.shape[-2], depth.shape[-1])
    posed = _da3_cameras(geometry, len(depth), size) if cameras is None else fit_cameras(cameras, size)
    known = torch.ones_like(depth, dtype=torch.bool)
    if "sky" in geometry:
        known = geometry["sky"].cpu() < _SKY
    confidence = geometry.get("confidence")
    confidence = torch.ones_like(depth) if confidence is None else _normalised(confidence.float().cpu())
    return PosedDepth(Views(image.movedim(-1, 1), posed), depth, confidence, known)


def _da3_cameras(geometry: Mapping[str, Any], count: int, size: tuple[int, int]) -> Cameras:
    if "extrinsics" not in geometry or "intrinsics" not in geometry:
        if count > 1:
            raise ValueError(
                f"the DA3_GEOMETRY holds {count} pictures without cameras; run Depth Anything 3 in mode multiview, or "
                "connect the cameras of the pictures"
            )
        return single_camera(size, DEFAULT_FOV)
    return geometry_cameras(geometry, count, size)


def _normalised(confidence: Tensor) -> Tensor:
    """Confidence [S, H, W] in [0, 1]: as it is, or stretched frame by frame."""
    low, high = confidence.amin((-2, -1), keepdim=True), confidence.amax((-2, -1), keepdim=True)
    if bool(((low >= 0) & (high <= 1)).all()):
        return confidence
    return torch.where(high > low, (confidence - low) / (high - low).clamp_min(1e-12), 1.0)
