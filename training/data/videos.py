"""Posed videos: what the readers of all data sets have in common, and captures as videos.

A data set is a `Videos`: names, and a `PosedVideo` for each of them, opened when it is needed. `training.data.source`
opens one by its settings and makes batches of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from scenetok_core.captures import Capture, find_cameras, open_capture
from scenetok_core.types import Cameras, Views

_DEPTH = 4  # folders below the root in which scenes are looked for


class StoredLatents(Protocol):
    """Normalised latents of a video that were computed before training."""

    groups: int  # latent groups of targets, counted from the first frame

    def context(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] of single frames, float32; `mirrored`: of their mirror images.

        Raises:
            ValueError: unreadable or missing latents.
        """
        ...

    def target(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] of the target autoencoder by their own index, float32.

        Raises:
            ValueError: unreadable or missing latents.
        """
        ...


class PosedVideo(Protocol):
    """F frames of one scene with a camera each, in order."""

    @property
    def name(self) -> str:
        """Unique in the data set."""
        ...

    @property
    def cameras(self) -> Cameras:
        """All F cameras: OpenCV camera-to-world; K of whole pictures, or of the squares where latents are stored."""
        ...

    @property
    def latents(self) -> StoredLatents | None:
        """Latents, where they are stored instead of pictures."""
        ...

    def frames(self, indices: Sequence[int], size: int | tuple[int, int]) -> Views:
        """Pictures [n, 3, H, W] in [0, 1], resized to cover `size` and cropped, with cameras that follow.

        `size` is (height, width) in pixels, or the side of a square.

        Raises:
            ValueError: an unreadable picture, or only latents are stored.
        """
        ...


class Videos(Protocol):
    """A data set."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all scenes, in an order that depends on nothing but the files."""
        ...

    def open(self, name: str) -> PosedVideo:
        """One scene.

        Raises:
            ValueError: it is broken.
        """
        ...


@dataclass(frozen=True)
class CaptureVideo:
    """A capture whose views are the frames of a video, in the capture's order."""

    name: str
    capture: Capture
    latents: None = None

    @property
    def cameras(self) -> Cameras:
        """Of the straightened pictures at full size."""
        return self.capture.cameras

    def frames(self, indices: Sequence[int], size: int | tuple[int, int]) -> Views:
        """Pictures of that size, straightened."""
        return self.capture.load(list(indices), size)


class CaptureVideos:
    """Captures in folders.

    Args:
        places: where they lie, by name.
        opener: reads one.
    """

    def __init__(self, places: Mapping[str, Path], opener: Callable[[Path], Capture] = open_capture) -> None:
        self.names, self._places, self._opener = tuple(places), places, opener

    def open(self, name: str) -> CaptureVideo:
        """One capture. Raises `ValueError` when it is broken."""
        return CaptureVideo(name, self._opener(self._places[name]))


def open_captures(root: Path) -> CaptureVideos:
    """A capture of any format that `open_capture` reads, or all captures in a folder.

    Raises:
        ValueError: no such folder, or no capture in it.
    """
    return CaptureVideos(find_scenes(root, lambda path: find_cameras(path) is not None, "captures"))


def find_scenes(root: Path, holds: Callable[[Path], bool], what: str) -> dict[str, Path]:
    """Scenes at or below `root` by name, sorted; what lies below a scene is not looked at.

    Args:
        root: a folder or file.
        holds: whether a folder or file is a scene.
        what: how the message calls scenes.

    Raises:
        ValueError: nothing at `root`, or no scene there.
    """
    if not root.exists():
        raise ValueError(f"no such folder: {root}; expected {what}")
    if holds(root):
        return {root.resolve().name: root}
    found = {_scene_name(path.relative_to(root)): path for path in _walk(root, holds, _DEPTH)}
    if not found:
        raise ValueError(f"no {what} in {root} or up to {_DEPTH} folders below; see docs/data.md for the layouts")
    return found


def _walk(folder: Path, holds: Callable[[Path], bool], depth: int) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "images_")):
            continue
        if holds(path):
            found.append(path)
        elif depth > 1 and path.is_dir():
            found += _walk(path, holds, depth - 1)
    return found


def _scene_name(path: Path) -> str:
    """A scene's relative path without the folder `nerfstudio`, which every scene of DL3DV has."""
    parts = path.parts[:-1] if path.name == "nerfstudio" and len(path.parts) > 1 else path.parts
    return "/".join(parts)
