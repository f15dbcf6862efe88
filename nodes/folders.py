"""Where the nodes read and write: model folders, captures, saved scenes.

Paths come from prompts, and anyone who reaches the server can send one, so every path must stay inside ComfyUI's own
folders or the pack's examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import folder_paths

from ..scenetok_core import open_capture
from ..scenetok_core.captures import CAMERA_SUFFIXES, Capture, absolute, confined, find_cameras, list_pictures
from ..scenetok_core.configs import DepthConfig
from ..scenetok_core.families import GENERATOR_FAMILIES, MODEL_FAMILIES
from ..scenetok_core.files import check_portable, with_slashes
from ..scenetok_core.weights.checkpoints import checkpoint_family
from ..scenetok_core.weights.downloads import known_file
from .archives import unpack

MODELS = "scenetok"
SCENES = "scenes"
_PACK = Path(__file__).resolve().parent.parent
_SHIPPED_MODELS = _PACK / "checkpoints"
_MODEL_SUFFIXES = {".safetensors"}
_EXAMPLE = _PACK / "workflows" / "example_capture"
_EXAMPLES = {
    "example: room": _EXAMPLE / "transforms.json",
    "example: room, held-out path": _EXAMPLE / "heldout.json",
}
_EXAMPLE_FOLDERS = {"example: room, pictures": _EXAMPLE / "images"}
_EXAMPLE_SCENES = {"example: room": _EXAMPLE / "room.safetensors"}
_EXAMPLE_PHOTOGRAPHS = {"example: room, photograph": _EXAMPLE / "photograph.jpg"}
_ARCHIVE = ".zip"
_CAPTURE_DEPTH = 3


def register_model_folder() -> None:
    """Make `models/scenetok` and the shipped checkpoints known; a path of the user's own configuration stays first."""
    folder_paths.add_model_folder_path(MODELS, str(Path(folder_paths.models_dir) / MODELS))
    folder_paths.add_model_folder_path(MODELS, str(_SHIPPED_MODELS))
    folder_paths.folder_names_and_paths[MODELS] = (folder_paths.get_folder_paths(MODELS), set(_MODEL_SUFFIXES))


def model_names() -> list[str]:
    """Checkpoints in the model folders."""
    return folder_paths.get_filename_list(MODELS)


def scene_model_names() -> list[str]:
    """Scene models in the model folders, family by family; files that do not say what they hold may be some."""
    return _names_of(*MODEL_FAMILIES, None)


def generator_names() -> list[str]:
    """Scene generators in the model folders, as `scene_model_names`."""
    return _names_of(*GENERATOR_FAMILIES, None)


def depth_head_names() -> list[str]:
    """Depth heads in the model folders."""
    return _names_of(DepthConfig.family)


def _names_of(*families: str | None) -> list[str]:
    paths = {name: folder_paths.get_full_path(MODELS, name) for name in model_names()}
    found = {name: checkpoint_family(path) for name, path in paths.items() if path is not None}
    return sorted((name for name in found if found[name] in families), key=lambda name: families.index(found[name]))


def model_path(name: str) -> Path:
    """File of a checkpoint. Raises `ValueError` when no model folder holds it."""
    path = folder_paths.get_full_path(MODELS, with_slashes(name))
    if path is None:
        folder = folder_paths.get_folder_paths(MODELS)[0]
        if known_file(name) is not None:
            raise ValueError(
                f"no model {name!r}; fetch it, in the folder {_PACK}, with `python -m scenetok_core download {name} "
                f'--folder "{folder}"`, or choose one of {model_names()}'
            )
        places = " or ".join(folder_paths.get_folder_paths(MODELS)[:-1])
        raise ValueError(f"no model {name!r}; put the .safetensors file in {places}, or choose one of {model_names()}")
    return Path(path)


def weight_folders() -> list[Path]:
    """Where the weights of autoencoders may lie: the model folders, then ComfyUI's own for VAEs."""
    return [Path(path) for kind in (MODELS, "vae") for path in folder_paths.get_folder_paths(kind)]


def inside(text: str, root: Path) -> Path:
    """The path `text`, absolute or relative to `root`, in either kind of slashes.

    Raises:
        ValueError: it does not lie below `root`.
    """
    return confined(root / with_slashes(text.strip().strip('"')), root, repr(text))


