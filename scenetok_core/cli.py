"""Command line: `python -m scenetok_core encode | render | leave-out | convert | download | verify | info`."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from tqdm import tqdm

from .captures import open_capture
from .checkpoints import CHECKPOINT_FORMAT, load_scene, read_tensors, save_scene
from .configs import ModelConfig, SceneGenConfig, SceneTokConfig, SolverName, convert
from .convert import convert_checkpoint
from .downloads import KNOWN_FILES, address_of, download, known_file, published_size
from .generation import SceneGenerator
from .leave_out import leave_out
from .pipeline import SceneTok
from .presets import PRESETS as MODELS
from .sheets import save_image
from .trajectories import PRESETS, make_trajectory, preset_options
from .types import SceneTokens, Views
from .verify import check_file, draw, find_files, load_generator, load_model, reconstruct
from .video import write_video

_DEVICES = "cuda" if torch.cuda.is_available() else "cpu"
_MODEL_FOLDER = Path("models", "scenetok")  # as in ComfyUI
_EXAMPLE = Path(__file__).resolve().parents[1] / "workflows" / "example_capture" / "transforms.json"
_SCENES, _VIDEOS, _PICTURES = (".safetensors",), (".mp4",), (".png", ".jpg", ".webp")
_MODELS = (".safetensors",)
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def _scale(text: str) -> str | float:
    return text if text in ("auto", "none") else float(text)


@contextmanager
def _bar(label: str, unit: str = "step") -> Iterator[Callable[..., None]]:
    """A progress bar, as the callback (done, total, ...) that moves it."""
    with tqdm(desc=label, unit=unit, unit_scale=unit == "B") as bar:

        def report(done: int, total: int | None, *_: object) -> None:
            if done < bar.n:  # the next pass of several
                bar.reset()
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without this kind of device
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} is not usable ({reason}); try --device cpu") from error


def _model(arguments: argparse.Namespace) -> SceneTok:
    _check_device(arguments.device)
    return SceneTok.load(arguments.checkpoint, device=arguments.device)


def _check_every(every: int, least: int) -> None:
    if every < least:
        raise ValueError(f"--every must be at least {least}, got {every}")


def _check_output(path: Path, suffixes: Sequence[str], argument: str = "--out") -> None:
    """Refuse before any work what could not be written after it."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{argument} must end in {' or '.join(suffixes)}, got {path.name!r}")
    with _writing(path):
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise NotADirectoryError(f"{folder} is no folder that takes new files")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: no video encoder
        raise ValueError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _encode(arguments: argparse.Namespace) -> None:
    _check_every(arguments.every, 1)
    _check_output(arguments.out, _SCENES)
    model = _model(arguments)
    capture = open_capture(arguments.capture)
    every = capture.subset(slice(None, None, arguments.every))
    with _bar("read", "picture") as progress:
        views = every.load(size=model.config.image_size, progress=progress)
    with _bar("encode") as progress:
        scene = model.encode(views, reference=arguments.reference, scale=arguments.scene_scale, progress=progress)
    with _writing(arguments.out):
        save_scene(arguments.out, scene)
    print(
        f"{arguments.out}: {len(scene.tokens)} tokens x {scene.tokens.shape[1]} from {len(scene.cameras)} of "
        f"{len(views)} views, {arguments.out.stat().st_size / 1024:.1f} KiB, scene scale {scene.scene_scale:.4g}"
    )


def _path_options(preset: str, settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts as the options of a preset. Raises `ValueError` for unknown names and wrong values."""
    known, hints = preset_options(preset), get_type_hints(PRESETS[preset])
    options = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or name not in known:
            listed = ", ".join(f"{option}={default}" for option, default in known.items())
            raise ValueError(
                f"--set {setting!r} is no option of trajectory {preset!r}; it takes name=value of {listed}"
            )
        value = _keys(text) if name == "keys" else convert(hints[name], _plain(text), f"{preset}.{name}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"setting {preset}.{name} must be a finite number, got {text}")
        options[name] = value
    return options


def _plain(text: str) -> object:
    """A number, true, false or null of JSON; any other text is kept."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _keys(text: str) -> str:
    if text.lstrip().startswith("["):
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"setting keyframes.keys must be a JSON list or a file of one, got {text!r} ({error})"
        ) from error


