"""nerfstudio and instant-ngp `transforms.json`: OpenGL camera-to-world poses and intrinsics in pixels.

Poses are used as they are: `applied_transform` only tells how the exporter turned the world, and the models need no
particular world axes. `unit` ("metric" or "relative") is our addition; a `depth_unit_scale_factor`, which by
nerfstudio's definition leads to metres in the frame of the poses, marks a capture as metric as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from ..camera import flip_opengl
from ..files import with_slashes
from ..types import Cameras
from .capture import Capture, Frame, assemble_capture
from .distortion import Distortion
from .files import check_file_names, read_frames, read_json_object, read_matrix, write_json

SOURCE = "transforms.json"

_RATIONAL_MODEL = "FULL_OPENCV"
_MODELS = ("", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", _RATIONAL_MODEL)
_PICTURES = "images"
_FACTORS = (2, 4, 8)  # by which copies of pictures are made smaller
_POSE_SHAPES = ((4, 4), (3, 4))
_DEFAULT_DEPTH_SCALE = 1e-3  # nerfstudio's: millimetres


def open_transforms(
    path: Path, images: Path | None = None, within: Path | None = None, *, downscaled: int | None = None
) -> Capture:
    """Open a nerfstudio or instant-ngp capture.

    Args:
        path: the JSON file.
        images: the folder the `file_path`s start from; the JSON's own folder when None.
        within: absolute folder that no picture may lie outside of; None = anywhere.
        downscaled: N > 1 takes the pictures from `images_N`, where nerfstudio keeps copies of 1 / N of the size under
            the same names; None takes the largest there are when the folder `images` is missing, as in DL3DV-10K.

    Raises:
        ValueError: broken JSON, missing or forbidden pictures, no intrinsics, an unsupported camera model, invalid
            poses.
    """
    data = read_json_object(path)
    entries = enumerate(read_frames(data, path))
    frames = [_Fields(entry, data, f"frame {i} of {path}").frame() for i, entry in entries]
    folder = images or path.parent
    if downscaled is None:
        downscaled = _smallest_factor(frames, folder)
    if downscaled > 1:
        frames = [dataclasses.replace(frame, name=_downscaled_name(frame.name, downscaled)) for frame in frames]
    unit = data.get("unit") or ("metric" if "depth_unit_scale_factor" in data else "relative")
    depth_scale = _Fields({}, data, str(path)).number("depth_unit_scale_factor", _DEFAULT_DEPTH_SCALE)
    return assemble_capture(frames, folder, path, SOURCE, within=within, unit=unit, depth_scale=depth_scale)


def write_transforms(path: Path | str, cameras: Cameras, file_names: Sequence[str], size: tuple[int, int]) -> None:
    """Write pinhole cameras in nerfstudio's form (OpenGL axes, pixels); `open_transforms` reads them back.

    Args:
        path: the JSON file; its folder is made when missing.
        cameras: V cameras of one scene.
        file_names: V picture names relative to the JSON's folder. Readers order views by name.
        size: (height, width) of the pictures in pixels.

    Raises:
        ValueError: not one name per camera, or a batch of scenes.
    """
    check_file_names(cameras, file_names)
    height, width = size
    poses = flip_opengl(cameras.c2w).tolist()
    pixels = cameras.K.double() * torch.tensor([[width], [height], [1.0]], dtype=torch.float64)
    frames = [
        {
            "file_path": with_slashes(name),
            "fl_x": float(K[0, 0]),
            "fl_y": float(K[1, 1]),
            "cx": float(K[0, 2]),
            "cy": float(K[1, 2]),
            "transform_matrix": pose,
        }
        for name, K, pose in zip(file_names, pixels, poses, strict=True)
    ]
    write_json(path, {"camera_model": "PINHOLE", "unit": cameras.unit, "w": width, "h": height, "frames": frames})


def _smallest_factor(frames: Sequence[Frame], folder: Path) -> int:
    if (folder / _PICTURES).is_dir() or not all(_in_pictures(frame.name) for frame in frames):
        return 1
    return next((factor for factor in _FACTORS if (folder / f"{_PICTURES}_{factor}").is_dir()), 1)


def _in_pictures(name: str) -> bool:
    return PureWindowsPath(name).parts[:-1] == (_PICTURES,)


def _downscaled_name(name: str, factor: int) -> str:
    return f"{_PICTURES}_{factor}/{PureWindowsPath(name).name}"  # both kinds of slashes part it


class _Fields:
    """The values of one frame, falling back on the file's global ones."""

    def __init__(self, own: Mapping[str, Any], shared: Mapping[str, Any], where: str) -> None:
        self._own, self._shared, self._where = own, shared, where

    def get(self, key: str) -> Any:
        value = self._own.get(key)
        return self._shared.get(key) if value is None else value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{key} of {self._where} must be a number, got {value!r}")
        return float(value)

    def frame(self) -> Frame:
        name, depth = self._own.get("file_path"), self._own.get("depth_file_path")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{self._where} has no file_path; expected the name of a picture, got {name!r}")
        if not isinstance(depth, str | None):
            raise ValueError(f"depth_file_path of {self._where} must be the name of a picture, got {depth!r}")
        return Frame(
            name=name,
            c2w=self._pose(),
            K=self._intrinsics,
            size=self._size(),
            lens=self._lens(),
            depth=depth,
        )

    def _pose(self) -> Tensor:
        pose = read_matrix(self._own.get("transform_matrix"), _POSE_SHAPES, f"transform_matrix of {self._where}")
        c2w = torch.eye(4, dtype=torch.float64)
        c2w[: len(pose)] = pose
        return flip_opengl(c2w)

    def _size(self) -> tuple[int, int] | None:
        if self.get("w") is None or self.get("h") is None:
            return None
        size = int(self.number("h")), int(self.number("w"))
        if min(size) < 1:
            raise ValueError(f"w and h of {self._where} must be positive pixel counts, got {size[1]} and {size[0]}")
        return size

    def _intrinsics(self, picture_size: tuple[int, int]) -> Tensor:
        """Normalised K, for files that may leave their size to the picture."""
        height, width = self._size() or picture_size
        given = [focal for focal in (self._focal("x", width), self._focal("y", height)) if focal is not None]
        if not given:
            raise ValueError(f"{self._where} has no focal length; expected fl_x (pixels) or camera_angle_x (radians)")
        fl_x, fl_y = given[0], given[-1]
        cx, cy = self.number("cx", width / 2), self.number("cy", height / 2)
        return torch.tensor(
            [[fl_x / width, 0, cx / width], [0, fl_y / height, cy / height], [0, 0, 1]], dtype=torch.float64
        )

    def _focal(self, axis: str, length: int) -> float | None:
        """Focal length in pixels along one axis, None when the file does not give it."""
        if self.get(f"fl_{axis}") is not None:
            return self.number(f"fl_{axis}")
        if self.get(f"camera_angle_{axis}") is None:
            return None
        angle = self.number(f"camera_angle_{axis}")
        if not 0 < angle < math.pi:
            raise ValueError(f"camera_angle_{axis} of {self._where} must lie between 0 and pi radians, got {angle}")
        return length / 2 / math.tan(angle / 2)

    def _lens(self) -> Distortion:
        model = str(self.get("camera_model") or "").upper()
        if self.get("is_fisheye"):
            model = "FISHEYE (is_fisheye)"
        if model not in _MODELS:
            raise ValueError(
                f"the camera model {model} of {self._where} is not supported, only {', '.join(_MODELS[1:])}; "
                "undistort the pictures to a pinhole model first (COLMAP image_undistorter)"
            )
        names = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
        lens = Distortion(**{name: self.number(name, 0.0) for name in names})
        if model != _RATIONAL_MODEL and (lens.k4 or lens.k5 or lens.k6):
            raise ValueError(
                f"k4 to k6 of {self._where} are only defined for camera_model {_RATIONAL_MODEL}, got {model or None}; "
                "set that model, or undistort the pictures first"
            )
        return lens
