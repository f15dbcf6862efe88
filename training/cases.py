"""What the measuring takes, whatever protocol it comes from: inputs, targets, and what is known of the world."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from scenetok_core.baselines import thumbnail
from scenetok_core.types import Cameras, Views
from training.measures.pose_search import OffsetSearch

_FINGERPRINT_SIDE = 4


@dataclass(frozen=True)
class Case:
    """One scene to measure, and what its protocol knows beyond the pictures."""

    name: str
    seed: int  # of all noise
    inputs: Views  # V views to encode
    targets: Views  # T views to render
    radian_length: float | None = None  # see `baselines.view_distance`
    baselines: Mapping[str, Tensor] = field(default_factory=dict)  # pictures [T, 3, H, W] by further methods
    seen_by: Callable[[int], Tensor] | None = None  # [T, H, W] bool: target pixels that some of the first n inputs see
    world: Callable[[Cameras], Tensor] | None = None  # true pictures [N, 3, H, W] for any N cameras
    # True depth [N, H, W] for targets and cameras of the path, with a world for any; in their units, 0 where unknown.
    depth: Callable[[Cameras], Tensor] | None = None
    path: Callable[[], Views] | None = None  # true pictures along a smooth path
    elsewhere: Callable[[], Views | None] | None = None  # true pictures along another scene's path; None: none is free
    _searches: dict[bytes, OffsetSearch] = field(default_factory=dict, repr=False)

    def offsets(self, cameras: Cameras) -> OffsetSearch:
        """The truth around the first of some cameras, drawn once however many models are measured.

        Raises:
            ValueError: no world is known.
        """
        if self.world is None:
            raise ValueError(f"the world of {self.name} is not known, so no pose can be searched in it")
        first = cameras[[0]]
        key = first.c2w.numpy().tobytes()
        if key not in self._searches:
            self._searches[key] = OffsetSearch.around(first, self.world)
        return self._searches[key]


class Benchmark(Protocol):
    """A protocol: which cases are measured."""

    name: str

    def __len__(self) -> int:
        """Cases that are expected; some may prove unusable."""
        ...

    def cases(self) -> Iterator[Case]:
        """The cases; equal benchmarks give equal ones."""
        ...

    def figures(self) -> Mapping[str, Any]:
        """Facts about the cases of the last pass: numbers and words."""
        ...

    def left_out(self) -> Mapping[str, str]:
        """Scenes of the last pass that could not be used, and why."""
        ...


class Fingerprint:
    """Eight hex digits that identify cameras and pictures: figures with equal ones may be compared.

    Rounded to a thousandth of a scene unit, a focal length and, for thumbnails, a twentieth of the brightness.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, inputs: Views, targets: Views) -> None:
        """Take notice of one scene."""
        for views in (inputs, targets):
            small = thumbnail(views.rgb, _FINGERPRINT_SIDE)
            for values, unit in ((views.cameras.c2w, 1e-3), (views.cameras.K, 1e-3), (small, 5e-2)):
                self._digest.update((values / unit).round().to(torch.int32).numpy().tobytes())

    def __str__(self) -> str:
        return self._digest.hexdigest()[:8]


class _Posed(Protocol):
    @property
    def inputs(self) -> Views: ...

    @property
    def targets(self) -> Views: ...


def fingerprint(scenes: Iterable[_Posed]) -> str:
    """The `Fingerprint` of scenes in their order."""
    found = Fingerprint()
    for scene in scenes:
        found.update(scene.inputs, scene.targets)
    return str(found)