def _render(arguments: argparse.Namespace) -> None:
    _check_output(arguments.out, _VIDEOS)
    options = _path_options(arguments.trajectory, arguments.set)
    scene = load_scene(arguments.scene)
    cameras = make_trajectory(arguments.trajectory, scene.cameras, arguments.frames, **options)
    model = _model(arguments)
    began = time.perf_counter()
    with _bar("render") as progress:
        frames = model.render(
            scene,
            cameras,
            steps=arguments.steps,
            guidance=arguments.guidance,
            solver=arguments.solver,
            generator=torch.Generator().manual_seed(arguments.seed),
            progress=progress,
        )
    with _writing(arguments.out):
        write_video(arguments.out, frames, fps=arguments.fps)
    height, width = frames.shape[-2:]
    print(f"{arguments.out}: {len(frames)} frames {width}x{height} in {time.perf_counter() - began:.1f} s")


def _leave_out(arguments: argparse.Namespace) -> None:
    _check_every(arguments.every, 2)
    if arguments.out is not None:
        _check_output(arguments.out, _PICTURES)
    model = _model(arguments)
    views = _all_views(arguments.capture, model.config.image_size)
    with _bar("render") as progress:
        result = leave_out(model, views, arguments.every, seed=arguments.seed, progress=progress)
    _print_scores(len(result.truth), len(result.inputs), len(views), result.scores())
    if arguments.out is not None:
        with _writing(arguments.out):
            save_image(arguments.out, result.sheet())
        print(arguments.out)


def _all_views(capture: str | Path, size: int) -> Views:
    opened = open_capture(capture)
    with _bar("read", "picture") as progress:
        return opened.load(size=size, progress=progress)


def _print_scores(left_out: int, inputs: int, views: int, scores: Mapping[str, float]) -> None:
    print(f"PSNR of {left_out} left-out views, from {inputs} inputs ({views} views in all)")
    for name, value in scores.items():
        print(f"{value:6.2f} dB  {name}")


def _convert(arguments: argparse.Namespace) -> None:
    _check_output(arguments.out, _MODELS, argument="OUT")
    if arguments.out.exists() and arguments.checkpoint.exists() and arguments.out.samefile(arguments.checkpoint):
        raise ValueError(f"OUT must be another file than IN, got {arguments.out} twice")
    with _bar("read", "B") as progress, _writing(arguments.out):
        config, *others = convert_checkpoint(
            arguments.checkpoint,
            arguments.out,
            dtype=_DTYPES[arguments.dtype],
            preset=arguments.preset,
            progress=progress,
        )
    print(f"{arguments.out}: {config.name}, {arguments.out.stat().st_size / 2**20:.1f} MiB in {arguments.dtype}")
    if others:
        names = ", ".join(other.name for other in others)
        print(f"its tensors fit {names} as well; --preset chooses another model than {config.name}")


def _info(arguments: argparse.Namespace) -> None:
    tensors, metadata = read_tensors(arguments.file)
    if metadata.get("format") == CHECKPOINT_FORMAT:
        count = sum(tensor.numel() for tensor in tensors.values())
        tables = {name: json.loads(text) for name, text in metadata.items() if text.startswith("{")}
        print(json.dumps({**metadata, "parameters": count, **tables}, indent=2))
        return
    scene = load_scene(arguments.file)
    print(json.dumps(_describe(scene), indent=2))


def _describe(scene: SceneTokens) -> dict[str, object]:
    return {
        "preset": scene.preset,
        "model_hash": scene.model_hash,
        "tokens": list(scene.tokens.shape),
        "active": len(scene.active),
        "scene_scale": scene.scene_scale,
        "views": len(scene.cameras),
        "picture_size": scene.cameras.size,
        "meta": dict(scene.meta),
    }


