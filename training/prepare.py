"""Compute latents before training: `python training/prepare.py --data FOLDER --autoencoder va-vae videodcae ...`.

Writes one file a scene (`training/data/latents.py`) for `kind = "latents"`. Run again to go on where it stopped; run
once per process with `--shard i/n` (or under torchrun, which sets RANK and WORLD_SIZE) to share the work.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenetok_core.autoencoders import Autoencoder, latent_spec
from scenetok_core.cli.common import check_device
from scenetok_core.configs import require
from scenetok_core.files import write_text
from scenetok_core.types import Cameras
from scenetok_core.weights.published import load_autoencoder
from training.config import RunConfig
from training.data.latents import (
    MANIFEST,
    MIRRORED,
    LatentKind,
    Manifest,
    as_stored,
    prepared_files,
    read_manifest,
    scene_file,
    write_manifest,
    write_scene,
)
from training.data.source import PictureKind, guess_kind, open_pictures
from training.data.videos import PosedVideo
from training.stopping import stop_requests

logger = logging.getLogger("training")

_PICTURES = 16  # encoded at once
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LOOSE = ("source", "scenes")  # of a manifest: may differ between runs into one folder


@dataclass(frozen=True)
class PrepareConfig:
    """What is prepared, how and where."""

    data: Path
    out: Path
    context_autoencoder: str
    target_autoencoder: str
    weights: tuple[Path, ...] = (Path(RunConfig.autoencoders),)  # folders with the autoencoders' published files
    kind: PictureKind | None = None  # None: as the folder looks
    image_size: int = 256  # side of the square pictures, in pixels
    mirror: bool = False  # the mirror images too
    shard: tuple[int, int] = (0, 1)  # this part, all parts
    precision: Literal["bf16", "fp32"] = "bf16"  # of the stored latents
    network_precision: Literal["bf16", "fp32"] = "fp32"
    clip_frames: int | None = None  # frames that the target autoencoder sees at once; None: as it is made
    device: str = "cpu"

    def __post_init__(self) -> None:
        part, parts = self.shard
        require(0 <= part < parts, f"--shard must be i/n with 0 <= i < n, got {part}/{parts}")
        context, target = (latent_spec(name) for name in (self.context_autoencoder, self.target_autoencoder))
        require(
            context.group_frames == 1,
            f"the context autoencoder must encode single pictures, but {self.context_autoencoder!r} takes groups of "
            f"{context.group_frames} frames; give two names: --autoencoder CONTEXT TARGET",
        )
        for name, spec in ((self.context_autoencoder, context), (self.target_autoencoder, target)):
            require(
                self.image_size > 0 and self.image_size % spec.spatial == 0,
                f"--size must be a multiple of the {spec.spatial} pixels of a cell of {name!r}, got {self.image_size}",
            )
        clip = target.group_frames if self.clip_frames is None else self.clip_frames
        require(
            clip > 0 and clip % target.group_frames == 0,
            f"--clip must be a multiple of the {target.group_frames} frames of a group of "
            f"{self.target_autoencoder!r}, got {self.clip_frames}",
        )

    def manifest(self) -> Manifest:
        """The manifest, with no scenes yet."""
        names = (self.context_autoencoder, self.target_autoencoder)
        context, target = (LatentKind(name, latent_spec(name)) for name in names)
        return Manifest(
            image_size=self.image_size,
            mirrored=self.mirror,
            precision=self.precision,
            context=context,
            target=target,
            clip_frames=self.clip_frames,
            source=str(self.data),
            scenes=0,
        )


@dataclass
class Report:
    """What became of the scenes of a shard."""

    prepared: int = 0
    there: int = 0  # prepared by an earlier run
    skipped: dict[str, str] = field(default_factory=dict)  # reasons by name
    stopped: bool = False

    @property
    def failed(self) -> bool:
        """Whether there were scenes and none of them could be prepared."""
        return bool(self.skipped) and self.prepared + self.there == 0


def prepare(config: PrepareConfig) -> Report:
    """Prepare the scenes of a shard that are not prepared yet, until SIGINT or SIGTERM.

    Broken scenes are skipped; `skipped-i-of-n.json` in the output folder lists them with reasons.

    Raises:
        ValueError: no data, weights that are missing or do not fit, or an output folder with other settings.
        OSError: the disk is full, or the folder cannot be written.
    """
    videos = open_pictures(config.kind or guess_kind(config.data), config.data, config.image_size)
    manifest = _agree(config)
    part, parts = config.shard
    names, report = videos.names[part::parts], Report()
    encoder: Encoder | None = None
    with logging_redirect_tqdm([logger]), stop_requests() as stop:
        for name in tqdm(names, desc=f"shard {part}/{parts}", unit="scene"):
            path = scene_file(config.out, name)
            if path.is_file():
                report.there += 1
                continue
            if stop.is_set():
                report.stopped = True
                break
            encoder = encoder or Encoder(config)
            _clear(path)
            try:
                cameras, latents = encoder.encode(videos.open(name))
            except (ValueError, OSError) as error:
                logger.warning("skipped scene %s: %s", name, error)
                report.skipped[name] = str(error)
                continue
            write_scene(path, name, cameras, latents)
            report.prepared += 1
    _write_skipped(config, report.skipped)
    write_manifest(config.out, replace(manifest, scenes=len(prepared_files(config.out))))
    return report


class Encoder:
    """Both autoencoders of a run."""

    def __init__(self, config: PrepareConfig) -> None:
        """Load the weights. Raises `ValueError` when they are missing or do not fit."""
        self.config, manifest = config, config.manifest()
        dtype = _DTYPES[config.network_precision]
        self.context = load_autoencoder(config.context_autoencoder, config.weights, config.device, dtype)
        self.target: Autoencoder | None = None  # None: that of the context
        if not manifest.shared:
            self.target = load_autoencoder(config.target_autoencoder, config.weights, config.device, dtype)

    def encode(self, video: PosedVideo) -> tuple[Cameras, dict[str, Tensor]]:
        """The cameras of the square pictures of a video, and the latents to store by their names in the file.

        Raises:
            ValueError: a broken video, one with too few frames, or latents that are not finite.
        """
        views = video.frames(range(len(video.cameras)), self.config.image_size)
        latents = self._latents(views.rgb, "")
        if self.config.mirror:
            latents |= self._latents(views.rgb.flip(-1), MIRRORED)
        return views.cameras, latents

    def _latents(self, rgb: Tensor, suffix: str) -> dict[str, Tensor]:
        found = {f"context{suffix}": self._encode(self.context, rgb, _PICTURES)}
        if self.target is not None:
            size = self.target.spec.group_frames
            whole = len(rgb) // size * size
            require(whole > 0, f"{len(rgb)} frames are too few for a group of {size}")
            clip = self.config.clip_frames or whole
            found[f"target{suffix}"] = self._encode(self.target, rgb[:whole], clip)
        for name, latents in found.items():
            require(bool(latents.isfinite().all()), f"the {name} latents are not finite")
        return {name: as_stored(latents, self.config.precision) for name, latents in found.items()}

    @torch.no_grad()
    def _encode(self, autoencoder: Autoencoder, rgb: Tensor, clip: int) -> Tensor:
        pieces = rgb.split(clip)
        return torch.cat([autoencoder.encode(piece[None].to(self.config.device))[0].cpu() for piece in pieces])


def _agree(config: PrepareConfig) -> Manifest:
    """The manifest of the output folder, which is written when there is none; it must say what `config` says."""
    manifest = config.manifest()
    if not (config.out / MANIFEST).is_file():
        write_manifest(config.out, manifest)
        return manifest
    there = read_manifest(config.out)
    for each in fields(Manifest):
        old, new = getattr(there, each.name), getattr(manifest, each.name)
        require(
            old == new or each.name in _LOOSE,
            f"{config.out} holds latents with {each.name} {_short(old)}, not {_short(new)}; choose another --out",
        )
    return manifest


def _short(value: object) -> object:
    return value.autoencoder if isinstance(value, LatentKind) else value


def _clear(path: Path) -> None:
    """Delete what killed runs left of a scene; no other shard has it."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        partial.unlink(missing_ok=True)


