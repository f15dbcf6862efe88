"""Reading and writing the small text files that describe captures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import write_text
from ..types import Cameras

_FRAMES = re.compile(rb'"frames"\s*:\s*\[\s*\{')
_HEAD_BYTES = 16_384


def absolute(path: Path) -> Path:
    """`path` from the root of the file system without `..`, as written: symbolic links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def confined(path: Path, within: Path | None, what: str) -> Path:
    """`path` as `absolute` gives it, which must lie below the folder `within`; unchanged when that is None.

    Nothing on the disk is looked at, so nobody learns whether a path outside exists. Symbolic links inside `within` may
    lead elsewhere: who can make them can read the files anyway.

    Args:
        path: what somebody asks for.
        within: an absolute folder.
        what: how the message names the path.

    Raises:
        ValueError: `path` is `within` itself or lies elsewhere.
    """
    if within is None:
        return path
    place = absolute(path)
    if within not in place.parents:
        raise ValueError(f"{what} is not inside {within}; copy or link it into that folder and give the path there")
    return place


def holds_frames(path: Path) -> bool:
    """Whether a JSON file has a list of objects called 'frames' near its start; reads no more than that."""
    try:
        with path.open("rb") as file:
            return _FRAMES.search(file.read(_HEAD_BYTES)) is not None
    except OSError:
        return False


def read_text(path: Path) -> str:
    """The UTF-8 text of a file. Raises `ValueError` when it is missing or binary."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {path}; check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file; expected UTF-8 text") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `ValueError` when it is broken or something other than an object."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); export it again or repair that line") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object with a list 'frames', got a {type(data).__name__}")
    return data


def read_frames(data: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """The non-empty list `frames` of a capture's JSON. Raises `ValueError` when it is missing or malformed."""
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, Mapping) for frame in frames):
        raise ValueError(f"{path} must hold a non-empty list 'frames' of objects, got keys {sorted(data)[:8]}")
    return frames


def read_matrix(value: object, shapes: tuple[tuple[int, int], ...], what: str) -> Tensor:
    """A float64 matrix of one of `shapes` from nested lists. Raises `ValueError` naming `what` otherwise."""
    try:
        matrix = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must be nested lists of numbers, got {str(value)[:60]}") from error
    if tuple(matrix.shape) not in shapes:
        expected = " or ".join(f"{rows} x {columns}" for rows, columns in shapes)
        raise ValueError(f"{what} must be a {expected} matrix, got shape {list(matrix.shape)}")
    return matrix


def check_file_names(cameras: Cameras, file_names: Sequence[str]) -> None:
    """Raise `ValueError` unless there is one name per camera of one scene."""
    if len(file_names) != len(cameras) or cameras.c2w.ndim != 3:
        shape = list(cameras.c2w.shape)
        raise ValueError(f"expected the cameras of one scene [V, 4, 4] and V names, got {shape} and {len(file_names)}")


def write_json(path: Path | str, data: Mapping[str, Any]) -> None:
    """Write JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(data, indent=1) + "\n")
