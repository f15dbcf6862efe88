"""RealEstate10K camera files (https://google.github.io/realestate10k/download.html).

The first line is the video's address; every other line holds a timestamp in microseconds, fx fy cx cy divided by
width and height, two zeros and a world-to-camera matrix (3 x 4, row by row, OpenCV axes, relative units).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..types import Cameras
from .capture import Capture, Frame, assemble_capture, check_cameras
from .files import read_text

SOURCE = "RealEstate10K"

_COLUMNS = 19


def is_realestate(path: Path) -> bool:
    """Whether a text file starts like a RealEstate10K one: an address, then a line of 19 columns."""
    try:
        with path.open(encoding="utf-8") as file:
            first, second = file.readline(), file.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return "://" in first and len(second.split()) == _COLUMNS


def read_cameras(path: Path) -> Cameras:
    """The cameras of a file, without pictures; their names are the timestamps.

    Raises:
        ValueError: a malformed line, no camera, invalid poses.
    """
    names, c2w, K = _read(path)
    return check_cameras(lambda: Cameras(c2w, K, names=names), path)


def open_realestate(path: Path, images: Path | None = None) -> Capture:
    """Open a camera file with frames named by timestamp (any picture extension).

    Args:
        path: the text file.
        images: the folder with the frames; when None, the folder beside the file with its name, else `images`, else the
            file's own folder.

    Raises:
        ValueError: a malformed line, no camera, missing frames, invalid poses.
    """
    beside = (path.with_suffix(""), path.parent / "images")
    folder = images or next((folder for folder in beside if folder.is_dir()), path.parent)
    frames = [Frame(name, c2w, K) for name, c2w, K in zip(*_read(path), strict=True)]
    return assemble_capture(frames, folder, path, SOURCE, sort=False)


def _read(path: Path) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Timestamps, c2w [V, 4, 4] and K [V, 3, 3]."""
    rows = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    if rows and "://" in rows[0][1][0]:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} holds no cameras; expected an address and lines of {_COLUMNS} columns")
    values = torch.tensor([_numbers(path, number, words) for number, words in rows], dtype=torch.float64)
    K = torch.eye(3, dtype=torch.float64).repeat(len(rows), 1, 1)
    K[:, (0, 1), (0, 1)], K[:, :2, 2] = values[:, :2], values[:, 2:4]
    w2c = values[:, 6:].reshape(-1, 3, 4)
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    c2w[:, :3, :3] = w2c[:, :, :3].mT
    c2w[:, :3, 3:] = -w2c[:, :, :3].mT @ w2c[:, :, 3:]
    return tuple(words[0] for _, words in rows), c2w, K


def _numbers(path: Path, number: int, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"line {number} of {path} holds more than numbers: {' '.join(words)[:80]!r}") from error
    if len(words) != _COLUMNS:
        raise ValueError(
            f"line {number} of {path} has {len(words)} columns, expected {_COLUMNS}: timestamp, fx fy cx cy, 0 0, and "
            "a 3 x 4 world-to-camera matrix"
        )
    if values[4] or values[5]:
        raise ValueError(f"columns 6 and 7 in line {number} of {path} must be 0, got {values[4]:g} and {values[5]:g}")
    return values
