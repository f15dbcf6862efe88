"""COLMAP sparse models, text or binary (https://colmap.github.io/format.html).

COLMAP stores world-to-camera rotations as quaternions (w, x, y, z) with OpenCV axes, and intrinsics in pixels whose
origin is the corner of the first pixel, as here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..camera import invert_poses
from ..files import write_text
from ..trajectories.splines import quaternion_from_matrix
from ..types import Cameras
from .capture import Capture, Frame, assemble_capture
from .distortion import Distortion
from .files import absolute, check_file_names, read_text

SOURCE = "COLMAP"
MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", ".")

_Parsed = TypeVar("_Parsed")

_PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}
# Order and number of parameters as in COLMAP's binary files; the refused models are needed to read past them.
_BINARY_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)
_POINT_BYTES = 24  # x, y, point id
_NAME_COLUMN = 9  # of images.txt; the rest of the line is the name, which may hold spaces


@dataclass(frozen=True)
class _Camera:
    model: str
    size: tuple[int, int]  # (height, width) in pixels
    values: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    camera: int
    name: str
    quaternion: tuple[float, ...]  # w, x, y, z, world to camera
    translation: tuple[float, ...]


def find_model(folder: Path) -> Path | None:
    """The folder at or below `folder` that holds a sparse model, None when there is none."""
    return next((folder / place for place in MODEL_FOLDERS if _model_suffix(folder / place)), None)


def open_colmap(path: Path, images: Path | None = None, within: Path | None = None) -> Capture:
    """Open a COLMAP reconstruction.

    Args:
        path: the project folder, or the folder with `cameras` and `images` (`.bin` or `.txt`).
        images: the picture folder; when None, `images` in the project or up to two folders above the model.
        within: absolute folder that no picture may lie outside of; None = anywhere.

    Raises:
        ValueError: no model, broken or truncated files, missing or forbidden pictures, an unsupported camera model.
    """
    model = find_model(path)
    suffix = _model_suffix(model) if model else None
    if model is None or suffix is None:
        raise ValueError(f"no COLMAP model in {path}; looked for cameras and images (.bin or .txt) in {MODEL_FOLDERS}")
    read_cameras, read_images = _READERS[suffix]
    files = model / f"cameras{suffix}", model / f"images{suffix}"
    cameras = read_cameras(files[0])
    frames = [_frame(image, cameras, model) for image in read_images(files[1])]
    folder = images or _picture_folder(path, model, within)
    return assemble_capture(frames, folder, path, SOURCE, within=within, camera_files=files)


def write_colmap(folder: Path | str, cameras: Cameras, file_names: Sequence[str], size: tuple[int, int]) -> None:
    """Write pinhole cameras as a sparse model of text files without points; `open_colmap` reads them back.

    Args:
        folder: where `cameras.txt`, `images.txt` and `points3D.txt` go, such as PROJECT/sparse/0; made when missing.
        cameras: V cameras of one scene.
        file_names: V picture names relative to PROJECT/images. Readers order views by name.
        size: (height, width) of the pictures in pixels.

    Raises:
        ValueError: not one name per camera, or a batch of scenes.
    """
    check_file_names(cameras, file_names)
    height, width = size
    pixels = cameras.K.cpu().double() * torch.tensor([[width], [height], [1.0]], dtype=torch.float64)
    models = [f"PINHOLE {width} {height} {K[0, 0]:.12g} {K[1, 1]:.12g} {K[0, 2]:.12g} {K[1, 2]:.12g}" for K in pixels]
    numbers = {model: number for number, model in enumerate(dict.fromkeys(models), start=1)}
    w2c = invert_poses(cameras.c2w.cpu())
    poses = torch.cat([quaternion_from_matrix(w2c[:, :3, :3]).roll(1, dims=-1), w2c[:, :3, 3]], dim=-1).tolist()
    rows = zip(poses, models, file_names, strict=True)
    images = [
        f"{number} {' '.join(f'{value:.12g}' for value in pose)} {numbers[model]} {name}\n"
        for number, (pose, model, name) in enumerate(rows, start=1)
    ]
    texts = {
        "cameras.txt": "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
        + "".join(f"{number} {model}\n" for model, number in numbers.items()),
        "images.txt": "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)\n"
        + "".join(f"{line}\n" for line in images),
        "points3D.txt": "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n",
    }
    for name, text in texts.items():
        write_text(Path(folder) / name, text)


def _model_suffix(folder: Path) -> str | None:
    pairs = (".bin", ".txt")
    return next((s for s in pairs if all((folder / f"{kind}{s}").is_file() for kind in ("cameras", "images"))), None)


def _picture_folder(path: Path, model: Path, within: Path | None) -> Path:
    near = (path, model, *absolute(model).parents[:2], *model.resolve().parents[:2])
    folders = dict.fromkeys(folder / "images" for folder in near)
    allowed = [folder for folder in folders if within is None or absolute(folder).is_relative_to(within)]
    found = next((folder for folder in allowed if folder.is_dir()), None)
    if found is None:
        looked = ", ".join(str(folder) for folder in allowed)
        raise ValueError(f"no pictures for the COLMAP model {model}; looked for {looked}; give the picture folder")
    return found


def _frame(image: _Image, cameras: dict[int, _Camera], model: Path) -> Frame:
    camera = cameras.get(image.camera)
    if camera is None:
        raise ValueError(f"{model}: picture {image.name} uses camera {image.camera}, which the cameras file lacks")
    names = _PARAMETERS.get(camera.model)
    if names is None:
        raise ValueError(
            f"{model}: the camera model {camera.model} of {image.name} is not supported; expected one of "
            f"{', '.join(_PARAMETERS)}: undistort the pictures first (COLMAP image_undistorter)"
        )
    if len(camera.values) != len(names):
        raise ValueError(f"{model}: camera model {camera.model} needs {names}, got {len(camera.values)} values")
    values = dict(zip(names, camera.values, strict=True))
    height, width = camera.size
    fx, fy = (values.get(name, values.get("f", 0.0)) for name in ("fx", "fy"))
    K = torch.tensor(
        [[fx / width, 0, values["cx"] / width], [0, fy / height, values["cy"] / height], [0, 0, 1]], dtype=torch.float64
    )
    lens = Distortion(**{name: value for name, value in values.items() if name[0] in "kp"})
    return Frame(image.name, _camera_to_world(image, model), K, camera.size, lens)


def _camera_to_world(image: _Image, model: Path) -> Tensor:
    quaternion = torch.tensor(image.quaternion, dtype=torch.float64)
    norm = float(quaternion.norm())
    if not norm > 0:
        raise ValueError(f"{model}: picture {image.name} has the quaternion {image.quaternion}, which is no rotation")
    w, x, y, z = (quaternion / norm).tolist()
    rotation = torch.tensor(  # world to camera
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = rotation.T
    c2w[:3, 3] = -rotation.T @ torch.tensor(image.translation, dtype=torch.float64)
    return c2w


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    lines = enumerate(read_text(path).splitlines(), start=1)
    return ((number, line.strip()) for number, line in lines if not line.startswith("#"))


def _parse_line(path: Path, number: int, line: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    try:
        return parse(line)
    except (ValueError, IndexError) as error:
        raise ValueError(f"line {number} of {path} is not a COLMAP record: {line[:80]!r}") from error


def _cameras_txt(path: Path) -> dict[int, _Camera]:
    def parse(line: str) -> tuple[int, _Camera]:
        words = line.split()
        values = tuple(float(word) for word in words[4:])
        return int(words[0]), _Camera(words[1], _checked_size(int(words[3]), int(words[2])), values)

    return dict(_parse_line(path, number, line, parse) for number, line in _text_lines(path) if line)


def _images_txt(path: Path) -> list[_Image]:
    def parse(line: str) -> _Image:
        words = line.split(maxsplit=_NAME_COLUMN)
        numbers = tuple(float(word) for word in words[1:8])
        return _Image(int(words[8]), words[_NAME_COLUMN], numbers[:4], numbers[4:])

    lines = _text_lines(path)
    images = []
    for number, line in lines:
        if line:
            images.append(_parse_line(path, number, line, parse))
            next(lines, None)  # its 2-D points, an empty line when there are none
    return images


class _Reader:
    """Little-endian values from a binary file, one after another."""

    def __init__(self, path: Path) -> None:
        self._path, self._data, self._at = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple[int | float, ...]:
        end = self._at + struct.calcsize("<" + layout)
        self._need(end)
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at = end
        return values

    def integers(self, layout: str) -> tuple[int, ...]:
        return tuple(int(value) for value in self.take(layout))

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        self._need(end + 1 if end >= 0 else len(self._data) + 1)
        text = self._data[self._at : end].decode("utf-8", errors="replace")
        self._at = end + 1
        return text

    def skip(self, count: int) -> None:
        self._need(self._at + count)
        self._at += count

    def _need(self, end: int) -> None:
        if end > len(self._data):
            raise ValueError(
                f"{self._path} ends after {len(self._data)} bytes, within a record; the file is truncated or is no "
                "COLMAP binary: copy or export the model again"
            )


def _cameras_bin(path: Path) -> dict[int, _Camera]:
    reader = _Reader(path)
    cameras = {}
    for _ in range(*reader.integers("Q")):
        number, model, width, height = reader.integers("iiQQ")
        if not 0 <= model < len(_BINARY_MODELS):
            raise ValueError(f"{path}: camera {number} has the unknown model id {model}; undistort it with COLMAP")
        name, count = _BINARY_MODELS[model]
        try:
            size = _checked_size(height, width)
        except ValueError as error:
            raise ValueError(f"{path}: camera {number}: {error}") from error
        cameras[number] = _Camera(name, size, reader.take(f"{count}d"))
    return cameras


def _images_bin(path: Path) -> list[_Image]:
    reader = _Reader(path)
    images = []
    for _ in range(*reader.integers("Q")):
        reader.take("i")
        quaternion, translation = reader.take("4d"), reader.take("3d")
        (camera,) = reader.integers("i")
        images.append(_Image(camera, reader.text(), quaternion, translation))
        reader.skip(_POINT_BYTES * reader.integers("Q")[0])
    return images


def _checked_size(height: int, width: int) -> tuple[int, int]:
    if height < 1 or width < 1:
        raise ValueError(f"a picture of {width} x {height} px")
    return height, width


_READERS = {".bin": (_cameras_bin, _images_bin), ".txt": (_cameras_txt, _images_txt)}
