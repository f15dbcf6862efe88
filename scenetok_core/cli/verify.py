"""`verify`: released weights: hash, load, and a reconstruction in figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..captures import open_capture
from ..configs import ReleasedConfig, SceneGenConfig, SceneTokConfig
from ..generation import SceneGenerator
from ..pipeline import SceneTok
from ..types import Views
from ..weights.downloads import known_file
from ..weights.presets import PRESETS as MODELS
from ..weights.verify import check_file, draw, find_files, load_generator, load_model, reconstruct
from .common import MODEL_FOLDER, add_device, bar, check_device, check_every, in_bytes, load_views, print_scores

_EXAMPLE = Path(__file__).resolve().parents[2] / "workflows" / "example_capture" / "transforms.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("preset", choices=list(MODELS), metavar="PRESET", help=f"one of {', '.join(MODELS)}")
    parser.add_argument(
        "--folder",
        type=Path,
        default=MODEL_FOLDER,
        help=f"where the files lie, converted or as published (default {MODEL_FOLDER.as_posix()})",
    )
    parser.add_argument("--capture", type=Path, help="posed pictures to measure on (default: the example capture)")
    parser.add_argument("--every", type=int, default=2, help="encode every n-th view, render those between (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    """Check the hashes of a model's files, load them, print figures."""
    check_every(arguments.every, 2)
    if arguments.capture is None and not _EXAMPLE.is_file():
        raise ValueError("no example capture beside the package; name one with --capture")
    check_device(arguments.device)
    config, folder = MODELS[arguments.preset], arguments.folder
    files = find_files(config, folder)
    path, generator = _hashed(config, files, folder), None
    if isinstance(config, SceneGenConfig):
        with _loading(config):
            generator = load_generator(config, path, arguments.device)
        config = MODELS[config.scene_model]
        others = find_files(config, folder)
        if None in others.values():
            print(f"no scene is drawn: {_missing(others, folder)}")
            return
        path = _hashed(config, others, folder, known=files)
    assert isinstance(config, SceneTokConfig), "a scene generator draws for a SceneTok model"
    with _loading(config):
        model = load_model(config, path, arguments.device)
    views = load_views(open_capture(arguments.capture or _EXAMPLE), model)
    if generator is None:
        _verify_model(model, views, arguments)
    else:
        _verify_generator(generator, model, views, arguments)


def _verify_model(model: SceneTok, views: Views, arguments: argparse.Namespace) -> None:
    with bar("render") as progress:
        figures = reconstruct(model, views, arguments.every, seed=arguments.seed, progress=progress)
    print_scores(figures.left_out, figures.inputs, len(views), figures.scores)
    print(f"{figures.autoencoder:6.2f} dB  autoencoder {model.config.target_autoencoder} alone")
    _print_cost(figures.seconds, figures.peak_memory)


def _verify_generator(generator: SceneGenerator, model: SceneTok, views: Views, arguments: argparse.Namespace) -> None:
    with bar("draw") as progress:
        figures = draw(generator, model, views, seed=arguments.seed, progress=progress)
    print(f"one scene from the first of {len(views)} views")
    print(f"tokens: mean {figures.token_mean:.4f}, standard deviation {figures.token_std:.4f}")
    print(f"{figures.score:6.2f} dB  that view, rendered again")
    _print_cost(figures.seconds, figures.peak_memory)


def _missing(files: Mapping[str, Path | None], folder: Path) -> str:
    names = [name for name, path in files.items() if path is None]
    commands = "; ".join(f'python -m scenetok_core download {name} --folder "{folder}"' for name in names)
    return f"{folder} lacks {', '.join(names)}; fetch with: {commands}"


def _hashed(
    config: ReleasedConfig, files: Mapping[str, Path | None], folder: Path, known: Collection[str] = ()
) -> Path:
    """The file of the model, after the hashes of `files` (by published names, without the `known`) were printed.

    Raises:
        ValueError: a file is missing, or not what is recorded.
    """
    found = {name: path for name, path in files.items() if path is not None}
    if len(found) < len(files):
        raise ValueError(_missing(files, folder))
    others = [path.name for name, path in found.items() if name not in known and not _print_hash(name, path)]
    if others:
        raise ValueError(f"not what is published: {', '.join(others)}; delete and download again")
    return found[f"{config.name}.ckpt"]


def _print_hash(name: str, path: Path) -> bool:
    """Print the SHA-256 of a file by its published name; False if another one is recorded."""
    with bar("hash", "B") as progress:
        check = check_file(path, known_file(name), progress)
    print(f"{path} ({in_bytes(path.stat().st_size)})")
    print(f"  SHA-256   {check.sha256}")
    if check.published not in (None, check.sha256):
        print(f"  made of   {check.published}")
    print(f"  recorded  {check.known or 'none'}")
    return check.matches is not False


@contextmanager
def _loading(config: ReleasedConfig) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{config.name}: names and shapes as expected, loaded in {time.perf_counter() - began:.1f} s")


def _print_cost(seconds: Mapping[str, float], peak_memory: int | None) -> None:
    for stage, spent in seconds.items():
        print(f"{spent:6.1f} s   {stage}")
    if peak_memory is not None:
        print(f"peak memory {in_bytes(peak_memory)}")
