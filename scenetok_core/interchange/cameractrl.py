"""CAMERACTRL_POSES: one RealEstate10K line per camera, as a list of numbers.

[timestamp, fx, fy, cx, cy, 0, 0, 12 numbers of the world-to-camera matrix row by row], OpenCV axes, intrinsics divided
by picture width and height.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..captures.realestate import camera_numbers, numbers_of, parse_rows
from ..trajectories.framing import one_scene
from ..types import Cameras
from .matrices import cameras_from_w2c

_NUMBERS = 19


def from_cameractrl(poses: object, size: tuple[int, int] | None = None) -> Cameras:
    """Cameras of CAMERACTRL_POSES.

    Args:
        poses: V rows of 19 numbers.
        size: (height, width) of the pictures the intrinsics were made for, which the rows do not tell; None = unknown.

    Raises:
        ValueError: something else than such rows, no row, or no poses in them.
    """
    if not isinstance(poses, Sequence) or isinstance(poses, str) or not poses:
        raise ValueError(f"CAMERACTRL_POSES must be a list of rows, got {str(poses)[:60] or type(poses).__name__!r}")
    for number, row in enumerate(poses):
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != _NUMBERS:
            count = len(row) if isinstance(row, Sequence) else type(row).__name__
            raise ValueError(
                f"row {number} of CAMERACTRL_POSES must hold {_NUMBERS} numbers (timestamp, fx fy cx cy, 0 0, and a "
                f"3 x 4 world-to-camera matrix), got {count}"
            )
    return _from_rows([list(row[1:]) for row in poses], size)


def from_realestate_text(text: str, size: tuple[int, int] | None = None) -> Cameras:
    """Cameras of the text of a RealEstate10K file, with or without its first line, the address of the video.

    Raises:
        ValueError: a malformed line, no camera, or no poses in them.
    """
    rows = parse_rows(text, "the text")
    names = tuple(words[0] for _, words in rows)
    return _from_rows([numbers_of("the text", number, words) for number, words in rows], size).replace(names=names)


def to_cameractrl(cameras: Cameras) -> list[list[float]]:
    """The cameras of one scene as rows of 19 numbers, timestamps 0. Raises `ValueError` for a batch of scenes."""
    cameras = one_scene(cameras)
    return [[0.0, *values] for values in camera_numbers(cameras).tolist()]


def _from_rows(rows: list[list[float]], size: tuple[int, int] | None) -> Cameras:
    try:
        values = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"CAMERACTRL_POSES must hold numbers only ({error})") from error
    K = torch.eye(3, dtype=torch.float64).repeat(len(values), 1, 1)
    K[:, (0, 1), (0, 1)], K[:, :2, 2] = values[:, :2], values[:, 2:4]
    return cameras_from_w2c(values[:, 6:].reshape(-1, 3, 4), K, size)