def _download(arguments: argparse.Namespace) -> None:
    if arguments.name == "list":
        _list_files(arguments.folder)
        return
    file = known_file(arguments.name)
    if file is None:
        known = ", ".join(file.name for file in KNOWN_FILES)
        raise ValueError(f"no known file {arguments.name!r}; choose list, or one of {known}")
    path = arguments.folder / file.name
    if path.exists():
        print(f"{path}: already there")
        return
    size = published_size(file)
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    print(f"{file.name} from {address_of(file)}")
    print(f"size     {_bytes(size)} ({_bytes(shutil.disk_usage(existing).free)} free on this disk)")
    print(f"licence  {file.licence}")
    print(f"folder   {arguments.folder.absolute()}")
    with _writing(path), _bar("download", "B") as progress:
        download(file, arguments.folder, progress=progress)
    print(f"{path}: {_bytes(path.stat().st_size)}")


def _list_files(folder: Path) -> None:
    for file in KNOWN_FILES:
        there = "there" if (folder / file.name).exists() else "missing"
        print(f"{file.name:36} {file.kind:12} {_bytes(file.size):>8}  {there:8} {file.licence}")
    print(f"folder: {folder.absolute()}")


def _verify(arguments: argparse.Namespace) -> None:
    _check_every(arguments.every, 2)
    if arguments.capture is None and not _EXAMPLE.is_file():
        raise ValueError("no example capture beside the package; name one with --capture")
    _check_device(arguments.device)
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
    views = _all_views(arguments.capture or _EXAMPLE, config.image_size)
    if generator is None:
        _verify_model(model, views, arguments)
    else:
        _verify_generator(generator, model, views, arguments)


def _verify_model(model: SceneTok, views: Views, arguments: argparse.Namespace) -> None:
    with _bar("render") as progress:
        figures = reconstruct(model, views, arguments.every, seed=arguments.seed, progress=progress)
    _print_scores(figures.left_out, figures.inputs, len(views), figures.scores)
    print(f"{figures.autoencoder:6.2f} dB  autoencoder {model.config.target_autoencoder} alone")
    _print_cost(figures.seconds, figures.peak_memory)


def _verify_generator(generator: SceneGenerator, model: SceneTok, views: Views, arguments: argparse.Namespace) -> None:
    with _bar("draw") as progress:
        figures = draw(generator, model, views, seed=arguments.seed, progress=progress)
    print(f"one scene from the first of {len(views)} views")
    print(f"tokens: mean {figures.token_mean:.4f}, standard deviation {figures.token_std:.4f}")
    print(f"{figures.score:6.2f} dB  that view, rendered again")
    _print_cost(figures.seconds, figures.peak_memory)


def _missing(files: Mapping[str, Path | None], folder: Path) -> str:
    names = [name for name, path in files.items() if path is None]
    commands = "; ".join(f'python -m scenetok_core download {name} --folder "{folder}"' for name in names)
    return f"{folder} lacks {', '.join(names)}; fetch with: {commands}"


def _hashed(config: ModelConfig, files: Mapping[str, Path | None], folder: Path, known: Collection[str] = ()) -> Path:
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
    with _bar("hash", "B") as progress:
        check = check_file(path, known_file(name), progress)
    print(f"{path} ({_bytes(path.stat().st_size)})")
    print(f"  SHA-256   {check.sha256}")
    if check.published not in (None, check.sha256):
        print(f"  made of   {check.published}")
    print(f"  recorded  {check.known or 'none'}")
    return check.matches is not False


@contextmanager
def _loading(config: ModelConfig) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{config.name}: names and shapes as expected, loaded in {time.perf_counter() - began:.1f} s")


def _print_cost(seconds: Mapping[str, float], peak_memory: int | None) -> None:
    for stage, spent in seconds.items():
        print(f"{spent:6.1f} s   {stage}")
    if peak_memory is not None:
        print(f"peak memory {_bytes(peak_memory)}")


