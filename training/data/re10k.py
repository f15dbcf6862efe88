"""RealEstate10K in chunks as pixelSplat made them: `.torch` files with about a hundred megabytes of scenes each.

A chunk is a list of dictionaries: `key` (name), `url`, `timestamps` [F], `cameras` [F, 18] (fx, fy, cx, cy divided by
width and height, two zeros, a world-to-camera matrix 3 x 4 row by row) and `images` (F tensors of JPEG bytes).
`index.json` maps each key to its chunk.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenetok_core.camera import fit_views
from scenetok_core.captures import decode_image, poses_and_intrinsics
from scenetok_core.types import Cameras, Views

logger = logging.getLogger("training")

INDEX = "index.json"
SUFFIX = ".torch"
_COLUMNS = 18
_OPEN_CHUNKS = 16  # kept open; their bytes are only mapped
_KEYS = ("key", "cameras", "images")


class RealEstateVideo:
    """One scene of a chunk; the names of its cameras are the timestamps."""

    latents = None

    def __init__(self, scene: Mapping[str, Any], where: str) -> None:
        """Take a dictionary of a chunk; `where` stands for it in errors.

        Raises:
            ValueError: another number of pictures than cameras, or invalid cameras.
        """
        self.name, self._where = str(scene["key"]), where
        values, self._images = scene["cameras"], scene["images"]
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        if shape != [len(self._images), _COLUMNS]:
            raise ValueError(
                f"{where} has {len(self._images)} pictures and cameras {shape}, expected a tensor with {_COLUMNS} "
                "numbers for each picture"
            )
        if not all(isinstance(image, Tensor) and image.dtype == torch.uint8 for image in self._images):
            raise ValueError(f"the pictures of {where} must be tensors with the bytes of JPEG files")
        timestamps = scene.get("timestamps", ())
        names = tuple(str(int(time)) for time in timestamps) if len(timestamps) == len(self._images) else ()
        try:
            c2w, K = poses_and_intrinsics(values)
            self.cameras = Cameras(c2w, K, names=names)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def frames(self, indices: Sequence[int], size: int | tuple[int, int]) -> Views:
        """Decode, resize and crop. Raises `ValueError` for an unreadable picture."""
        sides = (size, size) if isinstance(size, int) else size
        views = [fit_views(self._frame(i), sides) for i in indices]
        cameras = [view.cameras for view in views]
        return Views(
            torch.cat([view.rgb for view in views]),
            self.cameras[list(indices)].replace(K=torch.cat([each.K for each in cameras]), size=sides),
        )

    def _frame(self, index: int) -> Views:
        data = self._images[index].numpy().tobytes()
        return Views(decode_image(data, f"{index} of {self._where}")[None], self.cameras[[index]])


class RealEstateVideos:
    """All scenes of a folder of chunks."""

    def __init__(self, root: Path) -> None:
        """Read the index of a folder, or make one where there is none.

        Raises:
            ValueError: no such folder, no chunks in it, or a broken index.
        """
        chunks = sorted(root.glob(f"*{SUFFIX}"))
        if not chunks:
            raise ValueError(f"no chunks ({SUFFIX} files) in {root}; give the folder `train` or `test` that holds them")
        self.root = root
        self._chunk = lru_cache(_OPEN_CHUNKS)(load_chunk)
        index = self._index = _read_index(root / INDEX) or _make_index(chunks)
        self.names: tuple[str, ...] = tuple(sorted(index, key=lambda key: (index[key], key)))

    def open(self, name: str) -> RealEstateVideo:
        """One scene. Raises `ValueError` when its chunk is broken or lacks it."""
        path = self.root / self._index[name]
        scene = self._chunk(path).get(name)
        if scene is None:
            raise ValueError(f"{path} has no scene {name!r}, though {INDEX} says so; delete {INDEX} to do without it")
        return RealEstateVideo(scene, f"{name} in {path}")


def load_chunk(path: Path) -> dict[str, dict[str, Any]]:
    """The scenes of a chunk by key; pictures stay on the disk until they are read.

    Raises:
        ValueError: missing, damaged, holding objects besides tensors, or no chunk.
    """
    if not path.is_file():
        raise ValueError(f"no such chunk: {path}; delete {INDEX} beside it if it is gone for good")
    try:
        # Files of before torch 1.6 cannot be mapped.
        scenes = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(
            f"{path} is damaged or holds more than tensors ({reason}); copy or download it again"
        ) from error
    entries = scenes if isinstance(scenes, list) else [scenes]
    if not all(isinstance(entry, dict) and all(key in entry for key in _KEYS) for entry in entries):
        raise ValueError(
            f"{path} is no chunk of RealEstate10K; expected a list of dictionaries with {', '.join(_KEYS)}"
        )
    return {str(entry["key"]): entry for entry in entries}


def _read_index(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); delete it to do without it") from error
    if not isinstance(index, dict) or not all(isinstance(chunk, str) for chunk in index.values()):
        raise ValueError(f"{path} must map keys of scenes to chunks; delete it to do without it")
    return index


def _make_index(chunks: Sequence[Path]) -> dict[str, str]:
    index: dict[str, str] = {}
    for path in chunks:
        try:
            index |= dict.fromkeys(load_chunk(path), path.name)
        except ValueError as error:
            logger.warning("skipped a chunk: %s", error)
    if not index:
        raise ValueError(f"none of the {len(chunks)} chunks in {chunks[0].parent} can be read")
    return index
