"""LOAD3D_CAMERA, the camera of ComfyUI's 3-D viewers (three.js).

A dict of `position`, `target`, `zoom` and `cameraType`, with newer front ends also `quaternion` (x, y, z, w), `fov`
(vertical, degrees) and `aspect`; `useCustomUp` makes them keep a camera's roll. The world is right-handed with y up,
the camera looks along its -z axis.

A viewer that shows points of a capture has the capture's origin and unit but not its axes: in files for viewers (GLB,
PLY) y and z are turned round, by half a turn about x, since their world has y up. The same half turn leads back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import flip_opengl
from ..points.axes import AXES
from ..trajectories.framing import focus_point, one_scene
from ..trajectories.splines import matrix_from_quaternion, quaternion_from_matrix
from ..types import Cameras

VIEWER_FOV = 35.0  # degrees; where the viewers' slider starts
_SIDE = 1024  # pixels; where the viewers' width and height start
_NEAREST_TARGET = 1e-3  # of a unit
_ISOTROPY = 1e-3
_VERTICAL = 1e-9
_LEVEL = 1e-4  # the sine of a roll that a viewer may drop


def from_load3d(
    info: object,
    size: tuple[int, int] | None = None,
    fov_degrees: float = VIEWER_FOV,
    model_info: object = None,
    fit: object = None,
) -> Cameras:
    """The camera of a viewer, in the world of the capture whose points, with y and z turned round, the viewer shows.

    Without `quaternion` the camera looks at `target`, upright.

    Args:
        info: a LOAD3D_CAMERA.
        size: (height, width) in pixels of the pictures to take with it; None follows `aspect`, else a square. The
            vertical field of view stays.
        fov_degrees: vertical field of view, for cameras that do not tell it.
        model_info: LOAD3D_MODEL_INFO, where the viewer has put the model (the first one counts); None: where its file
            says.
        fit: from `viewer_fit`, how the viewer lays out the points of the file before; None: as they are.

    Returns:
        One camera, without a name.

    Raises:
        ValueError: something else, an orthographic camera, a field of view outside of 0 to 180 degrees, a position that
            is the target, or a stretched model.
    """
    if not isinstance(info, Mapping):
        raise ValueError(f"LOAD3D_CAMERA must be a dict with position and target, got {type(info).__name__}")
    if str(info.get("cameraType") or "perspective") != "perspective":
        raise ValueError(f"the viewer's camera is {info['cameraType']}; switch it to perspective")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = _vector("position", info.get("position"))
    pose[:3, :3] = _rotation(info, pose[:3, 3])
    for placement in (model_info, fit):
        pose = pose if placement is None else _in_model(pose, placement)
    aspect = _number("aspect", info.get("aspect") or 1.0)
    height, width = size or (_SIDE, round(_SIDE * aspect))
    fov = _number("fov", info.get("fov") or fov_degrees)
    if not 0 < fov < 180:
        raise ValueError(f"the vertical field of view must lie between 0 and 180 degrees, got {fov:g}")
    focal = _number("zoom", info.get("zoom") or 1.0) / (2 * math.tan(math.radians(fov) / 2))
    K = torch.tensor([[focal * height / width, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    return Cameras(_turn_world(flip_opengl(pose))[None], K[None], (height, width))


def from_upright(camera: Cameras, cameras: Cameras) -> Cameras:
    """A camera of `from_load3d` in the world of the capture, when the viewer shows points written with axes "upright".

    Args:
        camera: one camera.
        cameras: those that the points were made with, which tell what is up (`file_axes.AXES`).
    """
    turn = AXES["upright"](one_scene(cameras).to("cpu")).T @ AXES["flipped"](cameras)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = turn
    return camera.replace(c2w=(pose @ camera.c2w.double()).float(), unit=cameras.unit)


def place_at(camera: Cameras, reference: Cameras, scale: float = 1.0) -> Cameras:
    """A viewer's camera where `reference` stands at the viewer's origin, looking along its -z axis.

    For viewers that show something else than the capture's own points.

    Args:
        camera: from `from_load3d`.
        reference: one camera of the capture.
        scale: scene units per unit of the viewer.

    Raises:
        ValueError: several reference cameras, or a scale that is not positive.
    """
    if len(reference) != 1:
        raise ValueError(f"expected one reference camera, got {len(reference)}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number of scene units, got {scale}")
    local = camera.c2w.double()
    local[..., :3, 3] *= scale
    return camera.replace(c2w=one_scene(reference).c2w.double() @ local, unit=reference.unit)


def to_load3d(cameras: Cameras, index: int, distance: float | None = None) -> dict[str, Any]:
    """One of the cameras as LOAD3D_CAMERA, for a viewer that shows points in glTF axes.

    A viewer's camera has its principal point in the centre: one that is elsewhere is lost.

    Args:
        cameras: V cameras of one scene.
        index: which, from 0.
        distance: how far away the point is that the viewer turns around, scene units; None: where the cameras look at.

    Raises:
        ValueError: no such camera, cameras of several scenes, or a distance that is not positive.
    """
    cameras = one_scene(cameras)
    if not 0 <= index < len(cameras):
        raise ValueError(f"frame must be between 0 and {len(cameras) - 1}, got {index}")
    if distance is not None and not (math.isfinite(distance) and distance > 0):
        raise ValueError(f"the distance must be a positive number of scene units, got {distance}")
    pose = flip_opengl(_turn_world(cameras.c2w[index].double()))
    if distance is None:
        ahead = focus_point(cameras) - cameras.centers[index]
        distance = max(float(ahead @ cameras.forward[index]), _NEAREST_TARGET)
    focal_x, focal_y = cameras.K[index, (0, 1), (0, 1)].tolist()
    rolled = abs(float(pose[1, 0])) > _LEVEL
    return {
        "position": _named(pose[:3, 3]),
        "target": _named(pose[:3, 3] - distance * pose[:3, 2]),
        "zoom": 1,
        "cameraType": "perspective",
        "quaternion": _named(quaternion_from_matrix(pose[:3, :3])),
        "fov": math.degrees(2 * math.atan(0.5 / focal_y)),
        "aspect": focal_y / focal_x,
        **({"useCustomUp": True} if rolled else {}),
    }


def _turn_world(c2w: Tensor) -> Tensor:
    """Poses [..., 4, 4] after a half turn of the world about x; its own inverse."""
    return torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=c2w.dtype)[:, None] * c2w


def _rotation(info: Mapping[str, Any], position: Tensor) -> Tensor:
    """Camera-to-world rotation [3, 3] with OpenGL axes."""
    if info.get("quaternion") is not None:
        quaternion = _vector("quaternion", info["quaternion"], "xyzw")
        if not float(quaternion.norm()) > 0:
            raise ValueError("the quaternion of this LOAD3D_CAMERA is zero; expected a rotation")
        return matrix_from_quaternion(quaternion)
    back = position - _vector("target", info.get("target"))
    if not float(back.norm()) > 0:
        raise ValueError(f"position and target of this LOAD3D_CAMERA are the same point {position.tolist()}")
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), back)
    if float(right.norm()) < _VERTICAL * float(back.norm()):  # as three.js has it: straight up or down, x is right
        right = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    axes = torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)
    return F.normalize(axes, dim=0)


def _in_model(pose: Tensor, model_info: object) -> Tensor:
    """A pose [4, 4] of the viewer's world as the model's file has it."""
    first = model_info[0] if isinstance(model_info, Sequence) and model_info else model_info
    if not isinstance(first, Mapping):
        raise ValueError(f"LOAD3D_MODEL_INFO must be a list of dicts with position, got {str(model_info)[:60]}")
    scale = _vector("scale", first.get("scale") or (1.0, 1.0, 1.0))
    if not float(scale.min()) > 0 or float(scale.max() / scale.min()) > 1 + _ISOTROPY:
        raise ValueError(f"the viewer stretches or mirrors the model ({scale.tolist()}); scale all axes alike")
    rotation = matrix_from_quaternion(_vector("quaternion", first.get("quaternion") or (0.0, 0.0, 0.0, 1.0), "xyzw"))
    pose = pose.clone()
    pose[:3, 3] = rotation.T @ (pose[:3, 3] - _vector("position", first.get("position"))) / scale.mean()
    pose[:3, :3] = rotation.T @ pose[:3, :3]
    return pose


def _vector(name: str, value: object, axes: str = "xyz") -> Tensor:
    """{x, y, z} or [x, y, z] as float64."""
    entries = [value.get(axis) for axis in axes] if isinstance(value, Mapping) else value
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) != len(axes):
        raise ValueError(f"{name} must hold the numbers {', '.join(axes)}, got {value!r}")
    return torch.tensor([_number(name, entry) for entry in entries], dtype=torch.float64)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _named(vector: Tensor) -> dict[str, float]:
    return dict(zip("xyzw", vector.tolist(), strict=False))
