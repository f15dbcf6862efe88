"""Cameras of a path or a capture as a folder that other tools, and `open_capture`, read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..pictures.sheets import save_image
from ..types import Cameras
from .colmap import write_colmap
from .realestate import write_realestate
from .transforms import write_transforms

_Size = tuple[int, int]


class _Format(NamedTuple):
    picture: str  # where picture i goes
    files: tuple[str, ...]  # what `write` makes
    write: Callable[[Path, Cameras, list[str], _Size], None]


def _write_colmap(folder: Path, cameras: Cameras, pictures: list[str], size: _Size) -> None:
    write_colmap(folder / "sparse" / "0", cameras, [Path(name).name for name in pictures], size)


def _write_transforms(folder: Path, cameras: Cameras, pictures: list[str], size: _Size) -> None:
    write_transforms(folder / "transforms.json", cameras, pictures, size)


def _write_realestate(folder: Path, cameras: Cameras, pictures: list[str], size: _Size) -> None:
    write_realestate(folder / "path.txt", cameras)


FORMATS = {
    "transforms.json": _Format("images/{:06}.png", ("transforms.json",), _write_transforms),
    "COLMAP": _Format(
        "images/{:06}.png",
        ("sparse/0/cameras.txt", "sparse/0/images.txt", "sparse/0/points3D.txt"),
        _write_colmap,
    ),
    "RealEstate10K": _Format("path/{}.png", ("path.txt",), _write_realestate),
}


def check_format(name: str) -> None:
    """Raise `ValueError` unless `name` is one of `FORMATS`."""
    if name not in FORMATS:
        raise ValueError(f"unknown format of cameras {name!r}; choose one of {list(FORMATS)}")


def save_cameras(
    folder: Path | str,
    cameras: Cameras,
    name: str,
    rgb: Tensor | None = None,  # [V, 3, H, W] in [0, 1]
) -> list[Path]:
    """Write the cameras of one scene, and their pictures when there are any.

    Args:
        folder: where to; made when missing.
        cameras: V cameras; their names are replaced by numbers.
        name: one of `FORMATS`.
        rgb: the pictures that belong to them. With them the folder is a capture that `open_capture` opens.

    Returns:
        The camera files.

    Raises:
        ValueError: an unknown format, another number of pictures than cameras, a batch of scenes, or no size of the
            pictures, neither theirs nor in the cameras.
    """
    check_format(name)
    if rgb is not None and len(rgb) != len(cameras):
        raise ValueError(f"{len(rgb)} pictures but {len(cameras)} cameras; every picture needs exactly one camera")
    size = cameras.size if rgb is None else (rgb.shape[-2], rgb.shape[-1])
    if size is None:
        raise ValueError("these cameras do not know the size of their pictures, which files need; add the pictures")
    chosen, folder = FORMATS[name], Path(folder)
    pictures = [chosen.picture.format(i) for i in range(len(cameras))]
    chosen.write(folder, cameras, pictures, size)
    for picture, pixels in zip(pictures, rgb if rgb is not None else (), strict=False):
        save_image(folder / picture, pixels)
    return [folder / file for file in chosen.files]