def _bytes(size: int | None) -> str:
    return "unknown" if size is None else f"{tqdm.format_sizeof(size)}B"


def _add_encode(parser: argparse.ArgumentParser) -> None:
    _add_capture(parser)
    parser.add_argument("--out", required=True, type=Path, help="scene file to write (.safetensors)")
    parser.add_argument("--every", type=int, default=1, help="use every n-th view (default 1)")
    parser.add_argument(
        "--reference",
        type=int,
        help="view whose camera is the origin, counted from 0 among the views that --every leaves (default: the most "
        "central one)",
    )
    parser.add_argument("--scene-scale", type=_scale, default="auto", help="auto, none, or a factor (default auto)")
    _add_model(parser)
    parser.set_defaults(run=_encode)


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", help="scene file written by encode")
    parser.add_argument("--trajectory", default="follow", choices=sorted(PRESETS), help="camera path (default follow)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the camera path (repeatable), e.g. degrees=120 for orbit, keys=FILE_OR_JSON for keyframes",
    )
    parser.add_argument("--frames", type=int, default=48, help="frames to render (default 48)")
    parser.add_argument("--steps", type=int, help="sampling steps; 1 is the posterior mean (default: the model's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the model's)")
    parser.add_argument("--solver", choices=get_args(SolverName), help="of the flow (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second of the video (default 24)")
    parser.add_argument("--out", required=True, type=Path, help="video file to write (.mp4)")
    _add_model(parser)
    parser.set_defaults(run=_render)


def _add_leave_out(parser: argparse.ArgumentParser) -> None:
    _add_capture(parser)
    parser.add_argument("--every", type=int, required=True, help="encode every n-th view, render those between")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument("--out", type=Path, help="contact sheet to write (.png): inputs, truth, mean, sample")
    _add_model(parser)
    parser.set_defaults(run=_leave_out)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="IN", help="released checkpoint (.ckpt, .pt, .safetensors)")
    parser.add_argument("out", type=Path, metavar="OUT", help="checkpoint to write (.safetensors)")
    parser.add_argument("--dtype", default="bf16", choices=list(_DTYPES), help="of the weights (default bf16)")
    parser.add_argument(
        "--preset", choices=list(MODELS), help="which released model it is (default: told by its tensors and its name)"
    )
    parser.set_defaults(run=_convert)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a known file, with or without its suffix; or list, which shows them all")
    parser.add_argument(
        "--folder", type=Path, default=_MODEL_FOLDER, help=f"where it goes (default {_MODEL_FOLDER.as_posix()})"
    )
    parser.set_defaults(run=_download)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", choices=list(MODELS), metavar="PRESET", help=f"one of {', '.join(MODELS)}")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_MODEL_FOLDER,
        help=f"where the files lie, converted or as published (default {_MODEL_FOLDER.as_posix()})",
    )
    parser.add_argument("--capture", type=Path, help="posed pictures to measure on (default: the example capture)")
    parser.add_argument("--every", type=int, default=2, help="encode every n-th view, render those between (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    _add_device(parser)
    parser.set_defaults(run=_verify)


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "capture", help="transforms.json, COLMAP folder, RealEstate10K text, or folder with cameras.json"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="model checkpoint (.safetensors)")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=_DEVICES, help=f"torch device (default {_DEVICES})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenetok_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_encode(commands.add_parser("encode", help="posed pictures -> scene tokens"))
    _add_render(commands.add_parser("render", help="scene tokens + camera path -> video"))
    _add_leave_out(commands.add_parser("leave-out", help="score renderings of views that were not encoded"))
    _add_convert(commands.add_parser("convert", help="released checkpoint -> safetensors with its configuration"))
    info = commands.add_parser("info", help="what a checkpoint or scene file holds")
    info.add_argument("file")
    info.set_defaults(run=_info)
    _add_download(commands.add_parser("download", help="released weights -> a folder"))
    _add_verify(commands.add_parser("verify", help="released weights: hash, load, and a reconstruction in figures"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input prints one line on standard error."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
