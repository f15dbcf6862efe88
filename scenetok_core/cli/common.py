"""What several commands share: progress bars, checks before any work, arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from ..captures import Capture
from ..families import SceneModel
from ..families import open_model as open_scene_model
from ..nn.blocks import compile_blocks
from ..types import Views

DEVICES = "cuda" if torch.cuda.is_available() else "cpu"
MODEL_FOLDER = Path("models", "scenetok")  # as in ComfyUI
PICTURES = (".png", ".jpg", ".webp")


@contextmanager
def bar(label: str, unit: str = "step") -> Iterator[Callable[..., None]]:
    """A progress bar, as the callback (done, total, ...) that moves it."""
    with tqdm(desc=label, unit=unit, unit_scale=unit == "B") as shown:

        def report(done: int, total: int | None, *_: object) -> None:
            if done < shown.n:  # the next pass of several
                shown.reset()
            shown.total = total
            shown.update(done - shown.n)

        yield report


def check_device(device: str) -> None:
    """Raise `ValueError` for a device that torch cannot use."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without this kind of device
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} is not usable ({reason}); try --device cpu") from error


def open_model(arguments: argparse.Namespace) -> SceneModel:
    """The scene model of `add_model`'s arguments."""
    check_device(arguments.device)
    folders = weight_folders(arguments.checkpoint, arguments.weights)
    model = open_scene_model(arguments.checkpoint, device=arguments.device, folders=folders)
    if arguments.compile:
        compile_blocks(model.networks)
    return model


def weight_folders(checkpoint: str | Path, weights: Path) -> list[Path]:
    """Where the weights of a checkpoint's autoencoders may lie: beside it, then in the folder of `add_weights`."""
    return [Path(checkpoint).parent, weights]


def check_every(every: int, least: int) -> None:
    """Raise `ValueError` unless `--every` is at least `least`."""
    if every < least:
        raise ValueError(f"--every must be at least {least}, got {every}")


def check_output(path: Path, suffixes: Sequence[str], argument: str = "--out") -> None:
    """Refuse before any work what could not be written after it."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{argument} must end in {' or '.join(suffixes)}, got {path.name!r}")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise `ValueError` where no file `path` could be written, as far as that can be told without writing it."""
    with writing(path):
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise NotADirectoryError(f"{folder} is no folder that takes new files")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into a `ValueError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: no video encoder
        raise ValueError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def load_views(capture: Capture, model: SceneModel) -> Views:
    """All pictures of a capture at the size of the model's, with a progress bar."""
    with bar("read", "picture") as progress:
        return capture.load(size=model.picture_size(capture.sizes[0]), progress=progress)


def print_scores(left_out: int, inputs: int, views: int, scores: Mapping[str, float]) -> None:
    """Print PSNR in dB, one line for each name."""
    print(f"PSNR of {left_out} left-out views, from {inputs} inputs ({views} views in all)")
    for name, value in scores.items():
        print(f"{value:6.2f} dB  {name}")


def in_bytes(size: int | None) -> str:
    """A file size for people."""
    return "unknown" if size is None else f"{tqdm.format_sizeof(size)}B"


def add_capture(parser: argparse.ArgumentParser) -> None:
    """The argument for posed pictures."""
    parser.add_argument(
        "capture", help="transforms.json, COLMAP folder, RealEstate10K text, or folder with cameras.json"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The arguments that `open_model` reads."""
    parser.add_argument("--checkpoint", required=True, help="model checkpoint (.safetensors)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks: slower start")
    add_weights(parser)
    add_device(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The argument for the folder with autoencoders, see `weight_folders`."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=MODEL_FOLDER,
        metavar="FOLDER",
        help="where the files of the model's autoencoders are looked for, after the checkpoint's own folder (default "
        f"{MODEL_FOLDER.as_posix()})",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """The argument for the scene scale."""
    parser.add_argument(
        "--scene-scale",
        type=_scale,
        default="auto",
        metavar="SCALE",
        help="auto: by the extent of the cameras (default); none: the capture's own units, as the released models were "
        "trained; or a factor",
    )


def _scale(text: str) -> str | float:
    return text if text in ("auto", "none") else float(text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The argument for a torch device."""
    parser.add_argument("--device", default=DEVICES, help=f"torch device (default {DEVICES})")
