"""Posed photo captures: one lazy `Capture`, whatever tool made the cameras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .capture import Capture
from .colmap import find_model, open_colmap, write_colmap
from .distortion import Distortion, undistort
from .files import absolute, confined, holds_frames, read_json_object
from .folder import FILE_NAME, open_camera_folder, write_cameras_json
from .images import PICTURE_SUFFIXES, decode_image, exif_fov, image_size, list_pictures, load_image
from .realestate import has_frames, is_realestate, open_realestate, poses_and_intrinsics, read_cameras, write_realestate
from .transforms import open_transforms, write_transforms

__all__ = [
    "CAMERA_SUFFIXES",
    "PICTURE_SUFFIXES",
    "SUPPORTED",
    "Capture",
    "Distortion",
    "absolute",
    "confined",
    "decode_image",
    "exif_fov",
    "find_cameras",
    "image_size",
    "list_pictures",
    "load_image",
    "open_camera_folder",
    "open_capture",
    "open_colmap",
    "open_realestate",
    "open_transforms",
    "poses_and_intrinsics",
    "read_cameras",
    "undistort",
    "write_cameras_json",
    "write_colmap",
    "write_realestate",
    "write_transforms",
]

SUPPORTED = (
    "a nerfstudio or instant-ngp transforms.json, a COLMAP project (sparse/0 with cameras and images as .bin or .txt), "
    "a RealEstate10K .txt with a folder of frames, or a folder of pictures with cameras.json"
)

CAMERA_SUFFIXES = (".json", ".txt", ".bin")

_Opener = Callable[[Path, Path | None, Path | None], Capture]
_TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")
_COLMAP_FILES = ("cameras", "images")


def open_capture(path: Path | str, images: Path | str | None = None, *, within: Path | str | None = None) -> Capture:
    """Open a posed capture of any supported format (`SUPPORTED`), found by its files.

    Args:
        path: the camera file, or the folder that holds it.
        images: the folder the picture names start from, when the pictures are not where the format puts them.
        within: the only folder from which pictures may come, whatever the camera file names; None = anywhere. Paths
            outside it are refused unseen. Symbolic links inside it are followed.

    Raises:
        ValueError: nothing there, no known format, pictures outside `within`, or what the format's reader found wrong.
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
    return opener(target, folder, None if within is None else absolute(Path(within)))


def find_cameras(path: Path) -> Path | None:
    """What `open_capture(path)` would read cameras from: a file, or the folder of a COLMAP project.

    Made for listing captures: no more than the start of a file is read, so a broken one is found as well.

    Args:
        path: a file or folder.

    Returns:
        None when there are no cameras, several camera files of which `path` names none, or nothing can be read.
    """
    try:
        return _find_cameras(path)
    except OSError:
        return None


def _find_cameras(path: Path) -> Path | None:
    if path.is_dir():
        found = _cameras_in(path)
        return found[0] if len(found) == 1 else None
    suffix = path.suffix.lower()
    if suffix == ".json":
        return path if path.name in (*_TRANSFORMS_NAMES, FILE_NAME) or holds_frames(path) else None
    if suffix in CAMERA_SUFFIXES and path.stem in _COLMAP_FILES:
        return path.parent if find_model(path.parent) is not None else None
    return path if suffix == ".txt" and has_frames(path) else None


def _detect_file(path: Path) -> tuple[_Opener, Path]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return (open_camera_folder if "convention" in read_json_object(path) else open_transforms), path
    if suffix in CAMERA_SUFFIXES and path.stem in _COLMAP_FILES:
        return open_colmap, path.parent
    if suffix == ".txt":
        return open_realestate, path
    raise ValueError(f"{path} is no capture; expected {SUPPORTED}")


def _detect_in_folder(folder: Path) -> tuple[_Opener, Path]:
    found = _cameras_in(folder)
    if len(found) > 1:
        raise ValueError(f"{folder} holds {len(found)} RealEstate10K files; give one of them, such as {found[0]}")
    if found:
        return (open_colmap, folder) if found[0] == folder else _detect_file(found[0])
    raise ValueError(
        f"no cameras in {folder} ({len(list_pictures(folder))} pictures); looked for {', '.join(_TRANSFORMS_NAMES)}, "
        f"{FILE_NAME}, sparse/0 and RealEstate10K .txt files. Expected {SUPPORTED}. Remedy: pose the pictures with "
        "COLMAP or nerfstudio's ns-process-data, or write cameras.json"
    )


def _cameras_in(folder: Path) -> list[Path]:
    """Camera files in a folder, the folder itself for COLMAP; more than one only of RealEstate10K."""
    named = next((folder / name for name in (*_TRANSFORMS_NAMES, FILE_NAME) if (folder / name).is_file()), None)
    if named is not None:
        return [named]
    if find_model(folder) is not None:
        return [folder]
    return [path for path in sorted(folder.glob("*.txt")) if is_realestate(path)]
