"""Whether released weights are the published ones, load, and reconstruct pictures: figures, nothing printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..autoencoders import Autoencoder, published_files
from ..camera import fit_views
from ..configs import ReleasedConfig, SceneGenConfig, SceneTokConfig
from ..generation import SceneGenerator
from ..leave_out import leave_out
from ..metrics import psnr
from ..pipeline import SceneTok
from ..sampling import Progress
from ..types import Views
from .checkpoints import load_checkpoint, model_hash
from .convert import file_hash
from .downloads import KnownFile
from .pickles import PICKLED, read_pickled
from .presets import model_tensors, with_null_tokens

C = TypeVar("C", SceneTokConfig, SceneGenConfig)


@dataclass(frozen=True)
class FileCheck:
    """A file's SHA-256 beside the recorded one, all in hexadecimal digits."""

    path: Path
    sha256: str
    published: str | None  # of the published file: this one, or what it was converted from; None: nobody noted it
    known: str | None  # as recorded for the published file

    @property
    def matches(self) -> bool | None:
        """Whether it is, or was made of, the recorded file; None where that cannot be told."""
        return None if self.known is None or self.published is None else self.published == self.known


@dataclass(frozen=True)
class Reconstruction:
    """How well a model renders left-out views of a capture."""

    inputs: int  # views that were encoded
    left_out: int  # views between them, which were rendered
    scores: Mapping[str, float]  # mean PSNR in dB of renderings and baselines, by name
    autoencoder: float  # mean PSNR in dB of the left-out views through the target autoencoder alone
    seconds: Mapping[str, float]  # by stage
    peak_memory: int | None  # bytes on the device; None on one that does not count them


@dataclass(frozen=True)
class Drawing:
    """How a scene that was drawn from one view looks from there."""

    token_mean: float
    token_std: float
    score: float  # PSNR in dB of the view, rendered again
    seconds: Mapping[str, float]  # by stage
    peak_memory: int | None  # bytes on the device; None on one that does not count them


def find_files(config: ReleasedConfig, folder: Path) -> dict[str, Path | None]:
    """The files that a released model needs: name of the published file -> where it lies, None where it is missing.

    A model's file counts as published (`.ckpt`) and converted (`.safetensors`), which comes first.
    """
    names = {f"{config.name}.ckpt": (f"{config.name}.safetensors", f"{config.name}.ckpt")}
    autoencoders = [config.context_autoencoder]
    if isinstance(config, SceneTokConfig):
        autoencoders.append(config.target_autoencoder)
    names |= {files[0]: files for name in autoencoders if (files := published_files(name))}
    return {
        published: next((path for name in choices if (path := folder / name).is_file()), None)
        for published, choices in names.items()
    }


def check_file(path: Path, known: KnownFile | None, progress: Callable[[int, int], None] | None = None) -> FileCheck:
    """Hash a file, and set it beside what is recorded of the published one.

    Args:
        path: a published file, or one that `convert` made of it.
        known: the published file; None when it is not in the table.
        progress: called with (bytes read, bytes in all).

    Raises:
        ValueError: a safetensors file without a readable header.
    """
    digest = file_hash(path, progress)
    recorded = known and known.sha256
    if known is not None and path.name == known.name:
        return FileCheck(path, digest, digest, recorded)
    return FileCheck(path, digest, _source_hash(path), recorded)


def _source_hash(path: Path) -> str | None:
    """SHA-256 of the file that a checkpoint was converted from, as its metadata says."""
    if path.suffix.lower() in PICKLED:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("source_sha256")
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is damaged or no safetensors file ({error}); download or copy it again"
        ) from error


def load_model(config: SceneTokConfig, path: Path, device: torch.device | str = "cpu") -> SceneTok:
    """Load a released model, converted or as published, with the autoencoders that lie beside it.

    Args:
        config: the released model that the file should hold.
        path: its file; of a pickled one nothing is run.
        device: where the networks run.

    Raises:
        ValueError: an unreadable file, another model, other settings than `config`, missing, unexpected or mis-shaped
            tensors, or an autoencoder's weights that are not there or do not fit.
    """
    state, fitted, digest = _read(config, path)
    return SceneTok.assemble(state, fitted, {"model_hash": digest}, [path.parent], device)