def _write_skipped(config: PrepareConfig, skipped: dict[str, str]) -> None:
    part, parts = config.shard
    path = config.out / f"skipped-{part}-of-{parts}.json"
    if not skipped:
        path.unlink(missing_ok=True)
        return
    write_text(path, json.dumps(skipped, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compute the latents of a data set before training (docs/data.md).")
    parser.add_argument("--data", required=True, type=Path, help="folder with chunks, scenes or captures")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument(
        "--autoencoder", required=True, nargs="+", metavar="NAME", help="of context and targets: one name or two"
    )
    parser.add_argument(
        "--weights",
        action="append",
        type=Path,
        metavar="FOLDER",
        help=f"with their published files (repeatable; default {RunConfig.autoencoders})",
    )
    parser.add_argument("--kind", choices=("re10k", "dl3dv", "captures"), help="of data; default: as it looks")
    parser.add_argument("--size", type=int, default=256, help="side of the square pictures (default 256)")
    parser.add_argument("--mirror", action="store_true", help="mirror images too")
    parser.add_argument("--shard", metavar="I/N", help="part I of N, from 0 (default RANK/WORLD_SIZE, else 0/1)")
    parser.add_argument("--precision", choices=tuple(_DTYPES), default="bf16", help="of stored latents (default bf16)")
    parser.add_argument("--network", choices=tuple(_DTYPES), default="fp32", help="of the networks (default fp32)")
    parser.add_argument("--clip", type=int, metavar="FRAMES", help="frames the target autoencoder sees at once")
    parser.add_argument("--device", help="torch device (default: a GPU where there is one)")
    return parser


def read_shard(text: str | None) -> tuple[int, int]:
    """Part and number of parts from `I/N`, or from RANK and WORLD_SIZE.

    Raises:
        ValueError: something else.
    """
    text = text or f"{os.environ.get('RANK', '0')}/{os.environ.get('WORLD_SIZE', '1')}"
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise ValueError(f"--shard must be i/n with 0 <= i < n, got {text!r}")
    return int(part), int(parts)


def _config(options: argparse.Namespace) -> PrepareConfig:
    names = options.autoencoder
    require(len(names) <= 2, f"--autoencoder takes one name or two, got {len(names)}")
    device = options.device or (f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")
    check_device(device)
    return PrepareConfig(
        data=options.data,
        out=options.out,
        context_autoencoder=names[0],
        target_autoencoder=names[-1],
        weights=tuple(options.weights or PrepareConfig.weights),
        kind=options.kind,
        image_size=options.size,
        mirror=options.mirror,
        shard=read_shard(options.shard),
        precision=options.precision,
        network_precision=options.network,
        clip_frames=options.clip,
        device=device,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = _config(options)
        report = prepare(config)
    except (ValueError, OSError, ImportError) as error:
        logger.error("%s", error)
        return 2
    print(
        f"{config.out}: scenes prepared {report.prepared}, there before {report.there}, skipped {len(report.skipped)}"
        + (", stopped; run again to go on" if report.stopped else "")
    )
    return 1 if report.failed or report.stopped else 0


if __name__ == "__main__":
    sys.exit(main())
