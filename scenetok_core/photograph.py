"""One photograph whose pose is not known: a view at the origin, with the field of view of its EXIF data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .captures import exif_fov, load_image
from .framing import DEFAULT_FOV, single_camera
from .types import Views


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
