"""Depth of posed videos on disk: ground truth, or estimates such as those of Video Depth Anything.

Of a scene `NAME` one of these is read, all below one folder (`docs/data.md`):

    NAME.npz, NAME_depths.npz    array `depths` [F, H, W], as Video Depth Anything writes it
    NAME/*.png                   one grey picture of 16 bits a frame, in natural order
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import grid_sample

from scenetok_core.captures.distortion import undistortion_grid
from scenetok_core.captures.images import natural_key
from scenetok_core.configs import require
from training.data.videos import CaptureVideo, PosedVideo

_ARRAYS = ("depths", "depth")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class DepthDataConfig:
    """Where the depth of posed videos lies and what its values are."""

    root: str  # folder with one file or one folder a scene
    # inverse: larger is nearer, known up to a factor and an offset a scene. depth: along the camera's z axis.
    values: Literal["inverse", "depth"] = "inverse"
    scale: float = 1.0  # of "depth": units of the cameras per value

    def __post_init__(self) -> None:
        require(bool(self.root), "data.videos.depth.root must name a folder")
        require(self.scale > 0, f"data.videos.depth.scale must be positive, got {self.scale}")
        require(
            self.values == "depth" or self.scale == 1.0,
            f"data.videos.depth.scale = {self.scale} is not used with values 'inverse', whose factor is unknown",
        )


class DepthFolder:
    """The depth of a data set.

    Raises:
        ValueError: no such folder.
    """

    def __init__(self, config: DepthDataConfig) -> None:
        self.config, self.root = config, Path(config.root)
        require(self.root.is_dir(), f"no such folder of depth: {self.root}; docs/data.md says what it must hold")

    def read(self, video: PosedVideo, indices: Sequence[int], size: int | tuple[int, int]) -> Tensor:
        """Depth [n, H, W] of frames of a video, straightened and cropped as their pictures are.

        `size` is (height, width) in pixels, or the side of a square. Pixels take the nearest value, since a mean of
        near and far is the depth of nothing. Where only latents of the video are stored, its pictures had no
        distortion, or the depth is that of straightened ones.

        Returns:
            Depth in units of the cameras, 0 where unknown; with values "inverse" one over these.

        Raises:
            ValueError: no depth of this scene, another number of frames or other proportions than the video has, or a
                damaged file; the message names it.
        """
        place, frames = self._find(video.name), len(video.cameras)
        maps = (_read_pictures if place.is_dir() else _read_array)(place, frames, indices)
        if isinstance(video, CaptureVideo):
            _check_aspect(place, maps, video.capture.sizes[indices[0]])
            maps = torch.stack([_straighten(depth, video, index) for depth, index in zip(maps, indices, strict=True)])
        maps = nearest_pixels(maps, (size, size) if isinstance(size, int) else size)
        if self.config.values == "depth":
            return torch.where(maps.isfinite() & (maps > 0), maps * self.config.scale, 0)
        return torch.where(maps.isfinite() & (maps >= 0), 1 / maps, 0)  # infinitely far where it is 0

    def _find(self, name: str) -> Path:
        places = (self.root / f"{name}.npz", self.root / f"{name}_depths.npz", self.root / name)
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise ValueError(f"no depth of scene {name}: expected one of {', '.join(str(place) for place in places)}")
        return found


def _read_array(path: Path, frames: int, indices: Sequence[int]) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in (*_ARRAYS, *file.files) if name in file.files]
            if not names:
                raise ValueError("it holds no array")
            values = file[names[0]]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}); expected an NPZ file with an array 'depths'") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
    if values.ndim != 3 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise ValueError(f"{path}: 'depths' must be numbers [F, H, W], got {values.dtype} {list(values.shape)}")
    _check_count(path, len(values), frames)
    return torch.from_numpy(values[list(indices)].astype(np.float32))


def _read_pictures(folder: Path, frames: int, indices: Sequence[int]) -> Tensor:
    files = sorted(folder.glob("*.png"), key=lambda path: natural_key(path.name))
    _check_count(folder, len(files), frames)
    maps = [_read_picture(files[index]) for index in indices]
    sizes = {tuple(depth.shape) for depth in maps}
    if len(sizes) > 1:
        raise ValueError(f"{folder} holds depth of different sizes, {sorted(sizes)}; expected one size a scene")
    return torch.stack(maps)


def _read_picture(path: Path) -> Tensor:
    try:
        with Image.open(path) as picture:
            if picture.mode not in _SIXTEEN_BITS:
                raise ValueError(f"its mode is {picture.mode}, expected grey of 16 bits")
            return torch.from_numpy(np.asarray(picture).astype(np.float32))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no readable picture of depth ({error})") from error


def _check_count(path: Path, found: int, frames: int) -> None:
    if found != frames:
        raise ValueError(f"{path} has the depth of {found} frames, but the video has {frames}; one a frame is expected")


def _check_aspect(path: Path, maps: Tensor, size: tuple[int, int]) -> None:
    (height, width), (high, wide) = maps.shape[-2:], size
    if abs(height * wide - width * high) > _ASPECT_TOLERANCE * width * high:
        raise ValueError(
            f"{path} holds depth of {width} x {height}, but the pictures are {wide} x {high} (width x height); "
            "expected equal proportions"
        )


def _straighten(depth: Tensor, video: CaptureVideo, index: int) -> Tensor:
    lens = video.capture.lenses[index]
    if lens is None:
        return depth
    grid = undistortion_grid(video.capture.K[index], lens, (depth.shape[0], depth.shape[1]))
    return grid_sample(depth[None, None], grid[None], mode="nearest", padding_mode="border", align_corners=False)[0, 0]


def nearest_pixels(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [..., H, W] at the nearest pixels of a picture resized to cover `size` and cropped; nothing is mixed."""
    full = (maps.shape[-2], maps.shape[-1])
    step = min(full[0] / size[0], full[1] / size[1])  # pixels of the maps for one of the result

    def nearest(new: int, old: int) -> Tensor:
        centres = torch.arange(new, dtype=torch.float64) + 0.5
        return ((centres - new / 2) * step + old / 2).floor().long().clamp(0, old - 1).to(maps.device)

    return maps[..., nearest(size[0], full[0])[:, None], nearest(size[1], full[1])]
