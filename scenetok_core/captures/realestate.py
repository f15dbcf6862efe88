"""RealEstate10K camera files (https://google.github.io/realestate10k/download.html).

The first line is the video's address; every other line holds a timestamp in microseconds, fx fy cx cy divided by
width and height, two zeros and a world-to-camera matrix (3 x 4, row by row, OpenCV axes, relative units).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..camera import invert_poses
from ..files import write_text
from ..types import Cameras
from .capture import Capture, Frame, assemble_capture, check_cameras
from .files import check_file_names, read_text
from .images import find_picture

SOURCE = "RealEstate10K"

_COLUMNS = 19
_ADDRESS = "scene://cameras"  # readers skip the first line, whatever it says
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


def write_realestate(path: Path | str, cameras: Cameras, timestamps: Sequence[int] | None = None) -> None:
    """Write the cameras of one scene; `read_cameras` reads them back, `open_realestate` with frames named by timestamp.

    Args:
        path: the text file; its folder is made when missing.
        cameras: V cameras.
        timestamps: V of them; None counts from 0.

    Raises:
        ValueError: not one timestamp per camera, or a batch of scenes.
    """
    numbers = range(len(cameras)) if timestamps is None else timestamps
    check_file_names(cameras, [str(number) for number in numbers])
    rows = zip(numbers, camera_numbers(cameras).tolist(), strict=True)
    lines = [" ".join([str(number), *(f"{value:.12g}" for value in values)]) for number, values in rows]
    write_text(path, "\n".join([_ADDRESS, *lines, ""]))


def camera_numbers(cameras: Cameras) -> Tensor:
    """What stands behind the timestamps of the cameras of one scene: [V, 18] float64."""
    K, w2c = cameras.K.cpu().double(), invert_poses(cameras.c2w.cpu())[:, :3]
    return torch.cat([K[:, (0, 1), (0, 1)], K[:, :2, 2], torch.zeros(len(K), 2), w2c.flatten(1)], dim=1)


def poses_and_intrinsics(values: Tensor) -> tuple[Tensor, Tensor]:
    """c2w [V, 4, 4] and K [V, 3, 3] of the numbers behind the timestamps [V, 18], in float64."""
    values = values.double()
    K = torch.eye(3, dtype=torch.float64).repeat(len(values), 1, 1)
    K[:, (0, 1), (0, 1)], K[:, :2, 2] = values[:, :2], values[:, 2:4]
    return invert_poses(values[:, 6:].reshape(-1, 3, 4)), K


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
    rows = parse_rows(read_text(path), str(path))
    values = torch.tensor([numbers_of(str(path), number, words) for number, words in rows], dtype=torch.float64)
    return tuple(words[0] for _, words in rows), *poses_and_intrinsics(values)


def parse_rows(text: str, where: str) -> list[tuple[int, list[str]]]:
    """Line numbers and columns of the cameras in a file's text. Raises `ValueError` naming `where` when it has none."""
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if rows and "://" in rows[0][1][0]:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{where} holds no cameras; expected an address and lines of {_COLUMNS} columns")
    return rows


def numbers_of(where: str, number: int, words: list[str]) -> list[float]:
    """The 18 numbers behind the timestamp of line `number`. Raises `ValueError` naming `where` for another line."""
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"line {number} of {where} holds more than numbers: {' '.join(words)[:80]!r}") from error
    if len(words) != _COLUMNS:
        raise ValueError(
            f"line {number} of {where} has {len(words)} columns, expected {_COLUMNS}: timestamp, fx fy cx cy, 0 0, and "
            "a 3 x 4 world-to-camera matrix"
        )
    if values[4] or values[5]:
        raise ValueError(f"columns 6 and 7 in line {number} of {where} must be 0, got {values[4]:g} and {values[5]:g}")
    return values
