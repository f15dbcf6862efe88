"""Measure a checkpoint beside simple baselines, on held-out rooms or on real captures.

`python training/evaluate.py --config tiny --json FILE` takes the cameras of a fixed protocol (`training/protocol.py`),
`--index FILE --data FOLDER` an evaluation index of real captures (`training/indexed.py`). `docs/evaluation.md` defines
the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from scenetok_core.cli.common import (
    PICTURES,
    add_device,
    add_scale,
    add_weights,
    check_device,
    check_output,
    check_writable,
    weight_folders,
)
from scenetok_core.configs import RaeConfig
from scenetok_core.depth import DepthHead
from scenetok_core.files import write_text
from scenetok_core.generation import SceneGenerator
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.pictures.sheets import contact_sheet, save_image
from scenetok_core.pipeline import SceneTok
from scenetok_core.rae import Rae
from scenetok_core.weights.checkpoints import checkpoint_family
from training.cases import Benchmark
from training.data.depths import DepthDataConfig, DepthFolder
from training.data.source import guess_kind, open_pictures
from training.drawn import Generator
from training.evaluation import Evaluation, Model, Settings, measure_all
from training.indexed import Index, IndexBenchmark, read_index
from training.protocol import PROTOCOLS, RoomsBenchmark
from training.report import left_out_list, markdown, table

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
DEFAULT_CHECKPOINT = SHIPPED / "scenetok-tiny.safetensors"
DEFAULT_DEPTH_HEAD = SHIPPED / "depth-tiny.safetensors"
DEFAULT_GENERATOR = SHIPPED / "scenegen-tiny.safetensors"
DEFAULT_RAE = SHIPPED / "rae-tiny.safetensors"  # measured beside the default checkpoint
DEFAULT_LATENT_GENERATOR = SHIPPED / "dit3d-tiny.safetensors"
_RAE = "rae_"  # before the figures of that

T = TypeVar("T")


def _model(options: argparse.Namespace, path: str | Path) -> Model:
    kind = Rae if checkpoint_family(path) == RaeConfig.family else SceneTok
    return kind.load(path, device=options.device, folders=weight_folders(path, options.weights))


def _benchmark(options: argparse.Namespace, index: Index | None, model: Model) -> Benchmark:
    side = model.config.image_size
    if index is not None:
        videos, depth = open_pictures(guess_kind(options.data), options.data, side), None
        if options.depth_data is not None:
            depth = DepthFolder(DepthDataConfig(str(options.depth_data), "depth", options.depth_unit))
        return IndexBenchmark(options.index.stem, index, videos, side, options.scenes, depth)
    protocol = PROTOCOLS[options.config]
    if options.scenes is not None:
        protocol = replace(protocol, scenes=options.scenes)
    return RoomsBenchmark(protocol, protocol.rooms(side, min(protocol.inputs, model.config.context_views)))


def _companion(
    options: argparse.Namespace, asked: str | None, shipped: Path, load: Callable[[str | Path], T], missing: str
) -> tuple[T | None, str]:
    """What belongs to a model: the file asked for, else in rooms the shipped one if it fits; or why there is none."""
    if asked is not None:
        return load(asked), ""
    if options.config is None or not shipped.is_file():
        return None, missing
    try:
        return load(shipped), ""
    except ValueError as error:  # another model, or a newer one, for which nothing is trained yet
        return None, f"{missing} ({error})"


def _depth_head(options: argparse.Namespace, model: Model) -> tuple[DepthHead | None, str]:
    if isinstance(model, Rae):
        if options.depth is not None:
            raise ValueError(
                f"{model.config.name!r} has point maps of its own and takes no depth head: leave --depth out"
            )
        return None, ""
    missing = "needs a depth head for this model: --depth FILE"
    if options.depth_data is not None and options.depth is None:
        raise ValueError(f"--depth-data is there, but {model.config.name!r} {missing}")
    return _companion(options, options.depth, DEFAULT_DEPTH_HEAD, lambda path: DepthHead.load(path, model), missing)


def _generator(options: argparse.Namespace, model: Model) -> tuple[Generator | None, str]:
    def load(path: str | Path) -> Generator:
        where = {"device": options.device, "folders": weight_folders(path, options.weights)}
        if isinstance(model, Rae):
            drawer = LatentGenerator.load(path, **where)
            drawer.check_model(model)
            return drawer
        loaded = SceneGenerator.load(path, **where)
        loaded.check_model(model)
        return loaded

    missing = "needs a scene generator for this model: --generator FILE"
    shipped = DEFAULT_LATENT_GENERATOR if isinstance(model, Rae) else DEFAULT_GENERATOR
    return _companion(options, options.generator, shipped, load, missing)


def _evaluation(options: argparse.Namespace, model: Model, benchmark: Benchmark, settings: Settings) -> Evaluation:
    """Of a model with what belongs to it; what is missing is named in `left_out`."""
    generator, no_generator = _generator(options, model)
    depth_head, no_depth = _depth_head(options, model)
    evaluation = Evaluation(model, benchmark, settings, generator, depth_head)
    for what, reason in (("depth", no_depth), ("gFID", no_generator)):
        if reason:
            evaluation.left_out[what] = reason
    return evaluation


def _beside(
    options: argparse.Namespace, model: Model, benchmark: Benchmark, settings: Settings
) -> tuple[Evaluation | None, str]:
    """The shipped 3DRAE, where the shipped SceneTok model is measured in rooms; or why not."""
    if options.config is None or options.checkpoint is not None:
        return None, ""
    if not DEFAULT_RAE.is_file():
        return None, f"needs {DEFAULT_RAE.name} in {DEFAULT_RAE.parent.name}"
    other, side = _model(options, DEFAULT_RAE), model.config.image_size
    if other.config.image_size != side:
        return (
            None,
            f"its pictures have sides of {other.config.image_size}, those here {side}: --checkpoint measures it",
        )
    alone = argparse.Namespace(**{**vars(options), "generator": None, "depth": None})
    return _evaluation(alone, other, benchmark, settings), ""


def _settings(options: argparse.Namespace) -> Settings:
    """The settings of the measuring; refuses before any work what would fail after it."""
    if (options.index is None) != (options.data is None):
        raise ValueError("--index and --data belong together: which frames of which scenes, and the folder they are in")
    if options.depth_data is not None and options.index is None:
        raise ValueError("--depth-data is the true depth of an index's frames: give it with --index")
    for name in ("scenes", "generator_views"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    check_device(options.device)
    for path in (options.json, options.markdown):
        if path is not None:
            check_writable(path)
    if options.sheet is not None:
        check_output(options.sheet, PICTURES, "--sheet")
    return Settings(generator_views=options.generator_views, scene_scale=options.scene_scale)


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    index = None if options.index is None else read_index(options.index)

    model = _model(options, options.checkpoint or DEFAULT_CHECKPOINT)
    benchmark = _benchmark(options, index, model)
    first = _evaluation(options, model, benchmark, settings)
    second, no_second = _beside(options, model, benchmark, settings)
    began = time.perf_counter()
    measure_all([first] if second is None else [first, second], benchmark, progress=True)
    figures, left_out = first.figures(), dict(first.left_out)
    if no_second:
        left_out["3DRAE"] = no_second
    if second is not None:
        figures |= {f"{_RAE}{name}": value for name, value in second.own_figures().items()}
        left_out |= {f"{_RAE}{what}": reason for what, reason in second.left_out.items() if what not in left_out}
    figures["left_out"] = "; ".join(f"{what} ({reason})" for what, reason in left_out.items())
    figures["seconds_in_all"] = time.perf_counter() - began
    missing = (left_out, benchmark.left_out())
    print(f"{table(figures)}\n\n{left_out_list(*missing)}")
    write_text(options.json, json.dumps(figures, indent=2, allow_nan=False) + "\n")
    if options.markdown:
        write_text(options.markdown, markdown(figures, first.calibration, *missing))
    if options.sheet:
        rows = [(f"{_RAE}{label}", pictures) for label, pictures in second.rows] if second else []
        save_image(options.sheet, contact_sheet([*first.rows, *rows], scale=2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Bad input prints one line on standard error."""
    parser = argparse.ArgumentParser(description="Measure a checkpoint on held-out views, beside simple baselines.")
    protocols = parser.add_mutually_exclusive_group(required=True)
    protocols.add_argument("--config", choices=sorted(PROTOCOLS), help="name of a protocol of procedural rooms")
    protocols.add_argument("--index", type=Path, help="evaluation index (JSON: scene -> context and target frames)")
    parser.add_argument(
        "--data", type=Path, help="with --index: folder with pixelSplat chunks, DL3DV scenes or posed captures"
    )
    parser.add_argument("--json", required=True, type=Path, help="file for the figures, one flat JSON object")
    parser.add_argument("--markdown", type=Path, help="file for a report")
    parser.add_argument(
        "--checkpoint",
        help="SceneTok or 3DRAE model to measure (default: the shipped scenetok-tiny; in rooms with rae-tiny beside "
        "it, where that is there)",
    )
    parser.add_argument(
        "--generator",
        help="scene generator for that model, SceneGen or 3DDiT: measures the scenes it draws as well (default: in "
        "rooms the shipped one, where it is there and fits)",
    )
    parser.add_argument("--generator-views", type=int, default=1, help="first inputs it is given (default 1)")
    parser.add_argument(
        "--depth",
        help="depth head for that model (default: in rooms checkpoints/depth-tiny.safetensors, where it is there and "
        "fits)",
    )
    parser.add_argument(
        "--depth-data", type=Path, help="with --index: folder with the true depth of the frames, NPZ or PNG"
    )
    parser.add_argument(
        "--depth-unit",
        type=float,
        default=1.0,
        help="units of the cameras per value of that depth, 0.001 for millimetres and cameras in metres (default 1)",
    )
    add_scale(parser)
    add_weights(parser)
    parser.add_argument("--scenes", type=int, help="number of scenes (default: the protocol's)")
    parser.add_argument("--sheet", type=Path, help="picture file for inputs, truth and renderings of a few scenes")
    add_device(parser)
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
