"""A folder of pictures with our own plain camera file.

`cameras.json`: {"version": 1, "convention": "opencv_c2w", "unit": "metric" or "relative" (optional),
"frames": [{"file": name, "c2w": 4 x 4, "K": 3 x 3 divided by width and height}, ...]}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import with_slashes
from ..types import Cameras
from ..versions import Versions
from .capture import Capture, Frame, assemble_capture
from .files import check_file_names, read_frames, read_json_object, read_matrix, write_json

SOURCE = "cameras.json"
FILE_NAME = "cameras.json"

_VERSIONS = Versions("cameras")
_CONVENTION = "opencv_c2w"


def open_camera_folder(path: Path, images: Path | None = None, within: Path | None = None) -> Capture:
    """Open a `cameras.json`; views keep its order.

    Args:
        path: the JSON file.
        images: the folder the file names start from; the JSON's own folder when None.
        within: absolute folder that no picture may lie outside of; None = anywhere.

    Raises:
        ValueError: broken JSON, another convention or a newer version, missing or forbidden pictures, invalid cameras.
    """
    data = read_json_object(path)
    convention = data.get("convention")
    if convention != _CONVENTION:
        raise ValueError(f"{path} has the convention {convention!r}, expected {_CONVENTION!r}; convert the poses")
    try:
        data = _VERSIONS.upgrade(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    frames = []
    for i, entry in enumerate(read_frames(data, path)):
        where = f"frame {i} of {path}"
        name = entry.get("file")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where} has no 'file'; expected the name of a picture, got {name!r}")
        c2w = read_matrix(entry.get("c2w"), ((4, 4),), f"c2w of {where}")
        frames.append(Frame(name, c2w, read_matrix(entry.get("K"), ((3, 3),), f"K of {where}")))
    unit = data.get("unit", "relative")
    return assemble_capture(frames, images or path.parent, path, SOURCE, within=within, unit=unit, sort=False)


def write_cameras_json(path: Path | str, cameras: Cameras, file_names: Sequence[str]) -> None:
    """Write the cameras of one scene; `open_camera_folder` reads them back.

    Args:
        path: the JSON file; its folder is made when missing.
        cameras: V cameras.
        file_names: V picture names relative to the JSON's folder.

    Raises:
        ValueError: not one name per camera, or a batch of scenes.
    """
    check_file_names(cameras, file_names)
    columns = zip(file_names, cameras.c2w.tolist(), cameras.K.tolist(), strict=True)
    frames = [{"file": with_slashes(name), "c2w": c2w, "K": K} for name, c2w, K in columns]
    write_json(path, {"version": _VERSIONS.newest, "convention": _CONVENTION, "unit": cameras.unit, "frames": frames})
