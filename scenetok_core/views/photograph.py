"""Photographs whose poses are not known: one at the origin, or several as they are; EXIF data tell fields of view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..camera import fit_image
from ..captures import exif_fov, image_size, load_image
from ..pictures.sheets import evenly_spread
from ..trajectories.framing import DEFAULT_FOV, single_camera
from ..types import Views

_SAME_FOV = 1.0  # degrees


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture with the camera that it is taken to have."""

    view: Views  # one picture, turned upright; its camera looks along z from the origin
    fov_degrees: float  # across the longer side
    source: Literal["given", "exif", "default"]  # where the field of view comes from


def load_photograph(path: Path | str, fov_degrees: float | None = None) -> Photograph:
    """Load a picture and give it a camera at the origin.

    Args:
        path: a PNG, JPEG, WebP, BMP or TIFF file.
        fov_degrees: field of view across its longer side. None: by its EXIF data, or `DEFAULT_FOV` if they do not tell.

    Raises:
        ValueError: no readable picture, or a field of view outside of 0 to 180 degrees.
    """
    rgb, found = load_image(Path(path)), exif_fov(Path(path))
    if fov_degrees is not None:
        fov, source = fov_degrees, "given"
    else:
        fov, source = (DEFAULT_FOV, "default") if found is None else (found, "exif")
    height, width = rgb.shape[-2:]
    return Photograph(Views(rgb[None], single_camera((height, width), fov)), fov, source)


def load_photographs(
    paths: Sequence[Path],
    most: int | None = None,
    max_side: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, float | None]:
    """Load photographs of one camera, turned upright.

    Args:
        paths: picture files.
        most: of more than that, so many evenly spread ones are taken; None takes all.
        max_side: longest side in pixels, larger ones are reduced; None keeps their size.
        progress: called with (loaded, V) after each; may raise to cancel.

    Returns:
        Pictures [V, 3, H, W] in [0, 1], and the field of view across the longer side in degrees that their EXIF data
        agree on to within a degree; None when they tell none or several.

    Raises:
        ValueError: no pictures, an unreadable one, or some of another size than the first.
    """
    if not paths:
        raise ValueError("no pictures; give a folder with PNG, JPEG, WebP, BMP or TIFF files")
    if most is not None:
        paths = [paths[i] for i in evenly_spread(torch.arange(len(paths)), most).tolist()]
    height, width = image_size(paths[0])
    for path in paths:
        other = image_size(path)
        if other != (height, width):
            raise ValueError(
                f"{path.name} is {other[1]} x {other[0]}, but {paths[0].name} is {width} x {height} (width x height, "
                "upright); take all pictures with one camera held one way, or resize them"
            )
    shrink = min(1.0, (max_side or max(height, width)) / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    rgb = torch.empty(len(paths), 3, *size)
    for i, path in enumerate(paths):
        picture = load_image(path)
        rgb[i] = picture if shrink == 1 else fit_image(picture, size)
        if progress is not None:
            progress(i + 1, len(paths))
    found = [fov for path in paths if (fov := exif_fov(path)) is not None]
    agreed = len(found) == len(paths) and max(found) - min(found) < _SAME_FOV
    return rgb, sum(found) / len(found) if agreed else None
