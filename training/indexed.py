"""Protocols on real captures: evaluation indices as pixelSplat, MVSplat and SceneTok publish them.

A JSON object from scene names to `{"context": [frames to encode], "target": [frames to render]}`, null for scenes that
are skipped; further keys of an entry are ignored. RealEstate10K, ACID and DL3DV-140 come in this form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from scenetok_core.types import Cameras
from training.cases import Case
from training.data.depths import DepthFolder
from training.data.videos import PosedVideo, Videos

_FEWEST_FOR_PATH = 3
_CLIP = "_1"  # which names in the index of DL3DV for Wan end in


@dataclass(frozen=True)
class IndexEntry:
    """Which frames of a scene are encoded and which are rendered."""

    context: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def is_path(self) -> bool:
        """Whether the targets are a video: at least three frames that follow each other."""
        first = self.target[0]
        return len(self.target) >= _FEWEST_FOR_PATH and self.target == tuple(range(first, first + len(self.target)))


Index = Mapping[str, IndexEntry | None]  # by scene; None: to be skipped


def read_index(path: Path) -> Index:
    """Read an evaluation index; None for a scene that is to be skipped.

    Raises:
        ValueError: no JSON object, no scene, or an entry that is none; the message names it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable JSON file ({error})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object from scene names to frames, got a {type(data).__name__}")
    index = {name: _entry(name, value, path) for name, value in data.items()}
    if not any(index.values()):
        raise ValueError(f"{path} names no scene to measure ({len(index)} entries, all of them null)")
    return index


def _entry(name: str, value: object, path: Path) -> IndexEntry | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f'{path}: scene {name} must be {{"context": [...], "target": [...]}} or null, got {value!r}')
    return IndexEntry(*(_frames(value.get(key), f"{path}: {key!r} of scene {name}") for key in ("context", "target")))


def _frames(value: object, where: str) -> tuple[int, ...]:
    numbers = value if isinstance(value, list) else []
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{where} must be a list of frame numbers from 0 on, got {str(value)[:80]}")
    return tuple(numbers)


class SceneNames:
    """The scenes of a data set, by the names that indices give them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._by_last_part: dict[str, list[str]] = {}
        for name in names:
            self._by_last_part.setdefault(name.rpartition("/")[2], []).append(name)

    def find(self, name: str) -> str:
        """The scene of that name, with or without `_1` at its end, or else the only one whose path ends in that.

        Raises:
            ValueError: there is none, or there are several.
        """
        wanted = (name, name.removesuffix(_CLIP))
        for each in wanted:
            if each in self._names:
                return each
        for each in wanted:
            found = self._by_last_part.get(each, [])
            if len(found) > 1:
                raise ValueError(
                    f"several scenes in the data are called {each!r}: {', '.join(found[:5])}; leave one there"
                )
            if found:
                return found[0]
        raise ValueError("not in the data")


class IndexBenchmark:
    """The scenes of an evaluation index as cases. Scenes that are missing or broken are left out and named.

    Args:
        name: of the protocol.
        index: from `read_index`.
        videos: the data set.
        side: pixels along the square pictures the model takes.
        scenes: at most so many are measured; None: all.
        depth: true depth of the videos' frames, in units of their cameras; None: none is known.

    Raises:
        ValueError: depth that is known up to a factor and an offset only.
    """

    def __init__(
        self,
        name: str,
        index: Index,
        videos: Videos,
        side: int,
        scenes: int | None = None,
        depth: DepthFolder | None = None,
    ) -> None:
        if depth is not None and depth.config.values != "depth":
            raise ValueError(
                "true depth must be depth in units of the cameras, got inverse depth, known up to a factor and an "
                "offset; set values to 'depth'"
            )
        self.name, self._index, self._videos, self._side, self._most = name, index, videos, side, scenes
        self._depth = depth
        self._broken: dict[str, str] = {}

    def __len__(self) -> int:
        usable = sum(entry is not None for entry in self._index.values())
        return usable if self._most is None else min(usable, self._most)

    def cases(self) -> Iterator[Case]:
        """The scenes in the order of the index.

        Raises:
            ValueError: none of them can be read.
        """
        self._broken, found = {}, 0
        for case in islice(self._readable(), self._most):
            found += 1
            yield case
        if not found:
            scene, reason = next(iter(self._broken.items()))
            raise ValueError(
                f"none of the {len(self._broken)} scenes of {self.name} can be read; {scene}: {reason}. The data hold "
                f"{len(self._videos.names)} scenes, such as {self._videos.names[0]!r}"
            )

    def _readable(self) -> Iterator[Case]:
        names = SceneNames(self._videos.names)
        for seed, (name, entry) in enumerate(self._index.items()):
            if entry is None:
                continue
            try:
                case = self._case(seed, self._videos.open(names.find(name)), entry)
            except (ValueError, OSError) as error:
                self._broken[name] = str(error)
            else:
                yield case

    def _case(self, seed: int, video: PosedVideo, entry: IndexEntry) -> Case:
        last, count = max(entry.context + entry.target), len(video.cameras)
        if last >= count:
            raise ValueError(f"the index asks for frame {last}, counted from 0, and there are {count}")
        inputs, targets = (video.frames(frames, self._side) for frames in (entry.context, entry.target))
        path = (lambda: targets) if entry.is_path else None
        depth = None
        if self._depth is not None:
            depth = _lookup(targets.cameras, self._depth.read(video, entry.target, self._side))
        return Case(video.name, seed, inputs, targets, path=path, depth=depth)

    def figures(self) -> dict[str, Any]:
        """Scenes that the index skips, and scenes that could not be read."""
        skipped = sum(entry is None for entry in self._index.values())
        return {"scenes_skipped_by_index": skipped, "scenes_unreadable": len(self._broken)}

    def left_out(self) -> dict[str, str]:
        """Scenes that could not be read, and why."""
        return dict(self._broken)


def _lookup(cameras: Cameras, depth: Tensor) -> Callable[[Cameras], Tensor]:
    """The depth [T, H, W] of T cameras, for some of them."""

    def find(wanted: Cameras) -> Tensor:
        matches = (wanted.c2w[:, None] == cameras.c2w).flatten(2).all(2)
        if not bool(matches.any(1).all()):
            raise ValueError("depth is known for the target frames only")
        return depth[matches.int().argmax(1)]

    return find
