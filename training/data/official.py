"""Latents as the published training code stores them: one npz a scene, mirror images in files of their own.

Context and target lie in folders of their own, `ROOT/{train,test}/1/SCENE.npz` and `SCENE_flipped.npz`:

| array | shape | |
|---|---|---|
| `latent` | [F, C, h, w] or [L, C, h, w] float16 | VA-VAE and VideoDCAE raw, Wan 2.2 already normalised |
| `extrinsics` | [F, 4, 4] float16 | OpenCV camera-to-world; both x axes turned over in mirror images |
| `intrinsics` | [F, 3, 3] float16 | divided by width and height of the square crop |

Other arrays are ignored. Mirrored cameras are computed from the plain ones (`views.mirror_cameras`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scenetok_core.types import Cameras, Views
from training.data.latents import LatentKind

SUFFIX = ".npz"
FLIPPED = "_flipped"
KEYS = ("latent", "extrinsics", "intrinsics")

_STORED_NORMALISED = ("wan2.2",)  # the others are stored as their network gives them
_OPEN_SCENES = 4


class OfficialVideo:
    """One scene: two npz files, and two more with its mirror images."""

    def __init__(self, name: str, files: tuple[Path, Path], kinds: tuple[LatentKind, LatentKind], size: int) -> None:
        """Read both plain files.

        Args:
            name: of the scene.
            files: of the context and of the targets.
            kinds: their autoencoders.
            size: side of the square crops in pixels.

        Raises:
            ValueError: missing or damaged files, other arrays than expected, or numbers that do not fit together.
        """
        self.name, self._files, self._kinds, self._size = name, files, kinds, size
        self._arrays = lru_cache(_OPEN_SCENES)(read_npz)
        context, target = (self._load(part, mirrored=False) for part in (0, 1))
        arrays = self._arrays(files[0])
        try:
            c2w, K = (torch.from_numpy(arrays[key].astype(np.float32)) for key in KEYS[1:])
            self.cameras = Cameras(c2w, K, (size, size))
        except ValueError as error:
            raise ValueError(f"{files[0]}: {error}") from error
        if len(context) != len(self.cameras):
            raise ValueError(f"{files[0]} has {len(context)} latents and {len(self.cameras)} cameras, expected as many")
        spec = kinds[1].spec
        self.groups = min(len(target) // spec.group_latents, len(self.cameras) // spec.group_frames)

    @property
    def latents(self) -> OfficialVideo:
        """Itself."""
        return self

    def frames(self, indices: Sequence[int], size: int | tuple[int, int]) -> Views:
        """Raises `ValueError`: there are no pictures."""
        raise ValueError(f"{self._files[0]} holds latents and no pictures; open the data set it was made from")

    def context(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] of single frames. Raises `ValueError` for a missing or damaged file."""
        return self._load(0, mirrored)[list(indices)]

    def target(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] by their index. Raises `ValueError` for a missing or damaged file."""
        return self._load(1, mirrored)[list(indices)]

    def _load(self, part: int, mirrored: bool) -> Tensor:
        path, autoencoder, spec = self._files[part], self._kinds[part].autoencoder, self._kinds[part].spec
        path = path.with_name(f"{path.stem}{FLIPPED}{SUFFIX}") if mirrored else path
        latents = torch.from_numpy(self._arrays(path)["latent"].astype(np.float32))
        latents = latents[0] if latents.ndim == 5 and len(latents) == 1 else latents
        side = self._size // spec.spatial
        if latents.ndim != 4 or latents.shape[1:] != (spec.channels, side, side):
            raise ValueError(
                f"latent in {path} has the shape {list(latents.shape)}, expected [L, {spec.channels}, {side}, {side}] "
                f"of {autoencoder!r} at {self._size} px"
            )
        return latents if autoencoder in _STORED_NORMALISED else spec.normalise(latents)


class OfficialVideos:
    """The scenes of which both context and target latents are there."""

    def __init__(
        self, context: Path, target: Path, kinds: tuple[LatentKind, LatentKind], size: int, *, mirrored: bool
    ) -> None:
        """List the scenes of two folders.

        Args:
            context: the folder with npz files of the context autoencoder.
            target: the folder with those of the target autoencoder.
            kinds: both autoencoders.
            size: side of the square crops in pixels.
            mirrored: only scenes that have mirror images too.

        Raises:
            ValueError: no such folder, or no scene in both.
        """
        self._folders, self._kinds, self._size = (context, target), kinds, size
        stems = [_stems(folder) for folder in self._folders]
        both = stems[0] & stems[1]
        plain = {stem for stem in both if not stem.endswith(FLIPPED)}
        self.names: tuple[str, ...] = tuple(
            sorted(stem for stem in plain if not mirrored or f"{stem}{FLIPPED}" in both)
        )
        if not self.names:
            hint = "; set data.videos.mirror = 0 to do without mirror images" if plain else ""
            raise ValueError(
                f"no scene has {'mirrored ' if plain else ''}latents in both {context} ({len(stems[0])} files) and "
                f"{target} ({len(stems[1])} files); give the folders that hold the {SUFFIX} files{hint}"
            )

    def open(self, name: str) -> OfficialVideo:
        """One scene. Raises `ValueError` when it is broken."""
        context, target = (folder / f"{name}{SUFFIX}" for folder in self._folders)
        return OfficialVideo(name, (context, target), self._kinds, self._size)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a scene.

    Raises:
        ValueError: missing, damaged, pickled, or with other arrays than expected.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise ValueError(f"it has the arrays {sorted(file)[:8]}, {', '.join(missing)} missing")
            return {key: file[key] for key in KEYS}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is damaged or no file of latents ({error}); expected {', '.join(KEYS)}") from error


def _stems(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}; expected one with {SUFFIX} files of latents")
    return {path.stem for path in folder.glob(f"*{SUFFIX}")}
