"""Posed photo captures: one lazy `Capture`, whatever tool made the cameras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .capture import Capture
from .colmap import find_model, open_colmap
from .distortion import Distortion, undistort
from .files import read_json_object
from .folder import FILE_NAME, open_camera_folder, write_cameras_json
from .images import image_size, list_pictures, load_image
from .realestate import is_realestate, open_realestate, read_cameras
from .transforms import open_transforms, write_transforms

__all__ = [
    "SUPPORTED",
    "Capture",
    "Distortion",
    "image_size",
    "list_pictures",
    "load_image",
    "open_camera_folder",
    "open_capture",
    "open_colmap",
    "open_realestate",
    "open_transforms",
    "read_cameras",
    "undistort",
    "write_cameras_json",
    "write_transforms",
]

SUPPORTED = (
    "a nerfstudio or instant-ngp transforms.json, a COLMAP project (sparse/0 with cameras and images as .bin or .txt), "
    "a RealEstate10K .txt with a folder of frames, or a folder of pictures with cameras.json"
)

_Opener = Callable[[Path, Path | None], Capture]
_TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")
_COLMAP_FILES = ("cameras", "images")


def open_capture(path: Path | str, images: Path | str | None = None) -> Capture:
    """Open a posed capture of any supported format (`SUPPORTED`), found by its files.

    Args:
        path: the camera file, or the folder that holds it.
        images: the folder the picture names start from, when the pictures are not where the format puts them.

    Raises:
        ValueError: nothing there, no known format, or what the format's reader found wrong.
    """
    text = str(path).strip().strip('"')
    if not text:
        raise ValueError(f"no capture was given; expected {SUPPORTED}")
    place = Path(text).expanduser()
    folder = None if images is None else Path(images).expanduser()
    if folder is not None and not folder.is_dir():
        raise ValueError(f"the picture folder {folder} of {place} does not exist")
    if not place.exists():
        raise ValueError(f"no such capture: {place}; expected {SUPPORTED}")
    opener, target = _detect_in_folder(place) if place.is_dir() else _detect_file(place)
    return opener(target, folder)


def _detect_file(path: Path) -> tuple[_Opener, Path]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return (open_camera_folder if "convention" in read_json_object(path) else open_transforms), path
    if suffix in (".bin", ".txt") and path.stem in _COLMAP_FILES:
        return open_colmap, path.parent
    if suffix == ".txt":
        return open_realestate, path
    raise ValueError(f"{path} is no capture; expected {SUPPORTED}")


def _detect_in_folder(folder: Path) -> tuple[_Opener, Path]:
    for name in (*_TRANSFORMS_NAMES, FILE_NAME):
        if (folder / name).is_file():
            return _detect_file(folder / name)
    if find_model(folder) is not None:
        return open_colmap, folder
    texts = [path for path in sorted(folder.glob("*.txt")) if is_realestate(path)]
    if len(texts) > 1:
        raise ValueError(f"{folder} holds {len(texts)} RealEstate10K files; give one of them, such as {texts[0]}")
    if texts:
        return open_realestate, texts[0]
    raise ValueError(
        f"no cameras in {folder} ({len(list_pictures(folder))} pictures); looked for {', '.join(_TRANSFORMS_NAMES)}, "
        f"{FILE_NAME}, sparse/0 and RealEstate10K .txt files. Expected {SUPPORTED}. Remedy: pose the pictures with "
        "COLMAP or nerfstudio's ns-process-data, or write cameras.json"
    )
