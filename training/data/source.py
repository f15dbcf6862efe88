"""Batches of posed videos from any data set, as a pure function of seed and progress.

`VideoSource` has the shape of `training.data.loader.Dataset`. Its `Batch` holds the frames that were drawn, as pictures
or as latents, with the cameras of the data set; `reference` says which context view becomes the origin. The gap between
context views widens with `progress`; a caller that does not pass it gets the widest. A caller that draws a `BatchShape`
gets pictures of any size and other numbers of views in every batch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import torch

from scenetok_core.autoencoders import latent_spec
from scenetok_core.configs import require
from training.data.batch import SceneViews
from training.data.depths import DepthDataConfig, DepthFolder
from training.data.dl3dv import is_dl3dv, open_dl3dv
from training.data.latents import SUFFIX, LatentKind, PreparedVideos, scene_file
from training.data.official import OfficialVideos
from training.data.re10k import SUFFIX as CHUNK_SUFFIX
from training.data.re10k import RealEstateVideos
from training.data.scene_source import BatchShape, DrawShape, SceneSource
from training.data.videos import PosedVideo, StoredLatents, Videos, open_captures
from training.data.views import ViewChoice, ViewsConfig, draw_views, mirror_cameras, mirror_views

logger = logging.getLogger("training")

PictureKind = Literal["re10k", "dl3dv", "captures"]

_ATTEMPTS = 16  # scenes tried for one place in a batch


@dataclass(frozen=True)
class SetConfig:
    """One of several data sets."""

    kind: PictureKind
    root: str
    weight: float  # scenes are drawn from it with a probability proportional to this, however many it has
    gap: tuple[int, int] | None = None  # as that of data.videos.views, in frames of this set; None: that one
    held_out: int = 0
    depth: DepthDataConfig | None = None  # None: its scenes have none

    def __post_init__(self) -> None:
        require(bool(self.root), "data.videos.sets: root must name a folder")
        require(self.weight > 0, f"data.videos.sets: weight must be positive, got {self.weight} for {self.root}")
        require(self.held_out >= 0, f"data.videos.sets: held_out must be >= 0, got {self.held_out} for {self.root}")


@dataclass(frozen=True)
class VideoDataConfig:
    """Which posed videos are trained on, and how views are drawn from them."""

    kind: Literal["re10k", "dl3dv", "captures", "latents", "sets"]
    root: str = ""  # the folder with chunks, with scenes, with captures, or with latents
    target_root: str | None = None  # of published latents: the folder with those of the target autoencoder
    image_size: int = 256  # side of the square pictures, in pixels
    mirror: float = 0.5  # probability that a scene is mirrored
    workers: int = 1  # threads that read scenes
    views: ViewsConfig = field(default_factory=ViewsConfig)
    held_out: int = 0  # scenes never trained on, for sample sheets: those whose names have the smallest hashes
    depth: DepthDataConfig | None = None  # depth of the targets, for tasks that learn it
    sets: tuple[SetConfig, ...] = ()  # of kind "sets": what a scene is drawn from

    def __post_init__(self) -> None:
        mixed = self.kind == "sets"
        require(bool(self.root) != mixed, "data.videos.root must name a folder, unless kind is 'sets'")
        require(bool(self.sets) == mixed, "tables [[data.videos.sets]] belong to kind 'sets', and to no other")
        require(
            not mixed or (self.depth is None and self.held_out == 0),
            "data.videos.depth and held_out belong into the tables [[data.videos.sets]]",
        )
        require(
            self.target_root is None or self.kind == "latents",
            f"data.videos.target_root is not used with kind {self.kind!r}",
        )
        require(0 <= self.mirror <= 1, f"data.videos.mirror must lie in [0, 1], got {self.mirror}")
        counts = (self.image_size, self.workers)
        require(min(counts) >= 1, f"data.videos.image_size and workers must be >= 1, got {counts}")
        require(self.held_out >= 0, f"data.videos.held_out must be >= 0, got {self.held_out}")
        for each in self.sets:
            self.of_set(each)  # its gap must hold the context views

    def of_set(self, one: SetConfig) -> VideoDataConfig:
        """The settings of one of the sets by itself."""
        views = self.views if one.gap is None else replace(self.views, gap=one.gap, first_gap=None)
        return replace(self, kind=one.kind, root=one.root, views=views, held_out=one.held_out, depth=one.depth, sets=())


def open_pictures(kind: PictureKind, root: Path, size: int) -> Videos:
    """A data set of pictures; of copies in several sizes, those that are large enough for `size` pixels are read.

    Raises:
        ValueError: no such folder, or no scene in it.
    """
    if kind == "re10k":
        return RealEstateVideos(root)
    return open_dl3dv(root, size) if kind == "dl3dv" else open_captures(root)


def guess_kind(root: Path) -> PictureKind:
    """What a folder seems to hold.

    Raises:
        ValueError: no such folder.
    """
    if not root.exists():
        raise ValueError(f"no such folder: {root}; give one with chunks, scenes or captures (docs/data.md)")
    if any(root.glob(f"*{CHUNK_SUFFIX}")):
        return "re10k"
    below = (path for pattern in ("*", "*/nerfstudio", "*/*", "*/*/nerfstudio") for path in root.glob(pattern))
    return "dl3dv" if any(is_dl3dv(path) for path in chain([root], below)) else "captures"


def split_names(names: Sequence[str], count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of `count` scenes to hold out (all, if there are fewer), and of the others in their order.

    Held out are those with the smallest hashes, so that it depends neither on other scenes' places in the data set nor
    on whether pictures are read or what `training/prepare.py` made of them.
    """

    def digest(name: str) -> bytes:
        stem = scene_file(Path(), name.removesuffix(SUFFIX)).stem
        return hashlib.blake2b(stem.encode(), digest_size=8).digest()

    held_out = sorted(names, key=digest)[:count]
    return tuple(held_out), tuple(name for name in names if name not in set(held_out))