def load_generator(config: SceneGenConfig, path: Path, device: torch.device | str = "cpu") -> SceneGenerator:
    """Load a released scene generator; arguments and errors as `load_model`."""
    state, fitted, digest = _read(config, path)
    return SceneGenerator.assemble(state, fitted, {"model_hash": digest}, [path.parent], device)


def _read(config: C, path: Path) -> tuple[dict[str, Tensor], C, str]:
    """The networks' tensors, `config` as it fits them, and their hash."""
    if path.suffix.lower() in PICKLED:
        tensors = model_tensors(read_pickled(path))
        return tensors, with_null_tokens(config, _shapes(tensors)), model_hash(tensors)
    tensors, stored, metadata = load_checkpoint(path, type(config))
    if stored != with_null_tokens(config, _shapes(tensors)):
        raise ValueError(
            f"{path.name} holds {stored.name!r} with other settings than {config.name!r} has here; convert the "
            f"published file again, with --preset {config.name}"
        )
    return tensors, stored, metadata["model_hash"]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def reconstruct(
    model: SceneTok, views: Views, every: int = 2, *, seed: int = 0, progress: Progress | None = None
) -> Reconstruction:
    """Encode every `every`-th view, render the views between, and put them through the target autoencoder alone.

    Arguments and errors as `leave_out`.
    """
    seconds: dict[str, float] = {}
    _forget_peak(model.device)
    with _timed(seconds, "encode and render"):
        result = leave_out(model, views, every, seed=seed, progress=progress)
    with _timed(seconds, "autoencoder alone"):
        decoded = _round_trip(model.target_autoencoder, result.truth.rgb, model.device)
    return Reconstruction(
        inputs=len(result.inputs),
        left_out=len(result.truth),
        scores=result.scores(),
        autoencoder=float(psnr(decoded, result.truth.rgb).mean()),
        seconds=seconds,
        peak_memory=_peak(model.device),
    )


def draw(
    generator: SceneGenerator, model: SceneTok, views: Views, *, seed: int = 0, progress: Progress | None = None
) -> Drawing:
    """Draw a scene from the first view along the cameras of all, and render that view again.

    Args:
        generator: draws.
        model: renders; the one whose tokens the generator draws.
        views: the views of one scene in the order they were taken.
        seed: of the scene and of the rendering.
        progress: called after every step of the drawing, then of the rendering; may raise to cancel.

    Raises:
        ValueError: a model whose tokens the generator is not trained to draw.
    """
    seconds: dict[str, float] = {}
    first, side = views[[0]], model.config.image_size
    _forget_peak(model.device)
    with _timed(seconds, "draw"):
        noise = torch.Generator().manual_seed(seed)
        scene = generator.generate(first, views.cameras, model, generator=noise, progress=progress)
    with _timed(seconds, "render"):
        noise = torch.Generator().manual_seed(seed)
        frames = model.render(scene, first.cameras, generator=noise, progress=progress)
    return Drawing(
        token_mean=float(scene.tokens.mean()),
        token_std=float(scene.tokens.std()),
        score=float(psnr(frames, fit_views(first, (side, side)).rgb).mean()),
        seconds=seconds,
        peak_memory=_peak(model.device),
    )


@torch.no_grad()
def _round_trip(autoencoder: Autoencoder, frames: Tensor, device: torch.device) -> Tensor:
    """Frames [T, 3, H, W] encoded and decoded; the last one fills up their last group."""
    count, spec = len(frames), autoencoder.spec
    surplus = spec.groups(count) * spec.group_frames - count
    padded = frames[[*range(count), *[count - 1] * surplus]]
    return autoencoder.decode(autoencoder.encode(padded[None].to(device)))[0, :count].float().cpu()


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