def input_folder() -> Path:
    """ComfyUI's input folder."""
    return absolute(Path(folder_paths.get_input_directory()))


def output_folder() -> Path:
    """ComfyUI's output folder."""
    return absolute(Path(folder_paths.get_output_directory()))


def capture_names() -> list[str]:
    """What Load Views offers: the pack's examples, then captures in the input folder, as paths relative to it."""
    examples = [name for name, path in _EXAMPLES.items() if path.is_file()]
    root = input_folder()
    return examples + sorted(path.relative_to(root).as_posix() for path in _captures_below(root, None, _CAPTURE_DEPTH))


def _captures_below(folder: Path, opened: Path | None, depth: int) -> Iterator[Path]:
    """Captures inside `folder`; `opened` are the cameras that the folder itself, as a capture, would be opened with."""
    try:
        with os.scandir(folder) as scan:
            shown = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
        folders = [folder / entry.name for entry in shown if entry.is_dir()]
    except OSError:
        return
    yield from _capture_files_among((folder / entry.name for entry in shown if _may_open(entry.name)), opened)
    if opened is not None or not depth:  # what lies in the folders of a capture belongs to it
        return
    for path in folders:
        cameras = find_cameras(path)
        if cameras is not None:
            yield path
        yield from _captures_below(path, cameras, depth - 1)


def _may_open(name: str) -> bool:
    return name.lower().endswith((_ARCHIVE, *CAMERA_SUFFIXES))


def _capture_files_among(files: Iterable[Path], opened: Path | None) -> Iterator[Path]:
    """Archives, and camera files that open something else than `opened` and each other."""
    seen = {None, opened}
    for path in files:
        if path.is_dir():
            continue
        cameras = path if path.suffix.lower() == _ARCHIVE else find_cameras(path)
        if cameras not in seen:
            seen.add(cameras)
            yield path


def capture_path(name: str) -> Path:
    """File or folder of a capture: an example's name, or a path in the input folder.

    Raises:
        ValueError: nothing there, or a path outside the input folder.
    """
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if not name.strip():
        raise ValueError("no capture chosen; put one into ComfyUI's input folder and give its name")
    path = inside(name, input_folder())
    if not path.exists():
        raise ValueError(f"no capture {name!r} in {input_folder()}")
    return path


def open_named_capture(name: str) -> Capture:
    """Open a capture; a .zip is unpacked into the temporary folder first.

    Raises:
        ValueError: not found, outside the input folder (the capture or a picture its camera file names), not readable.
    """
    path = capture_path(name)
    if path.suffix.lower() == _ARCHIVE:
        unpacked = unpack(path, Path(folder_paths.get_temp_directory()))
        return open_capture(unpacked, within=unpacked)
    return open_capture(path, within=path.parent if name in _EXAMPLES else input_folder())


def capture_files(name: str) -> tuple[Path, ...]:
    """The files that a capture's views come from: camera files and pictures, or the .zip.

    Raises:
        ValueError: as `open_named_capture`.
    """
    path = capture_path(name)
    if path.suffix.lower() == _ARCHIVE:
        return (path,)
    capture = open_named_capture(name)
    return (*capture.camera_files, *capture.images)


def fingerprint(files: Iterable[Path]) -> str:
    """Changes whenever one of `files` changes its path, time or size."""
    stats = ((file, file.stat()) for file in files)
    return ";".join(f"{file}:{stat.st_mtime_ns}:{stat.st_size}" for file, stat in stats)


def picture_folder_names() -> list[str]:
    """What Load Pictures offers: the pack's example, then folders directly in the input folder that hold pictures."""
    root = input_folder()
    held = (path.name for path in root.iterdir() if path.is_dir() and len(list_pictures(path)) > 1)
    return [*(name for name, path in _EXAMPLE_FOLDERS.items() if path.is_dir()), *sorted(held)]


