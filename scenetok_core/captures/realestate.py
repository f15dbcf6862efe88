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
from .images import find_picture

SOURCE = "RealEstate10K"

_COLUMNS = 19
_LONGEST_LINE = 4096  # when a file is only tried


def is_realestate(path: Path) -> bool:
    """Whether a text file starts like a RealEstate10K one: an address, then a line of 19 columns."""
    return _first_timestamp(path) is not None


def has_frames(path: Path) -> bool:
    """Whether a file starts like a RealEstate10K one and its first frame is where `open_realestate` looks for it."""
    timestamp = _first_timestamp(path)
    return timestamp is not None and find_picture(_frame_folder(path) / timestamp) is not None


def read_cameras(path: Path) -> Cameras:
    """The cameras of a file, without pictures; their names are the timestamps.

    Raises:
        ValueError: a malformed line, no camera, invalid poses.
    """
    names, c2w, K = _read(path)
    return check_cameras(lambda: Cameras(c2w, K, names=names), path)


def open_realestate(path: Path, images: Path | None = None, within: Path | None = None) -> Capture:
    """Open a camera file with frames named by timestamp (any picture extension).

    Args:
        path: the text file.
        images: the folder with the frames; when None, the folder beside the file with its name, else `images`, else the
            file's own folder.
        within: absolute folder that no frame may lie outside of; None = anywhere.

    Raises:
        ValueError: a malformed line, no camera, missing or forbidden frames, invalid poses.
    """
    frames = [Frame(name, c2w, K) for name, c2w, K in zip(*_read(path), strict=True)]
    return assemble_capture(frames, images or _frame_folder(path), path, SOURCE, within=within, sort=False)


def poses_and_intrinsics(values: Tensor) -> tuple[Tensor, Tensor]:
    """c2w [V, 4, 4] and K [V, 3, 3] of the numbers behind the timestamps [V, 18], in float64."""
    values = values.double()
    K = torch.eye(3, dtype=torch.float64).repeat(len(values), 1, 1)
    K[:, (0, 1), (0, 1)], K[:, :2, 2] = values[:, :2], values[:, 2:4]
    w2c = values[:, 6:].reshape(-1, 3, 4)
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(values), 1, 1)
    c2w[:, :3, :3] = w2c[:, :, :3].mT
    c2w[:, :3, 3:] = -w2c[:, :, :3].mT @ w2c[:, :, 3:]
    return c2w, K


def _frame_folder(path: Path) -> Path:
    beside = (path.with_suffix(""), path.parent / "images")
    return next((folder for folder in beside if folder.is_dir()), path.parent)


def _first_timestamp(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            first, words = file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE).split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if "://" in first and len(words) == _COLUMNS else None


def _read(path: Path) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Timestamps, c2w [V, 4, 4] and K [V, 3, 3]."""
    rows = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    if rows and "://" in rows[0][1][0]:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} holds no cameras; expected an address and lines of {_COLUMNS} columns")
    values = torch.tensor([_numbers(path, number, words) for number, words in rows], dtype=torch.float64)
    return tuple(words[0] for _, words in rows), *poses_and_intrinsics(values)


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