class VideoSource(SceneSource):
    """Endless batches of a data set."""

    def __init__(
        self,
        config: VideoDataConfig,
        context_autoencoder: str,
        target_autoencoder: str,
        shape: DrawShape | None = None,
    ) -> None:
        """Open a data set for a model with these autoencoders, which need no weights here.

        Raises:
            ValueError: no data set there, latents of other autoencoders or of another size, no mirror images where some
                are asked for, unknown autoencoders, or no scene left to train on.
        """
        super().__init__(config.workers, encoded=config.kind == "latents", shape=shape)
        names = (context_autoencoder, target_autoencoder)
        self.config = config
        self._kinds = (LatentKind(names[0], latent_spec(names[0])), LatentKind(names[1], latent_spec(names[1])))
        self._target = self._kinds[1].spec
        self.videos = self._open()
        self.held_out, self.trained = split_names(self.videos.names, config.held_out)
        require(
            bool(self.trained),
            f"data.videos.held_out = {config.held_out} leaves none of the {len(self.held_out)} scenes in {config.root} "
            "to train on; lower it, or set 0 to see training scenes on sheets",
        )
        self._depth = config.depth and DepthFolder(config.depth)
        self._warned: set[str] = set()

    def _open(self) -> Videos:
        config, root = self.config, Path(self.config.root)
        if config.kind != "latents":
            assert config.kind != "sets", "these are opened one by one"
            return open_pictures(config.kind, root, config.image_size)
        if config.target_root is not None:
            target, mirrored = Path(config.target_root), config.mirror > 0
            return OfficialVideos(root, target, self._kinds, config.image_size, mirrored=mirrored)
        videos = PreparedVideos(root)
        manifest = videos.manifest
        given = (manifest.context, manifest.target, manifest.image_size)
        require(
            given == (*self._kinds, config.image_size),
            f"{root} holds latents of {manifest.context.autoencoder!r} and {manifest.target.autoencoder!r} at "
            f"{manifest.image_size} px, expected {self._kinds[0].autoencoder!r} and {self._kinds[1].autoencoder!r} "
            f"at {config.image_size} px; prepare them anew",
        )
        require(
            manifest.mirrored or config.mirror == 0,
            f"{root} has no mirror images; set data.videos.mirror = 0 or prepare with --mirror",
        )
        return videos

    def scene(self, seed: int, progress: float, shape: BatchShape | None, turn: int | None) -> SceneViews:
        """As the base class says; held-out scenes that cannot be used are followed by the next ones."""
        in_turn = () if turn is None else self.held_out[turn % len(self.held_out) :] + self.held_out
        generator, reason = torch.Generator().manual_seed(seed), ""
        for attempt in range(_ATTEMPTS):
            drawn = int(torch.randint(len(self.trained), (), generator=generator))
            name = in_turn[attempt % len(in_turn)] if in_turn else self.trained[drawn]
            draw = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
            try:
                return self._load(self.videos.open(name), progress, shape, draw)
            except (ValueError, OSError) as error:
                reason = f"{name}: {error}"
            if name not in self._warned:
                self._warned.add(name)
                logger.warning("skipped scene %s", reason)
        raise ValueError(
            f"{_ATTEMPTS} scenes of {self.config.root} in a row cannot be used, the last because of {reason}; check "
            "data.videos.root and data.videos.views"
        )

    def _load(
        self, video: PosedVideo, progress: float, shape: BatchShape | None, generator: torch.Generator
    ) -> SceneViews:
        mirrored = bool(torch.rand((), generator=generator) < self.config.mirror)
        latents = video.latents
        views, size = self.config.views, (self.config.image_size, self.config.image_size)
        if shape is not None:
            views, size = shape.views(views), shape.size
        groups = len(video.cameras) // self._target.group_frames if latents is None else latents.groups
        choice = draw_views(video.cameras, groups, self._target, views, progress, generator)
        if latents is None:
            scene = self._of_pictures(video, choice, size, mirrored)
        else:
            scene = self._of_latents(video, latents, choice, mirrored)
        if self._depth is None:
            return scene
        depth = self._depth.read(video, choice.target, size)
        return replace(scene, target_depth=depth.flip(-1) if mirrored else depth)

    def _of_pictures(self, video: PosedVideo, choice: ViewChoice, size: tuple[int, int], mirrored: bool) -> SceneViews:
        wanted = sorted({*choice.context, *choice.target})
        views = video.frames(wanted, size)
        views = mirror_views(views) if mirrored else views
        place = {index: i for i, index in enumerate(wanted)}
        context, target = (views[[place[index] for index in part]] for part in (choice.context, choice.target))
        return SceneViews(context.rgb, target.rgb, context.cameras, target.cameras, choice.reference, video.name)

    def _of_latents(self, video: PosedVideo, latents: StoredLatents, choice: ViewChoice, mirrored: bool) -> SceneViews:
        cameras = mirror_cameras(video.cameras) if mirrored else video.cameras
        return SceneViews(
            context=latents.context(choice.context, mirrored),
            target=latents.target(choice.latents, mirrored),
            context_cameras=cameras[list(choice.context)],
            target_cameras=cameras[list(choice.target)],
            reference=choice.reference,
            name=video.name,
        )
