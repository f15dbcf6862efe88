"""Picture files: listing, sizes and decoding."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_FIRST_TURNED_ORIENTATION = 5  # EXIF orientations 5 to 8 exchange width and height
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_FILM_DIAGONAL_MM = math.hypot(36, 24)  # a focal length "on 35 mm film" stands for an equal angle across the diagonal
_INCHES = 2
_SENSOR_UNITS_MM = {_INCHES: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # of FocalPlaneResolutionUnit
_PLAUSIBLE_DEGREES = (1.0, 150.0)
_UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture after its EXIF orientation, from the header only.

    Raises:
        ValueError: the file is no readable picture.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= _FIRST_TURNED_ORIENTATION
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def load_image(path: Path) -> Tensor:
    """Decode a picture to RGB [3, H, W] float32 in [0, 1], turned as its EXIF orientation says.

    Transparency is composited on white, grey pictures get three equal channels, 16-bit grey keeps its full depth.

    Raises:
        ValueError: the file is no readable picture.
    """
    return _decode(path, path)


def decode_image(data: bytes, name: str) -> Tensor:
    """As `load_image`, of a picture file's bytes; `name` stands for it in errors.

    Raises:
        ValueError: the bytes are no readable picture.
    """
    return _decode(io.BytesIO(data), name)


def _decode(file: Path | io.BytesIO, name: Path | str) -> Tensor:
    try:
        with Image.open(file) as picture:
            values = _to_array(ImageOps.exif_transpose(picture))
    except _UNREADABLE as error:
        raise _unreadable(name, error) from error
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def exif_fov(path: Path) -> float | None:
    """Field of view across the longer side of a picture by its EXIF data, in degrees; None when they do not tell.

    Taken from the focal length on 35 mm film, else from the focal length and the sensor's pixels per length. Values
    that no camera has, such as the zeros of those that do not know, count as absent.

    Raises:
        ValueError: the file is no readable picture.
    """
    try:
        with Image.open(path) as picture:
            size, tags = picture.size, picture.getexif().get_ifd(ExifTags.IFD.Exif)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    for focal in (_film_focal(tags), _sensor_focal(tags, size)):  # in picture diagonals
        if focal is not None:
            degrees = math.degrees(2 * math.atan(max(size) / math.hypot(*size) / (2 * focal)))
            if _PLAUSIBLE_DEGREES[0] <= degrees <= _PLAUSIBLE_DEGREES[1]:
                return degrees
    return None


def _film_focal(tags: Mapping[int, Any]) -> float | None:
    focal = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    return None if focal is None else focal / _FILM_DIAGONAL_MM


def _sensor_focal(tags: Mapping[int, Any], size: tuple[int, int]) -> float | None:
    focal, density = (
        _positive(tags.get(tag)) for tag in (ExifTags.Base.FocalLength, ExifTags.Base.FocalPlaneXResolution)
    )
    unit = _SENSOR_UNITS_MM.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, _INCHES))
    if focal is None or density is None or unit is None:
        return None
    # The density is that of the picture as taken; it may have been made smaller since.
    width, height = (_positive(tags.get(tag)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight))
    taken = size if width is None or height is None else (width, height)
    return focal * density / unit / math.hypot(*taken)


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly inside `folder`, in natural order (`frame_2` before `frame_10`)."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.name))


def find_picture(path: Path) -> Path | None:
    """The picture at `path`; a missing extension is completed. None when there is no such file."""
    if path.is_file():
        return path
    suffixes = (*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES))
    candidates = (path.with_name(path.name + suffix) for suffix in suffixes)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares runs of digits as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]


def _unreadable(path: Path | str, error: Exception) -> ValueError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
    return ValueError(f"cannot read the picture {path}: {reason}; expected a whole PNG, JPEG, WebP, BMP or TIFF file")


def _to_array(picture: Image.Image) -> np.ndarray:
    """[H, W, 3] float32 in [0, 1]."""
    if picture.mode in _SIXTEEN_BIT_MODES:
        grey = np.asarray(picture).astype(np.float32).clip(0, 65535) / 65535
        return np.repeat(grey[..., None], 3, axis=-1)
    if picture.mode == "F":
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float32)).clip(0, 1)
        return np.repeat(grey[..., None], 3, axis=-1)
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
        return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
