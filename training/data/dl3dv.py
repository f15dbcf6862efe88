"""DL3DV-10K: folders with a nerfstudio `transforms.json` and pictures in `images_4` (960 x 540) or `images_8`.

The JSON names the pictures of 3840 x 2160, `images/frame_00001.png`; the folders of smaller ones hold the same names.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from scenetok_core.captures import Capture, image_size, list_pictures, open_transforms
from training.data.videos import CaptureVideos, find_scenes

TRANSFORMS = "transforms.json"
FACTORS = (8, 4, 2, 1)  # by which pictures are made smaller, where there are several folders


def open_dl3dv(root: Path, size: int) -> CaptureVideos:
    """All scenes in a folder, with the smallest pictures whose shorter side has `size` pixels, else the largest.

    Scenes lie up to four folders below, with or without a folder `nerfstudio` of their own.

    Raises:
        ValueError: no such folder, or no scene in it.
    """
    places = find_scenes(root, lambda path: (path / TRANSFORMS).is_file(), f"DL3DV scenes ({TRANSFORMS})")
    return CaptureVideos(places, partial(_open_scene, size=size))


def _open_scene(folder: Path, size: int) -> Capture:
    return open_transforms(folder / TRANSFORMS, downscaled=_factor(folder, size))


def _factor(folder: Path, size: int) -> int:
    """Raises `ValueError` where no folder has pictures."""
    names = {factor: "images" if factor == 1 else f"images_{factor}" for factor in FACTORS}
    there = {factor: folder / name for factor, name in names.items() if (folder / name).is_dir()}
    pictures = {factor: found[0] for factor, place in there.items() if (found := list_pictures(place))}
    if not pictures:
        raise ValueError(f"{folder} has no pictures; expected one of the folders {', '.join(names.values())}")
    large = [factor for factor, picture in pictures.items() if min(image_size(picture)) >= size]
    return large[0] if large else min(pictures)


def is_dl3dv(folder: Path) -> bool:
    """Whether a folder is a scene whose pictures are only there in smaller copies, as DL3DV is handed out."""
    if not (folder / TRANSFORMS).is_file():
        return False
    return not (folder / "images").is_dir() and any((folder / f"images_{factor}").is_dir() for factor in FACTORS)
