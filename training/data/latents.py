"""Latents that `training/prepare.py` computed: one safetensors file a scene, and a manifest beside them.

| tensor | shape | |
|---|---|---|
| `context` | [F, C, h, w] | of every frame by itself |
| `target` | [L, C, h, w] | of whole groups from the first frame on; absent where `context` is the same |
| `context_mirrored`, `target_mirrored` | as those | of the mirror images, where the manifest says so |
| `cameras.c2w` | [F, 4, 4] float32 | OpenCV camera-to-world, in units of the data set |
| `cameras.K` | [F, 3, 3] float32 | of the square crops |

Latents are normalised as networks take them, in bfloat16 or float32. The metadata hold `format` and, as JSON, `scene`:
`name`, `frames` (names) and `unit`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scenetok_core.autoencoders import LatentSpec
from scenetok_core.configs import from_dict, to_dict
from scenetok_core.files import write_text
from scenetok_core.types import Cameras, Views
from scenetok_core.weights.checkpoints import write_tensors

FORMAT = "scenetok-latents-1"
MANIFEST = "manifest.json"
SUFFIX = ".safetensors"
MIRRORED = "_mirrored"
_AGAIN = "prepare it again with training/prepare.py"


@dataclass(frozen=True)
class LatentKind:
    """The latents of one autoencoder."""

    autoencoder: str  # as in a model's configuration
    spec: LatentSpec


@dataclass(frozen=True)
class Manifest:
    """What all scenes of a folder have in common, and how many there are."""

    image_size: int  # pixels
    mirrored: bool  # latents of the mirror images are there too
    precision: str  # bf16 or fp32
    context: LatentKind
    target: LatentKind
    clip_frames: int | None  # frames that the target autoencoder saw at once; None: all, or a group
    source: str  # kind and folder of the data set
    scenes: int
    format: str = FORMAT

    @property
    def shared(self) -> bool:
        """Whether one tensor serves as context and as target."""
        return self.context == self.target


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; it appears whole or not at all."""
    write_text(folder / MANIFEST, json.dumps(to_dict(manifest), indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        ValueError: missing, damaged or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"no {MANIFEST} in {folder}; expected a folder that training/prepare.py wrote")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        return from_dict(Manifest, data)
    except ValueError as error:  # of JSON and of text too
        raise ValueError(f"{path} cannot be read ({error}); {_AGAIN}") from error


def scene_file(folder: Path, name: str) -> Path:
    """Where the latents of a scene lie."""
    return folder / f"{name.replace('/', '--')}{SUFFIX}"


def write_scene(path: Path, name: str, cameras: Cameras, latents: Mapping[str, Tensor]) -> None:
    """Write a scene's latents; the file appears whole or not at all.

    Args:
        path: see `scene_file`.
        name: of the scene.
        cameras: F cameras of the square crops.
        latents: `context` and so on, as in the table above, in the precision to store.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    scene = {"name": name, "frames": list(cameras.names), "unit": cameras.unit}
    tensors = {**latents, "cameras.c2w": cameras.c2w, "cameras.K": cameras.K}
    write_tensors(path, tensors, {"format": FORMAT, "scene": json.dumps(scene)})


class PreparedVideo:
    """One scene of a folder; latents are read when they are asked for, and no others."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Read what the file says of itself.

        Raises:
            ValueError: missing, damaged, or not written by training/prepare.py.
        """
        self._path, self._manifest = path, manifest
        if not path.is_file():
            raise ValueError(f"no such file: {path}; {_AGAIN}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                self._shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            scene = json.loads(metadata.get("scene", "{}"))
            self.name = str(scene["name"])
        except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{path} is damaged or no file of prepared latents ({error}); {_AGAIN}") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} has the format {metadata.get('format')!r}, expected {FORMAT!r}; {_AGAIN}")
        missing = sorted(expected_tensors(manifest) - set(self._shapes))
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; {_AGAIN}")
        self.cameras = self._read_cameras(scene)
        frames = self._shapes["context"][0]
        if frames != len(self.cameras):
            raise ValueError(f"{path} has {frames} latents and {len(self.cameras)} cameras, expected as many; {_AGAIN}")
        self.groups = self._shapes[self._target_key(False)][0] // manifest.target.spec.group_latents

    @property
    def latents(self) -> PreparedVideo:
        """Itself."""
        return self

    def frames(self, indices: Sequence[int], size: int | tuple[int, int]) -> Views:
        """Raises `ValueError`: there are no pictures."""
        raise ValueError(f"{self._path} holds latents and no pictures; open the data set it was prepared from")

    def context(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] of single frames. Raises `ValueError` for a damaged file or missing mirror images."""
        return self._read("context" + MIRRORED * mirrored, indices)

    def target(self, indices: Sequence[int], mirrored: bool) -> Tensor:
        """Latents [n, C, h, w] by their index. Raises `ValueError` for a damaged file or missing mirror images."""
        return self._read(self._target_key(mirrored), indices)

    def _target_key(self, mirrored: bool) -> str:
        return ("context" if self._manifest.shared else "target") + MIRRORED * mirrored

    def _read_cameras(self, scene: Mapping[str, Any]) -> Cameras:
        with safe_open(self._path, "pt") as file:
            c2w, K = file.get_tensor("cameras.c2w"), file.get_tensor("cameras.K")
        side, names = self._manifest.image_size, tuple(scene.get("frames", ()))
        try:
            return Cameras(c2w, K, (side, side), names, scene.get("unit", "relative"))
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def _read(self, key: str, indices: Sequence[int]) -> Tensor:
        if key not in self._shapes:
            raise ValueError(f"{self._path} has no mirror images; set data.videos.mirror = 0 or prepare with --mirror")
        try:
            with safe_open(self._path, "pt") as file:
                rows = file.get_slice(key)
                return torch.cat([rows[i : i + 1] for i in indices]).float()
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{self._path} is damaged ({error}); {_AGAIN}") from error


class PreparedVideos:
    """A folder that training/prepare.py wrote."""

    def __init__(self, root: Path) -> None:
        """Read the manifest and list the scenes.

        Raises:
            ValueError: no manifest, or no scene.
        """
        self.root, self.manifest = root, read_manifest(root)
        self.names: tuple[str, ...] = tuple(path.name for path in prepared_files(root))
        if not self.names:
            raise ValueError(f"{root} has a manifest but no scene; {_AGAIN}")

    def open(self, name: str) -> PreparedVideo:
        """One scene by its file name. Raises `ValueError` when it is broken."""
        return PreparedVideo(self.root / name, self.manifest)


def prepared_files(folder: Path) -> list[Path]:
    """The files of finished scenes, sorted."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def expected_tensors(manifest: Manifest) -> set[str]:
    """Names of the tensors in the file of a scene."""
    names = {"context"} if manifest.shared else {"context", "target"}
    mirrored = {name + MIRRORED for name in names} if manifest.mirrored else set()
    return names | mirrored | {"cameras.c2w", "cameras.K"}


def as_stored(latents: Tensor, precision: str) -> Tensor:
    """Latents in the dtype that `precision` names, on the CPU."""
    return latents.to(dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[precision], device="cpu").contiguous()