def pictures_in(name: str) -> list[Path]:
    """The pictures of a folder in the input folder, in natural order.

    Raises:
        ValueError: no such folder, no pictures in it, or a path outside the input folder.
    """
    folder = _EXAMPLE_FOLDERS.get(name) or inside(name, input_folder())
    found = list_pictures(folder) if folder.is_dir() else []
    if not found:
        raise ValueError(f"no pictures in {name!r} in {input_folder()}; choose one of {picture_folder_names()[:8]}")
    return found


def photograph_names() -> list[str]:
    """What Load Photograph offers: the pack's example, then pictures directly in the input folder."""
    examples = [name for name, path in _EXAMPLE_PHOTOGRAPHS.items() if path.is_file()]
    return examples + [path.name for path in list_pictures(input_folder())]


def photograph_path(name: str) -> Path:
    """File of a photograph: the example's name, or a path that ComfyUI may have marked with its folder.

    Raises:
        ValueError: nothing there, or a path outside ComfyUI's folders.
    """
    if name in _EXAMPLE_PHOTOGRAPHS:
        return _EXAMPLE_PHOTOGRAPHS[name]
    path = _marked(name)
    if not path.is_file():
        raise ValueError(f"no picture {name!r} in {input_folder()}; upload one, or choose {photograph_names()[:8]}")
    return path


def points_path(name: str) -> Path:
    """A file of points: `name [output]` in the output folder, else in the input folder.

    Raises:
        ValueError: nothing there, or a path outside these folders.
    """
    path = _marked(name)
    if not path.is_file():
        raise ValueError(f"no file {name!r}; give the points that the viewer shows, those just saved as NAME [output]")
    return path


def _marked(name: str) -> Path:
    """The path that a name of ComfyUI stands for: `name [output]` in the output folder, else in the input folder.

    Raises:
        ValueError: a path outside these folders.
    """
    text = name.strip()
    if text.endswith("[output]"):
        return inside(text.removesuffix("[output]").rstrip(), output_folder())
    return inside(text.removesuffix("[input]").rstrip(), input_folder())


def scene_names() -> list[str]:
    """The pack's example, then saved scenes: in the output folder, marked `[output]`, and in the input folder."""
    examples = [name for name, path in _EXAMPLE_SCENES.items() if path.is_file()]
    saved = [f"{name} [output]" for name in _scenes_below(output_folder())]
    return examples + saved + _scenes_below(input_folder())


def _scenes_below(root: Path) -> list[str]:
    folder = root / SCENES
    return (
        sorted(path.relative_to(root).as_posix() for path in folder.rglob("*.safetensors")) if folder.is_dir() else []
    )


def scene_path(name: str) -> Path:
    """File of a saved scene: the example's name, `name [output]` in the output folder, else in the input folder.

    Raises:
        ValueError: nothing there, or a path outside these folders.
    """
    if name in _EXAMPLE_SCENES:
        return _EXAMPLE_SCENES[name]
    path = _marked(name)
    if not path.is_file():
        raise ValueError(f"no saved scene {name!r}; run Save Scene Tokens, or choose one of {scene_names()[:8]}")
    return path


def output_prefix(text: str) -> str:
    """The start of a new file's path, relative to the output folder, as somebody wrote it on any system.

    Raises:
        ValueError: it leads outside the output folder, or not every system takes its names.
    """
    root = output_folder()
    prefix = inside(text, root).relative_to(root).as_posix()
    check_portable(prefix, "filename_prefix")
    return prefix


def new_scene_path(prefix: str) -> Path:
    """A file for a scene, as `new_path`."""
    return new_path(prefix, ".safetensors")


def new_path(prefix: str, suffix: str) -> Path:
    """A file that does not exist yet, in the output folder: `prefix` with a counter, and `suffix`.

    Raises:
        ValueError: as `output_prefix`.
    """
    folder, stem, counter, _, _ = folder_paths.get_save_image_path(output_prefix(prefix), str(output_folder()))
    return Path(folder) / f"{stem}_{counter:05}_{suffix}"


def new_cameras_folder(prefix: str) -> Path:
    """A folder for cameras, as `new_path`."""
    return new_path(prefix, "")


def listing(path: Path) -> dict[str, str]:
    """How ComfyUI's history lists a file in the output folder."""
    name = path.relative_to(output_folder())
    return {"filename": name.name, "subfolder": name.parent.as_posix(), "type": "output"}
